import type { Sql, TransactionSql } from 'postgres'
import type { Entry, Linked } from './chain.ts'
import { type Facets, facets } from './facets.ts'
import type { Record } from './record.ts'

/** In one page of a listing. */
export const PAGE_RECORDS_MAX = 1_000
/** How far is looked for a ref or a grant, one stretch behind the other, and how. */
const STRETCHES = [
  { records: 2_000, how: 'walk' },
  { records: 50_000, how: 'sort' },
  { records: Number.POSITIVE_INFINITY, how: 'sort' },
] as const
/** Fetched at once where the whole ledger is read. */
const STRIDE_RECORDS = 2_000

/** What a reader wants to see; all that are given must hold. */
export interface Filters {
  /** Whom it is about. */
  readonly principal?: string
  /** Who did it, where that is another. */
  readonly actor?: string
  readonly repository?: string
  /** A full ref name that was asked for. */
  readonly ref?: string
  readonly action?: string
  readonly result?: string
  readonly grant?: string
  readonly operation?: string
  readonly kind?: string
  /** From when to before when the ledger took the record (`recorded`, which never runs backwards; `at` is the sender's word). */
  readonly since?: Date
  readonly until?: Date
}

/** Where in the ledger to read: after a sequence number going forward, or before one going back. */
export type Place = { readonly after: number; readonly to?: number } | { readonly before?: number }

/** A record as the database holds it, its body not yet read. */
export interface StoredRow extends Omit<Entry, 'record'> {
  readonly body: string
  readonly hash: string
}

/** The record of a stored row in its place. */
export function linked({ body, ...rest }: StoredRow): Linked {
  return { ...rest, record: JSON.parse(body) as Record }
}

/**
 * Records that pass the filters: with `after` the oldest first, otherwise the newest first; at most `limit`, itself at most
 * `PAGE_RECORDS_MAX`. Page on with the last sequence number received.
 */
export async function list(sql: Sql, filters: Filters, place: Place, limit = 100): Promise<Linked[]> {
  const range = {
    forward: 'after' in place,
    above: 'after' in place ? place.after : 0,
    upTo: 'after' in place ? (place.to ?? Number.MAX_SAFE_INTEGER) : (place.before ?? Number.MAX_SAFE_INTEGER) - 1,
  }
  const wanted = Math.min(limit, PAGE_RECORDS_MAX)
  const asked = Object.values(filters).filter(value => value !== undefined).length
  const isListed = filters.ref !== undefined || filters.grant !== undefined
  const rows =
    asked < 2 && !isListed
      ? await page(sql, filters, range, wanted, 'walk')
      : await planned(sql, transaction =>
          isListed
            ? pageByList(transaction, filters, range, wanted)
            : page(transaction, filters, range, wanted, 'walk'),
        )
  return rows.map(linked)
}

/**
 * A branch may be in half of all records or in three, a repository may be the only one: which index serves a search depends on the
 * values. A plan made once for any value, as the server keeps them, may read half of the ledger for one line. And where a few hundred
 * records of one person are dear because a disk has to turn for each, all places of the main branch are read to be spared some.
 */
async function planned(sql: Sql, search: (sql: TransactionSql) => Promise<StoredRow[]>): Promise<StoredRow[]> {
  const rows = await sql.begin('read only', async transaction => {
    await transaction`
      select set_config('plan_cache_mode', 'force_custom_plan', true), set_config('random_page_cost', '1.1', true)`
    return [...(await search(transaction))]
  })
  return rows
}

interface Range {
  readonly forward: boolean
  readonly above: number
  readonly upTo: number
}

// Refs and grants are lists; their index gives matches in no order, so all of them have to be fetched and sorted. The main branch of a
// busy ledger has too many for that, but those are close by: look there first, in a piece that is walked, then in one in which the index
// finds few enough, and over everything only for what is rare.
async function pageByList(sql: TransactionSql, filters: Filters, asked: Range, wanted: number): Promise<StoredRow[]> {
  const { since, until, ...rest } = filters
  const { forward, above, upTo } = await narrowed(sql, asked, since, until)
  const found: StoredRow[] = []
  let from = forward ? above : upTo
  for (const { records, how } of STRETCHES) {
    const piece = forward
      ? { forward, above: from, upTo: Math.min(upTo, from + records) }
      : { forward, above: Math.max(above, from - records), upTo: from }
    if (piece.above >= piece.upTo) break
    found.push(...(await page(sql, rest, piece, wanted - found.length, how)))
    if (found.length === wanted) break
    from = forward ? piece.upTo : piece.above
  }
  return found
}

/** Where there is anything at all: neither after the last record nor outside of the times asked for. */
async function narrowed(
  sql: TransactionSql,
  { forward, above, upTo }: Range,
  since?: Date,
  until?: Date,
): Promise<Range> {
  const [row] = await sql<{ last: number; first: number; end: number }[]>`
    select coalesce(max(seq), 0)::float8 as last,
      ${since === undefined ? sql`0::float8` : sql`${firstSince(sql, since)}::float8`} as first,
      ${until === undefined ? sql`${Number.MAX_SAFE_INTEGER}::float8` : sql`${firstSince(sql, until)}::float8`} as end
    from audit.record`
  const { last = 0, first = 0, end = 0 } = row ?? {}
  return { forward, above: Math.max(above, first - 1), upTo: Math.min(upTo, last, end - 1) }
}

/** `sort` hides from the planner that the primary key is in the wanted order, so that it does not walk it in hope of an early match. */
async function page(
  sql: Sql | TransactionSql,
  filters: Filters,
  range: Range,
  limit: number,
  how: 'walk' | 'sort',
): Promise<StoredRow[]> {
  const order = how === 'walk' ? sql`record.seq` : sql`record.seq + 0`
  return await sql<StoredRow[]>`
    select ${projection(sql)} from audit.record
    where seq > ${range.above} and seq <= ${range.upTo} ${conditions(sql, filters)}
    order by ${order} ${range.forward ? sql`` : sql`desc`}
    limit ${limit}`
}

// Order by `record.seq`: a bare `seq` is the float8 of this list, which no index knows.
// Times as text and numbers as float8: all of a ledger passes here, and the driver's own Date and bigint cost more than the rest.
function projection(sql: Sql | TransactionSql) {
  return sql`seq::float8, to_char(recorded at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as recorded, proxy, boot, n::float8,
    to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at, body, encode(hash, 'hex') as hash`
}

function conditions(sql: Sql | TransactionSql, filters: Filters) {
  const { principal, actor, repository, ref, action, result, grant, operation, kind, since, until } = filters
  return sql`
    ${principal === undefined ? sql`` : sql`and principal = ${principal}`}
    ${actor === undefined ? sql`` : sql`and actor = ${actor}`}
    ${repository === undefined ? sql`` : sql`and repository = ${repository}`}
    ${ref === undefined ? sql`` : sql`and refs @> array[${ref}::text]`}
    ${action === undefined ? sql`` : sql`and action = ${word(sql, action)}`}
    ${result === undefined ? sql`` : sql`and result = ${word(sql, result)}`}
    ${grant === undefined ? sql`` : sql`and grants @> array[${grant}::text]`}
    ${operation === undefined ? sql`` : sql`and operation = ${operation}`}
    ${kind === undefined ? sql`` : sql`and kind = ${word(sql, kind)}`}
    ${since === undefined ? sql`` : sql`and seq >= ${firstSince(sql, since)}`}
    ${until === undefined ? sql`` : sql`and seq < ${firstSince(sql, until)}`}`
}

// A column with few values must be planned for the value asked for: a parameter hides that one result is in half of all records and
// another in a handful. So these stand in the statement itself, after a look at what they are made of.
function word(sql: Sql | TransactionSql, value: string) {
  return WORD.test(value) ? sql.unsafe(`'${value}'`) : sql`${value}`
}

const WORD = /^[a-z][a-z.-]{0,39}$/

// recorded never runs backwards, so a time is a sequence number: a walk of one index, and a range of the primary key instead of
// a condition the planner would have to guess about.
function firstSince(sql: Sql | TransactionSql, time: Date) {
  return sql`coalesce((
    select seq from audit.record where recorded >= ${time} order by recorded, seq limit 1), ${Number.MAX_SAFE_INTEGER}::bigint)`
}

/** The same judgement as the database's on a record at hand. */
export function matches(entry: Linked, filters: Filters): boolean {
  const facts = facets(entry.record)
  const { since, until, ref, grant } = filters
  const recorded = Date.parse(entry.recorded)
  const equal = (name: 'principal' | 'actor' | 'repository' | 'action' | 'result' | 'operation' | 'kind') =>
    filters[name] === undefined || facts[name] === filters[name]
  return (
    equal('principal') &&
    equal('actor') &&
    equal('repository') &&
    (ref === undefined || (facts.refs?.includes(ref) ?? false)) &&
    equal('action') &&
    equal('result') &&
    (grant === undefined || (facts.grants?.includes(grant) ?? false)) &&
    equal('operation') &&
    equal('kind') &&
    (since === undefined || recorded >= since.getTime()) &&
    (until === undefined || recorded < until.getTime())
  )
}

/** The last sequence number there is; 0 for an empty ledger. */
export async function lastSeq(sql: Sql): Promise<number> {
  const [row] = await sql<{ seq: number }[]>`select coalesce(max(seq), 0)::float8 as seq from audit.record`
  return row?.seq ?? 0
}

/** The next records that pass the filters, bodies unread: as many as are read at once. */
export async function readStride(sql: Sql, after: number, filters: Filters = {}): Promise<StoredRow[]> {
  return await sql<StoredRow[]>`
    select ${projection(sql)} from audit.record where seq > ${after} ${conditions(sql, filters)} order by record.seq limit ${STRIDE_RECORDS}`
}

/** The whole ledger after a sequence number, in strides, bodies unread; ends at the last record there was when it got there. */
export async function* readRows(sql: Sql, after = 0, filters: Filters = {}): AsyncGenerator<StoredRow[]> {
  yield* strides(after, at => readStride(sql, at, filters))
}

/** One stride after another, each asked for while the one before is worked on: the database and its reader work at once. */
async function* strides<Row extends { readonly seq: number }>(
  after: number,
  fetch: (after: number) => Promise<Row[]>,
): AsyncGenerator<Row[]> {
  let coming = fetch(after)
  for (;;) {
    const rows = await coming
    const last = rows.at(-1)
    if (!last) return
    coming = fetch(last.seq)
    // Whoever reads no further hears nothing of what became of it.
    coming.catch(() => {})
    yield rows
  }
}

/** A record with what the index columns say of it. */
export interface Indexed extends Linked {
  readonly indexed: Facets
}

/** The whole ledger with its index columns, for the verifier: who owns the database may change those alone to hide a record. */
export async function* readIndexed(sql: Sql, after = 0): AsyncGenerator<Indexed[]> {
  const fetch = async (at: number) => [
    ...(await sql<(StoredRow & Facets)[]>`
      select ${projection(sql)}, kind, operation, principal, actor, repository, action, result, grants, refs
      from audit.record where seq > ${at} order by record.seq limit ${STRIDE_RECORDS}`),
  ]
  for await (const rows of strides(after, fetch)) {
    yield rows.map(({ kind, operation, principal, actor, repository, action, result, grants, refs, ...row }) => ({
      ...linked(row),
      indexed: { kind, operation, principal, actor, repository, action, result, grants, refs },
    }))
  }
}
