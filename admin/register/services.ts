import type { Sql, TransactionSql } from 'postgres'
import { newId } from '../../audit/id.ts'
import type { Act, Change } from './act.ts'
import { bar, findLock, holdOwner, liftLock, writeLock } from './locks.ts'
import { writeToken } from './tokens.ts'

/** Something without a person at it and without an identity of its own, and who answers for it. */
export interface RegisteredService {
  readonly name: string
  readonly owner: string
  readonly created: Date
  readonly createdBy: string
  readonly ended?: { readonly at: Date; readonly by: string; readonly reason: string }
  /** When its owner last signed in; absent: never. */
  readonly ownerSeen?: Date
  readonly ownerLocked: boolean
  /** The tokens that are good, the newest first: one, or two while a rotation overlaps. */
  readonly tokens: readonly ServiceToken[]
}

export interface ServiceToken {
  readonly id: string
  readonly expires: Date
}

/** A token that was given out; what it says is made by whoever holds the key. */
export interface NewServiceToken {
  readonly id: string
  readonly principal: string
  readonly roles: readonly ['developer']
  readonly expires: Date
}

const ROLES = ['developer'] as const
const PREFIX = 'service:'

export const servicePrincipal = (name: string): string => `${PREFIX}${name}`
export const isService = (principal: string): boolean => principal.startsWith(PREFIX)

/** @returns the account's first token, or why there is none */
export async function createService(
  act: Act,
  service: { readonly name: string; readonly owner: string; readonly expires: Date },
  by: string,
): Promise<NewServiceToken | 'taken' | 'owner-locked'> {
  const { name, owner, expires } = service
  return await act(async change => {
    await holdOwner(change, owner)
    if ((await findLock(change.sql, owner))?.locked) return 'owner-locked'
    const { count } = await change.sql`
      insert into control.service (name, owner, created_by) values (${name}, ${owner}, ${by}) on conflict do nothing`
    if (count === 0) return 'taken'
    const token = await giveToken(change, name, expires, by)
    change.record({ kind: 'service.created', by, principal: token.principal, owner, token: token.id })
    return token
  })
}

/**
 * Gives the account another token. Its newest one stays good until `until`, if that is given; what is older ends now, so that
 * there are never more than two.
 *
 * @param rotation.with the token it asks by for itself: only its newest one may, so that what leaked and was rotated stays out
 */
export async function rotateService(
  act: Act,
  rotation: { readonly name: string; readonly expires: Date; readonly until?: Date; readonly with?: string },
  by: string,
): Promise<NewServiceToken | 'unknown' | 'ended' | 'old-token'> {
  const { name, expires, until } = rotation
  return await act(async change => {
    const service = await holdService(change, name)
    if (service === undefined) return 'unknown'
    if (service.ended) return 'ended'
    const before = await change.sql<{ id: string; expires: Date }[]>`
      select id, expires from control.token
      where service = ${name} and revoked is null and expires > now() order by created desc, id desc`
    if (rotation.with !== undefined && before[0]?.id !== rotation.with) return 'old-token'
    const token = await giveToken(change, name, expires, by)
    const [newest] = until === undefined ? [] : before
    if (newest && until) await retireToken(change, newest, until, token.principal)
    for (const { id } of before) if (id !== newest?.id) await revokeServiceToken(change, id, 'it was rotated', by)
    change.record({
      kind: 'service.rotated',
      by,
      principal: token.principal,
      owner: service.owner,
      token: token.id,
      ...(newest && until && { until: new Date(Math.min(until.getTime(), newest.expires.getTime())).toISOString() }),
    })
    return token
  })
}

/** Gives the account to somebody else, and lets it go on where the one before was locked. */
export async function assignService(
  act: Act,
  assignment: { readonly name: string; readonly owner: string },
  by: string,
): Promise<'done' | 'unknown' | 'ended' | 'owner-locked'> {
  const { name, owner } = assignment
  return await act(async change => {
    const service = await holdService(change, name)
    if (service === undefined) return 'unknown'
    if (service.ended) return 'ended'
    await holdOwner(change, owner)
    if ((await findLock(change.sql, owner))?.locked) return 'owner-locked'
    await change.sql`update control.service set owner = ${owner} where name = ${name}`
    const principal = servicePrincipal(name)
    change.record({ kind: 'service.assigned', by, principal, owner })
    const [followed] = await change.sql`
      select from control.lock where principal = ${principal} and locked and through is not null`
    if (followed) await liftLock(change, { principal, by, reason: `${owner} answers for it now` })
    return 'done'
  })
}

/** Ends the account for good: its tokens are refused from now on, and it is locked, whatever else speaks for it. */
export async function endService(
  act: Act,
  end: { readonly name: string; readonly reason: string },
  by: string,
): Promise<'done' | 'unknown' | 'ended'> {
  const { name, reason } = end
  return await act(async change => {
    const service = await holdService(change, name)
    if (service === undefined) return 'unknown'
    if (service.ended) return 'ended'
    await change.sql`
      update control.service set ended = now(), ended_by = ${by}, ended_reason = ${reason} where name = ${name}`
    const tokens = await change.sql<{ id: string }[]>`
      select id from control.token where service = ${name} and revoked is null and expires > now()`
    for (const { id } of tokens) await revokeServiceToken(change, id, reason, by)
    const principal = servicePrincipal(name)
    change.record({ kind: 'service.ended', by, principal, owner: service.owner, reason })
    await writeLock(change, { principal, by, reason: `the service account has ended: ${reason}` })
    return 'done'
  })
}

/** Who answers for a principal; undefined for one that is no service account. */
export async function ownerOf(sql: Sql | TransactionSql, principal: string): Promise<string | undefined> {
  if (!principal.startsWith(PREFIX)) return undefined
  const [row] = await sql<{ owner: string }[]>`
    select owner from control.service where name = ${principal.slice(PREFIX.length)}`
  return row?.owner
}

export async function findService(sql: Sql, name: string): Promise<RegisteredService | undefined> {
  const [row] = await sql<ServiceRow[]>`${selected(sql)} where name = ${name}`
  return row && serviceOf(row)
}

/** By name; of one principal, what they answer for, or the account that they are. */
export async function listServices(
  sql: Sql,
  { principal, after = '', limit }: { readonly principal?: string; readonly after?: string; readonly limit: number },
): Promise<RegisteredService[]> {
  const rows = await sql<ServiceRow[]>`
    ${selected(sql)}
    where name > ${after}
    ${principal === undefined ? sql`` : sql`and (owner = ${principal} or ${PREFIX} || name = ${principal})`}
    order by name limit ${limit}`
  return rows.map(serviceOf)
}

async function giveToken(change: Change, name: string, expires: Date, by: string): Promise<NewServiceToken> {
  const token = { id: newId('t'), principal: servicePrincipal(name), roles: ROLES, expires }
  await writeToken(change, token, by)
  await change.sql`update control.token set service = ${name} where id = ${token.id}`
  return token
}

/** What the token itself says is later, so both doors are told: the API by the row, proxies by a bar that begins then. */
async function retireToken(
  change: Change,
  { id, expires }: { readonly id: string; readonly expires: Date },
  until: Date,
  principal: string,
): Promise<void> {
  if (expires <= until) return
  await change.sql`update control.token set expires = ${until} where id = ${id}`
  await bar(change, { principal, credential: `token:${id}`, reason: ROTATED, expires, begins: until })
}
const ROTATED = 'the token was rotated, and the time both were good for is over'

async function revokeServiceToken(change: Change, id: string, reason: string, by: string): Promise<void> {
  const [token] = await change.sql<{ principal: string; roles: string[]; expires: Date }[]>`
    update control.token set revoked = now(), revoked_by = ${by} where id = ${id}
    returning principal, roles, expires`
  if (token === undefined) return
  const { principal, roles } = token
  // For good: a token that was rotated says a later end than its row.
  await bar(change, { principal, credential: `token:${id}`, reason, expires: null })
  change.record({ kind: 'token.revoked', by, token: id, principal, roles })
}

async function holdService(
  change: Change,
  name: string,
): Promise<{ readonly owner: string; readonly ended: Date | null } | undefined> {
  const [row] = await change.sql<{ owner: string; ended: Date | null }[]>`
    select owner, ended from control.service where name = ${name} for update`
  return row
}

const selected = (sql: Sql) => sql`
  select service.*, coalesce(lock.locked, false) as owner_locked,
    (select max(made) from control.signin where signin.principal = service.owner) as owner_seen,
    array(
      select token.id from control.token
      where token.service = service.name and token.revoked is null and token.expires > now()
      order by token.created desc, token.id desc) as token_ids,
    array(
      select token.expires from control.token
      where token.service = service.name and token.revoked is null and token.expires > now()
      order by token.created desc, token.id desc) as token_ends
  from control.service left join control.lock on lock.principal = service.owner`

interface ServiceRow {
  readonly name: string
  readonly owner: string
  readonly created: Date
  readonly created_by: string
  readonly ended: Date | null
  readonly ended_by: string | null
  readonly ended_reason: string | null
  readonly owner_locked: boolean
  readonly owner_seen: Date | null
  readonly token_ids: string[]
  readonly token_ends: Date[]
}

function serviceOf(row: ServiceRow): RegisteredService {
  const { name, owner, created, ended, token_ids: ids, token_ends: ends } = row
  return {
    name,
    owner,
    created,
    createdBy: row.created_by,
    ...(ended !== null && { ended: { at: ended, by: row.ended_by ?? '', reason: row.ended_reason ?? '' } }),
    ...(row.owner_seen !== null && { ownerSeen: row.owner_seen }),
    ownerLocked: row.owner_locked,
    tokens: ids.map((id, index) => ({ id, expires: ends[index] ?? created })),
  }
}
