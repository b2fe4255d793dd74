import { newId } from '../audit/id.ts'
import type { Via } from '../audit/record.ts'
import { describeApprovers } from '../config/policy/approvers.ts'
import { writeDuration } from '../config/units.ts'
import { GRANTS_PER_PRINCIPAL_MAX } from '../grant/store.ts'
import type { Caller } from './api/access.ts'
import { notFound, Problem } from './api/problem.ts'
import { whyNoVote } from './approval.ts'
import { requireNotForbidden } from './forbid.ts'
import { lengthenWindows } from './lengthen.ts'
import type { Standing } from './policy.ts'
import type { Act, Change } from './register/act.ts'
import { countOpenGrants, writeEnd, writeGrant } from './register/grants.ts'
import { findLock } from './register/locks.ts'
import { approvalOf, lockRequest, type RegisteredRequest, recordOf, saveRequest } from './register/requests.ts'
import { ownerOf } from './register/services.ts'
import { ballotOf, type Event, next, type Request } from './request.ts'
import { personBehind, voterOf, withInvolved } from './voter.ts'
import { isStanding } from './window.ts'

/**
 * Deciding about a request: its row is locked, the pure state machine moves it, and what that means (votes, windows opened and
 * ended, records, orders to Redis) is one commit. Of two decisions at one moment the second meets what the first left.
 */

export interface Ballot {
  readonly id: string
  readonly says: 'approve' | 'deny'
  /** Of the request as it was shown to whoever votes. */
  readonly digest: string
  readonly comment?: string
  /** By which way it came, where no proxy vouched for the voter. */
  readonly via?: Via
}

/**
 * @throws Problem when the vote does not count
 */
export async function castVote(
  act: Act,
  from: { readonly standing: Standing; readonly caller: Caller },
  ballot: Ballot,
  now: number,
): Promise<void> {
  const { standing, caller } = from
  if (caller.token === undefined) {
    throw new Problem(403, 'no-person', 'the local socket stands for no person, and people approve', 'use a token')
  }
  const voter = voterOf(standing, caller, now)
  const { id, says, digest, comment } = ballot
  const via = caller.via?.transport ?? ballot.via
  const outcome = await act(async change => {
    const before = await lockRequest(change, id)
    if (before === undefined) throw notFound('request', id)
    const owner = await ownerOf(change.sql, before.request.asked.principal)
    const request = withInvolved(standing, before.request, owner)
    const none = whyNoVote(ballotOf(next(request, { kind: 'tick', at: now }).request), voter)
    if (none !== undefined) throw new Problem(403, 'no-vote', none)
    const lock = says === 'approve' ? await findLock(change.sql, request.asked.principal) : undefined
    if (says === 'approve') {
      requireNotForbidden(standing, request.asked.principal, request.asked.targets, now)
    }
    if (lock?.locked) throw new Problem(409, 'locked', `${lock.principal} is locked`)
    const said = { ...(comment !== undefined && { comment }), ...(via && { via }) }
    const vote = { voter, says, digest, at: now, ...said }
    const reviewing = request.state === 'approved' && request.review !== undefined
    const event: Event = { kind: reviewing ? 'review' : 'vote', at: now, vote }
    return await decide(change, {
      before,
      request,
      event,
      by: caller.principal,
      via,
      step: says,
      reason: comment ?? '',
    })
  })
  if (outcome !== undefined) throw new Problem(409, 'request-over', outcome, `git access status ${id}`)
}

/**
 * Takes a request back; of one that is approved, its windows.
 * @throws Problem when it is not the caller's, or nothing is left to take back
 */
export async function withdrawRequest(
  act: Act,
  from: { readonly standing: Standing; readonly caller: Caller },
  id: string,
  reason: string,
  now: number,
): Promise<void> {
  const { standing, caller } = from
  const person = personBehind(standing, caller.principal)
  const outcome = await act(async change => {
    const before = await lockRequest(change, id)
    if (before === undefined || !before.request.involved.includes(person)) throw notFound('request of yours', id)
    const event: Event = { kind: 'withdraw', at: now, person }
    return await decide(change, {
      before,
      request: before.request,
      event,
      by: caller.principal,
      via: caller.via?.transport,
      step: 'withdraw',
      reason,
    })
  })
  if (outcome !== undefined) throw new Problem(409, 'request-over', outcome)
}

async function decide(
  change: Change,
  decision: {
    readonly before: RegisteredRequest
    readonly request: Request
    readonly event: Event
    readonly by: string
    readonly step: Step
    readonly reason: string
    readonly via?: Via | undefined
  },
): Promise<string | undefined> {
  const { before, request, event, by, reason, via } = decision
  const { request: after, refused } = next(request, event)
  const step = refused === undefined ? decision.step : 'tick'
  const [person = ''] = before.request.involved
  await carry(change, { before, after, by, person, step, reason, via, now: event.at })
  return refused
}

type Step = 'file' | 'approve' | 'deny' | 'withdraw' | 'tick'

/** Writes down what became of a request, and everything that follows from it. */
export async function carry(
  change: Change,
  moved: {
    readonly before: RegisteredRequest | undefined
    readonly after: Request
    readonly by: string
    /** Behind the requester. */
    readonly person: string
    readonly step: Step
    readonly reason: string
    readonly via?: Via | undefined
    readonly now: number
  },
): Promise<void> {
  const { before, after, by, person, step, reason, via } = moved
  await saveRequest(change, after, person)
  const say = (kind: Parameters<typeof recordOf>[0], text: string, who = by) =>
    change.record(recordOf(kind, after, who, text, who === by ? via : undefined))
  const was = before?.request

  if (step === 'file') say('request.made', was === undefined ? reason : `changed, and asked anew: ${reason}`)
  if (was?.state === 'requested' && after.state === 'lapsed')
    say('request.lapsed', 'nobody decided in time', 'drawbridge')
  if (was && !was.escalated && after.escalated) say('request.escalated', silenceOf(after), 'drawbridge')
  if (step === 'approve' && votesOf(after) > votesOf(was)) say('request.vote', reason || 'approved')
  if (step === 'deny' && votesOf(after) > votesOf(was)) say('request.denied', reason || 'denied')
  if (step === 'withdraw') say('request.withdrawn', reason || 'withdrawn')
  if (was?.state !== 'approved' && after.state === 'approved') {
    const { immediate } = after.conditions
    say(
      'request.approved',
      immediate ? `${immediate}: nobody is asked first` : 'by everybody it takes',
      immediate ? 'drawbridge' : by,
    )
    const opener = immediate ? 'drawbridge' : by
    if (after.asked.extends === undefined) await openWindows(change, after, opener)
    else await lengthenWindows(change, after, opener, moved.now)
  }
  for (const [index, grant] of (before?.grants ?? []).entries()) {
    const how = after.windows[index]?.state
    if (grant.ended === undefined && (how === 'released' || how === 'revoked' || how === 'locked')) {
      await writeEnd(change, { id: grant.id, how, by, reason: reason || `${after.id}: ${step}` })
    }
  }
}

function silenceOf({ conditions: { escalation } }: Request): string {
  return escalation
    ? `no decision within ${writeDuration(escalation.after)}: ${describeApprovers(escalation.to)} asked as well`
    : ''
}

const votesOf = (request: Request | undefined) => (request?.votes.length ?? 0) + (request?.review?.votes.length ?? 0)

async function openWindows(change: Change, request: Request, by: string): Promise<void> {
  const { asked, windows, id } = request
  const { principal, targets, ticket, idle, uses } = asked
  const opening = windows.filter(isStanding).flatMap(({ repository, starts, expires }) => {
    return targets.filter(target => target.repository === repository).map(target => ({ ...target, starts, expires }))
  })
  const holds = await countOpenGrants(change.sql, principal)
  if (holds + opening.length > GRANTS_PER_PRINCIPAL_MAX) {
    const message = `${principal} holds ${holds} grants already, and at most ${GRANTS_PER_PRINCIPAL_MAX} can stand`
    throw new Problem(409, 'too-many-grants', message, 'some have to be released first')
  }
  const reason =
    [ticket, asked.reason].filter(text => text !== undefined && text !== '').join(' ') || `asked for in ${id}`
  const approval = approvalOf(request)
  const limits = {
    ...(idle !== undefined && { idle }),
    ...(uses !== undefined && { uses }),
    ...(request.conditions.bounds && { bounds: request.conditions.bounds }),
  }
  for (const { repository, actions, refs, starts, expires } of opening) {
    const span = { starts, expires, ...limits }
    const grant = { id: newId('g'), principal, repository, actions, refs, ...span, reason, ...approval }
    await writeGrant(change, grant, by)
  }
}
