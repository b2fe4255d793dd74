import { Command } from 'commander'
import { query } from './client.ts'
import { asking, type Common, gate, sayUnlessEnacted, wholeNumber } from './command.ts'
import { json, say, table, when } from './say.ts'

interface Signin {
  readonly id: string
  readonly principal: string
  readonly roles: readonly string[]
  readonly made_at: string
  readonly expires_at: string
  readonly address: string
  readonly client: string
  readonly ended?: { readonly how: string; readonly by: string }
}

/** `drawbridge signin list|end` */
export function signinCommand(): Command {
  return new Command('signin')
    .description('who has signed in, and the end of it')
    .addCommand(
      asking('list', 'sign-ins, the newest first')
        .option('--principal <principal>', 'only of this principal')
        .option('--open', 'only those that are good now')
        .option('--limit <n>', 'at most so many', wholeNumber, 100)
        .action(async (options: Common & { principal?: string; open?: boolean; limit: number }) => {
          const { principal, open, limit } = options
          const path = `/signins${query({ principal, open, limit })}`
          const { signins } = await gate(options).call<{ signins: Signin[] }>('GET', path)
          if (options.json) return json(signins)
          table(
            ['ID', 'PRINCIPAL', 'ROLES', 'MADE', 'EXPIRES', 'FROM', 'CLIENT', 'ENDED'],
            signins.map(signin => [
              signin.id,
              signin.principal,
              signin.roles.join(','),
              when(signin.made_at),
              when(signin.expires_at),
              signin.address,
              signin.client,
              signin.ended ? `${signin.ended.how} by ${signin.ended.by}` : '',
            ]),
          )
        }),
    )
    .addCommand(
      asking('end', 'end a sign-in: its tokens, keys and certificates are refused, and what runs by it is cut')
        .argument('<id>', 's-…')
        .action(async (id: string, options: Common) => {
          const path = `/signins/${encodeURIComponent(id)}`
          const ended = await gate(options).call<Signin & { enacted: boolean }>('DELETE', path)
          if (options.json) json(ended)
          say(`${id} of ${ended.principal} is over`)
          sayUnlessEnacted(ended)
        }),
    )
}
