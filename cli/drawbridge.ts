#!/usr/bin/env node
import { Command } from 'commander'
import { auditCommand } from './audit.ts'
import { caCommand } from './ca.ts'
import { completionCommand } from './completion.ts'
import { doctorCommand } from './doctor.ts'
import { grantCommand } from './grant.ts'
import { keyCommand } from './key.ts'
import { lockCommands } from './lock.ts'
import { notifyCommand } from './notify.ts'
import { policyCommand } from './policy.ts'
import { requestCommand } from './request.ts'
import { reviewCommand } from './review.ts'
import { runCommand, version } from './run.ts'
import { serviceCommand } from './service.ts'
import { sessionCommand } from './session.ts'
import { signinCommand } from './signin.ts'
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
    .addCommand(requestCommand())
    .addCommand(grantCommand())
    .addCommand(reviewCommand())
    .addCommand(sessionCommand())
    .addCommand(notifyCommand())
  for (const command of lockCommands()) program.addCommand(command)
  program
    .addCommand(auditCommand())
    .addCommand(tokenCommand())
    .addCommand(serviceCommand())
    .addCommand(signinCommand())
    .addCommand(keyCommand())
    .addCommand(caCommand())
    .addCommand(doctorCommand())
    .addCommand(whoamiCommand())
  policyCommand(program)
  program.addCommand(completionCommand(program))
  return program
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

/** @returns the exit status */
export const main = (args: readonly string[]): Promise<number> => runCommand(drawbridge(), args)

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
