import type { Sql, TransactionSql } from 'postgres'
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

/** A record in the inbox. */
export interface Arrival {
  /** Its place in the inbox. */
  readonly arrival: string
  readonly proxy: string
  readonly boot: string
  readonly n: number
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly kind: string
  readonly operation: string | null
  /** Canonical JSON. */
  readonly body: string
}

const COLUMNS = 'proxy, boot, n, at, kind, operation, principal, actor, repository, action, result, grants, refs, body'

/**
 * Puts records into the inbox with one statement, so in one commit; when it resolves they are on disk. The record of an operation
 * waits for this, so nothing else is done here: what an end ends is told by the ledger writer (`audit/open.ts`).
 * Once each: when sent `again`, a record that is there already, or already in the chain, is passed over, so a batch whose answer was
 * lost may be sent a second time. Numbers that were never sent need no search for them (`first`); one that was sent before, against
 * what the caller says, is then an error and not passed over in silence.
 */
export async function insertRecords(
  sql: Sql | TransactionSql,
  records: readonly Numbered[],
  attempt: 'first' | 'again' = 'again',
): Promise<void> {
  // As one parameter: an array for each column took half as much CPU again to write down.
  const rows = records.map(({ record, at, ...row }) => ({ ...row, ...facets(record), at: new Date(at).toISOString() }))
  // A plan that is kept may have been made while audit.source was empty, and would read all of it for each record.
  const [statement, prepare] = attempt === 'first' ? [INSERT, true] : [INSERT_AGAIN, false]
  await sql.unsafe(statement, [JSON.stringify(rows)], { prepare })
}

/** Whatever the server's default is, the commit of these waits for the disk. */
const BATCH = `
  json_to_recordset($1::text::json) as batch (
    proxy text, boot text, n bigint, at timestamptz, kind text, operation text, principal text, actor text,
    repository text, action text, result text, grants text[], refs text[], body text)
  cross join (select set_config('synchronous_commit', 'on', true)) as durable`

const INSERT = `insert into audit.inbox (${COLUMNS}) select ${COLUMNS} from ${BATCH} order by n`

const INSERT_AGAIN = `
  insert into audit.inbox (${COLUMNS})
  select ${COLUMNS} from ${BATCH} left join audit.source using (proxy, boot)
  where n > coalesce(source.last, 0)
  order by n
  on conflict (proxy, boot, n) do nothing`
