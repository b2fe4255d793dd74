import { Command, Option } from 'commander'
import { loadSettings } from '../config/load.ts'
import { ConfigError } from '../config/problem.ts'
import type { Settings } from '../config/settings.ts'
import type { Finding } from '../deploy/doctor/finding.ts'
import { CommandError, EXIT, hint, json, plain, say } from './say.ts'

const MARKS = { ok: 'ok', warning: 'warning', failed: 'FAILED' } as const

/** `drawbridge doctor`: exit status 0 when nothing failed, 1 when something did, 2 when the settings do not load. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('look at all that the gate needs, from this machine, and say what to do')
    .addOption(
      new Option('--config <file>', 'the settings of the gate').env('DRAWBRIDGE_CONFIG').default('drawbridge.yaml'),
    )
    .option('--json', 'as JSON')
    .action(async (options: { config: string; json?: boolean }) => {
      const settings = read(options.config)
      // Loaded when it is run: nothing else of the command line needs the clients of Redis and PostgreSQL.
      const { diagnose } = await import('../deploy/doctor/main.ts')
      const findings = await diagnose(settings)
      if (options.json) json(findings)
      else for (const finding of findings) tell(finding)
      const count = (state: Finding['state']) => findings.filter(finding => finding.state === state).length
      const [bad, warned] = [count('failed'), count('warning')]
      if (bad > 0) throw new CommandError(EXIT.failed, `${bad} of ${findings.length} checks failed`)
      say(
        warned > 0
          ? `nothing failed; ${warned} of ${findings.length} want attention`
          : `all ${findings.length} checks are ok`,
      )
    })
}

function read(config: string): Settings {
  try {
    return loadSettings(config, process.env)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    for (const line of error.message.split('\n')) say(line)
    throw new CommandError(EXIT.usage, 'the settings do not load; nothing else was looked at')
  }
}

function tell({ check, state, found, advice }: Finding): void {
  process.stdout.write(`${MARKS[state].padEnd(8)} ${check.padEnd(20)} ${plain(found)}\n`)
  if (advice !== undefined) hint(`${check}: ${advice}`)
}
