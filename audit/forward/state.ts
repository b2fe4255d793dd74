import type { Sql } from 'postgres'

/** How somebody fares who is told of each record. Times are milliseconds. */
export interface ReaderState {
  readonly name: string
  /** Up to which record it has everything. */
  readonly seq: number
  /** How many records it lacks. */
  readonly behind: number
  /** For how long the oldest of them has been in the ledger; 0: it lacks none. */
  readonly waiting: number
  /** When it last took something, since the epoch. */
  readonly succeeded: number | undefined
  /** Why it does not go on, and since when, while it does not. */
  readonly failing: { readonly since: number; readonly fault: string } | undefined
}

/** Of those of these names that have ever begun: it is the same whichever process is asked. */
export async function readerStates(sql: Sql, names: readonly string[]): Promise<readonly ReaderState[]> {
  const rows = await sql<ReaderRow[]>`
    select name, reader.seq::float8 as seq, greatest(last.seq - reader.seq, 0)::float8 as behind, succeeded, failing, fault,
      extract(epoch from now() - (
        select recorded from audit.record where record.seq > reader.seq order by record.seq limit 1))::float8 as waiting
    from audit.reader, (select coalesce(max(seq), 0) as seq from audit.record) as last
    where name = any(${[...names]}::text[]) order by name`
  return rows.map(({ name, seq, behind, waiting, succeeded, failing, fault }) => ({
    name,
    seq,
    behind,
    waiting: Math.max(0, Math.round((waiting ?? 0) * 1_000)),
    succeeded: succeeded?.getTime(),
    failing: failing === null ? undefined : { since: failing.getTime(), fault: fault ?? '' },
  }))
}

interface ReaderRow {
  readonly name: string
  readonly seq: number
  readonly behind: number
  readonly waiting: number | null
  readonly succeeded: Date | null
  readonly failing: Date | null
  readonly fault: string | null
}
