import { Command } from 'commander'
import { query } from './client.ts'
import { asking, type Common, gate } from './command.ts'
import { json, say, table, when } from './say.ts'

interface Session {
  readonly operation: string
  readonly principal: string
  readonly repository: string
  readonly action: string
  readonly grants: readonly string[]
  readonly transport: string
  readonly address: string
  readonly started_at: string
  readonly proxy: string
}

/** `drawbridge session list|cut` */
export function sessionCommand(): Command {
  return new Command('session')
    .description('operations that run at this moment')
    .addCommand(
      asking('list', 'what runs, the oldest first')
        .option('--principal <principal>', 'only of this principal')
        .action(async (options: Common & { principal?: string }) => {
          const path = `/sessions${query({ principal: options.principal })}`
          const { sessions } = await gate(options).call<{ sessions: Session[] }>('GET', path)
          if (options.json) return json(sessions)
          table(
            ['OPERATION', 'PRINCIPAL', 'ACTION', 'REPOSITORY', 'SINCE', 'FROM', 'GRANTS', 'PROXY'],
            sessions.map(session => [
              session.operation,
              session.principal,
              session.action,
              session.repository,
              when(session.started_at),
              `${session.transport} ${session.address}`,
              session.grants.join(','),
              session.proxy,
            ]),
          )
        }),
    )
    .addCommand(
      asking('cut', 'end running operations; their grants stay')
        .argument('<operation...>', 'op-…')
        .option('--reason <text>', 'said to those who are cut')
        .action(async (operations: string[], options: Common & { reason?: string }) => {
          for (const operation of operations) {
            const { reason } = options
            const answer = await gate(options).call('POST', `/sessions/${encodeURIComponent(operation)}/cut`, {
              reason,
            })
            if (options.json) json(answer)
            say(`${operation} is being cut`)
          }
        }),
    )
}
