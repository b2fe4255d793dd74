import { createHash } from 'node:crypto'
import type { Sql, TransactionSql } from 'postgres'
import type { Record } from '../../audit/record.ts'
import type { Event } from '../../config/notify.ts'
import { describePlan } from '../../config/policy/approvers.ts'
import { describeHours } from '../../config/policy/hours.ts'
import { tally } from '../approval.ts'
import { findGrant, type RegisteredGrant } from '../register/grants.ts'
import { findRequest, type RegisteredRequest } from '../register/requests.ts'
import { ballotOf } from '../request.ts'
import { withLast } from './last.ts'
import type { Payload, RequestFacts, WindowFacts } from './payload.ts'

/**
 * From facts to notices. What the control plane records it also announces: the records of one commit become notices in the same
 * commit, with the facts as that commit leaves them. So nothing is told that did not happen, and nothing that happened is left out.
 */

/** Other texts than these in a record are not for people outside. */
const EVENT_OF: Readonly<{ [Kind in Record['kind']]?: Event }> = {
  'request.made': 'request.made',
  'request.vote': 'request.vote',
  'request.comment': 'request.comment',
  'request.approved': 'request.approved',
  'request.denied': 'request.denied',
  'request.withdrawn': 'request.withdrawn',
  'request.lapsed': 'request.lapsed',
  'request.escalated': 'request.escalated',
  'grant.issued': 'window.issued',
  'grant.extended': 'window.extended',
  'grant.ended': 'window.ended',
  'principal.locked': 'principal.locked',
  'principal.unlocked': 'principal.unlocked',
  'anomaly.found': 'anomaly.found',
  'bypass.suspected': 'bypass.suspected',
}

type Finding = Extract<Record, { kind: 'anomaly.found' | 'bypass.suspected' }>
const HOUR = 3_600_000

export interface Notice {
  readonly thread: string
  readonly content: Payload
  /** Told once only. */
  readonly once?: string
}

/** Writes the notices of these records; part of their transaction. */
export async function announce(sql: TransactionSql, records: readonly Record[], now: number): Promise<void> {
  for (const record of records) {
    const notice = await noticeOf(sql, record, now)
    if (notice !== undefined) await writeNotice(sql, notice)
  }
}

export async function writeNotice(sql: Sql | TransactionSql, { thread, content, once }: Notice): Promise<void> {
  await sql`
    insert into control.notice (event, thread, at, content, once)
    values (
      ${content.type}, ${thread}, ${new Date(content.timestamp)}, ${JSON.stringify(content)}::text::jsonb, ${once ?? null})
    on conflict do nothing`
}

async function noticeOf(sql: TransactionSql, record: Record, now: number): Promise<Notice | undefined> {
  const event = EVENT_OF[record.kind]
  if (event === undefined) return undefined
  const timestamp = new Date(now).toISOString()
  if (record.kind === 'principal.locked' || record.kind === 'principal.unlocked') {
    const { by, principal, reason } = record
    return { thread: `lock:${principal}`, content: { type: event, timestamp, data: { by, principal, reason } } }
  }
  if (record.kind === 'anomaly.found' || record.kind === 'bypass.suspected') {
    const { kind: _, by, principal, reason, ...finding } = record
    const id = findingId(record, now)
    return { thread: id, once: id, content: { type: event, timestamp, data: { by, principal, reason, finding } } }
  }
  if ('grant' in record && 'reason' in record) {
    const { by, principal, reason, grant: id } = record
    const grant = await findGrant(sql, id)
    // The windows of a request come with its approval.
    if (grant === undefined || (record.kind === 'grant.issued' && grant.request !== undefined)) return undefined
    const data = { by, principal, reason, ...(await withRequest(sql, grant.request)), window: windowFacts(grant) }
    return { thread: grant.request ?? id, content: { type: event, timestamp, data } }
  }
  if (record.kind === 'request.comment') {
    const { by, principal, reason, request, via, channel } = record
    const comment = { ...(via && { via }), ...(channel !== undefined && { channel }) }
    const data = { by, principal, reason, comment, ...(await withRequest(sql, request)) }
    return { thread: request, content: { type: event, timestamp, data } }
  }
  if ('request' in record && 'actions' in record && record.request !== undefined) {
    const { by, principal, reason } = record
    const found = await findRequest(sql, record.request)
    if (found === undefined) return undefined
    const { immediate } = found.request.conditions
    // Nobody was asked, so only what came of it is told.
    if (record.kind === 'request.made' && immediate !== undefined) return undefined
    const type = record.kind === 'request.approved' && immediate === 'break-glass' ? 'request.break-glass' : event
    const data = { by, principal, reason, request: await withLast(sql, requestFacts(found)) }
    return { thread: record.request, content: { type, timestamp, data } }
  }
  return undefined
}

/**
 * Somebody who is refused all night is told of once an hour, and one moved ref once; each is on record every time. As a digest:
 * names may be longer than the index of `once` takes.
 */
function findingId(record: Finding, now: number): string {
  const { principal, repository } = record
  const told =
    record.kind === 'anomaly.found'
      ? [record.anomaly, principal, record.grant, Math.floor(now / HOUR)]
      : [repository, record.ref, record.left, record.found]
  return `finding:${createHash('sha256').update(JSON.stringify(told)).digest('hex')}`
}

async function withRequest(sql: TransactionSql, id: string | undefined): Promise<{ request?: RequestFacts }> {
  const found = id === undefined ? undefined : await findRequest(sql, id)
  return found === undefined ? {} : { request: await withLast(sql, requestFacts(found)) }
}

export function requestFacts({ request, grants }: RegisteredRequest): RequestFacts {
  const { id, state, asked, conditions, digest, votes, lapses } = request
  const { waitingFor } = tally(ballotOf(request), votes)
  return {
    id,
    state,
    principal: asked.principal,
    requester: asked.requester,
    targets: asked.targets.map(({ repository, actions, refs }) => {
      return { repository, actions: [...actions], refs: [...refs] }
    }),
    ...(conditions.bounds?.paths && { paths: conditions.bounds.paths.map(list => [...list]) }),
    for: asked.window,
    ...(asked.recurring && { recurring: describeHours(asked.recurring) }),
    ...(asked.starts !== undefined && { starts_at: iso(asked.starts) }),
    ...(asked.idle !== undefined && { idle: asked.idle }),
    reason: asked.reason,
    ...(asked.ticket !== undefined && { ticket: asked.ticket }),
    break_glass: conditions.immediate === 'break-glass',
    digest,
    policy: conditions.policy,
    rules: [...conditions.rules],
    approvers: conditions.immediate === 'automatic' ? 'nobody' : describePlan(conditions.plan),
    ...(state === 'requested' && { waiting_for: describePlan({ steps: [{ slots: waitingFor }] }) }),
    votes: [...votes, ...(request.review?.votes ?? [])].map(({ voter, says, at, comment, via }) => {
      return { by: voter.principal, says, at: iso(at), ...(comment !== undefined && { comment }), ...(via && { via }) }
    }),
    lapses_at: iso(lapses),
    windows: grants.map(windowFacts),
  }
}

export function windowFacts(grant: RegisteredGrant): WindowFacts {
  const { id, principal, repository, actions, refs, starts, expires, idle, ended } = grant
  return {
    grant: id,
    principal,
    repository,
    actions: [...actions],
    refs: [...refs],
    starts_at: iso(starts),
    expires_at: iso(expires),
    ...(idle !== undefined && { idle }),
    ...(ended && { ended: ended.how }),
  }
}

const iso = (milliseconds: number) => new Date(milliseconds).toISOString()
