import type { Sql } from 'postgres'
import type { Arrival } from './inbox.ts'

// Which operations have no end yet. The ledger writer, which is alone and sees every record in its order, keeps the list and tells a
// second end; whoever recovers what a dead proxy left open also looks at what the writer has not taken yet.

/** An operation without an end. */
export interface OpenOperation {
  readonly operation: string
  readonly boot: string
  readonly started: Date
  /** JSON of the start; an earlier version kept no more of it than a `Subject`. */
  readonly body: string
}

/** What a batch of records does to the list. */
export interface Ends {
  /** Starts without an end in the batch. */
  readonly opened: ReadonlySet<string>
  /** Operations that began before this batch and end in it. */
  readonly closed: ReadonlySet<string>
  /** All that end in it. */
  readonly ended: ReadonlySet<string>
  /** Ends after the first of their operation, by their place in the inbox. */
  readonly duplicates: ReadonlySet<string>
}

/**
 * Tells for each end in a batch whether it is the first of its operation.
 * @param under the batch before, which may be on its way into the database, or there
 */
export async function tellEnds(sql: Sql, arrivals: readonly Arrival[], under?: Ends): Promise<Ends> {
  const endedBefore = await endedEarlier(sql, endsFromElsewhere(arrivals), under)
  const opened = new Set<string>()
  const closed = new Set<string>()
  const ended = new Set<string>()
  const duplicates = new Set<string>()
  for (const one of arrivals) {
    const { operation } = one
    if (operation === null) continue
    if (one.kind === 'operation.start') opened.add(operation)
    if (one.kind !== 'operation.end') continue
    if (ended.has(operation) || endedBefore.has(operation)) {
      duplicates.add(one.arrival)
      continue
    }
    ended.add(operation)
    if (!opened.delete(operation)) closed.add(operation)
  }
  return { opened, closed, ended, duplicates }
}

/** Operations that end in this batch and did not start in it. */
function endsFromElsewhere(arrivals: readonly Arrival[]): Set<string> {
  const elsewhere = new Set<string>()
  const started = new Set<string>()
  for (const { kind, operation } of arrivals) {
    if (operation === null) continue
    if (kind === 'operation.start') started.add(operation)
    if (kind === 'operation.end' && !started.has(operation)) elsewhere.add(operation)
  }
  return elsewhere
}

async function endedEarlier(
  sql: Sql,
  operations: ReadonlySet<string>,
  under: Ends | undefined,
): Promise<ReadonlySet<string>> {
  const ended = new Set([...operations].filter(operation => under?.ended.has(operation)))
  const asked = [...operations].filter(operation => !ended.has(operation) && !under?.opened.has(operation))
  if (asked.length === 0) return ended
  const open = new Set(await listed(sql, asked))
  // Few: the chain is asked only of what is not on the list. Proxies of an earlier version strike out what they end themselves.
  const unlisted = asked.filter(operation => !open.has(operation))
  if (unlisted.length > 0) for (const operation of await endedInChain(sql, unlisted)) ended.add(operation)
  return ended
}

async function listed(sql: Sql, operations: readonly string[]): Promise<string[]> {
  const rows = await sql<{ operation: string }[]>`
    select operation from audit.open_operation where operation = any (${[...operations]}::text[])`
  return rows.map(({ operation }) => operation)
}

async function endedInChain(sql: Sql, operations: readonly string[]): Promise<string[]> {
  const rows = await sql<{ operation: string }[]>`
    select operation from audit.record where operation = any (${[...operations]}::text[]) and kind = 'operation.end'`
  return rows.map(({ operation }) => operation)
}

/** Operations of this proxy that an earlier run left open. */
export async function openOperations(sql: Sql, proxy: string, boot: string): Promise<OpenOperation[]> {
  return await sql<OpenOperation[]>`
    select operation, boot, started, body from (${everyOpen(sql)}) as open
    where proxy = ${proxy} and boot <> ${boot} order by started, operation`
}

/** Whoever has operations open, and whoever left some open. */
export async function openProxies(sql: Sql): Promise<string[]> {
  const rows = await sql<{ proxy: string }[]>`select distinct proxy from (${everyOpen(sql)}) as open`
  return rows.map(({ proxy }) => proxy)
}

/**
 * One statement sees one moment: the writer takes a record out of the inbox and puts it on the list in one commit. What a proxy of an
 * earlier version began may be in both.
 */
function everyOpen(sql: Sql) {
  return sql`
    select distinct on (operation) * from (
      select operation, proxy, boot, started, body from audit.open_operation
      union all
      select operation, proxy, boot, at, body from audit.inbox where kind = 'operation.start'
    ) as started
    where operation not in (select operation from audit.inbox where kind = 'operation.end' and operation is not null)`
}
