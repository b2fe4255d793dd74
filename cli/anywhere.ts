import { Command } from 'commander'
import { auditCommand } from './audit.ts'
import { candidatesCommand } from './candidates.ts'
import { completionCommand } from './completion.ts'
import { grantCommand } from './grant.ts'
import { keyCommand } from './key.ts'
import { lockCommands } from './lock.ts'
import { notifyCommand } from './notify.ts'
import { requestCommand } from './request.ts'
import { reviewCommand } from './review.ts'
import { runCommand, version } from './run.ts'
import { serviceCommand } from './service.ts'
import { sessionCommand } from './session.ts'
import { signinCommand } from './signin.ts'
import { tokenCommand } from './token.ts'
import { whoamiCommand } from './whoami.ts'

const HELP_AFTER = `
Where the gate is and who asks: what \`git access login\` left, or DRAWBRIDGE_URL, and DRAWBRIDGE_TOKEN_FILE or DRAWBRIDGE_TOKEN.
On the gate's own machine --url unix:STATE/admin/api.sock needs no token; it makes the first one.

Exit status: 0 done, 1 refused or failed, 2 not understood, 3 unreachable, 4 not allowed.`

/** `drawbridge`, as far as it asks a gate from any machine: it needs nothing but Node and the gate hands it out. */
export function drawbridgeAnywhere(): Command {
  const program = new Command('drawbridge')
    .description('the gate in front of your Git hosts: who may do what, until when, and what was done')
    .version(version(), '-V, --version')
    .addHelpText('after', HELP_AFTER)
    .addCommand(requestCommand())
    .addCommand(grantCommand())
    .addCommand(reviewCommand())
    .addCommand(sessionCommand())
    .addCommand(notifyCommand())
  for (const command of lockCommands()) program.addCommand(command)
  return program
    .addCommand(auditCommand())
    .addCommand(tokenCommand())
    .addCommand(serviceCommand())
    .addCommand(signinCommand())
    .addCommand(keyCommand())
    .addCommand(whoamiCommand())
    .addCommand(completionCommand(program))
    .addCommand(candidatesCommand(), { hidden: true })
}

/** @returns the exit status */
export const main = (args: readonly string[]): Promise<number> => runCommand(drawbridgeAnywhere(), args)
