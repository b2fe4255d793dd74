import { newId } from '../audit/id.ts'
import type { Service } from '../audit/record.ts'
import type { Policy, Rule } from '../config/policy.ts'
import type { Action } from '../grant/grant.ts'
import { fullRef, matchesRepository } from '../grant/pattern.ts'
import { carry } from './decide.ts'
import { type From, jobOf, type Prospect, prospectOf, QUOTA_MILLISECONDS, type Wish } from './file.ts'
import type { Act, Change } from './register/act.ts'
import {
  answeredLike,
  automaticSince,
  countPending,
  holdPerson,
  lockRequest,
  pendingOf,
  type RegisteredRequest,
} from './register/requests.ts'
import { makeRequest, next } from './request.ts'
import { personBehind } from './voter.ts'

/** Requests that nobody typed: an operation was refused, and the policy says `auto_request`. */

/** Whoever makes an account run into refusals must not bury its approvers: with so many pending, none is filed by itself. */
const PENDING_MAX = 10
/** Rules tried for one refusal. */
const RULES_TRIED_MAX = 20

/** An operation for which there was no live grant. */
export interface RefusedOperation {
  /** One repository, no pattern. */
  readonly repository: string
  readonly service: Exclude<Service, 'lfs'>
  readonly operation: string
}

type Possible = Extract<Prospect, { kind: 'possible' }>

/**
 * Finds what would let a refused operation through, or files it: whatever of theirs is pending for the repository is left
 * exactly as it is, with its votes, and after a denial none is filed for as long as the denied one would have waited.
 *
 * @returns undefined where the policy does not say `auto_request`; where nothing is pending, also where only a person can say why
 */
export async function requestForRefused(
  act: Act,
  from: From,
  refused: RefusedOperation,
  now: number,
): Promise<{ readonly found: RegisteredRequest; readonly wait: number } | undefined> {
  const { standing, caller } = from
  if (standing.kind !== 'policy') return undefined
  const rules = askingByThemselves(standing.policy, refused.repository)
  // Most refusals end here, with nothing asked of the database.
  if (rules.length === 0) return undefined
  const person = personBehind(standing, caller.principal)
  return await act(async change => {
    await holdPerson(change, person)
    const asked = await askedAlready(change, from, standing.policy, refused, now)
    if (asked !== undefined) return asked
    const facts = { automatic: await automaticSince(change, person, now - QUOTA_MILLISECONDS) }
    const prospect = wishes(refused, rules)
      .map(wish => prospectOf(from, wish, facts, now))
      .find((each): each is Possible => each.kind === 'possible' && each.autoRequest !== undefined)
    if (prospect?.autoRequest === undefined) return undefined
    const { conditions } = prospect
    const { wait } = prospect.autoRequest
    const known = await answeredLike(change, prospect.asked, now)
    if (known !== undefined) return { found: known, wait }
    if ((await countPending(change, person)) >= PENDING_MAX) return undefined

    const reason = `asked for by itself: git ${VERBS[refused.service]} was refused (${refused.operation})`
    const request = makeRequest(newId('r'), { ...prospect.asked, reason }, conditions, [person], now)
    await carry(change, {
      before: undefined,
      after: request,
      by: caller.principal,
      via: 'refusal',
      person,
      step: 'file',
      reason,
      now,
    })
    const found = await lockRequest(change, request.id)
    if (found === undefined) throw new Error(`${request.id} is not there although it was written`)
    return { found, wait }
  })
}

/** A pending request that the operation may wait for: its rules say so, whoever made it and whatever else it is for. */
async function askedAlready(
  change: Change,
  { caller }: From,
  policy: Policy,
  { repository, service }: RefusedOperation,
  now: number,
): Promise<{ readonly found: RegisteredRequest; readonly wait: number } | undefined> {
  for (const found of await pendingOf(change, caller.principal)) {
    const { asked, conditions } = found.request
    const concerns = asked.targets.some(target => {
      return (
        matchesRepository(target.repository, repository) && target.actions.some(action => OPENS[service].has(action))
      )
    })
    const waits = conditions.rules.map(name => policy.byName.get(name)?.autoRequest?.wait ?? 0)
    const wait = Math.min(...waits)
    const isPending = next(found.request, { kind: 'tick', at: now }).request.state === 'requested'
    if (concerns && isPending && wait > 0 && asked.extends === undefined && asked.job === jobOf(caller)) {
      return { found, wait }
    }
  }
  return undefined
}

/** With what a service lets anybody in at all. */
const OPENS: Readonly<Record<RefusedOperation['service'], ReadonlySet<Action>>> = {
  'upload-pack': new Set(['fetch']),
  'receive-pack': new Set(['create', 'update', 'force', 'delete', 'tag']),
  'upload-archive': new Set(['archive']),
}

const VERBS = { 'upload-pack': 'fetch', 'receive-pack': 'push', 'upload-archive': 'archive' } as const
const ACTIONS_OF: Readonly<Record<RefusedOperation['service'], readonly Action[]>> = {
  'upload-pack': ['fetch'],
  'receive-pack': ['create', 'update'],
  'upload-archive': ['archive'],
}

function askingByThemselves({ rules, lookup }: Policy, repository: string): Rule[] {
  return lookup
    .find(repository)
    .map(position => rules[position]!)
    .filter(rule => rule.autoRequest !== undefined)
}

/**
 * What may be asked for, the best first. git names the refs of a push only after it has seen those of the repository, so
 * that they are not known here: every branch, and where no rule gives that, what a rule speaks of.
 */
function wishes({ repository, service }: RefusedOperation, rules: readonly Rule[]): Wish[] {
  const actions = ACTIONS_OF[service]
  const whole: Wish = { repository, actions, refs: [] }
  if (service !== 'receive-pack') return [whole]
  const narrow = rules.slice(0, RULES_TRIED_MAX).map(rule => ({ repository, ...reachOf(rule, actions) }))
  return [whole, ...narrow.filter(wish => wish.actions.length > 0)]
}

function reachOf(rule: Rule, actions: readonly Action[]): Pick<Wish, 'actions' | 'refs'> {
  const refs = rule.refs.map(fullRef)
  const isTag = (ref: string) => ref.startsWith('refs/tags/')
  const wanted = new Set<Action>(refs.length === 0 || !refs.every(isTag) ? actions : [])
  if (refs.some(isTag)) wanted.add('tag')
  return { refs, actions: [...wanted].filter(action => rule.actions.has(action)) }
}
