import type { Command } from 'commander'
import { query } from './client.ts'
import { asking, type Common, gate, sayUnlessEnacted } from './command.ts'
import { json, say, table, when } from './say.ts'

interface Lock {
  readonly principal: string
  readonly reason: string
  readonly locked_at: string
  readonly locked_by: string
}

/** `drawbridge lock|unlock PRINCIPAL` and `drawbridge locks` */
export function lockCommands(): Command[] {
  return [
    asking('lock', 'lock somebody out of everything, and cut what they have running')
      .argument('<principal>', 'or network:203.0.113.0/24')
      .requiredOption('--reason <text>', 'said to them')
      .action(async (principal: string, options: Common & { reason: string }) => {
        const path = `/locks/${encodeURIComponent(principal)}`
        const locked = await gate(options).call<{ enacted: boolean }>('PUT', path, { reason: options.reason })
        if (options.json) json(locked)
        say(`${principal} is locked out`)
        sayUnlessEnacted(locked)
      }),
    asking('unlock', 'let somebody in again')
      .argument('<principal>')
      .option('--reason <text>')
      .action(async (principal: string, options: Common & { reason?: string }) => {
        const path = `/locks/${encodeURIComponent(principal)}${query({ reason: options.reason })}`
        const unlocked = await gate(options).call<{ enacted: boolean }>('DELETE', path)
        if (options.json) json(unlocked)
        say(`${principal} is no longer locked out; grants and tokens that have not ended work again`)
        sayUnlessEnacted(unlocked)
      }),
    asking('locks', 'who is locked out').action(async (options: Common) => {
      const { locks } = await gate(options).call<{ locks: Lock[] }>('GET', '/locks')
      if (options.json) return json(locks)
      table(
        ['PRINCIPAL', 'SINCE', 'BY', 'REASON'],
        locks.map(lock => [lock.principal, when(lock.locked_at), lock.locked_by, lock.reason]),
      )
    }),
  ]
}
