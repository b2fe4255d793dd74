import { NOBODY } from '../config/policy/approvers.ts'
import { occurrences, RECURRENCES_MAX } from '../config/policy/hours.ts'
import { APPROVERS_MAX } from '../grant/grant.ts'
import { approversOf, type Ballot, tally, type Vote, whyNoVote } from './approval.ts'
import { type AskedFor, type Conditions, dedupeKey, digestOf, isPartOf, isSame } from './asked.ts'
import {
  extendWindow,
  isOpen,
  isStanding,
  moveWindow,
  settleWindow,
  useWindow,
  type Window,
  type WindowEvent,
} from './window.ts'

/**
 * The life of a request, from asking to the end of its windows. Pure: `next` is the only way from one state to another, and
 * whoever stores requests applies it inside one transaction, so that two events at one moment have one order.
 */

export type RequestState = 'requested' | 'approved' | 'denied' | 'withdrawn' | 'lapsed'
export type RequestMove = 'approve' | 'deny' | 'withdraw' | 'lapse' | 'lock' | 'change'

/** What is not in the table does not happen. What comes after an approval happens to the windows, see `WINDOW_TABLE`. */
export const REQUEST_TABLE: Readonly<Record<RequestState, Partial<Record<RequestMove, RequestState>>>> = {
  requested: {
    approve: 'approved',
    deny: 'denied',
    withdraw: 'withdrawn',
    lapse: 'lapsed',
    lock: 'denied',
    change: 'requested',
  },
  approved: {},
  denied: {},
  withdrawn: {},
  lapsed: {},
}

export interface Request {
  readonly id: string
  readonly state: RequestState
  readonly asked: AskedFor
  readonly conditions: Conditions
  /** Over id, asked and conditions; votes carry it. */
  readonly digest: string
  /** Persons who can never approve it. */
  readonly involved: readonly string[]
  readonly made: number
  readonly lapses: number
  readonly escalated: boolean
  readonly votes: readonly Vote[]
  /** Of one that is approved: by whose approvals, as `Grant.approvers`. Absent where it was approved before this was kept. */
  readonly approvers?: readonly string[]
  readonly windows: readonly Window[]
  readonly review?: Review
}

/** Breaking glass is looked at afterwards; that changes no access, and is never forgotten either. */
export interface Review {
  readonly state: 'due' | 'overdue' | 'accepted' | 'questioned'
  readonly due: number
  readonly votes: readonly Vote[]
}

export type Event =
  /** Time passed: lapse, escalation, starts and ends that are due. Every other event does this first. */
  | { readonly kind: 'tick'; readonly at: number }
  | { readonly kind: 'vote'; readonly at: number; readonly vote: Vote }
  | { readonly kind: 'review'; readonly at: number; readonly vote: Vote }
  | { readonly kind: 'withdraw'; readonly at: number; readonly person: string }
  /** Another thing is asked for under the same id: everything starts over. */
  | {
      readonly kind: 'change'
      readonly at: number
      readonly person: string
      readonly asked: AskedFor
      readonly conditions: Conditions
    }
  | { readonly kind: 'release'; readonly at: number; readonly person: string; readonly repository?: string }
  | { readonly kind: 'revoke'; readonly at: number; readonly repository?: string }
  /** The principal was locked. */
  | { readonly kind: 'lock'; readonly at: number }
  /** An operation went through the window of a repository. */
  | { readonly kind: 'use'; readonly at: number; readonly repository: string }
  /** An approved request for more time; see `AskedFor.extends`. */
  | { readonly kind: 'extend'; readonly at: number; readonly extension: Request }

/** The request afterwards, and why the event itself was not taken, where it was not. */
export interface Outcome {
  readonly request: Request
  readonly refused?: string
}

/** A new request. It is open at once only where the policy said so itself; `involved` are persons, see `personOf`. */
export function makeRequest(
  id: string,
  asked: AskedFor,
  conditions: Conditions,
  involved: readonly string[],
  now: number,
): Request {
  const request: Request = {
    id,
    state: 'requested',
    asked,
    conditions,
    digest: digestOf(id, asked, conditions),
    involved,
    made: now,
    lapses: lapsesAt(asked, conditions, now),
    escalated: false,
    votes: [],
    windows: [],
    ...(conditions.review && { review: { state: 'due', due: now + conditions.review.within, votes: [] } }),
  }
  return conditions.immediate ? approve(request, now) : request
}

/** The one way forward. */
export function next(request: Request, event: Event): Outcome {
  const settled = settle(request, event.at)
  switch (event.kind) {
    case 'tick':
      return { request: settled }
    case 'vote':
      return vote(settled, event.vote, event.at)
    case 'review':
      return review(settled, event.vote)
    case 'withdraw':
      return withdraw(settled, event.person)
    case 'change':
      return change(settled, event)
    case 'release':
      if (!settled.involved.includes(event.person))
        return { request: settled, refused: 'only who asked or holds the window releases it' }
      return endWindows(settled, 'release', event.repository)
    case 'revoke':
      return endWindows(settled, 'revoke', event.repository)
    case 'lock':
      return {
        request: { ...move(settled, 'lock'), windows: settled.windows.map(window => moveWindow(window, 'lock')) },
      }
    case 'use':
      return {
        request: {
          ...settled,
          windows: settled.windows.map(window =>
            window.repository === event.repository ? useWindow(window, event.at) : window,
          ),
        },
      }
    case 'extend':
      return extend(settled, event.extension)
  }
}

/** Whether the request gives access to the repository at this moment. A bundle's windows stand each for its own repository. */
export function givesAccess(request: Request, repository: string, now: number): boolean {
  return (
    request.state === 'approved' &&
    request.windows.some(window => window.repository === repository && isOpen(window, now))
  )
}

/** Who can fill what is still open. */
export const ballotOf = ({ conditions, involved, escalated }: Request): Ballot => {
  return {
    plan: conditions.plan,
    involved,
    ...(escalated && conditions.escalation && { escalatedTo: conditions.escalation.to }),
  }
}

/** What asking again means to a pending request: nothing, a change that starts it over, or another request altogether. */
export function sameRequest(pending: Request, asked: AskedFor): 'same' | 'changed' | 'another' {
  if (pending.state !== 'requested' || dedupeKey(pending.asked) !== dedupeKey(asked)) return 'another'
  return isSame(pending.asked, asked) ? 'same' : 'changed'
}

// --- time -------------------------------------------------------------------------------------------------------------

/** When others are asked as well because nobody has answered; undefined when they were already, or there are none. */
export function escalatesAt({ conditions, escalated, made }: Request): number | undefined {
  return conditions.escalation && !escalated ? made + conditions.escalation.after : undefined
}

function settle(request: Request, now: number): Request {
  let settled = request
  if (settled.state === 'requested' && now >= settled.lapses) settled = move(settled, 'lapse')
  if (settled.state === 'requested' && now >= (escalatesAt(settled) ?? Number.POSITIVE_INFINITY))
    settled = { ...settled, escalated: true }
  if (settled.review?.state === 'due' && now >= settled.review.due)
    settled = { ...settled, review: { ...settled.review, state: 'overdue' } }
  return { ...settled, windows: settled.windows.map(window => settleWindow(window, now)) }
}

/** The asked end comes with the asked start: a late approval shortens the window and does not move it. */
function lapsesAt({ starts, window }: AskedFor, { timeout }: Conditions, now: number): number {
  const end = starts === undefined ? Number.POSITIVE_INFINITY : starts + window
  return Math.min(now + timeout, end)
}

// --- deciding ---------------------------------------------------------------------------------------------------------

function move(request: Request, how: RequestMove): Request {
  const state = REQUEST_TABLE[request.state][how]
  return state === undefined ? request : { ...request, state }
}

function vote(request: Request, cast: Vote, at: number): Outcome {
  const refused = whyRefused(request, cast)
  if (refused !== undefined) return { request, refused }
  if (cast.says === 'deny') {
    const denied = { ...move(request, 'deny'), votes: [...request.votes, cast] }
    return { request: { ...denied, windows: denied.windows.map(window => moveWindow(window, 'deny')) } }
  }
  // A double click, or the same approval by way of two screens.
  if (request.votes.some(({ voter }) => voter.person === cast.voter.person)) return { request }
  if (request.state !== 'requested') return { request, refused: `it is ${request.state} already` }
  const counted = { ...request, votes: [...request.votes, cast] }
  return { request: tally(ballotOf(counted), counted.votes).satisfied ? approve(counted, at) : counted }
}

function whyRefused(request: Request, cast: Vote): string | undefined {
  if (request.state !== 'requested' && request.state !== 'approved') return `it is ${request.state} already`
  if (cast.digest !== request.digest)
    return 'this vote is for something else: the request was changed, or it is another one; look at it again'
  return whyNoVote(ballotOf(request), cast.voter)
}

function approve(request: Request, at: number): Request {
  const moved = move(request, 'approve')
  if (moved.state !== 'approved') return moved
  const approvers = approversOf(ballotOf(request), request.votes).slice(0, APPROVERS_MAX)
  const approved = { ...moved, approvers }
  if (request.asked.extends !== undefined) return approved
  return { ...approved, windows: windowsOf(request.asked, at) }
}

function windowsOf({ targets, window, starts, recurring, idle, uses }: AskedFor, at: number): Window[] {
  const begins = Math.max(starts ?? at, at)
  const ends = (starts ?? at) + window
  const spans = recurring ? occurrences(recurring, begins, ends, RECURRENCES_MAX) : [{ starts: begins, expires: ends }]
  const repositories = [...new Set(targets.map(({ repository }) => repository))]
  return repositories.flatMap(repository =>
    spans
      .filter(({ expires }) => expires > at)
      .map(span => {
        const opens = Math.max(span.starts, at)
        const fresh = { repository, state: 'scheduled', starts: opens, expires: span.expires, lastUsed: opens } as const
        return settleWindow(
          { ...fresh, ...(idle !== undefined && { idle }), ...(uses !== undefined && { left: uses }) },
          at,
        )
      }),
  )
}

function review(request: Request, cast: Vote): Outcome {
  const { review: open, conditions } = request
  if (!open || open.state === 'accepted' || open.state === 'questioned')
    return { request, refused: 'there is nothing to review' }
  const ballot: Ballot = { plan: conditions.review?.plan ?? NOBODY, involved: request.involved }
  const refused =
    cast.digest === request.digest
      ? whyNoVote(ballot, cast.voter)
      : 'this review is for something else; look at it again'
  if (refused !== undefined) return { request, refused }
  const votes = [...open.votes, cast]
  const state = cast.says === 'deny' ? 'questioned' : tally(ballot, votes).satisfied ? 'accepted' : open.state
  const windows = cast.says === 'deny' ? request.windows.map(window => moveWindow(window, 'deny')) : request.windows
  return { request: { ...request, windows, review: { ...open, votes, state } } }
}

// --- taking back and changing -----------------------------------------------------------------------------------------

function withdraw(request: Request, person: string): Outcome {
  if (!request.involved.includes(person)) return { request, refused: 'only who asked can withdraw it' }
  if (request.state === 'requested') return { request: move(request, 'withdraw') }
  return endWindows(request, 'withdraw', undefined)
}

function change(request: Request, { asked, conditions, person, at }: Extract<Event, { kind: 'change' }>): Outcome {
  if (!request.involved.includes(person)) return { request, refused: 'only who asked can change it' }
  if (REQUEST_TABLE[request.state].change === undefined)
    return { request, refused: `it is ${request.state} already; ask again` }
  if (asked.principal !== request.asked.principal)
    return { request, refused: 'a window for somebody else is another request' }
  return { request: makeRequest(request.id, asked, conditions, request.involved, at) }
}

function endWindows(request: Request, how: WindowEvent, repository: string | undefined): Outcome {
  const windows = request.windows.map(window =>
    repository === undefined || window.repository === repository ? moveWindow(window, how) : window,
  )
  const ended = windows.some((window, index) => window !== request.windows[index])
  return ended ? { request: { ...request, windows } } : { request, refused: 'no window of it stands' }
}

/** The new end counts from the moment the extension was approved, so that no window ever reaches further than its rule gives. */
function extend(request: Request, extension: Request): Outcome {
  const { asked, state } = extension
  const approvedAt = extension.conditions.immediate ? extension.made : extension.votes.at(-1)?.at
  if (state !== 'approved' || approvedAt === undefined) return { request, refused: `the extension is ${state}` }
  if (asked.extends !== request.id || asked.principal !== request.asked.principal)
    return { request, refused: 'the extension is for another request' }
  if (request.asked.recurring)
    return { request, refused: 'recurring windows have their own ends; ask for a new request' }
  // Otherwise an extension "to fetch", which nobody needs to approve, would make a window to push longer.
  if (!isPartOf(asked, request.asked)) {
    return { request, refused: 'the extension asks for other things than the window holds' }
  }
  const named = new Set(asked.targets.map(({ repository }) => repository))
  if (!request.windows.some(window => named.has(window.repository) && isStanding(window))) {
    return { request, refused: 'the window is over; ask for a new one' }
  }
  const windows = request.windows.map(window =>
    named.has(window.repository) ? extendWindow(window, approvedAt + asked.window) : window,
  )
  return { request: { ...request, windows } }
}
