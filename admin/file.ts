import type { Sql, TransactionSql } from 'postgres'
import { newId } from '../audit/id.ts'
import type { Via } from '../audit/record.ts'
import { type Asked, type AskingCode, asking, describeWay } from '../config/policy/asking.ts'
import type { HostEvent } from '../config/policy/events.ts'
import type { Asker, Facts, Target } from '../config/policy/govern.ts'
import type { Terms } from '../config/policy/terms.ts'
import { writeDuration } from '../config/units.ts'
import type { Bounds, PathList } from '../grant/grant.ts'
import type { Caller } from './api/access.ts'
import { Problem } from './api/problem.ts'
import type { AskedFor, Conditions } from './asked.ts'
import { carry } from './decide.ts'
import { onCallNow } from './oncall.ts'
import { roleGroup, type Standing, WITHOUT_POLICY } from './policy.ts'
import type { Act, Change } from './register/act.ts'
import {
  automaticSince,
  countPending,
  holdPerson,
  lockRequest,
  pendingLike,
  type RegisteredRequest,
} from './register/requests.ts'
import { rolesOf } from './register/roles.ts'
import { ownerOf } from './register/services.ts'
import { groupsOf } from './register/signins.ts'
import { makeRequest, next, type Request, sameRequest } from './request.ts'
import { askerOf, kindOf, personBehind } from './voter.ts'

/** Filing a request: the policy's terms, the same request only once, all in one transaction. */

const PENDING_MAX = 50
export const QUOTA_MILLISECONDS = 92 * 86_400_000

/** What a caller asks for; lengths and moments in milliseconds, refs full names or patterns. */
export interface Wish extends Target {
  /** What is to be decided with it as one, and opened at the same moment. */
  readonly also?: readonly Target[]
  /** Who gets the windows; who asks, where it is not said. */
  readonly principal?: string
  /** What a push is to change, see `grant/paths.ts`; whatever the rules give, where it is not said. */
  readonly paths?: PathList
  readonly window?: number
  readonly starts?: number
  readonly reason?: string
  readonly ticket?: string
  readonly breakGlass?: boolean
  /** All of the rule's recurring hours within `window`. */
  readonly recurring?: boolean
  /** What a host said that began, where nobody asks but this. */
  readonly event?: HostEvent
  /** The request whose windows are to last longer; everything else is what that one asked for. */
  readonly extends?: string
}

/** Who asks, and from where. */
export interface From {
  readonly standing: Standing
  readonly caller: Caller
  readonly address: string | undefined
  /** Who gets the windows, where it is somebody else; see `beneficiaryOf`. */
  readonly beneficiary?: Asker
}

/** What would come of a wish. */
export type Prospect =
  | {
      readonly kind: 'possible'
      readonly asked: AskedFor
      readonly conditions: Conditions
      /** `to be approved by one of leads within 2h` */
      readonly way: string
      readonly clipped?: string
      /** Where a refused operation may ask for it by itself: milliseconds it may wait for the answer. */
      readonly autoRequest?: { readonly wait: number }
    }
  | {
      readonly kind: 'refused'
      readonly code: AskingCode
      readonly reason: string
      readonly rule?: string
    }

/**
 * Files a request, or finds the one that is pending for the same thing.
 * @throws Problem when the policy refuses it
 */
export async function fileRequest(
  act: Act,
  from: Omit<From, 'beneficiary'> & {
    /** By which way it came, where no proxy vouched for who asks. */
    readonly via?: Via
  },
  wish: Wish,
  now: number,
): Promise<{
  readonly found: RegisteredRequest
  readonly filed: 'new' | 'same' | 'changed'
  readonly clipped?: string
}> {
  const { standing, caller } = from
  const person = personBehind(standing, caller.principal)
  return await act(async change => {
    const beneficiary = await beneficiaryOf(change.sql, caller, wish)
    const names = [caller.principal, ...(beneficiary ? [beneficiary.principal] : [])]
    const persons = names.map(name => personBehind(standing, name))
    // In one order, whoever asks for whom.
    for (const one of new Set(persons.toSorted())) await holdPerson(change, one)
    const facts = { automatic: await automaticSince(change, person, now - QUOTA_MILLISECONDS) }
    const prospect = prospectOf({ ...from, ...(beneficiary && { beneficiary }) }, wish, facts, now)
    if (prospect.kind === 'refused') throw refused(prospect)
    const { asked, conditions } = prospect
    const clipped = prospect.clipped === undefined ? {} : { clipped: prospect.clipped }

    const pending = await settledPending(change, asked, person, now)
    const same = pending === undefined ? 'another' : sameRequest(pending.request, asked)
    if (pending !== undefined && same === 'same') return { found: pending, filed: 'same', ...clipped }
    if (pending === undefined && (await countPending(change, person)) >= PENDING_MAX) {
      const message = `${PENDING_MAX} requests of yours are pending already`
      throw new Problem(409, 'too-many-requests-pending', message, 'withdraw some: git access withdraw ID')
    }
    const request =
      pending === undefined
        ? makeRequest(newId('r'), asked, conditions, [...persons, ...(await ownersOf(change, standing, names))], now)
        : changed(pending.request, asked, conditions, person, now)
    await carry(change, {
      before: pending,
      after: request,
      by: caller.principal,
      via: caller.via?.transport ?? from.via,
      person,
      step: 'file',
      reason: asked.reason,
      now,
    })
    const found = await lockRequest(change, request.id)
    if (found === undefined) throw new Error(`${request.id} is not there although it was written`)
    return { found, filed: pending === undefined ? 'new' : 'changed', ...clipped }
  })
}

/** The token of the job that asks. One that a proxy asks by is the proxy's, which says whose it was shown. */
export function jobOf({ principal, token, via }: Caller): string | undefined {
  if (kindOf(principal) !== 'ci') return undefined
  return via === undefined ? token?.id : via.job
}

/** Whom the wish is for, where it is somebody else: as their tokens and their last sign-in have them, since the rules have to name them. */
export async function beneficiaryOf(
  sql: Sql | TransactionSql,
  caller: Caller,
  { principal }: Wish,
): Promise<Asker | undefined> {
  if (principal === undefined || principal === caller.principal) return undefined
  const roles = await rolesOf(sql, principal)
  const groups = [...(await groupsOf(sql, principal)), ...roles.map(roleGroup)]
  return { principal, kind: kindOf(principal), groups }
}

/** Who answers for those of these that are service accounts. */
async function ownersOf({ sql }: Change, standing: Standing, principals: readonly string[]): Promise<string[]> {
  const owners: string[] = []
  for (const principal of principals) {
    const owner = await ownerOf(sql, principal)
    if (owner !== undefined) owners.push(personBehind(standing, owner))
  }
  return owners
}

/** What the standing says to a wish; nothing is written. */
export function prospectOf(from: From, wish: Wish, facts: Facts, now: number): Prospect {
  const { standing, caller, address, beneficiary } = from
  if (standing.kind === 'broken') {
    throw new Problem(
      503,
      'policy-broken',
      'the policy of this gate does not load, so nothing can be asked for',
      'tell its operator',
    )
  }
  if (beneficiary && [kindOf(caller.principal), beneficiary.kind].includes('ci')) {
    return { kind: 'refused', code: 'bad-request', reason: 'a job asks for itself, and nobody asks for a job' }
  }
  const job = jobOf(caller)
  const common = {
    ...(job !== undefined && { job }),
    principal: beneficiary?.principal ?? caller.principal,
    requester: caller.principal,
    targets: [wish, ...(wish.also ?? [])].map(({ repository, actions, refs }) => ({ repository, actions, refs })),
    ...(wish.paths && { paths: wish.paths }),
    ...(wish.starts !== undefined && { starts: wish.starts }),
    reason: wish.reason ?? '',
    ...(wish.ticket !== undefined && { ticket: wish.ticket }),
    ...(wish.breakGlass && { breakGlass: true }),
    ...(wish.extends !== undefined && { extends: wish.extends }),
  }
  if (standing.kind === 'none') return withoutPolicy(common, wish)

  const asker = askerOf(caller, address)
  const asked: Asked = { ...wish, asker, ...(beneficiary && { beneficiary }), targets: common.targets }
  const said = asking(standing.policy, asked, { onCall: onCallNow(standing, now), ...facts }, now)
  if (said.kind === 'refused') return said
  const { terms } = said
  if (terms.immediate && beneficiary) {
    const reason = `nobody approves what this opens, so only ${beneficiary.principal} can ask for it`
    return {
      kind: 'refused',
      code: 'no-approvers',
      reason,
      ...(terms.rules[0] !== undefined && { rule: terms.rules[0] }),
    }
  }
  return {
    kind: 'possible',
    asked: {
      ...common,
      window: said.window,
      ...(said.recurring && { recurring: said.recurring }),
      ...(terms.idle !== undefined && { idle: terms.idle }),
      ...(terms.uses !== undefined && { uses: terms.uses }),
    },
    conditions: {
      policy: said.policy,
      rules: terms.rules,
      plan: terms.plan,
      ...(terms.immediate && { immediate: terms.immediate }),
      ...(terms.review && { review: terms.review }),
      timeout: terms.timeout,
      ...(terms.escalation && { escalation: terms.escalation }),
      ...boundsOf(terms, common),
    },
    way: describeWay(terms),
    ...(terms.autoRequest && { autoRequest: terms.autoRequest }),
    ...(said.clipped !== undefined && { clipped: said.clipped }),
  }
}

/** What the terms say of every use, and what was asked for that is less. */
function boundsOf(
  terms: Pick<Terms, 'networks' | 'hours' | 'bytes' | 'paths'>,
  { job, paths: asked }: Pick<AskedFor, 'job' | 'paths'>,
): { readonly bounds?: Bounds } {
  const networks = terms.networks.map(({ written }) => written)
  const paths = [...terms.paths, ...(asked ? [asked] : [])]
  const bounds: Bounds = {
    ...(networks.length > 0 && { networks }),
    ...(terms.hours.length > 0 && { hours: terms.hours }),
    ...(terms.bytes !== undefined && { bytes: terms.bytes }),
    ...(paths.length > 0 && { paths }),
    ...(job !== undefined && { token: job }),
  }
  return Object.keys(bounds).length === 0 ? {} : { bounds }
}

const WITHOUT_TERMS = { networks: [], hours: [], paths: [] }

function withoutPolicy(common: Omit<AskedFor, 'window'>, wish: Wish): Prospect {
  const { version, plan, usual, longest, timeout } = WITHOUT_POLICY
  const window = wish.window ?? usual
  if (wish.breakGlass) return { kind: 'refused', code: 'no-rule', reason: 'no policy says that glass may be broken' }
  if (wish.recurring) return { kind: 'refused', code: 'no-rule', reason: 'no policy gives recurring windows' }
  if (window > longest) {
    return {
      kind: 'refused',
      code: 'window',
      reason: `without a policy a window lasts at most ${writeDuration(longest)}`,
    }
  }
  const conditions = { policy: version, rules: [], plan, timeout, ...boundsOf(WITHOUT_TERMS, common) }
  const way = `to be approved by an administrator within ${writeDuration(timeout)}`
  return { kind: 'possible', asked: { ...common, window }, conditions, way }
}

/** The pending request for the same thing, unless its time is up; then it lapses here and now. */
async function settledPending(
  change: Change,
  asked: AskedFor,
  person: string,
  now: number,
): Promise<RegisteredRequest | undefined> {
  const pending = await pendingLike(change, asked)
  if (pending === undefined) return undefined
  const { request } = next(pending.request, { kind: 'tick', at: now })
  if (request.state === 'requested') return pending
  await carry(change, { before: pending, after: request, by: 'drawbridge', person, step: 'tick', reason: '', now })
  return undefined
}

function changed(request: Request, asked: AskedFor, conditions: Conditions, person: string, now: number): Request {
  const outcome = next(request, { kind: 'change', at: now, person, asked, conditions })
  if (outcome.refused !== undefined) throw new Problem(409, 'request-over', outcome.refused)
  return outcome.request
}

const ASKED_BADLY: readonly string[] = ['bad-request', 'reason', 'ticket', 'window', 'start'] satisfies AskingCode[]

function refused({ code, reason }: Extract<Prospect, { kind: 'refused' }>): Problem {
  return new Problem(ASKED_BADLY.includes(code) ? 400 : 403, `policy-${code}`, reason)
}
