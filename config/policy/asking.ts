import type { PathList } from '../../grant/grant.ts'
import { checkPathPattern } from '../../grant/paths.ts'
import { MATCHED_CHARACTERS_MAX } from '../conditions.ts'
import type { Policy } from '../policy.ts'
import { writeDuration } from '../units.ts'
import { describePlan } from './approvers.ts'
import type { HostEvent } from './events.ts'
import {
  type Asker,
  checkTarget,
  classesOf,
  type Facts,
  type Governed,
  govern,
  identify,
  type Note,
  type Person,
  type Target,
} from './govern.ts'
import { describeHours, isWithin, nextOpening, occurrences, RECURRENCES_MAX, type Weekly } from './hours.ts'
import { isInside } from './network.ts'
import { type Terms, termsOf } from './terms.ts'

/** A request as somebody makes it. */
export interface Asked {
  /** Who is at the keyboard; their address and second factor are looked at. */
  readonly asker: Asker
  /** Who gets the window, where it is somebody else; the rules have to name this one. */
  readonly beneficiary?: Asker
  /** One, or several to be decided together. */
  readonly targets: readonly Target[]
  /** What a push is to change; absent: whatever the rules give. */
  readonly paths?: PathList
  /** Milliseconds; absent: the usual length. */
  readonly window?: number
  /** When it is to begin; absent: at approval. */
  readonly starts?: number
  readonly reason?: string
  readonly ticket?: string
  readonly breakGlass?: boolean
  /** What a host says that began, where nobody asks but this. */
  readonly event?: HostEvent
  /** Ask for all of the rule's recurring hours within `window`. */
  readonly recurring?: boolean
}

export type Asking =
  | {
      readonly kind: 'governed'
      readonly policy: string
      readonly terms: Terms
      /** Milliseconds; what it will be, which is less than what was asked where `clipped` says so. */
      readonly window: number
      readonly clipped?: string
      /** Each time that these hours come within `window` is a window of its own. */
      readonly recurring?: Weekly
    }
  | {
      readonly kind: 'refused'
      readonly policy: string
      readonly rule?: string
      readonly code: AskingCode
      readonly reason: string
    }

export type AskingCode =
  | 'bad-request'
  | 'no-rule'
  | 'forbidden'
  | 'no-approvers'
  | 'mfa'
  | 'network'
  | 'hours'
  | 'reason'
  | 'ticket'
  | 'window'
  | 'start'

const TARGETS_MAX = 20
const START_AHEAD_MAX = 90 * 86_400_000
/** What a clock may differ by before a start lies in the past. */
const START_BEHIND_MAX = 60_000

/** Which rules govern a request that is about to be made, what it has to meet, and who has to approve it. */
export function asking(policy: Policy, asked: Asked, facts: Facts, now: number, note: Note = () => {}): Asking {
  const refuse = (code: AskingCode, reason: string, rule?: string): Asking => {
    note(`refused: ${reason}`)
    return { kind: 'refused', policy: policy.version, ...(rule === undefined ? {} : { rule }), code, reason }
  }
  if (asked.targets.length === 0 || asked.targets.length > TARGETS_MAX) {
    return refuse('bad-request', `a request names 1 to ${TARGETS_MAX} repositories`)
  }
  const fault = asked.targets.map(checkTarget).find(found => found !== undefined)
  if (fault !== undefined) return refuse('bad-request', fault)
  for (const path of asked.paths ?? []) {
    const wrong = checkPathPattern(path)
    if (wrong !== undefined) return refuse('bad-request', `path ${path.slice(0, 80)}: ${wrong}`)
  }

  const found = termsFor(policy, asked, facts, now, note)
  if (found.kind === 'refused') return refuse(found.code, found.reason, found.rule)
  const { terms } = found
  const rule = terms.rules[0]
  const unmet = unmetBy(terms, asked, now)
  if (unmet) return refuse(unmet.code, unmet.reason, rule)
  if (asked.starts !== undefined && (asked.starts < now - START_BEHIND_MAX || asked.starts > now + START_AHEAD_MAX)) {
    return refuse('start', 'a window starts now or within the next 90 days', rule)
  }
  return asked.recurring ? recurringWindows() : oneWindow()

  function oneWindow(): Asking {
    const wanted = asked.window ?? terms.usual
    if (!(wanted > 0)) return refuse('window', 'a window lasts longer than nothing', rule)
    const bound = `${terms.longestBy} gives at most ${writeDuration(terms.longest)}`
    if (wanted > terms.longest && terms.beyond === 'refuse') {
      return refuse(
        'window',
        `${bound}, and ${writeDuration(wanted)} was asked for; ask with --for ${writeDuration(terms.longest)}`,
        rule,
      )
    }
    const window = Math.min(wanted, terms.longest)
    note(`the window is ${writeDuration(window)}; ${bound}; ${describeWay(terms)}`)
    return { kind: 'governed', policy: policy.version, terms, window, ...(window < wanted && { clipped: bound }) }
  }

  function recurringWindows(): Asking {
    const { recurring } = terms
    if (!recurring) return refuse('window', `no recurring windows by rule "${rule}"`, rule)
    const ahead = asked.window ?? recurring.longest
    if (ahead > recurring.longest) {
      return refuse(
        'window',
        `rule "${rule}" gives recurring windows for at most ${writeDuration(recurring.longest)} ahead`,
        rule,
      )
    }
    const from = asked.starts ?? now
    const spans = occurrences(recurring.hours, from, from + ahead, RECURRENCES_MAX + 1)
    const longest = Math.max(0, ...spans.map(span => span.expires - span.starts))
    if (spans.length === 0)
      return refuse('hours', `${describeHours(recurring.hours)} does not occur within ${writeDuration(ahead)}`, rule)
    if (spans.length > RECURRENCES_MAX)
      return refuse('window', `more than ${RECURRENCES_MAX} windows; ask for less time ahead: --for`, rule)
    if (longest > terms.longest)
      return refuse('window', `${terms.longestBy} gives at most ${writeDuration(terms.longest)} at a time`, rule)
    note(`${spans.length} windows, ${describeHours(recurring.hours)}; ${describeWay(terms)}`)
    return { kind: 'governed', policy: policy.version, terms, window: ahead, recurring: recurring.hours }
  }
}

/** `approved by 2 of leads`, `approved by itself`, `opens at once and is reviewed by …`. */
export function describeWay(terms: Terms): string {
  if (terms.immediate === 'automatic') return 'approved by itself'
  if (terms.review)
    return `opens at once, everybody is told, and it is reviewed within ${writeDuration(terms.review.within)} by ${describePlan(terms.review.plan)}`
  return `to be approved by ${describePlan(terms.plan)} within ${writeDuration(terms.timeout)}`
}

type Found =
  | { readonly kind: 'terms'; readonly terms: Terms }
  | { readonly kind: 'refused'; readonly code: AskingCode; readonly reason: string; readonly rule?: string }

/** The terms by which something can be asked for, before what was written in the request is held against them. */
export function termsFor(
  policy: Policy,
  asked: Pick<
    Asked,
    'asker' | 'beneficiary' | 'targets' | 'breakGlass' | 'event' | 'reason' | 'ticket' | 'window' | 'paths'
  >,
  facts: Facts,
  now: number,
  note: Note,
  known?: readonly Governed[],
): Found {
  const who: Person = identify(policy, asked.beneficiary ?? asked.asker)
  const context = {
    reason: (asked.reason ?? '').slice(0, MATCHED_CHARACTERS_MAX),
    ticket: asked.ticket ?? '',
    window: (asked.window ?? 0) / 1000,
    ...(asked.paths && { paths: asked.paths }),
  }
  const { breakGlass = false, event, paths } = asked
  const search = { policy, who, facts, breakGlass, event, context, paths, now, note }
  const governed = known ?? asked.targets.map(target => govern(target, search))
  const rules = [...new Set(governed.flatMap(({ rules }) => rules))].sort((a, b) => a.order - b.order)
  const forbidding = rules.find(rule => rule.forbid !== undefined)
  if (forbidding)
    return {
      kind: 'refused',
      code: 'forbidden',
      reason: `${forbidding.forbid} (rule "${forbidding.name}")`,
      rule: forbidding.name,
    }
  const refusal = governed.find(({ refusal }) => refusal)?.refusal
  if (refusal)
    return {
      kind: 'refused',
      code: 'no-rule',
      reason: refusal.reason,
      ...(refusal.rule && { rule: refusal.rule.name }),
    }
  const classes = [...new Set(asked.targets.flatMap(({ repository }) => classesOf(policy, repository)))]
  for (const { name } of classes) note(`the repository is of class ${name}`)
  const terms = termsOf(rules, classes, who, facts, now)
  if (typeof terms === 'string') return { kind: 'refused', code: 'no-approvers', reason: terms, rule: rules[0]!.name }
  return { kind: 'terms', terms }
}

function unmetBy(terms: Terms, asked: Asked, now: number): { code: AskingCode; reason: string } | undefined {
  const { mfa, address } = asked.asker
  if (terms.mfa !== undefined && (mfa === undefined || mfa > now + START_BEHIND_MAX || now - mfa > terms.mfa)) {
    return {
      code: 'mfa',
      reason: `a second factor shown within the last ${writeDuration(terms.mfa)} is needed; show it: git access login --mfa`,
    }
  }
  // A host asks from its own network; where the window is used from, the gate looks at every time.
  const networks = asked.event === undefined ? terms.networks : []
  const outside = networks.find(network => !isInside(network, address))
  if (outside)
    return {
      code: 'network',
      reason: `not from ${address ?? 'an unknown address'}; only from ${outside.written.join(', ')}`,
    }
  const begins = asked.starts ?? now
  const closed = terms.hours.find(hours => !isWithin(hours, begins))
  if (closed) {
    const opening = nextOpening(closed, begins)
    return {
      code: 'hours',
      reason: `only ${describeHours(closed)}${opening === undefined ? '' : `; next from ${new Date(opening).toISOString()}`}`,
    }
  }
  return unmetWords(terms, asked.reason ?? '', asked.ticket)
}

function unmetWords(
  terms: Terms,
  reason: string,
  ticket: string | undefined,
): { code: AskingCode; reason: string } | undefined {
  if (reason.length > MATCHED_CHARACTERS_MAX)
    return { code: 'reason', reason: `a reason has at most ${MATCHED_CHARACTERS_MAX} characters` }
  for (const { pattern, example } of terms.reasons) {
    const hint = example === undefined ? '' : `, for example: ${example}`
    if (reason.trim() === '') return { code: 'reason', reason: `a reason is needed: --reason "…"${hint}` }
    if (pattern && !pattern.finds(reason))
      return { code: 'reason', reason: `the reason does not match ${pattern.text}${hint}` }
  }
  for (const { pattern, example } of terms.tickets) {
    const named = ticket === undefined ? words(reason).some(word => pattern.matches(word)) : pattern.matches(ticket)
    if (!named)
      return {
        code: 'ticket',
        reason: `a ticket is needed that matches ${pattern.text}${example === undefined ? '' : `, for example ${example}`}`,
      }
  }
  return undefined
}

/** `fix rounding (PAY-231).` names PAY-231. */
const words = (text: string) => text.split(/[\s,;()[\]"']+/).map(word => word.replace(/[.:!?]+$/, ''))
