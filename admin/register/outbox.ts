import type { Sql } from 'postgres'

export interface Order {
  readonly id: string
  readonly kind: 'grant' | 'lock' | 'bar' | 'key'
  readonly subject: readonly string[]
}

/** What Redis has yet to be told, oldest first. */
export async function pendingOrders(sql: Sql, limit: number): Promise<Order[]> {
  return await sql<Order[]>`select id, kind, subject from control.outbox order by id limit ${limit}`
}

export async function ordersDone(sql: Sql, ids: readonly string[]): Promise<void> {
  if (ids.length > 0) await sql`delete from control.outbox where id = any(${[...ids]}::bigint[])`
}

/** How many wait, and for how long the oldest has: milliseconds. */
export async function backlog(sql: Sql): Promise<{ readonly waiting: number; readonly oldest: number }> {
  const [row] = await sql<{ waiting: number; oldest: number }[]>`
    select count(*)::int as waiting,
      coalesce(extract(epoch from clock_timestamp() - min(since)) * 1000, 0)::float8 as oldest
    from control.outbox`
  return row ?? { waiting: 0, oldest: 0 }
}

/** Postgres's clock, in milliseconds since the epoch. */
export async function databaseClock(sql: Sql): Promise<number> {
  const [row] = await sql<{ now: number }[]>`
    select floor(extract(epoch from clock_timestamp()) * 1000)::float8 as now`
  return row?.now ?? Number.NaN
}
