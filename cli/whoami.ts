import type { Command } from 'commander'
import { asking, type Common, gate } from './command.ts'
import { json, table, when } from './say.ts'

/** `drawbridge whoami` */
export function whoamiCommand(): Command {
  return asking('whoami', 'whom the token stands for').action(async (options: Common) => {
    const me = await gate(options).call<{
      principal: string
      roles: string[]
      token?: { id: string; expires_at: string }
    }>('GET', '/whoami')
    if (options.json) return json(me)
    const { principal, roles, token } = me
    table(
      ['PRINCIPAL', 'ROLES', 'TOKEN', 'UNTIL'],
      [[principal, roles.join(','), token?.id ?? 'local socket', token ? when(token.expires_at) : '']],
    )
  })
}
