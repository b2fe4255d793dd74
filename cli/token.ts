import { Command } from 'commander'
import { query } from './client.ts'
import { asking, type Common, gate, sayUnlessEnacted, several, wholeNumber } from './command.ts'
import { data, json, say, table, when } from './say.ts'

interface Token {
  readonly id: string
  readonly principal: string
  readonly roles: readonly string[]
  readonly created_by: string
  readonly expires_at: string
  readonly revoked?: { readonly at: string; readonly by: string }
}

/** `drawbridge token create|list|revoke` */
export function tokenCommand(): Command {
  return new Command('token')
    .description('tokens by which people and programs are known')
    .addCommand(
      asking('create', 'make a token; it is printed this once and kept nowhere')
        .requiredOption('--principal <principal>', 'whom it stands for')
        .requiredOption(
          '--role <role>',
          'developer, approver, auditor or admin, several with commas; or front, for a proxy',
          several,
        )
        .option('--for <duration>', 'how long it is good: 8h, "30 days"', '8h')
        .action(async (options: Common & { principal: string; role: string[]; for: string }) => {
          const { principal, role: roles } = options
          const made = await gate(options).call<Token & { token: string }>('POST', '/tokens', {
            principal,
            roles,
            for: options.for,
          })
          if (options.json) json(made)
          else data(made.token)
          say(
            `${made.id} stands for ${principal} (${made.roles.join(', ')}) until ${when(made.expires_at)}; it is not shown again`,
          )
        }),
    )
    .addCommand(
      asking('list', 'tokens and when they end')
        .option('--principal <principal>', 'only of this principal')
        .option('--limit <n>', 'at most so many', wholeNumber, 100)
        .action(async (options: Common & { principal?: string; limit: number }) => {
          const { principal, limit } = options
          const { tokens } = await gate(options).call<{ tokens: Token[] }>(
            'GET',
            `/tokens${query({ principal, limit })}`,
          )
          if (options.json) return json(tokens)
          table(
            ['ID', 'PRINCIPAL', 'ROLES', 'EXPIRES', 'MADE BY', 'REVOKED'],
            tokens.map(token => [
              token.id,
              token.principal,
              token.roles.join(','),
              when(token.expires_at),
              token.created_by,
              token.revoked ? `${when(token.revoked.at)} by ${token.revoked.by}` : '',
            ]),
          )
        }),
    )
    .addCommand(
      asking('revoke', 'refuse a token from now on, and cut what runs by it')
        .argument('<id>', 't-…')
        .action(async (id: string, options: Common) => {
          const revoked = await gate(options).call<Token & { enacted: boolean }>(
            'DELETE',
            `/tokens/${encodeURIComponent(id)}`,
          )
          if (options.json) json(revoked)
          say(`${id} of ${revoked.principal} is revoked`)
          sayUnlessEnacted(revoked)
        }),
    )
}
