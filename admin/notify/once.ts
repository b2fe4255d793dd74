import type { Sql } from 'postgres'

/**
 * Whether this is the first time that something comes in, over all control planes; it is remembered until it could not be shown
 * again anyway.
 * @param expires milliseconds since the epoch
 */
export async function isFirst(sql: Sql, mark: string, expires: number): Promise<boolean> {
  const { count } = await sql`
    insert into control.link_used (id, expires) values (${mark}, ${new Date(expires)}) on conflict do nothing`
  return count === 1
}

/** It was not done after all, and may come again. */
export async function forgetMark(sql: Sql, mark: string): Promise<void> {
  await sql`delete from control.link_used where id = ${mark}`
}
