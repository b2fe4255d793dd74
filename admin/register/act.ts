import type { Sql, TransactionSql } from 'postgres'
import { canonical } from '../../audit/canonical.ts'
import type { Clean } from '../../audit/clean.ts'
import { insertRecords } from '../../audit/inbox.ts'
import type { Record } from '../../audit/record.ts'

/** What Redis has to be told about: a grant's id; a principal; principal and credential; a key's fingerprint. */
export type Subject =
  | readonly ['grant', string]
  | readonly ['lock', string]
  | readonly ['bar', string, string]
  | readonly ['key', string]

/** One change of the control plane's word. */
export interface Change {
  readonly sql: TransactionSql
  /** This happened; written to the ledger in the commit of the change itself. */
  record(record: Record): void
  /** People are to hear of what somebody else has recorded. */
  announce(record: Record): void
  /** Redis has to hear of it. */
  enact(subject: Subject): void
}

/**
 * Makes a change, the record of it and the order to enact it in one commit: no act without its record, no record of an act
 * that did not happen, and nothing that Redis is never told.
 */
export type Act = <T>(change: (change: Change) => Promise<T>) => Promise<T>

// All control planes that share a ledger write under one name and one unbroken row of numbers.
const SOURCE = 'control'
const RUN = 'control'

export function createAct(options: {
  readonly sql: Sql
  readonly clean: Clean
  /** Tells people of what is recorded; part of the same commit. */
  readonly announce?: (transaction: TransactionSql, records: readonly Record[]) => Promise<void>
  /** After each commit: wakes the ledger writer and the enactment. */
  readonly committed: () => void
}): Act {
  const { sql, clean, announce, committed } = options
  return async <T>(change: (change: Change) => Promise<T>): Promise<T> => {
    // Carried out in a variable: the driver's type for what `begin` gives cannot be told for every T.
    let made: { readonly result: T } | undefined
    await sql.begin(async transaction => {
      const records: Record[] = []
      const subjects: Subject[] = []
      const others: Record[] = []
      const result = await change({
        sql: transaction,
        record: record => void records.push(clean(record)),
        announce: record => void others.push(record),
        enact: subject => void subjects.push(subject),
      })
      for (const [kind, ...subject] of subjects) {
        await transaction`insert into control.outbox (kind, subject) values (${kind}, ${subject}::text[])`
      }
      if (records.length > 0) await writeRecords(transaction, records)
      const told = [...records, ...others]
      if (told.length > 0) await announce?.(transaction, told)
      made = { result }
    })
    committed()
    if (made === undefined) throw new Error('a transaction was committed that had not run')
    return made.result
  }
}

// The row of the number is locked until the commit, so numbers become visible in their order, and one that is rolled back is
// given again.
async function writeRecords(transaction: TransactionSql, records: readonly Record[]): Promise<void> {
  const [row] = await transaction<{ last: string }[]>`
    update control.record_number set last = last + ${records.length} returning last`
  if (!row) throw new Error('control.record_number is empty; the database was not made by the migrations')
  const first = Number(row.last) - records.length + 1
  const at = Date.now()
  await insertRecords(
    transaction,
    records.map((record, i) => ({ proxy: SOURCE, boot: RUN, n: first + i, at, record, body: canonical(record) })),
  )
}
