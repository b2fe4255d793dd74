import { Command } from 'commander'
import { query } from './client.ts'
import { asking, type Common, gate, sayUnlessEnacted, wholeNumber } from './command.ts'
import { data, json, say, table, when } from './say.ts'

interface Service {
  readonly name: string
  readonly principal: string
  readonly owner: string
  readonly owner_locked: boolean
  readonly owner_seen_at?: string
  readonly tokens: readonly { readonly id: string; readonly expires_at: string }[]
  readonly ended?: { readonly at: string; readonly by: string; readonly reason: string }
}
type Given = Service & { readonly token: string; readonly token_expires_at: string; readonly enacted: boolean }

const LASTS = 'how long its token is good: 12h, "30 days"'

/** `drawbridge service-account create|rotate|list|assign|revoke` */
export function serviceCommand(): Command {
  return new Command('service-account')
    .description('accounts of programs, each with an owner and tokens that end')
    .addCommand(
      asking('create', 'create an account; its first token is printed this once and kept nowhere')
        .argument('<name>', 'its principal is service:NAME')
        .requiredOption('--owner <principal>', 'who answers for it')
        .option('--for <duration>', LASTS, '30 days')
        .action(async (name: string, options: Common & { owner: string; for: string }) => {
          const body = { name, owner: options.owner, for: options.for }
          show(options, await gate(options).call<Given>('POST', '/services', body))
        }),
    )
    .addCommand(
      asking('rotate', 'give it another token, printed this once; the one before stays good for the overlap')
        .argument('<name>')
        .option('--overlap <duration>', 'how long both are good; 0s ends the one before at once', '24h')
        .option('--for <duration>', LASTS, '30 days')
        .action(async (name: string, options: Common & { overlap: string; for: string }) => {
          const body = { overlap: options.overlap, for: options.for }
          const given = await gate(options).call<Given>('POST', `${pathOf(name)}/rotate`, body)
          show(options, given)
          const before = given.tokens[1]
          if (before !== undefined) say(`${before.id} stays good until ${when(before.expires_at)}`)
        }),
    )
    .addCommand(
      asking('list', 'accounts, who answers for them, and when their tokens end')
        .option('--limit <n>', 'at most so many', wholeNumber, 100)
        .action(async (options: Common & { limit: number }) => {
          const path = `/services${query({ limit: options.limit })}`
          const { services } = await gate(options).call<{ services: Service[] }>('GET', path)
          if (options.json) return json(services)
          table(
            ['PRINCIPAL', 'OWNER', 'OWNER SIGNED IN', 'TOKENS END', 'STATE'],
            services.map(service => [
              service.principal,
              service.owner,
              service.owner_seen_at === undefined ? 'never' : when(service.owner_seen_at),
              service.tokens.map(token => when(token.expires_at)).join(', '),
              stateOf(service),
            ]),
          )
        }),
    )
    .addCommand(
      asking('assign', 'give it to another owner')
        .argument('<name>')
        .requiredOption('--owner <principal>', 'who answers for it from now on')
        .action(async (name: string, options: Common & { owner: string }) => {
          const assigned = await gate(options).call<Service & { enacted: boolean }>('POST', `${pathOf(name)}/assign`, {
            owner: options.owner,
          })
          if (options.json) json(assigned)
          say(`${assigned.owner} answers for ${assigned.principal}`)
          sayUnlessEnacted(assigned)
        }),
    )
    .addCommand(
      asking('revoke', 'end an account for good, and cut what it has running')
        .argument('<name>')
        .option('--reason <text>')
        .action(async (name: string, options: Common & { reason?: string }) => {
          const path = `${pathOf(name)}${query({ reason: options.reason })}`
          const ended = await gate(options).call<Service & { enacted: boolean }>('DELETE', path)
          if (options.json) json(ended)
          say(`${ended.principal} has ended, and its name is not given again`)
          sayUnlessEnacted(ended)
        }),
    )
}

const pathOf = (name: string) => `/services/${encodeURIComponent(name)}`

function stateOf({ ended, owner_locked: locked, tokens }: Service): string {
  if (ended !== undefined) return `ended ${when(ended.at)} by ${ended.by}`
  if (locked) return 'locked with its owner'
  return tokens.length === 0 ? 'no token left' : ''
}

function show(options: Common, given: Given): void {
  if (options.json) json(given)
  else data(given.token)
  say(`${given.principal} is ${given.owner}'s; the token ends ${when(given.token_expires_at)} and is not shown again`)
  sayUnlessEnacted(given)
}
