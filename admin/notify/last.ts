import type { Sql, TransactionSql } from 'postgres'
import type { RequestFacts } from './payload.ts'

/**
 * The facts with what the principal did last at this gate, by the ledger, while somebody has to decide. Looking at what there is does
 * not count as doing; where the ledger has nothing of them the facts stay as they are.
 */
export async function withLast(sql: Sql | TransactionSql, facts: RequestFacts): Promise<RequestFacts> {
  if (facts.state !== 'requested') return facts
  type Row = Omit<NonNullable<RequestFacts['last']>, 'at'> & { readonly at: Date }
  const [row] = await sql<Row[]>`
    select at, action, repository, result from audit.record
    where principal = ${facts.principal} and kind = 'operation.end' and action <> 'list'
    order by seq desc limit 1`
  return row === undefined ? facts : { ...facts, last: { ...row, at: row.at.toISOString() } }
}
