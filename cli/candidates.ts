import { Argument, type Command } from 'commander'
import { type Client, query } from './client.ts'
import { asking, type Common, gate } from './command.ts'
import { data, plain } from './say.ts'

/** What a shell may complete, asked of the gate: ids that still mean something, and repositories one had to do with. */

/** A person waits for it with a finger on the key. */
const ANSWER_MILLISECONDS_MAX = 2_000
const LOOKED_AT = 100
const STANDS: readonly string[] = ['live', 'scheduled']

export const KINDS = ['requests', 'grants', 'repositories'] as const
export type Kind = (typeof KINDS)[number]

/** By what the help calls an argument. */
export function kindsOf({ description }: Pick<Argument, 'description'>): readonly Kind[] {
  const marks = { requests: 'r-…', grants: 'g-…', repositories: '<upstream>/<path>' } as const
  return KINDS.filter(kind => description.includes(marks[kind]))
}

interface Asked {
  readonly id: string
  readonly state: string
  readonly targets: readonly { readonly repository: string }[]
  readonly grants: readonly { readonly state: string }[]
}

interface Granted {
  readonly id: string
  readonly repository: string
}

/** `git access candidates KIND…`: for completion scripts; a line each, and nothing where the gate does not answer. */
export function candidatesCommand(): Command {
  return asking('candidates', 'what a shell may complete')
    .addArgument(new Argument('<kind...>').choices(KINDS))
    .action(async (kinds: readonly Kind[], options: Common) => {
      setTimeout(() => process.exit(), ANSWER_MILLISECONDS_MAX).unref()
      const found = await Promise.all(kinds.map(kind => FIND[kind](gate(options))))
      for (const word of new Set(found.flat())) data(plain(word))
    })
}

const requestsOf = async (client: Client) =>
  (await client.call<{ requests: Asked[] }>('GET', `/requests${query({ limit: LOOKED_AT })}`)).requests
const grantsOf = async (client: Client) =>
  (await client.call<{ grants: Granted[] }>('GET', `/grants${query({ open: true, limit: LOOKED_AT })}`)).grants

const FIND: Readonly<Record<Kind, (client: Client) => Promise<readonly string[]>>> = {
  requests: async client => {
    const requests = await requestsOf(client)
    return requests
      .filter(({ state, grants }) => state === 'requested' || grants.some(grant => STANDS.includes(grant.state)))
      .map(({ id }) => id)
  },
  grants: async client => (await grantsOf(client)).map(({ id }) => id),
  repositories: async client => {
    const requests = await requestsOf(client)
    const named = [...requests.flatMap(({ targets }) => targets), ...(await grantsOf(client))]
    return named.map(({ repository }) => repository)
  },
}
