import { once } from 'node:events'
import { FollowingEnded, follow } from '../../audit/follow.ts'
import type { Filters } from '../../audit/read.ts'
import { type Entry, sentence } from '../../audit/sentence.ts'
import { ControlError, type ControlPlane } from '../control.ts'
import type { CommandContext, OwnCommand } from '../ssh/session.ts'
import type { Line } from './line.ts'
import type { Asked } from './request.ts'
import { say, wordOf } from './word.ts'

/**
 * The ledger over stock ssh, for auditors: `ssh git@gate audit tail -f`. Who may read it the control plane says, at the beginning
 * and then every few seconds; here it is also asked whether the key that was shown still stands.
 */

const FILTERS = [
  'principal',
  'actor',
  'repository',
  'ref',
  'action',
  'result',
  'grant',
  'operation',
  'kind',
  'since',
  'until',
] as const satisfies readonly (keyof Filters)[]

const TAIL_LINES = 20
/** The newest come first and are shown last, so they are all held. */
const TAIL_LINES_MAX = 1_000
const LIST_LINES = 100
const LIST_LINES_MAX = 100_000
/** Asked for at once. The answer is held in memory, and a record may be as long as a push has refs. */
const PAGE_RECORDS = 50
const STANDS_MILLISECONDS = 10_000

const USAGE = `audit tail [-f] [-n COUNT] [--after SEQ] | list [--limit COUNT] [--before SEQ] | [--json] [${FILTERS.map(name => `--${name} …`).join('] [')}]`

/** @param standsEvery milliseconds between questions whether the credential still stands */
export function auditWord(control: ControlPlane, standsEvery = STANDS_MILLISECONDS): OwnCommand {
  const word = wordOf(control)
  const known = { flags: ['follow', 'json'], values: ['lines', 'after', 'limit', 'before', ...FILTERS] }
  const run = word(known, USAGE, async (line, asked, context) => {
    const [what, ...more] = line.words
    if (more.length > 0) throw new ControlError(2, 'the filters are options')
    if (what === 'tail') return await tail(line, asked, context)
    if (what !== 'list') throw new ControlError(2, 'say what: audit tail or audit list')
    for await (const entry of newest(
      asked,
      line,
      numberOf(line, 'limit', LIST_LINES, LIST_LINES_MAX),
      optional(line, 'before'),
    )) {
      await print(textOf(entry, line), context)
    }
    return 0
  })
  // As everybody types them.
  const LONG: Readonly<Record<string, string>> = { '-f': '--follow', '-n': '--lines' }
  return (args, context) =>
    run(
      args.map(arg => LONG[arg] ?? arg),
      context,
    )

  async function tail(line: Line, asked: Asked, context: CommandContext): Promise<number> {
    let after = optional(line, 'after')
    if (after === undefined) {
      const count = numberOf(line, 'lines', TAIL_LINES, TAIL_LINES_MAX)
      // The end of the ledger first: a record that comes between the two questions is then followed, not skipped.
      after = (await page(asked, {}, { limit: 1 }))[0]?.seq ?? 0
      const last: string[] = []
      for await (const entry of newest(asked, line, count, after + 1)) last.push(textOf(entry, line))
      for (const text of last.reverse()) await print(text, context)
    } else if (!line.flags.has('follow')) {
      throw new ControlError(2, '--after goes with -f')
    }
    return line.flags.has('follow') ? await followOn(after, line, context) : 0
  }

  /** Goes on until the person is gone, or may read no more. What is not read over ssh is not asked for either. */
  async function followOn(after: number, line: Line, context: CommandContext): Promise<number> {
    const ended = new AbortController()
    const signal = AbortSignal.any([context.gone, ended.signal])
    const standing = setInterval(async () => {
      if (!(await context.stands().catch(() => false))) ended.abort()
    }, standsEvery)
    let last = after
    let begun = false
    try {
      const entries = follow<Entry>(after, {
        signal,
        open: async seq => {
          const headers = { 'last-event-id': String(seq) }
          const path = `/audit/stream${query(filtersOf(line))}`
          const chunks = await control.stream({ caller: context.caller, path, headers, gone: signal })
          begun = true
          return chunks
        },
        // What is refused stays refused; what was there and is gone may come back.
        isLasting: error => error instanceof ControlError && (!begun || error.status !== 3),
        onBroken: () => say(context, 'the control plane does not answer; trying again'),
        onAgain: () => say(context, 'connected again'),
      })
      for await (const entry of entries) {
        await print(textOf(entry, line), context, signal)
        last = entry.seq
      }
    } catch (error) {
      if (signal.aborted) return over()
      if (!(error instanceof FollowingEnded)) throw error
      throw new ControlError(4, error.message, `what follows: audit tail -f --after ${last}`)
    } finally {
      clearInterval(standing)
    }
    return over()

    function over(): number {
      if (!context.gone.aborted) {
        say(context, 'the credential of this connection has ended; connect again with a new one')
        say(context, `what follows: audit tail -f --after ${last}`)
      }
      return 4
    }
  }
}

/** So many records before a place, the newest first, a page at a time. */
async function* newest(
  asked: Asked,
  line: Line,
  count: number,
  before: number | undefined,
): AsyncGenerator<Entry, void, void> {
  let left = count
  let place = before
  while (left > 0) {
    const limit = Math.min(left, PAGE_RECORDS)
    const found = await page(asked, filtersOf(line), { limit, ...(place !== undefined && { before: place }) })
    yield* found
    left -= found.length
    place = found.at(-1)?.seq
    if (found.length < limit) return
  }
}

async function page(
  asked: Asked,
  filters: Readonly<Record<string, string>>,
  place: { readonly limit: number; readonly before?: number },
): Promise<readonly Entry[]> {
  const { records } = await asked.get<{ records: Entry[] }>(`/audit${query({ ...filters, ...place })}`)
  return records
}

const textOf = (entry: Entry, { flags }: Line) => (flags.has('json') ? JSON.stringify(entry) : sentence(entry))

/** Resolves when there is place for the next: whoever does not read is not read for. */
async function print(text: string, { stdout, gone }: CommandContext, signal = gone): Promise<void> {
  if (!stdout.write(`${text}\n`)) await once(stdout, 'drain', { signal })
}

const filtersOf = ({ values }: Line) => Object.fromEntries([...values].filter(([name]) => isFilter(name)))
const isFilter = (name: string) => FILTERS.some(filter => filter === name)

function query(parameters: Readonly<Record<string, string | number>>): string {
  const given = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) given.set(name, String(value))
  return given.size === 0 ? '' : `?${given}`
}

function optional({ values }: Line, name: string): number | undefined {
  const text = values.get(name)
  if (text === undefined) return undefined
  if (!/^\d{1,15}$/.test(text)) throw new ControlError(2, `--${name}: expected a whole number`)
  return Number(text)
}

function numberOf(line: Line, name: string, usual: number, most: number): number {
  const asked = optional(line, name) ?? usual
  if (asked > most) throw new ControlError(2, `--${name}: at most ${most}`)
  return asked
}
