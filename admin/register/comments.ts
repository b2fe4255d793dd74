import type { Sql, TransactionSql } from 'postgres'
import type { Via } from '../../audit/record.ts'

/** Something said about a request. */
export interface Comment {
  readonly id: string
  readonly request: string
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly by: string
  readonly via: Via | undefined
  readonly content: string
  /** Where it came by a channel: which one, and what the message is called there. */
  readonly origin?: { readonly channel: string; readonly message: string } | undefined
}

/** Writes it down; false where the message it came by is written down already. */
export async function writeComment(sql: TransactionSql, comment: Comment): Promise<boolean> {
  const { id, request, at, by, via, content, origin } = comment
  const { count } = await sql`
    insert into control.comment (id, request, at, by, via, channel, message, content)
    values (
      ${id}, ${request}, ${new Date(at)}, ${by}, ${via ?? null}, ${origin?.channel ?? null}, ${origin?.message ?? null},
      ${content})
    on conflict (channel, message) do nothing`
  return count === 1
}

export async function countComments(sql: TransactionSql, request: string): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from control.comment where request = ${request}`
  return row?.count ?? 0
}

/** All that was said about a request, the oldest first; a request has room for `COMMENTS_MAX`. */
export async function listComments(sql: Sql, request: string): Promise<Comment[]> {
  const rows = await sql<{ id: string; at: Date; by: string; via: Via | null; content: string }[]>`
    select id, at, by, via, content from control.comment where request = ${request} order by id`
  return rows.map(({ id, at, by, via, content }) => {
    return { id, request, at: at.getTime(), by, via: via ?? undefined, content }
  })
}
