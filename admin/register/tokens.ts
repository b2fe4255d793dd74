import type { Sql } from 'postgres'
import type { Act, Change } from './act.ts'
import { bar } from './locks.ts'

export interface RegisteredToken {
  readonly id: string
  readonly principal: string
  readonly roles: readonly string[]
  readonly created: Date
  readonly createdBy: string
  readonly expires: Date
  readonly revoked?: { readonly at: Date; readonly by: string }
}

/** Writes down that a token exists, before anybody is given it. */
export async function registerToken(
  act: Act,
  token: { id: string; principal: string; roles: readonly string[]; expires: Date },
  by: string,
): Promise<void> {
  await act(change => writeToken(change, token, by))
}

/** The same as part of a larger change. */
export async function writeToken(
  change: Change,
  token: { id: string; principal: string; roles: readonly string[]; expires: Date },
  by: string,
): Promise<void> {
  const { id, principal, roles, expires } = token
  await change.sql`
    insert into control.token (id, principal, roles, created_by, expires)
    values (${id}, ${principal}, ${[...roles]}, ${by}, ${expires})`
  change.record({ kind: 'token.created', by, token: id, principal, roles, expires: expires.toISOString() })
}

export async function revokeToken(act: Act, id: string, by: string): Promise<'done' | 'ended' | 'unknown'> {
  return await act(async change => {
    const [token] = await change.sql<{ principal: string; roles: string[]; expires: Date }[]>`
      update control.token set revoked = now(), revoked_by = ${by}
      where id = ${id} and revoked is null
      returning principal, roles, expires`
    if (token === undefined) {
      const [known] = await change.sql`select from control.token where id = ${id}`
      return known ? 'ended' : 'unknown'
    }
    const { principal, roles, expires } = token
    await bar(change, { principal, credential: `token:${id}`, reason: 'the token was revoked', expires })
    change.record({ kind: 'token.revoked', by, token: id, principal, roles })
    return 'done'
  })
}

export async function findToken(sql: Sql, id: string): Promise<RegisteredToken | undefined> {
  const [row] = await sql<TokenRow[]>`select * from control.token where id = ${id}`
  return row && tokenOf(row)
}

/** The newest first. */
export async function listTokens(
  sql: Sql,
  { principal, before, limit }: { principal?: string; before?: string; limit: number },
): Promise<RegisteredToken[]> {
  const rows = await sql<TokenRow[]>`
    select * from control.token
    where true
    ${principal === undefined ? sql`` : sql`and principal = ${principal}`}
    ${before === undefined ? sql`` : sql`and id < ${before}`}
    order by id desc limit ${limit}`
  return rows.map(tokenOf)
}

/** What decides, besides the signature, whether a token may be used for the API. */
export async function tokenStanding(
  sql: Sql,
  id: string,
  principal: string,
): Promise<'good' | 'unknown' | 'revoked' | 'ended' | 'locked'> {
  const [row] = await sql<{ revoked: Date | null; ended: boolean; locked: boolean | null }[]>`
    select token.revoked, token.expires <= now() as ended, lock.locked from control.token
    left join control.lock using (principal)
    where token.id = ${id} and token.principal = ${principal}`
  if (row === undefined) return 'unknown'
  if (row.revoked !== null) return 'revoked'
  // Sooner than the token itself says, where it was rotated.
  if (row.ended) return 'ended'
  return row.locked ? 'locked' : 'good'
}

interface TokenRow {
  readonly id: string
  readonly principal: string
  readonly roles: string[]
  readonly created: Date
  readonly created_by: string
  readonly expires: Date
  readonly revoked: Date | null
  readonly revoked_by: string | null
}

function tokenOf({ created_by, revoked, revoked_by, ...rest }: TokenRow): RegisteredToken {
  return { ...rest, createdBy: created_by, ...(revoked !== null && { revoked: { at: revoked, by: revoked_by ?? '' } }) }
}
