#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { auditCommand } from './audit.ts'
import { completionCommand } from './completion.ts'
import { grantCommand } from './grant.ts'
import { keyCommand } from './key.ts'
import { lockCommands } from './lock.ts'
import { policyCommand } from './policy.ts'
import { CommandError, EXIT, hint, say } from './say.ts'
import { sessionCommand } from './session.ts'
import { tokenCommand } from './token.ts'
import { whoamiCommand } from './whoami.ts'

const HELP_AFTER = `
Where the gate is and who asks: DRAWBRIDGE_URL, and DRAWBRIDGE_TOKEN_FILE or DRAWBRIDGE_TOKEN.
On the gate's own machine --url unix:STATE/admin/api.sock needs no token; it makes the first one.

Exit status: 0 done, 1 refused or failed, 2 not understood, 3 unreachable, 4 not allowed.`

/** The whole command line. */
export function drawbridge(): Command {
  const program = new Command('drawbridge')
    .description('the gate in front of your Git hosts: who may do what, until when, and what was done')
    .version(version(), '-V, --version')
    .addHelpText('after', HELP_AFTER)
    .addCommand(serveCommand())
    .addCommand(grantCommand())
    .addCommand(sessionCommand())
  for (const command of lockCommands()) program.addCommand(command)
  program.addCommand(auditCommand()).addCommand(tokenCommand()).addCommand(keyCommand()).addCommand(whoamiCommand())
  policyCommand(program)
  program.addCommand(completionCommand(program))
  quiet(program)
  return program
}

function version(): string {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  return version
}

/** Its own options are serve's to read; nothing of the roles is loaded unless it is run. */
function serveCommand(): Command {
  return new Command('serve')
    .description('run the gate: --role proxy|admin|ca, --config FILE')
    .argument('[options...]')
    .allowUnknownOption()
    .helpOption(false)
    .action(async (options: string[]) => {
      const { main } = await import('./serve.ts')
      process.exit(await main(options))
    })
}

/** Errors in our own voice, and as exceptions, for every command below. */
function quiet(command: Command): void {
  command.exitOverride().configureOutput({ outputError: (text, write) => write(inOurVoice(text)) })
  for (const sub of command.commands) quiet(sub)
}

function inOurVoice(text: string): string {
  const lines = text
    .trim()
    .split('\n')
    .filter(line => line !== '')
  return lines.map(line => `drawbridge: ${line.replace(/^error: /, '').replace(/\.$/, '')}\n`).join('')
}

/** @returns the exit status */
export async function main(args: readonly string[]): Promise<number> {
  try {
    await drawbridge().parseAsync([...args], { from: 'user' })
    return Number(process.exitCode ?? EXIT.ok)
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    if (error instanceof CommandError) {
      say(error.message)
      if (error.hint !== undefined) hint(error.hint)
      return error.exit
    }
    say(error instanceof Error ? error.message : String(error))
    return EXIT.failed
  }
}

// A reader that has seen enough (`| head`) is no failure.
process.stdout.on('error', error => {
  if (Reflect.get(error, 'code') === 'EPIPE') process.exit(EXIT.ok)
})

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
