import type { Action, PathList } from '../../grant/grant.ts'
import { compileCondition, compilePattern, type Pattern } from '../conditions.ts'
import { foldIdentity, type People, type Rule, type Who } from '../policy.ts'
import { readDuration, readSize } from '../units.ts'
import { type Approver, NOBODY, type Plan, type Step } from './approvers.ts'
import { type EventTrigger, readEvent } from './events.ts'
import { describeHours, neverBoth, readClock, readDays, type Weekly, weekly } from './hours.ts'
import { networks } from './network.ts'
import type { Fault } from './problems.ts'
import { readQuota } from './quota.ts'
import type { ApproversDocument, HoursDocument, RuleDocument, SharedDocument } from './schema.ts'
import { actionsOf, readTrigger } from './words.ts'

/**
 * From the document to the policy: defaults filled in, names resolved. The schema has already passed each value by itself;
 * what is found wrong here is what one value says against another.
 */

const HOUR = 3_600_000
const LONGEST_DEFAULT = 8 * HOUR
const USUAL_DEFAULT = HOUR
const TIMEOUT_DEFAULT = 24 * HOUR
const IDLE_DEFAULT = HOUR / 2
const REVIEW_WITHIN_DEFAULT = 24 * HOUR
const WAIT_DEFAULT = HOUR / 12

type Complain = (fault: Fault) => void

/** Whom the document names; what every rule needs to be read. */
export interface Names {
  readonly people: People
  readonly groups: ReadonlySet<string>
  readonly classes: ReadonlySet<string>
  readonly zone: string
  readonly defaults: SharedDocument
}

const listOf = <T>(given: T | readonly T[] | undefined): readonly T[] => {
  return given === undefined ? [] : Array.isArray(given) ? given : [given as T]
}
const span = (text: string) => readDuration(text)!
/** Leaves a key out instead of giving it the value undefined. */
const given = <K extends string, V>(key: K, value: V | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { [k in K]?: V }

/** One rule; `at` is its path in its own file. */
export function compileRule(
  document: RuleDocument,
  identity: { name: string; place: string; order: number },
  at: Fault['path'],
  names: Names,
  complain: Complain,
): Rule {
  const fault = (key: string, message: string) => complain({ path: [...at, key], message })
  const said = { ...names.defaults, ...document }
  const events = compileEvents(document, fault)
  const { actions, refs } = events ? opening(document, fault) : reach(document, fault)
  const approval = said.approvers === undefined ? undefined : compilePlan(said.approvers, names)
  for (const name of listOf(document.class)) {
    if (!names.classes.has(name))
      fault('class', `there is no class "${name}"; classes: ${[...names.classes].join(', ') || 'none'}`)
  }
  const breakGlass = compileBreakGlass(document.break_glass, approval, names)
  const automatic =
    document.automatic === undefined || document.automatic === false
      ? undefined
      : document.automatic === true
        ? {}
        : document.automatic
  if (document.forbid === undefined && !approval && !automatic && !breakGlass) {
    complain({
      path: at,
      message: 'nobody is named to approve; add approvers, or automatic: true, break_glass: true or forbid: <why not>',
    })
  }
  if (document.forbid !== undefined && (document.approvers !== undefined || automatic || breakGlass)) {
    fault('forbid', 'a rule either forbids or says who approves, not both')
  }
  if (automatic && breakGlass) fault('break_glass', 'a rule is either automatic or for breaking glass; write two rules')
  if (breakGlass && breakGlass.review === NOBODY) {
    fault('break_glass', 'nobody is named to review it afterwards; add approvers, or break_glass: { review: … }')
  }
  if (document.single_use && document.budget?.uses !== undefined)
    fault('budget', 'single_use and budget.uses say different things; keep one')
  // A fire keeps no hours: those of `defaults` are not meant for it.
  const written = breakGlass ? document.hours : said.hours
  const hours = written && compileHours(written, names.zone, message => fault('hours', message))
  const recurring = document.recurring && {
    hours: compileHours(document.recurring.hours, names.zone, message => fault('recurring', message)),
    longest: span(document.recurring.longest),
  }
  if (hours && recurring && neverBoth(hours, recurring.hours))
    fault('recurring', `never within the hours of this rule (${describeHours(hours)}), so nothing would ever open`)
  return {
    ...identity,
    actions,
    ...given('events', events),
    ...given('until', document.until),
    refs,
    repositories: document.repositories === undefined ? ['**'] : listOf(document.repositories),
    ...given('classes', document.class === undefined ? undefined : listOf(document.class)),
    ...given('paths', compilePaths(document.paths)),
    ...given('who', compileWho(document.who, names)),
    ...given('when', document.when === undefined ? undefined : compileCondition(document.when)),
    final: document.final ?? false,
    ...given('forbid', document.forbid),
    ...given('approval', approval),
    ...given(
      'automatic',
      automatic && {
        ...given('onCall', automatic.on_call),
        ...given('quota', automatic.quota === undefined ? undefined : readQuota(automatic.quota)),
      },
    ),
    ...given('breakGlass', breakGlass),
    ...given(
      'escalation',
      said.escalate && { after: span(said.escalate.after), to: said.escalate.to.map(text => approver(text, names)) },
    ),
    window: compileWindow(said.window, fault),
    timeout: said.timeout === undefined ? TIMEOUT_DEFAULT : span(said.timeout),
    ...given('idle', compileIdle(said.revoke_on_idle)),
    ...given('reason', compileReason(said.reason)),
    ...given('ticket', compileTicket(said.ticket)),
    ...given('mfa', said.mfa === undefined ? undefined : span(said.mfa)),
    ...given('networks', said.networks === undefined ? undefined : networks(listOf(said.networks))),
    ...given('hours', hours),
    ...given('uses', document.single_use ? 1 : document.budget?.uses),
    ...given('bytes', document.budget?.bytes === undefined ? undefined : readSize(document.budget.bytes)),
    ...given('recurring', recurring),
    ...given('autoRequest', compileAutoRequest(said.auto_request)),
    ...given('mode', document.mode),
  }
}

/** What a host says, of a rule that waits for it; undefined for a rule about what people ask for. */
function compileEvents(
  document: RuleDocument,
  fault: (key: string, message: string) => void,
): readonly EventTrigger[] | undefined {
  const triggers = listOf(document.trigger).map(readEvent)
  const events = triggers.filter(trigger => typeof trigger === 'object')
  const merges = events.some(({ kind }) => kind === 'merge')
  if (events.length > 0 && events.length < triggers.length)
    fault('trigger', 'one rule is either about what people ask for or about what a host says; write two rules')
  if (events.length === 0 && document.opens !== undefined)
    fault('opens', 'the trigger says already what is asked for; opens is for what a host says')
  if (document.until !== undefined && !merges)
    fault('until', 'only what a merge opened ends with a pipeline; the rest ends with what began it')
  if (events.length > 0) {
    if (document.forbid !== undefined) fault('forbid', 'what a host says opens or does not; forbid what people ask for')
    if (document.break_glass) fault('break_glass', 'only people break glass')
  }
  return events.length > 0 ? events : undefined
}

/** What such a rule opens. */
function opening(
  document: RuleDocument,
  fault: (key: string, message: string) => void,
): { actions: Set<Action>; refs: readonly string[] } {
  if (document.opens === undefined)
    fault('trigger', 'a host says this; add what it opens, such as opens: [clone, push]')
  return {
    actions: new Set(listOf(document.opens).flatMap(word => actionsOf(word) ?? [])),
    refs: listOf(document.refs),
  }
}

/** What is asked for, and of which refs: `trigger: push to main` names both. */
function reach(
  document: RuleDocument,
  fault: (key: string, message: string) => void,
): { actions: Set<Action>; refs: readonly string[] } {
  const triggers = listOf(document.trigger).map(readTrigger)
  const actions = new Set<Action>()
  const refs = new Set<string>()
  let whole = false
  for (const trigger of triggers) {
    if (typeof trigger === 'string') continue
    for (const action of trigger.actions) actions.add(action)
    if (trigger.ref === undefined) whole = true
    else refs.add(trigger.ref)
  }
  if (refs.size > 0 && document.refs !== undefined)
    fault('refs', 'the trigger already names a ref; keep one of the two')
  else if (refs.size > 0 && (whole || refs.size > 1) && triggers.length > 1)
    fault('trigger', 'several triggers with refs of their own; write a rule for each, or use refs')
  return { actions, refs: document.refs === undefined ? [...refs] : listOf(document.refs) }
}

/** Bare names: who is declared under `people`, or looks like an address, is a person; everything else is a group. */
function approver(text: string, names: Names): Approver {
  const [, kind, name] = /^(?:(group|person|on-call):)?(.*)$/s.exec(text) ?? []
  const bare = name ?? text
  const id = names.people.persons.get(foldIdentity(bare))
  if (kind === 'group' || kind === 'on-call') return { kind, name: bare }
  if (kind === 'person' || id !== undefined) return { kind: 'person', name: id ?? foldIdentity(bare) }
  // A group is never guessed to be a person: whoever could choose such a user name would approve.
  return bare.includes('@') && !names.groups.has(bare)
    ? { kind: 'person', name: foldIdentity(bare) }
    : { kind: 'group', name: bare }
}

function compilePlan(document: ApproversDocument, names: Names): Plan {
  if (Array.isArray(document)) {
    const items: readonly StepDocument[] = document
    const texts = items.filter(item => typeof item === 'string')
    if (texts.length === items.length) return { steps: [{ slots: [texts.map(text => approver(text, names))] }] }
    return { steps: items.map(item => compileStep(item, names)) }
  }
  if (typeof document === 'object' && 'steps' in document)
    return { steps: document.steps.map(item => compileStep(item, names)) }
  return { steps: [compileStep(document as StepDocument, names)] }
}

type StepDocument = string | { any_of: string[] } | { all_of: string[] } | { n: number; of: string[] }

function compileStep(document: StepDocument, names: Names): Step {
  if (typeof document === 'string') return { slots: [[approver(document, names)]] }
  if ('any_of' in document) return { slots: [document.any_of.map(text => approver(text, names))] }
  if ('all_of' in document) return { slots: document.all_of.map(text => [approver(text, names)]) }
  const slot = document.of.map(text => approver(text, names))
  return { slots: Array.from({ length: document.n }, () => slot) }
}

function compileWho(document: RuleDocument['who'], names: Names): Who | undefined {
  if (document === undefined) return undefined
  const people = new Set<string>()
  const groups: string[] = []
  const onCall: string[] = []
  const ci: Pattern[] = []
  const services: Pattern[] = []
  for (const text of listOf(document)) {
    if (text === 'anyone') continue
    const machine = /^(ci|service):(.*)$/s.exec(text)
    if (machine) {
      ;(machine[1] === 'ci' ? ci : services).push(identityPattern(machine[2]!))
      continue
    }
    const { kind, name } = approver(text, names)
    if (kind === 'person') people.add(name)
    else if (kind === 'group') groups.push(name)
    else onCall.push(name)
  }
  return { anyone: listOf(document).includes('anyone'), people, groups, onCall, ci, services }
}

/** `*` stays between two of `/` and `:`, so that `repo:acme/*` is not `repo:acme/app:ref:refs/heads/evil`. */
function identityPattern(text: string): Pattern {
  return compilePattern(text.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '[^/:]+'))
}

function compilePaths(document: RuleDocument['paths']): PathList | undefined {
  if (document === undefined) return undefined
  if (typeof document === 'string' || Array.isArray(document)) return listOf(document)
  return [...listOf(document.only), ...listOf(document.never).map(never => `!${never}`)]
}

function compileWindow(
  document: SharedDocument['window'],
  fault: (key: string, message: string) => void,
): Rule['window'] {
  const parts = typeof document === 'string' ? { longest: document } : (document ?? {})
  const wanted = parts.default === undefined ? undefined : span(parts.default)
  const longest = parts.longest === undefined ? Math.max(LONGEST_DEFAULT, wanted ?? 0) : span(parts.longest)
  if (wanted !== undefined && wanted > longest) fault('window', 'the default is longer than the longest')
  return { longest, usual: wanted ?? Math.min(USUAL_DEFAULT, longest), beyond: parts.beyond ?? 'refuse' }
}

function compileBreakGlass(
  document: RuleDocument['break_glass'],
  approval: Plan | undefined,
  names: Names,
): Rule['breakGlass'] {
  if (document === undefined || document === false) return undefined
  const said = document === true ? {} : document
  const review = said.review === undefined ? (approval ?? NOBODY) : compilePlan(said.review, names)
  return { review, within: said.within === undefined ? REVIEW_WITHIN_DEFAULT : span(said.within) }
}

const compileIdle = (document: SharedDocument['revoke_on_idle']) => {
  return document === undefined || document === false ? undefined : document === true ? IDLE_DEFAULT : span(document)
}

function compileReason(document: SharedDocument['reason']): Rule['reason'] {
  if (document === undefined || document === false) return undefined
  if (document === true) return {}
  const said = typeof document === 'string' ? { pattern: document } : document
  return {
    ...given('pattern', said.pattern === undefined ? undefined : compilePattern(said.pattern)),
    ...given('example', said.example),
  }
}

function compileTicket(document: SharedDocument['ticket']): Rule['ticket'] {
  if (document === undefined) return undefined
  const said = typeof document === 'string' ? { pattern: document } : document
  return { pattern: compilePattern(said.pattern), ...given('example', said.example) }
}

function compileHours(document: HoursDocument, zone: string, fault: (message: string) => void): Weekly {
  const parts = listOf(document)
  const places = new Set(parts.map(part => part.zone ?? zone))
  if (places.size > 1) fault(`one clock for all of them, not ${[...places].join(' and ')}; write two rules`)
  return weekly(
    parts[0]!.zone ?? zone,
    parts.map(part => ({
      days: listOf(part.days).flatMap(day => readDays(day)!),
      from: readClock(part.from)!,
      to: readClock(part.to)!,
    })),
  )
}

const compileAutoRequest = (document: SharedDocument['auto_request']): Rule['autoRequest'] => {
  if (document === undefined || document === false) return undefined
  return { wait: document === true ? WAIT_DEFAULT : span(document.wait) }
}
