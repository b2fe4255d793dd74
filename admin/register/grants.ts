import type { Sql } from 'postgres'
import type { ControlRecord } from '../../audit/record.ts'
import type { Action, Bounds, Grant } from '../../grant/grant.ts'
import type { Act, Change } from './act.ts'

export type Ending = Extract<ControlRecord, { kind: 'grant.ended' }>['how']

/** A grant as Postgres knows it, over or not. */
export interface RegisteredGrant extends Grant {
  readonly issued: number
  readonly issuedBy: string
  readonly lastUsed?: number
  readonly usesLeft?: number
  readonly ended?: { readonly at: number; readonly how: Ending; readonly by: string; readonly reason: string }
}

export interface GrantFilters {
  readonly principal?: string
  readonly repository?: string
  /** true: only those that are not over; false: only those that are. */
  readonly open?: boolean
  /** Only grants older than this one; ids sort by age. */
  readonly before?: string
  readonly limit: number
}

/** The request that a grant, or more time of it, answers; who approved that, and by which version of the policy. */
export type Approval = Pick<Grant, 'request' | 'approvers' | 'policy'>

/** Writes a grant down. Redis hears of it after the commit. */
export async function issueGrant(act: Act, grant: Grant, by: string): Promise<void> {
  await act(async change => await writeGrant(change, grant, by))
}

/** The same as part of a larger change. Who approved its request, and the policy's version, stand with that request. */
export async function writeGrant(change: Change, grant: Grant, by: string): Promise<void> {
  const { id, principal, repository, actions, refs, idle, uses, reason, request, approvers, policy, bounds } = grant
  const [starts, expires] = [new Date(grant.starts), new Date(grant.expires)]
  await change.sql`
    insert into control.grant
      (id, principal, repository, actions, refs, starts, expires, idle_ms, uses, uses_left, reason, request, bounds, issued_by)
    values (
      ${id}, ${principal}, ${repository}, ${[...actions]}, ${[...refs]}, ${starts}, ${expires}, ${idle ?? null},
      ${uses ?? null}, ${uses ?? null}, ${reason}, ${request ?? null},
      ${bounds === undefined ? null : JSON.stringify(bounds)}::text::jsonb, ${by})`
  change.record({
    kind: 'grant.issued',
    by,
    grant: id,
    principal,
    repository,
    actions,
    refs,
    starts: starts.toISOString(),
    expires: expires.toISOString(),
    ...(idle !== undefined && { idle }),
    ...(uses !== undefined && { uses }),
    ...(bounds?.bytes !== undefined && { bytes: bounds.bytes }),
    ...(bounds?.paths && { paths: bounds.paths }),
    reason,
    ...(request !== undefined && { request }),
    ...(approvers && { approvers }),
    ...(policy !== undefined && { policy }),
  })
  change.enact(['grant', id])
}

interface End {
  readonly id: string
  readonly how: Ending
  readonly by: string
  readonly reason: string
}

/**
 * Ends a grant, once: whoever comes second gets `ended`, and the grant as the first left it.
 */
export async function endGrant(act: Act, end: End): Promise<'done' | 'ended' | 'unknown'> {
  return await act(async change => await writeEnd(change, end))
}

/** The same as part of a larger change. */
export async function writeEnd(change: Change, { id, how, by, reason }: End): Promise<'done' | 'ended' | 'unknown'> {
  const [ended] = await change.sql<{ principal: string }[]>`
    update control.grant
    set ended = clock_timestamp(), ended_how = ${how}, ended_by = ${by}, ended_reason = ${reason}
    where id = ${id} and ended is null
    returning principal`
  if (ended === undefined) {
    const [known] = await change.sql`select from control.grant where id = ${id}`
    return known ? 'ended' : 'unknown'
  }
  change.record({ kind: 'grant.ended', by, grant: id, principal: ended.principal, how, reason })
  // Expired, idle and used up are what Redis says; telling it so would cut the very operation that used the grant up.
  if (how === 'revoked' || how === 'released' || how === 'locked') change.enact(['grant', id])
  return 'done'
}

/** Grants with what the request they answer knows: `where` and all that follows it speak of the grants alone. */
const grants = (sql: Sql | Change['sql']) => sql`
  select held.*, answered.* from control.grant as held
  left join lateral (
    select content->'approvers' as approvers, content #>> '{conditions,policy}' as policy
    from control.request where id = held.request
  ) as answered on true`

/** The grants that answer these requests, the oldest first. */
export async function grantsOfRequests(
  sql: Sql | Change['sql'],
  requests: readonly string[],
): Promise<RegisteredGrant[]> {
  if (requests.length === 0) return []
  const rows = await sql<GrantRow[]>`${grants(sql)} where request = any(${[...requests]}) order by id`
  return rows.map(registered)
}

interface Extension {
  readonly id: string
  readonly expires: number
  readonly by: string
  readonly reason: string
  /** The request for more time, where there was one. */
  readonly answers?: Approval
}

/**
 * Moves the end of a window further. Against a revocation at the same moment the row's lock decides, and a grant that is
 * over stays over.
 * @param now Redis's clock
 */
export async function extendGrant(
  act: Act,
  extension: Extension,
  now: number,
): Promise<'done' | 'ended' | 'unknown' | 'nearer'> {
  return await act(async change => await writeExtension(change, extension, now))
}

/** The same as part of a larger change. */
export async function writeExtension(
  change: Change,
  extension: Extension,
  now: number,
): Promise<'done' | 'ended' | 'unknown' | 'nearer'> {
  const { id, by, reason, answers = {} } = extension
  const expires = new Date(extension.expires)
  const [row] = await change.sql<{ principal: string; ended: Date | null; expires: Date }[]>`
    select principal, ended, expires from control.grant where id = ${id} for update`
  if (row === undefined) return 'unknown'
  if (row.ended !== null || row.expires.getTime() <= now) return 'ended'
  if (row.expires >= expires) return 'nearer'
  await change.sql`update control.grant set expires = ${expires} where id = ${id}`
  const { principal } = row
  const until = expires.toISOString()
  change.record({ kind: 'grant.extended', by, grant: id, principal, expires: until, reason, ...answers })
  change.enact(['grant', id])
  return 'done'
}

/** A window that came to its end by itself. */
export interface Over {
  readonly id: string
  readonly how: 'expired' | 'idle' | 'used'
  readonly reason: string
}

/** Notes what Redis counts, and ends what is over, each once whoever else sweeps. In one commit. */
export async function sweepGrants(
  act: Act,
  found: {
    readonly used: readonly { readonly id: string; readonly lastUsed: number; readonly left?: number }[]
    readonly over: readonly Over[]
  },
): Promise<void> {
  if (found.used.length === 0 && found.over.length === 0) return
  await act(async change => {
    for (const { id, lastUsed, left } of found.used) {
      await change.sql`
        update control.grant
        set last_used = greatest(last_used, ${new Date(lastUsed)}), uses_left = least(uses_left, ${left ?? null}::int)
        where id = ${id}`
    }
    for (const over of found.over) await endByItself(change, over)
  })
}

/** Open grants whose window has passed. */
export async function passedGrants(sql: Sql, now: number, limit: number): Promise<Over[]> {
  const rows = await sql<{ id: string }[]>`
    select id from control.grant where ended is null and expires <= ${new Date(now)} order by expires limit ${limit}`
  return rows.map(({ id }) => ({ id, how: 'expired', reason: 'the window is over' }))
}

async function endByItself(change: Change, { id, how, reason }: Over): Promise<void> {
  const [ended] = await change.sql<{ principal: string }[]>`
    update control.grant
    set ended = clock_timestamp(), ended_how = ${how}, ended_by = 'drawbridge', ended_reason = ${reason}
    where id = ${id} and ended is null
    returning principal`
  if (ended) {
    change.record({ kind: 'grant.ended', by: 'drawbridge', grant: id, principal: ended.principal, how, reason })
  }
}

export async function findGrant(sql: Sql | Change['sql'], id: string): Promise<RegisteredGrant | undefined> {
  const [row] = await sql<GrantRow[]>`${grants(sql)} where id = ${id}`
  return row && registered(row)
}

/** The newest first. */
export async function listGrants(sql: Sql, filters: GrantFilters): Promise<RegisteredGrant[]> {
  const { principal, repository, open, before, limit } = filters
  const rows = await sql<GrantRow[]>`
    ${grants(sql)}
    where true
    ${principal === undefined ? sql`` : sql`and principal = ${principal}`}
    ${repository === undefined ? sql`` : sql`and repository = ${repository}`}
    ${open === undefined ? sql`` : open ? sql`and ended is null` : sql`and ended is not null`}
    ${before === undefined ? sql`` : sql`and id < ${before}`}
    order by id desc limit ${limit}`
  return rows.map(registered)
}

export async function countOpenGrants(sql: Sql | Change['sql'], principal: string): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from control.grant where principal = ${principal} and ended is null`
  return row?.count ?? 0
}

/** Pages through what Redis has to know: the open grants, or those that ended before their time. */
export async function* grantsToRestore(
  sql: Sql,
  open: boolean,
  now: number,
  page = 1_000,
): AsyncGenerator<RegisteredGrant[]> {
  let last = ''
  for (;;) {
    const rows = await sql<GrantRow[]>`
      ${grants(sql)}
      where ended is ${open ? sql`null` : sql`not null`} and expires > ${new Date(now)} and id > ${last}
      order by id limit ${page}`
    if (rows.length === 0) return
    yield rows.map(registered)
    last = rows.at(-1)!.id
  }
}

/** Open grants whose end depends on how they are used; asked for every second, and not what their requests know. */
export async function grantsThatMayEnd(sql: Sql): Promise<RegisteredGrant[]> {
  const rows = await sql<GrantRow[]>`
    select * from control.grant where ended is null and (idle_ms is not null or uses is not null or bounds->'bytes' is not null)`
  return rows.map(registered)
}

/**
 * How many operations the ledger has under a grant. Each counted use was recorded before it was let through, so at least as many
 * uses are gone.
 */
export async function recordedUses(sql: Sql, grant: string): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(distinct operation)::int as count from (
      select operation, kind, action, grants from audit.record where grants @> array[${grant}::text]
      union all
      select operation, kind, action, grants from audit.inbox where grants @> array[${grant}::text]
    ) as recorded
    where kind = 'operation.start' and action <> 'list'`
  return row?.count ?? 0
}

/** How many bytes went by under a grant, by the ends that the ledger has. What runs has told Redis only. */
export async function recordedBytes(sql: Sql, grant: string): Promise<number> {
  const [row] = await sql<{ bytes: string }[]>`
    with begun as (
      select operation from audit.record where grants @> array[${grant}::text] and kind = 'operation.start'
      union
      select operation from audit.inbox where grants @> array[${grant}::text] and kind = 'operation.start'
    ), ends as (
      select operation, body::jsonb as body from audit.record where kind = 'operation.end' and operation in (select operation from begun)
      union
      select operation, body::jsonb from audit.inbox where kind = 'operation.end' and operation in (select operation from begun)
    )
    select coalesce(sum((body->>'bytesIn')::numeric + (body->>'bytesOut')::numeric), 0)::text as bytes from ends`
  return Number(row?.bytes ?? 0)
}

interface GrantRow {
  readonly id: string
  readonly principal: string
  readonly repository: string
  readonly actions: Action[]
  readonly refs: string[]
  readonly starts: Date
  readonly expires: Date
  readonly idle_ms: string | null
  readonly uses: number | null
  readonly reason: string
  readonly request: string | null
  readonly approvers?: string[] | null
  readonly policy?: string | null
  readonly bounds: Bounds | null
  readonly issued: Date
  readonly issued_by: string
  readonly last_used: Date | null
  readonly uses_left: number | null
  readonly ended: Date | null
  readonly ended_how: Ending | null
  readonly ended_by: string | null
  readonly ended_reason: string | null
}

/** Only what Redis keeps of it. */
export function plainGrant(grant: RegisteredGrant): Grant {
  const { issued: _i, issuedBy: _b, lastUsed: _l, usesLeft: _u, ended: _e, ...plain } = grant
  return plain
}

function registered(row: GrantRow): RegisteredGrant {
  return {
    id: row.id,
    principal: row.principal,
    repository: row.repository,
    actions: row.actions,
    refs: row.refs,
    starts: row.starts.getTime(),
    expires: row.expires.getTime(),
    ...(row.idle_ms !== null && { idle: Number(row.idle_ms) }),
    ...(row.uses !== null && { uses: row.uses }),
    reason: row.reason,
    ...(row.request !== null && { request: row.request }),
    ...(row.approvers && { approvers: row.approvers }),
    ...(row.policy && { policy: row.policy }),
    ...(row.bounds !== null && { bounds: row.bounds }),
    issued: row.issued.getTime(),
    issuedBy: row.issued_by,
    ...(row.last_used !== null && { lastUsed: row.last_used.getTime() }),
    ...(row.uses_left !== null && { usesLeft: row.uses_left }),
    ...(row.ended !== null && {
      ended: {
        at: row.ended.getTime(),
        how: row.ended_how ?? 'revoked',
        by: row.ended_by ?? '',
        reason: row.ended_reason ?? '',
      },
    }),
  }
}
