import type { Sql, TransactionSql } from 'postgres'
import type { ControlRecord, Via } from '../../audit/record.ts'
import { type AskedFor, dedupeKey } from '../asked.ts'
import { escalatesAt, type Request, type RequestState } from '../request.ts'
import type { Window } from '../window.ts'
import type { Change } from './act.ts'
import { type Approval, grantsOfRequests, type RegisteredGrant } from './grants.ts'

/** A request as Postgres has it, with the grants that answer it: `request.windows[i]` is what `grants[i]` makes of a window. */
export interface RegisteredRequest {
  readonly request: Request
  readonly grants: readonly RegisteredGrant[]
}

export interface RequestFilters {
  /** Only what this principal asked for, or would get. */
  readonly principal?: string
  readonly state?: RequestState
  /** Only requests older than this one; ids sort by age. */
  readonly before?: string
  readonly limit: number
}

/** Serialises everything that depends on what a person asked for before: quotas, and two of the same at one moment. */
export async function holdPerson(change: Change, person: string): Promise<void> {
  await change.sql`select pg_advisory_xact_lock(hashtextextended(${`request ${person}`}, 0))`
}

/** Writes a new request down, or what became of one. */
export async function saveRequest(change: Change, request: Request, person: string): Promise<void> {
  const { id, state, asked, made, lapses } = request
  const [target] = asked.targets
  const { windows: _, ...content } = request
  const escalates = escalatesAt(request)
  await change.sql`
    insert into control.request
      (id, state, principal, requester, person, repository, dedupe, made, lapses, escalates, content)
    values (
      ${id}, ${state}, ${asked.principal}, ${asked.requester}, ${person}, ${target?.repository ?? ''}, ${dedupeKey(asked)},
      ${new Date(made)}, ${new Date(lapses)}, ${escalates === undefined ? null : new Date(escalates)},
      ${JSON.stringify(content)}::text::jsonb)
    on conflict (id) do update
    set state = excluded.state, made = excluded.made, lapses = excluded.lapses, escalates = excluded.escalates,
      content = excluded.content`
}

/** The request with its row locked: whoever else wants to decide waits for this commit. */
export async function lockRequest(change: Change, id: string): Promise<RegisteredRequest | undefined> {
  const [row] = await change.sql<RequestRow[]>`select id, content from control.request where id = ${id} for update`
  return row && (await withGrants(change.sql, [row]))[0]
}

/** The pending request for the same thing, its row locked. */
export async function pendingLike(change: Change, asked: AskedFor): Promise<RegisteredRequest | undefined> {
  const [row] = await change.sql<RequestRow[]>`
    select id, content from control.request where dedupe = ${dedupeKey(asked)} and state = 'requested' for update`
  return row && (await withGrants(change.sql, [row]))[0]
}

/** Everything that is pending for a principal, the newest first, the rows locked. */
export async function pendingOf(change: Change, principal: string): Promise<RegisteredRequest[]> {
  const rows = await change.sql<RequestRow[]>`
    select id, content from control.request where principal = ${principal} and state = 'requested'
    order by id desc for update`
  return await withGrants(change.sql, rows)
}

/** An answer so new that whoever asks again may not have heard of it. */
const JUST_NOW_MILLISECONDS = 60_000

/**
 * The last request for the same thing that is answered: with no, for as long as it would still be pending otherwise; or with
 * a window that has just opened, while the refusal that asks again was under way.
 */
export async function answeredLike(
  change: Change,
  asked: AskedFor,
  now: number,
): Promise<RegisteredRequest | undefined> {
  const [row] = await change.sql<RequestRow[]>`
    select id, content from control.request
    where principal = ${asked.principal} and dedupe = ${dedupeKey(asked)} and (
      state in ('denied', 'withdrawn') and lapses > ${new Date(now)}
      or state = 'approved' and exists (
        select from control.grant as opened
        where opened.request = request.id and opened.ended is null
          and opened.starts between ${new Date(now - JUST_NOW_MILLISECONDS)} and ${new Date(now)}))
    order by id desc limit 1`
  return row && (await withGrants(change.sql, [row]))[0]
}

export async function findRequest(sql: Sql | TransactionSql, id: string): Promise<RegisteredRequest | undefined> {
  const [row] = await sql<RequestRow[]>`select id, content from control.request where id = ${id}`
  return row && (await withGrants(sql, [row]))[0]
}

/** The newest first. */
export async function listRequests(sql: Sql, filters: RequestFilters): Promise<RegisteredRequest[]> {
  const { principal, state, before, limit } = filters
  const rows = await sql<RequestRow[]>`
    select id, content from control.request
    where true
    ${principal === undefined ? sql`` : sql`and (principal = ${principal} or requester = ${principal})`}
    ${state === undefined ? sql`` : sql`and state = ${state}`}
    ${before === undefined ? sql`` : sql`and id < ${before}`}
    order by id desc limit ${limit}`
  return await withGrants(sql, rows)
}

/** How many requests of a person are pending. */
export async function countPending(change: Change, person: string): Promise<number> {
  const [row] = await change.sql<{ count: number }[]>`
    select count(*)::int as count from control.request where person = ${person} and state = 'requested'`
  return row?.count ?? 0
}

/** Which rules opened something for this person without anybody's approval since then, and when. */
export async function automaticSince(
  change: Change,
  person: string,
  since: number,
): Promise<{ readonly rule: string; readonly at: number }[]> {
  const rows = await change.sql<{ rules: string[]; made: Date }[]>`
    select array(select jsonb_array_elements_text(content #> '{conditions,rules}')) as rules, made from control.request
    where person = ${person} and made > ${new Date(since)} and content #>> '{conditions,immediate}' = 'automatic'`
  return rows.flatMap(({ rules, made }) => rules.map(rule => ({ rule, at: made.getTime() })))
}

/** Requests of which time has made something that is not written down yet: they lapsed, or others are to be asked as well. */
export async function dueRequests(sql: Sql, now: number, limit: number): Promise<string[]> {
  const at = new Date(now)
  const rows = await sql<{ id: string }[]>`
    select id from control.request
    where state = 'requested' and (lapses <= ${at} or escalates <= ${at}) order by least(lapses, escalates) limit ${limit}`
  return rows.map(({ id }) => id)
}

type RequestRecord = Extract<
  ControlRecord,
  { readonly request: string; readonly actions: readonly string[]; readonly by: string }
>
export type RequestRecordKind = Exclude<RequestRecord['kind'], 'grant.issued'>

/** What the ledger says of a step in the life of a request. */
export function recordOf(
  kind: RequestRecordKind,
  request: Request,
  by: string,
  reason: string,
  via?: Via,
): ControlRecord {
  const { targets, principal } = request.asked
  const rule = request.conditions.rules.join(', ')
  return {
    kind,
    by,
    request: request.id,
    principal,
    repository: [...new Set(targets.map(({ repository }) => repository))].join(' '),
    actions: [...new Set(targets.flatMap(({ actions }) => actions))],
    refs: [...new Set(targets.flatMap(({ refs }) => refs))],
    reason,
    policy: request.conditions.policy,
    ...(rule !== '' && { rule }),
    ...(via && { via }),
  }
}

/** What a grant says of the request that it answers. */
export function approvalOf({ id, approvers, conditions: { policy } }: Request): Approval {
  return { request: id, ...(approvers && { approvers }), policy }
}

interface RequestRow {
  readonly id: string
  readonly content: Omit<Request, 'windows'>
}

async function withGrants(sql: Sql | TransactionSql, rows: readonly RequestRow[]): Promise<RegisteredRequest[]> {
  const grants = await grantsOfRequests(
    sql,
    rows.map(({ id }) => id),
  )
  return rows.map(({ id, content }) => {
    const own = grants.filter(({ request }) => request === id)
    return { request: { ...content, windows: own.map(windowOf) }, grants: own }
  })
}

/** Scheduled until time says otherwise: the pure part settles it before anything else. */
function windowOf({ repository, starts, expires, idle, lastUsed, usesLeft, ended }: RegisteredGrant): Window {
  return {
    repository,
    state: ended?.how ?? 'scheduled',
    starts,
    expires,
    ...(idle !== undefined && { idle }),
    lastUsed: lastUsed ?? starts,
    ...(usesLeft !== undefined && { left: usesLeft }),
  }
}
