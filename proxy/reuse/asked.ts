import type { ObjectFormat } from '../git/objectid.ts'
import type { Command } from '../git/uploadpack.ts'

/** A `fetch` command of protocol 2 (gitprotocol-v2, "fetch"). */
export type FetchCommand = Extract<Command, { command: 'fetch' }>

/** What an answer to a fetch depends on, as far as it stands in the request. */
export interface Asked {
  /** The request in one spelling. Requests that a host could answer differently differ in it. */
  readonly spelling: string
  readonly format: ObjectFormat
  readonly wants: readonly string[]
  /** `include-tag`: the answer also depends on which tags there are. */
  readonly withTags: boolean
  /** A history of limited depth: the answer has a `shallow-info` section. */
  readonly shallow: boolean
}

/** More lines than this are one client's own negotiation, and cost time to sort. */
const LINES_MAX = 20_000

// "informative for statistics and debugging purposes, and MUST NOT be used to programmatically assume the presence or
// absence of particular features" (gitprotocol-v2, "agent"); `session-id` is for logs likewise.
const IDLE_CAPABILITIES: ReadonlySet<string> = new Set(['agent', 'session-id'])
// Not `sideband-all` and `wait-for-done`: they change how an answer is put together.
const FLAGS: ReadonlySet<string> = new Set(['thin-pack', 'no-progress', 'include-tag', 'ofs-delta', 'deepen-relative'])
// Not `deepen-not`, and not `sparse:oid`, which may name a ref: what that means is not in the request.
const DEPTH = /^(?:deepen|deepen-since) \d+$/
const FILTER = /^filter (?:blob:none|blob:limit=\d+[kmg]?|tree:\d+)$/

/**
 * Reads off a request what its answer depends on. undefined when that is not all understood, or when the answer is only
 * one round of a negotiation: such a request is the host's to answer.
 */
export function asked({ capabilities, fetch, lines }: FetchCommand): Asked | undefined {
  if (!fetch.done || fetch.wants.length === 0 || lines.length > LINES_MAX) return undefined
  let format: ObjectFormat = 'sha1'
  for (const [name, value] of capabilities) {
    if (name === 'object-format') format = value === 'sha256' ? 'sha256' : 'sha1'
    else if (!IDLE_CAPABILITIES.has(name)) return undefined
  }

  const ids = { want: new Set<string>(), have: new Set<string>(), shallow: new Set<string>() }
  const flags = new Set<string>()
  let depth: string | undefined
  let filter: string | undefined
  for (const text of lines) {
    const [, word, id] = /^(want|have|shallow) (\S+)$/.exec(text) ?? []
    if (word !== undefined && id !== undefined) ids[word as keyof typeof ids].add(id.toLowerCase())
    else if (FLAGS.has(text)) flags.add(text)
    else if (DEPTH.test(text) && depth === undefined) depth = text
    else if (FILTER.test(text) && filter === undefined) filter = text
    else if (text !== 'done') return undefined
  }

  const [wants, haves, shallows] = [ids.want, ids.have, ids.shallow].map(sorted) as [string[], string[], string[]]
  return {
    spelling: JSON.stringify([format, wants, haves, shallows, sorted(flags), depth ?? null, filter ?? null]),
    format,
    wants,
    withTags: flags.has('include-tag'),
    shallow: depth !== undefined,
  }
}

function sorted(words: ReadonlySet<string>): string[] {
  return [...words].sort()
}
