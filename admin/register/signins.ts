import type { Sql, TransactionSql } from 'postgres'
import type { Role } from '../../ca/token.ts'
import type { Act, Change } from './act.ts'
import { bar } from './locks.ts'

/** What the identity provider said of somebody, as far as the gate takes it. */
export interface Person {
  readonly principal: string
  readonly groups: readonly string[]
  readonly roles: readonly Role[]
  /** As the provider knows them: its issuer, `sub` and, where it has one, the `sid` of its own session. */
  readonly issuer: string
  readonly subject: string
  readonly session?: string
  /** When a second factor was last shown, milliseconds since the epoch. */
  readonly mfa?: number
  /** What the provider is asked with whether they are still there, sealed. */
  readonly refresh?: string
}

/** One sign-in of one person, over or not. */
export interface RegisteredSignin extends Person {
  readonly id: string
  readonly address: string
  readonly client: string
  readonly made: Date
  readonly expires: Date
  readonly ended?: { readonly at: Date; readonly how: Ending; readonly by: string }
}

export type Ending = 'logout' | 'revoked' | 'provider'

export interface NewSignin extends Person {
  readonly id: string
  readonly address: string
  readonly client: string
  readonly expires: Date
}

/** Writes a sign-in down as part of a larger change. */
export async function writeSignin(change: Change, signin: NewSignin): Promise<void> {
  const { id, principal, groups, roles, issuer, subject, session, mfa, refresh, address, client, expires } = signin
  await change.sql`
    insert into control.signin (
      id, principal, groups, roles, issuer, subject, session, mfa, refresh, address, client, expires)
    values (
      ${id}, ${principal}, ${[...groups]}, ${[...roles]}, ${issuer}, ${subject}, ${session ?? null},
      ${mfa === undefined ? null : new Date(mfa)}, ${refresh ?? null}, ${address}, ${client}, ${expires})`
  change.record({
    kind: 'signin.made',
    by: principal,
    signin: id,
    principal,
    address,
    groups,
    roles,
    ...(mfa !== undefined && { mfa: new Date(mfa).toISOString() }),
    expires: expires.toISOString(),
  })
}

/** A key for which nothing but a sign-in speaks. */
export interface BoundKey {
  readonly fingerprint: string
  readonly algorithm: string
  readonly publicKey: string
}

/**
 * Lets a key stand for whoever signed in, until the sign-in ends; one that stands for them by an earlier sign-in goes over to
 * this one. A key that was revoked does not come back, and one that is somebody else's, or their own by registration, is left
 * as it is.
 */
export async function bindKey(change: Change, key: BoundKey, signin: NewSignin): Promise<'done' | 'refused'> {
  const { fingerprint, algorithm, publicKey } = key
  const { id, principal, expires } = signin
  const { count } = await change.sql`
    insert into control.key (fingerprint, principal, algorithm, public_key, title, created_by, expires, signin)
    values (${fingerprint}, ${principal}, ${algorithm}, ${publicKey}, 'bound by a sign-in', ${principal}, ${expires}, ${id})
    on conflict (fingerprint) do update
    set principal = excluded.principal, created = now(), created_by = excluded.created_by, expires = excluded.expires,
      signin = excluded.signin
    where key.revoked is null and (
      (key.expires <= now() and (key.signin is not null or key.principal = excluded.principal))
      or (key.signin is not null and key.principal = excluded.principal))`
  if (count === 0) return 'refused'
  change.record({ kind: 'key.registered', by: principal, fingerprint, principal, expires: expires.toISOString() })
  change.enact(['key', fingerprint])
  return 'done'
}

const REASONS: Readonly<Record<Ending, string>> = {
  logout: 'signed out',
  revoked: 'the sign-in was ended by an administrator',
  provider: 'the identity provider ended the session',
}

/** Ends sign-ins, each once: what was given out for them is refused from now on, and what runs by it is cut. */
export async function endSignins(
  act: Act,
  which: { readonly id: string } | { readonly issuer: string; readonly subject?: string; readonly session?: string },
  end: { readonly how: Ending; readonly by: string },
): Promise<readonly string[]> {
  const { how, by } = end
  return await act(async change => {
    const { sql } = change
    const of =
      'id' in which
        ? sql`id = ${which.id}`
        : sql`issuer = ${which.issuer}
          ${which.subject === undefined ? sql`` : sql`and subject = ${which.subject}`}
          ${which.session === undefined ? sql`` : sql`and session = ${which.session}`}`
    const ended = await sql<{ id: string; principal: string; expires: Date }[]>`
      update control.signin set ended = clock_timestamp(), ended_how = ${how}, ended_by = ${by}, secret = null, refresh = null
      where ended is null and ${of}
      returning id, principal, expires`
    for (const { id, principal, expires } of ended) {
      await bar(change, { principal, credential: `signin:${id}`, reason: REASONS[how], expires })
      const keys = await sql<{ fingerprint: string }[]>`
        update control.key set expires = least(expires, now()) where signin = ${id} and revoked is null
        returning fingerprint`
      for (const { fingerprint } of keys) change.enact(['key', fingerprint])
      change.record({ kind: 'signin.ended', by, signin: id, principal, reason: REASONS[how] })
    }
    return ended.map(({ id }) => id)
  })
}

/**
 * Sign-ins about which the provider was not asked for so long. They count as asked from now on, so that no two control planes ask
 * about one: many providers take a refresh token once, and a second use for theft.
 */
export async function dueSignins(
  sql: Sql,
  milliseconds: number,
  limit: number,
): Promise<readonly { readonly id: string; readonly refresh: string }[]> {
  return await sql<{ id: string; refresh: string }[]>`
    update control.signin set asked = now()
    where id in (
      select id from control.signin
      where refresh is not null and ended is null and expires > now()
        and asked < now() - ${milliseconds} * interval '1 millisecond'
      order by asked limit ${limit}
      for update skip locked)
    returning id, refresh`
}

export async function keepRefresh(sql: Sql, id: string, refresh: string): Promise<void> {
  await sql`update control.signin set refresh = ${refresh} where id = ${id} and ended is null`
}

/** The sign-in whose secret has this hash, while it is good. */
export async function findBySecret(sql: Sql, secret: Buffer): Promise<RegisteredSignin | undefined> {
  const [row] = await sql<SigninRow[]>`
    select * from control.signin where secret = ${secret} and ended is null and expires > now()`
  return row && signinOf(row)
}

export async function findSignin(sql: Sql, id: string): Promise<RegisteredSignin | undefined> {
  const [row] = await sql<SigninRow[]>`select * from control.signin where id = ${id}`
  return row && signinOf(row)
}

/** The newest first. */
export async function listSignins(
  sql: Sql,
  filters: {
    readonly principal?: string
    readonly open?: boolean
    readonly before?: string
    readonly limit: number
  },
): Promise<RegisteredSignin[]> {
  const { principal, open, before, limit } = filters
  const rows = await sql<SigninRow[]>`
    select * from control.signin
    where true
    ${principal === undefined ? sql`` : sql`and principal = ${principal}`}
    ${open === undefined ? sql`` : open ? sql`and ended is null and expires > now()` : sql`and (ended is not null or expires <= now())`}
    ${before === undefined ? sql`` : sql`and id < ${before}`}
    order by id desc limit ${limit}`
  return rows.map(signinOf)
}

/** The groups that the identity provider named at the last sign-in that still stands. */
export async function groupsOf(sql: Sql | TransactionSql, principal: string): Promise<readonly string[]> {
  const [row] = await sql<{ groups: string[] }[]>`
    select groups from control.signin where principal = ${principal} and ended is null and expires > now()
    order by id desc limit 1`
  return row?.groups ?? []
}

/** What decides, besides the signature of its token, whether a sign-in may be used, and who it is by now. */
export async function signinStanding(
  sql: Sql,
  id: string,
  principal: string,
): Promise<RegisteredSignin | 'unknown' | 'ended' | 'locked'> {
  const [row] = await sql<(SigninRow & { locked: boolean | null })[]>`
    select signin.*, lock.locked from control.signin
    left join control.lock using (principal)
    where signin.id = ${id} and signin.principal = ${principal}`
  if (row === undefined) return 'unknown'
  if (row.ended !== null || row.expires.getTime() <= Date.now()) return 'ended'
  return row.locked ? 'locked' : signinOf(row)
}

/** Remembers the id of a token that may be taken once. False when it was taken before. */
export async function takeOnce(
  change: Change,
  token: { readonly issuer: string; readonly jti: string; readonly expires: Date },
): Promise<boolean> {
  const { issuer, jti, expires } = token
  await change.sql`delete from control.seen where expires < now()`
  const { count } = await change.sql`
    insert into control.seen (issuer, jti, expires) values (${issuer}, ${jti}, ${expires}) on conflict do nothing`
  return count === 1
}

interface SigninRow {
  readonly id: string
  readonly principal: string
  readonly groups: string[]
  readonly roles: Role[]
  readonly issuer: string
  readonly subject: string
  readonly session: string | null
  readonly mfa: Date | null
  readonly address: string
  readonly client: string
  readonly made: Date
  readonly expires: Date
  readonly ended: Date | null
  readonly ended_how: Ending | null
  readonly ended_by: string | null
}

function signinOf(row: SigninRow): RegisteredSignin {
  const { id, principal, groups, roles, issuer, subject, session, mfa, address, client, made, expires } = row
  return {
    id,
    principal,
    groups,
    roles,
    issuer,
    subject,
    ...(session !== null && { session }),
    ...(mfa !== null && { mfa: mfa.getTime() }),
    address,
    client,
    made,
    expires,
    ...(row.ended !== null && {
      ended: { at: row.ended, how: row.ended_how ?? 'revoked', by: row.ended_by ?? '' },
    }),
  }
}
