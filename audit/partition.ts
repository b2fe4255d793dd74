import type { Sql } from 'postgres'

/** A partition is closed after so many records, however young they are. */
const PARTITION_RECORDS_MAX = 1_000_000
/** Waits no longer for those who read or write; it is tried again the next time. */
const LOCK_WAIT = '2s'
const NAME = /^record_from_(\d{1,16})$/

/** A table that holds records `from` to `to` of the ledger; the last is open at its end. */
export interface Partition {
  readonly name: string
  readonly from: number
  /** The last record that can be in it; nothing while it is open. */
  readonly to: number | undefined
}

/** The partitions of the ledger, the oldest first. */
export async function partitions(sql: Sql): Promise<Partition[]> {
  const rows = await sql<{ name: string }[]>`
    select relname as name from pg_inherits join pg_class on pg_class.oid = inhrelid
    where inhparent = 'audit.record'::regclass`
  const found = rows
    .map(({ name }) => ({ name, from: Number(NAME.exec(name)?.[1]) }))
    .filter(({ from }) => Number.isSafeInteger(from))
    .sort((a, b) => a.from - b.from)
  return found.map((one, i) => ({ ...one, to: found[i + 1] && found[i + 1]!.from - 1 }))
}

/**
 * Closes the open partition behind the last record if its first one is older than `before` or it is full, and opens the next. Readers and the
 * ledger writer wait meanwhile, a second for a million records; operations do not, they only write to the inbox.
 * @returns whether it did
 */
export async function closePartition(sql: Sql, before: Date): Promise<boolean> {
  const open = (await partitions(sql)).at(-1)
  if (!open) throw new Error('audit.record has no partitions; the database was not made by the migrations')
  const [first] = await sql<{ seq: number; recorded: Date }[]>`
    select seq::float8, recorded from audit.record where seq >= ${open.from} order by record.seq limit 1`
  const [chain] = await sql<{ seq: number }[]>`select seq::float8 from audit.chain`
  const full = (chain?.seq ?? 0) - open.from >= PARTITION_RECORDS_MAX
  if (!first || !(full || first.recorded < before)) return false
  await sql.begin(async transaction => {
    await transaction`select set_config('lock_timeout', ${LOCK_WAIT}, true)`
    // Before the row of the chain, in the order in which the writer takes them.
    await transaction`lock table audit.record in access exclusive mode`
    const [end] = await transaction<{ next: string }[]>`select seq + 1 as next from audit.chain for update`
    const { next } = end!
    const name = transaction(`audit.${open.name}`)
    const from = open.from === 1 ? 'minvalue' : String(open.from)
    await transaction`alter table audit.record detach partition ${name}`
    await transaction`alter table audit.record attach partition ${name}
      for values from (${transaction.unsafe(from)}) to (${transaction.unsafe(next)})`
    const fresh = transaction(`audit.record_from_${next}`)
    await transaction`create table ${fresh} partition of audit.record
      for values from (${transaction.unsafe(next)}) to (maxvalue)`
    await transaction`create unique index on ${fresh} (proxy, boot, n)`
  })
  return true
}
