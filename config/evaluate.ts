import type { Action, Grant } from '../grant/grant.ts'
import { describePaths, mayChange } from '../grant/paths.ts'
import { coversRef, limitsPaths, matchesRepository, needs } from '../grant/pattern.ts'
import type { Plan } from './policy/approvers.ts'
import { describeWay, termsFor } from './policy/asking.ts'
import {
  type Asker,
  checkTarget,
  type Facts,
  type Governed,
  govern,
  identify,
  type Note,
  standingOf,
} from './policy/govern.ts'
import { describeHours, isWithin } from './policy/hours.ts'
import { isInside } from './policy/network.ts'
import { sayTerms } from './policy/saying.ts'
import type { Policy, Rule } from './policy.ts'
import { writeDuration } from './units.ts'

/** Whether somebody may do one thing at this moment. */
export interface Question extends Asker {
  readonly action: Action
  /** `<upstream>/<path>`, a plain name. */
  readonly repository: string
  /** Full ref names; empty for what names no ref, such as the advertisement. */
  readonly refs: readonly string[]
  /** What a push changes, where that is known. */
  readonly paths?: readonly string[]
}

export interface UseFacts extends Facts {
  /** The asker's grants; those of other principals, of another time or about other repositories are passed over. `rule` is the one by which it was given. */
  readonly grants: readonly (Grant & { readonly rule?: string })[]
}

/** What a request would have to be, and get. */
export interface Needed {
  /** The line to type. */
  readonly request: string
  readonly approvers: Plan
  /** The same as a sentence: `to be approved by 2 of leads within 2h`. */
  readonly way: string
  /** Milliseconds. */
  readonly longest: number
  readonly usual: number
  /** The refused operation may file the request by itself and wait so many milliseconds. */
  readonly autoRequest?: { readonly wait: number }
}

interface Decided {
  /** The version that decided. */
  readonly policy: string
  /** The rule that decided, where one did. */
  readonly rule?: string
}

export type Decision =
  /** A live grant covers it, and the rules it was given by still hold. */
  | (Decided & { readonly kind: 'allowed'; readonly grants: readonly string[] })
  /** Let through because the repository is only observed; `instead` is what would have been said. */
  | (Decided & { readonly kind: 'observed'; readonly instead: Refused | Missing })
  | Missing
  | Refused

/** No grant covers it, and a request could open it. */
export type Missing = Decided & { readonly kind: 'needed'; readonly reason: string; readonly needed: Needed }
/** No, and no request made now by this asker would change that. */
export type Refused = Decided & { readonly kind: 'refused'; readonly code: RefusedCode; readonly reason: string }
export type RefusedCode =
  | 'bad-question'
  | 'no-rule'
  | 'forbidden'
  | 'no-approvers'
  | 'condition'
  | 'network'
  | 'hours'
  | 'paths'

/** The policy's answer. Pure: the same question, facts and time give the same decision. */
export function evaluate(policy: Policy, question: Question, facts: UseFacts, now: number): Decision {
  return decide(policy, question, facts, now, () => {})
}

/** The same decision, with everything that was looked at on the way, in sentences. */
export function explain(
  policy: Policy,
  question: Question,
  facts: UseFacts,
  now: number,
): { readonly decision: Decision; readonly trace: readonly string[] } {
  const trace: string[] = []
  const decision = decide(policy, question, facts, now, sentence => {
    if (!trace.includes(sentence)) trace.push(sentence)
  })
  trace.push(sayDecision(decision))
  return { decision, trace }
}

/** One line for a person. */
function sayDecision(decision: Decision): string {
  const by = decision.rule === undefined ? '' : ` (rule "${decision.rule}")`
  if (decision.kind === 'allowed') return `allowed by ${decision.grants.join(', ')}${by}`
  if (decision.kind === 'observed')
    return `let through because it is only observed; otherwise: ${sayDecision(decision.instead)}`
  if (decision.kind === 'refused') return `refused${by}: ${decision.reason}`
  return `not yet${by}: ${decision.reason}; ${decision.needed.way}; ask with: ${decision.needed.request}`
}

function decide(policy: Policy, question: Question, facts: UseFacts, now: number, note: Note): Decision {
  const decision = judge(policy, question, facts, now, note)
  if (decision.kind !== 'needed' && decision.kind !== 'refused') return decision
  // A ref or a path that cannot be read is never let through: nobody could say later what was observed.
  if (decision.kind === 'refused' && decision.code === 'bad-question') return decision
  const rule = policy.byName.get(decision.rule ?? '')
  const mode = rule?.mode ?? standingOf(policy, question.repository).mode ?? policy.mode
  if (mode === 'enforce') return decision
  note(`${question.repository} is only observed`)
  return { kind: 'observed', policy: policy.version, ...(rule && { rule: rule.name }), instead: decision }
}

function judge(policy: Policy, question: Question, facts: UseFacts, now: number, note: Note): Decision {
  const refuse = (code: RefusedCode, reason: string, rule?: Rule): Refused => {
    return { kind: 'refused', policy: policy.version, ...(rule && { rule: rule.name }), code, reason }
  }
  const fault = checkQuestion(question)
  if (fault !== undefined) return refuse('bad-question', fault)

  const governed = governingRules(policy, question, facts, now, note)
  const forbidding = governed.rules.find(rule => rule.forbid !== undefined)
  if (forbidding) return refuse('forbidden', `${forbidding.forbid}`, forbidding)
  if (governed.refusal?.rule && !governed.refusal.rule.final)
    return refuse('condition', governed.refusal.reason, governed.refusal.rule)

  const covering = coveringGrants(question, facts.grants, now)
  if (covering) {
    note(`${covering.map(grant => grant.id).join(', ')} of ${question.principal} covers it`)
    for (const { id, bounds } of covering) {
      if (bounds?.paths) note(`a push under ${id} changes only ${describePaths(bounds.paths)}`)
    }
    const rules = rulesInForce(policy, covering, governed)
    if (rules.length === 0) note('no rule of the policy speaks of it; the grant stands by itself')
    const unmet = unmetByUse(rules, question, now)
    if (unmet) return refuse(unmet.code, unmet.reason, unmet.rule)
    return {
      kind: 'allowed',
      policy: policy.version,
      ...(rules[0] && { rule: rules[0].name }),
      grants: covering.map(grant => grant.id),
    }
  }
  note(`${question.principal} holds no live grant for it`)
  return whatIsNeeded(policy, question, governed, facts, now, note)
}

function checkQuestion(question: Question): string | undefined {
  const star = [question.repository, ...question.refs].find(name => name.includes('*'))
  if (star !== undefined) return `${star.slice(0, 80)} is a pattern; an operation is on a plain name`
  const short = question.refs.find(ref => !ref.startsWith('refs/'))
  if (short !== undefined) return `${short.slice(0, 80)} is no full ref name`
  return checkTarget({ repository: question.repository, actions: [question.action], refs: question.refs })
}

/** Of every ref, by the actions that an update of it needs: moving a tag takes `tag` and `force`. */
function governingRules(policy: Policy, question: Question, facts: Facts, now: number, note: Note): Governed {
  const who = identify(policy, question)
  const search = {
    policy,
    who,
    facts,
    breakGlass: false,
    context: { refs: question.refs, paths: question.paths ?? [] },
    now,
    note,
  }
  const parts = targetsOf(question).map(target => govern(target, search))
  const refusal = parts.find(part => part.refusal)?.refusal
  return {
    rules: [...new Set(parts.flatMap(part => part.rules))].sort((a, b) => a.order - b.order),
    ...(refusal && { refusal }),
  }
}

function targetsOf({ action, repository, refs }: Question) {
  if (refs.length === 0) return [{ repository, actions: [action], refs: [] }]
  return refs.map(ref => ({ repository, actions: needs(action, ref), refs: [ref] }))
}

function coveringGrants(question: Question, grants: UseFacts['grants'], now: number): UseFacts['grants'] | undefined {
  const live = grants.filter(
    grant =>
      grant.principal === question.principal &&
      grant.starts <= now &&
      now < grant.expires &&
      matchesRepository(grant.repository, question.repository) &&
      coversPaths(grant, question),
  )
  const covering = new Set<UseFacts['grants'][number]>()
  for (const { actions, refs } of targetsOf(question)) {
    const [ref] = refs
    for (const action of actions) {
      const grant = live.find(one => one.actions.includes(action) && (ref === undefined || coversRef(one, ref)))
      if (!grant) return undefined
      covering.add(grant)
    }
  }
  return [...covering]
}

/** What is pushed under limits on paths is looked at when it is pushed; here as far as it is known. */
function coversPaths(grant: Grant, { action, paths = [] }: Question): boolean {
  if (!CHANGING.has(action) || !limitsPaths(grant)) return true
  return action !== 'delete' && paths.every(path => mayChange(grant.bounds?.paths ?? [], path))
}

const CHANGING: ReadonlySet<Action> = new Set<Action>(['create', 'update', 'force', 'delete', 'tag'])

/** The rules a grant was given by, where that is known; otherwise those that govern its holder now. */
function rulesInForce(policy: Policy, grants: UseFacts['grants'], governed: Governed): readonly Rule[] {
  const given = grants.map(grant => policy.byName.get(grant.rule ?? ''))
  const known = given.filter(rule => rule !== undefined)
  return known.length === grants.length ? known : [...new Set([...known, ...governed.rules])]
}

/** What has to hold at every operation and not only when the window was asked for. */
function unmetByUse(
  rules: readonly Rule[],
  question: Question,
  now: number,
): { code: RefusedCode; reason: string; rule: Rule } | undefined {
  for (const rule of rules) {
    if (rule.networks && !isInside(rule.networks, question.address)) {
      return {
        code: 'network',
        reason: `not from ${question.address ?? 'an unknown address'}; only from ${rule.networks.written.join(', ')}`,
        rule,
      }
    }
    if (rule.hours && !isWithin(rule.hours, now))
      return { code: 'hours', reason: `only ${describeHours(rule.hours)}`, rule }
    const path = question.paths?.find(one => rule.paths && !mayChange([rule.paths], one))
    if (path !== undefined)
      return { code: 'paths', reason: `${path.slice(0, 200)} may not be changed under this rule`, rule }
  }
  return undefined
}

function whatIsNeeded(
  policy: Policy,
  question: Question,
  governed: Governed,
  facts: Facts,
  now: number,
  note: Note,
): Missing | Refused {
  // Before a push has named its refs no rule needs to cover all of them: the first that speaks of some is what to ask by.
  const some = question.refs.length === 0 && governed.refusal && !governed.refusal.rule ? governed.rules[0] : undefined
  const targets = some
    ? [{ repository: question.repository, actions: [question.action], refs: some.refs }]
    : targetsOf(question)
  const { paths } = question
  const asked = { asker: question, targets, ...(paths && { paths }) }
  // Known paths are asked for by name, and not every rule speaks of all paths.
  const found = termsFor(policy, asked, facts, now, () => {}, some || paths ? undefined : [governed])
  if (found.kind === 'refused') {
    const code = found.code === 'forbidden' || found.code === 'no-approvers' ? found.code : 'no-rule'
    return {
      kind: 'refused',
      policy: policy.version,
      ...(found.rule !== undefined && { rule: found.rule }),
      code,
      reason: found.reason,
    }
  }
  const { terms } = found
  for (const sentence of sayTerms(terms)) note(sentence)
  return {
    kind: 'needed',
    policy: policy.version,
    rule: terms.rules[0]!,
    reason: `no grant for ${question.action} on ${question.repository}${question.refs.length > 0 ? ` ${question.refs.join(' ')}` : ''}`,
    needed: {
      request: requestLine(
        question,
        some?.refs ?? question.refs,
        terms.usual,
        terms.reasons.length > 0 || terms.tickets.length > 0,
      ),
      approvers: terms.plan,
      way: describeWay(terms),
      longest: terms.longest,
      usual: terms.usual,
      ...(terms.autoRequest && { autoRequest: terms.autoRequest }),
    },
  }
}

const FLAGS: Partial<Record<Action, string>> = { fetch: '--fetch', create: '--push', update: '--push' }

const PASTES_SAFELY = /^[A-Za-z0-9._/@+-]+$/

/** The line that asks for just this. */
function requestLine(question: Question, names: readonly string[], usual: number, reason: boolean): string {
  const flag = FLAGS[question.action] ?? `--${question.action}`
  const refs = names.map(ref => ` --ref ${ref.replace(/^refs\/heads\//, '')}`).join('')
  const named = question.paths ?? []
  const paths = named.every(path => PASTES_SAFELY.test(path)) ? named.map(path => ` --path ${path}`).join('') : ''
  return `git access request ${question.repository} ${flag}${refs}${paths} --for ${writeDuration(usual)}${reason ? ' --reason "…"' : ''}`
}
