import type { Sql, TransactionSql } from 'postgres'
import { canonical } from './canonical.ts'
import { subjectOf } from './ending.ts'
import { facets } from './facets.ts'
import type { Record } from './record.ts'

/** A record under the number its proxy gave it, as it goes into the inbox or the spool. */
export interface Numbered {
  readonly proxy: string
  /** One run of that proxy. */
  readonly boot: string
  /** 1, 2, 3 … within the run. */
  readonly n: number
  /** When it happened, by the proxy's clock, in milliseconds since the epoch. */
  readonly at: number
  readonly record: Record
  /** The canonical JSON of `record`. */
  readonly body: string
}

/** An operation without an end. */
export interface OpenOperation {
  readonly operation: string
  readonly boot: string
  readonly started: Date
  /** JSON of a `Subject`. */
  readonly body: string
}

/**
 * For a connection on which operations begin and end for long. Plans are kept, and one that was made when the list of open operations had just
 * been vacuumed would read through all of that list for each batch until the next time: a third of the rate a minute later.
 */
export const INSERTING = { enable_seqscan: 'off' } as const

type Effect = 'open' | 'close' | 'none'

/** From so many records on a statement is planned for the tables as they are: planning is then the smaller part of the work. */
const PLANNED_RECORDS_MIN = 50

/**
 * Puts records into the inbox with one statement, so in one commit; when it resolves they are on disk.
 * Once each: when sent `again`, a record that is there already, or already in the chain, is passed over with all its effects, so a
 * batch whose answer was lost may be sent a second time. Numbers that were never sent need no search for them (`first`).
 *
 * The same commit keeps `open_operation`: a start opens, an end closes. An end that finds nothing open is written as
 * `ledger.duplicate`, which is what makes "exactly one end" true whoever races with whom.
 */
export async function insertRecords(
  sql: Sql | TransactionSql,
  records: readonly Numbered[],
  attempt: 'first' | 'again' = 'again',
): Promise<void> {
  const batch = withEffects(records)
  // As one parameter: an array for each column took half as much CPU again to write down.
  const rows = batch.map(({ record, at, ...row }) => ({
    ...row,
    ...facets(record),
    at: new Date(at).toISOString(),
  }))
  const opens = batch.some(({ effect }) => effect === 'open')
  const closes = batch.some(({ effect }) => effect === 'close')
  // A plan that is kept was made while these tables were nearly empty, and reads through all of them for each of a thousand records.
  const prepare = records.length < PLANNED_RECORDS_MIN
  await sql.unsafe(insertStatement(attempt, opens, closes), [JSON.stringify(rows)], { prepare })
}

const COLUMNS = 'proxy, boot, n, at, kind, operation, principal, actor, repository, action, result, grants, refs, body'

/**
 * The statement for a batch: one that opens or closes nothing does not look whether it does. At the first attempt there is no
 * `on conflict`: a number that was sent before, against what the caller says, is an error and not passed over in silence.
 */
function insertStatement(attempt: 'first' | 'again', opens: boolean, closes: boolean): string {
  return `
    with batch as (
      select * from json_to_recordset($1::text::json) as row (
        proxy text, boot text, n bigint, at timestamptz, kind text, operation text, principal text, actor text,
        repository text, action text, result text, grants text[], refs text[], body text, effect text, aside text)
    )
    ${attempt === 'again' ? NOT_THERE_YET : ', fresh as (select * from batch)'}
    ${opens ? STARTED : ''}
    ${closes ? ENDED : ''}
    insert into audit.inbox (${COLUMNS})
    select ${COLUMNS} from ${closes ? 'judged' : 'fresh'}
    -- Whatever the server's default is, this commit waits for the disk.
    cross join (select set_config('synchronous_commit', 'on', true)) as durable
    order by n
    ${attempt === 'again' ? 'on conflict (proxy, boot, n) do nothing' : ''}`
}

const NOT_THERE_YET = `,
    fresh as materialized (
      select batch.* from batch left join audit.source using (proxy, boot)
      where batch.n > coalesce(source.last, 0)
        and not exists (
          select from audit.inbox where inbox.proxy = batch.proxy and inbox.boot = batch.boot and inbox.n = batch.n)
    )`

const STARTED = `,
    started as (
      insert into audit.open_operation (operation, proxy, boot, started, body)
      select operation, proxy, boot, at, aside from fresh where effect = 'open'
      on conflict do nothing
    )`

const ENDED = `,
    -- Neither is a join: the planner takes the batch for one record and, once it was vacuumed, this table for an empty one, and would
    -- compare each end with every other.
    ended as (
      delete from audit.open_operation
      where operation = any (array(select operation from fresh where effect = 'close'))
      returning operation
    ),
    told as materialized (
      select fresh.*, effect = 'close' and operation not in (select operation from ended) as duplicate from fresh
    ),
    judged as (
      select
        proxy, boot, n, at, operation, grants,
        case when duplicate then 'ledger.duplicate' else kind end as kind,
        case when duplicate then null else principal end as principal,
        case when duplicate then null else actor end as actor,
        case when duplicate then null else repository end as repository,
        case when duplicate then null else action end as action,
        case when duplicate then null else result end as result,
        case when duplicate then null else refs end as refs,
        case when duplicate then aside else body end as body
      from told
    )`

/** Operations of this proxy that an earlier run left open. */
export async function openOperations(sql: Sql, proxy: string, boot: string): Promise<OpenOperation[]> {
  return await sql<OpenOperation[]>`
    select operation, boot, started, body from audit.open_operation
    where proxy = ${proxy} and boot <> ${boot} order by started, operation`
}

/** Whoever has operations open, and whoever left some open. */
export async function openProxies(sql: Sql): Promise<string[]> {
  const rows = await sql<{ proxy: string }[]>`select distinct proxy from audit.open_operation`
  return rows.map(({ proxy }) => proxy)
}

interface Row extends Numbered {
  readonly effect: Effect
  /** Of what opens: what is kept for its end. Of what closes: what is written instead where nothing is open. */
  readonly aside: string | null
}

/**
 * Says of each record what it does to `open_operation`. Statements in one `with` do not see each other's rows, so a start and
 * its end in one batch touch nothing, and a second end in one batch becomes a duplicate here.
 */
function withEffects(records: readonly Numbered[]): Row[] {
  const started = new Set<string>()
  const lastEnd = new Map<string, number>()
  for (const [i, { record }] of records.entries()) if (record.kind === 'operation.end') lastEnd.set(record.operation, i)

  const ended = new Set<string>()
  return records.map((row, i) => {
    const { record } = row
    if (record.kind === 'operation.start') {
      started.add(record.operation)
      if ((lastEnd.get(record.operation) ?? -1) > i) return { ...row, effect: 'none', aside: null }
      return { ...row, effect: 'open', aside: JSON.stringify(subjectOf(record)) }
    }
    if (record.kind !== 'operation.end') return { ...row, effect: 'none', aside: null }
    const duplicate: Record = { kind: 'ledger.duplicate', operation: record.operation }
    if (ended.has(record.operation)) {
      return { ...row, record: duplicate, body: canonical(duplicate), effect: 'none', aside: null }
    }
    ended.add(record.operation)
    if (started.has(record.operation)) return { ...row, effect: 'none', aside: null }
    return { ...row, effect: 'close', aside: canonical(duplicate) }
  })
}
