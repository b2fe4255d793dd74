import type { Action, PathList } from '../../grant/grant.ts'
import { describePaths } from '../../grant/paths.ts'
import { checkRefPattern, checkRepositoryPattern, coversRef, matchesRepository } from '../../grant/pattern.ts'
import type { ConditionContext } from '../conditions.ts'
import { type Class, type Mode, type Policy, personOf, type Rule, type Who } from '../policy.ts'
import { type HostEvent, meetsEvent } from './events.ts'
import {
  BRANCHES_AND_TAGS,
  containsRef,
  containsRepository,
  overlapsRef,
  overlapsRepository,
  reachesPaths,
} from './reach.ts'

/**
 * Which rules speak. Rules are tried from the top; the first that names the repository, the ref, the action and the asker,
 * and whose `when` holds, governs. Where a request names several things by pattern, every rule that would have governed a
 * part of it governs the whole: asking for `acme/*` is no way around what is said of `acme/payments`.
 */

/** Somebody, as the identity provider, the CI system or the service account's token described them. */
export interface Asker {
  readonly principal: string
  readonly kind: 'person' | 'ci' | 'service'
  readonly groups: readonly string[]
  readonly claims?: Readonly<Record<string, string>>
  /** When a second factor was last shown; milliseconds since the epoch. */
  readonly mfa?: number
  readonly address?: string
}

/** What the policy cannot know by itself. What is absent is unknown, and unknown never opens anything. */
export interface Facts {
  /** Schedule → persons who are on call at this moment. */
  readonly onCall?: ReadonlyMap<string, readonly string[]>
  /** When which rule last approved something for this person by itself, as far back as the longest quota goes. */
  readonly automatic?: readonly { readonly rule: string; readonly at: number }[]
}

/** What is asked of one repository, or of several by a pattern. */
export interface Target {
  readonly repository: string
  readonly actions: readonly Action[]
  /** Empty: any branch or tag. */
  readonly refs: readonly string[]
}

export interface Governed {
  readonly rules: readonly Rule[]
  /** Every part is governed; otherwise `refusal` tells why the first that is not, is not. */
  readonly refusal?: { readonly rule?: Rule; readonly reason: string }
}

/** Told each thing that was looked at, in sentences. */
export type Note = (sentence: string) => void

export interface Search {
  readonly policy: Policy
  readonly who: Person
  readonly facts: Facts
  readonly breakGlass: boolean
  /** What a host says that began, where it is this that asks. */
  readonly event?: HostEvent | undefined
  readonly context: Partial<ConditionContext>
  /** What of a repository a push is asked for; empty or absent: whatever the rules give. */
  readonly paths?: PathList | undefined
  readonly now: number
  readonly note: Note
}

/** An asker with everything looked up that rules compare. */
export interface Person extends Asker {
  readonly person: string
  /** Groups of the identity provider, and those the policy puts the person in. */
  readonly memberships: readonly [ReadonlySet<string>, ReadonlySet<string>]
}

export function identify(policy: Policy, asker: Asker): Person {
  const person = personOf(policy, asker.principal)
  // A machine is not its owner: what the policy says of the owner's groups is said of a human at a keyboard.
  const own = asker.kind === 'person' ? (policy.people.groups.get(person) ?? NO_GROUPS) : NO_GROUPS
  return { ...asker, person, memberships: [new Set(asker.groups), own] }
}

const NO_GROUPS: ReadonlySet<string> = new Set()

/** The rules that govern all of a target for this asker. */
export function govern(target: Target, search: Search): Governed {
  const rules = new Set<Rule>()
  const candidates = candidatesFor(search.policy, target.repository, search.who)
  for (const action of target.actions) {
    for (const ref of refsFor(action, target.refs)) {
      const refusal = governPart({ repository: target.repository, action, ref }, candidates, rules, search)
      if (refusal) return { rules: inOrder(rules), refusal }
    }
  }
  if (rules.size > 0) return { rules: inOrder(rules) }
  return { rules: [], refusal: { reason: `${target.actions.join(', ')} means nothing on ${target.refs.join(', ')}` } }
}

const inOrder = (rules: ReadonlySet<Rule>) => [...rules].sort((a, b) => a.order - b.order)

/** An empty list of refs is every branch and every tag, as far as the action can concern them. */
function refsFor(action: Action, refs: readonly string[]): readonly string[] {
  const all = refs.length === 0 ? BRANCHES_AND_TAGS : refs
  if (action === 'tag') return all.filter(ref => ref.startsWith('refs/tags/'))
  // On a tag `create` and `update` are nothing a grant could use; see `needs`.
  if (action === 'create' || action === 'update') return all.filter(ref => !ref.startsWith('refs/tags/'))
  return all
}

// Below this many, comparing them all is quicker than looking up every group of the asker.
const CANDIDATES_FEW = 64

/** Positions, in order, of a superset of the rules that can speak of this. */
function candidatesFor({ rules, lookup, naming }: Policy, repository: string, who: Person): readonly number[] {
  const there = repository.includes('*') ? rules.map(({ order }) => order) : lookup.find(repository)
  if (there.length <= CANDIDATES_FEW) return there
  return naming.find(who.person, who.memberships, there.length / 4) ?? there
}

interface Part {
  readonly repository: string
  readonly action: Action
  readonly ref: string
}

function governPart(part: Part, candidates: readonly number[], rules: Set<Rule>, search: Search): Governed['refusal'] {
  let partial: Rule | undefined
  for (const position of candidates) {
    const rule = search.policy.rules[position]!
    if (!rule.actions.has(part.action)) continue
    if (!isAbout(rule, search.event)) continue
    if ((rule.breakGlass !== undefined) !== search.breakGlass && rule.forbid === undefined) continue
    // Who asks is cheap to compare, and tells most rules of a large policy apart.
    const named = mayAsk(rule.who, search.who, search.facts)
    if (!named && !rule.final) continue
    const reach = reaches(rule, part, search)
    if (reach === 'none') continue
    const when = named ? holds(rule, part, search) : 'yes'
    if (when === 'no') continue
    if (!named)
      return { rule, reason: `rule "${rule.name}" has the last word here and does not name ${search.who.principal}` }
    if (when === 'unknown') return { rule, reason: `the condition of rule "${rule.name}" could not be judged` }
    if (reach === 'apart') {
      const own = describePaths([rule.paths ?? []])
      return { rule, reason: `rule "${rule.name}" speaks of some of these paths alone, ${own}: ask for them apart` }
    }
    search.note(
      `rule "${rule.name}" (${rule.place}) speaks of ${part.action} on ${refText(part.ref)} of ${part.repository} for ${search.who.principal}`,
    )
    rules.add(rule)
    if (reach === 'whole') return undefined
    partial = rule
  }
  return { reason: nothingGoverns(part, partial, search.who) }
}

/** What people ask for and what a host says have rules of their own; what is forbidden is forbidden to both. */
function isAbout(rule: Rule, event: HostEvent | undefined): boolean {
  if (rule.events === undefined) return event === undefined || rule.forbid !== undefined
  return event !== undefined && rule.events.some(trigger => meetsEvent(trigger, event))
}

/** The same where there is no such rule and where there is one for others: who may ask for what is nobody else's business. */
function nothingGoverns(part: Part, partial: Rule | undefined, who: Person): string {
  const what = `${part.action} on ${refText(part.ref)} of ${part.repository}`
  if (!partial) return `no rule lets ${who.principal} ask for ${what}`
  const reach = `${partial.refs.join(', ') || 'any ref'} of ${partial.repositories.join(', ')}`
  return `no rule covers all of ${what}; rule "${partial.name}" speaks of ${reach}: ask for that`
}

const refText = (ref: string) => (ref === 'refs/heads/**' ? 'every branch' : ref === 'refs/tags/**' ? 'every tag' : ref)

/** `apart`: a rule of its own for some of the paths, which can only be asked for without the others. */
function reaches(rule: Rule, part: Part, search: Search): 'none' | 'part' | 'whole' | 'apart' {
  const repository = reachesRepository(rule, part.repository, search.policy)
  if (repository === 'none') return 'none'
  const ref = reachesRef(rule.refs, part.ref)
  if (ref === 'none') return 'none'
  const looksAtPaths = rule.paths !== undefined && rule.forbid === undefined && CHANGES.has(part.action)
  const paths = looksAtPaths ? reachesPaths(rule.paths, search.paths ?? []) : 'whole'
  if (paths !== 'whole') return paths === 'part' ? 'apart' : 'none'
  return repository === 'whole' && ref === 'whole' ? 'whole' : 'part'
}

/** What changes files; reading, for one, is never narrowed by paths. */
const CHANGES: ReadonlySet<Action> = new Set<Action>(['create', 'update', 'force', 'tag'])

function reachesRepository(rule: Rule, repository: string, policy: Policy): 'none' | 'part' | 'whole' {
  if (!repository.includes('*')) {
    const named = rule.repositories.some(
      pattern => pattern === repository || (pattern.includes('*') && matchesRepository(pattern, repository)),
    )
    if (!named) return 'none'
    if (!rule.classes) return 'whole'
    const name = standingOf(policy, repository).class
    return name !== undefined && rule.classes.includes(name) ? 'whole' : 'none'
  }
  if (!rule.repositories.some(pattern => overlapsRepository(pattern, repository))) return 'none'
  // Which repositories of a class a pattern meets cannot be told from the pattern.
  return !rule.classes && rule.repositories.some(pattern => containsRepository(pattern, repository)) ? 'whole' : 'part'
}

function reachesRef(patterns: readonly string[], ref: string): 'none' | 'part' | 'whole' {
  if (!ref.includes('*') && ref.startsWith('refs/')) return coversRef({ refs: patterns }, ref) ? 'whole' : 'none'
  const all = patterns.length === 0 ? BRANCHES_AND_TAGS : patterns
  if (all.some(pattern => containsRef(pattern, ref))) return 'whole'
  return all.some(pattern => overlapsRef(pattern, ref)) ? 'part' : 'none'
}

/** Whether a rule is for this asker. */
export function mayAsk(who: Who | undefined, asker: Person, facts: Facts): boolean {
  // A rule that names nobody is for people: a machine gets what was meant for it, by name.
  if (!who) return asker.kind === 'person'
  if (who.anyone) return true
  const bare = asker.principal.replace(/^(ci|service):/, '')
  if (asker.kind === 'ci') return who.ci.some(pattern => pattern.matches(bare))
  if (asker.kind === 'service') return who.services.some(pattern => pattern.matches(bare))
  return (
    who.people.has(asker.person) ||
    isInOne(who.groups, asker.memberships) ||
    who.onCall.some(schedule => facts.onCall?.get(schedule)?.includes(asker.person))
  )
}

function isInOne(groups: readonly string[], [provided, own]: Person['memberships']): boolean {
  for (const group of groups) if (provided.has(group) || own.has(group)) return true
  return false
}

function holds(rule: Rule, part: Part, search: Search): 'yes' | 'no' | 'unknown' {
  if (!rule.when) return 'yes'
  const { who, policy, context } = search
  try {
    const answer = rule.when.holds({
      principal: who.principal,
      person: who.person,
      kind: who.kind,
      groups: [...new Set(who.memberships.flatMap(groups => [...groups]))],
      claims: who.claims ?? {},
      address: who.address ?? '',
      action: part.action,
      repository: part.repository,
      class: standingOf(policy, part.repository).class ?? '',
      refs: [part.ref],
      paths: [],
      reason: '',
      ticket: '',
      window: 0,
      now: search.now,
      ...context,
    })
    if (!answer) search.note(`rule "${rule.name}" would speak, but its condition is not met: ${rule.when.text}`)
    return answer ? 'yes' : 'no'
  } catch (error) {
    search.note(
      `the condition of rule "${rule.name}" has no answer: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`,
    )
    return 'unknown'
  }
}

/** The rules that wait for this event of this repository, in their order. */
export function waitingRules(policy: Policy, repository: string, event: HostEvent): readonly Rule[] {
  return policy.lookup
    .find(repository)
    .map(position => policy.rules[position]!)
    .filter(rule => rule.events?.some(trigger => meetsEvent(trigger, event)))
    .filter(rule => reachesRepository(rule, repository, policy) === 'whole')
}

/** What `repositories:` says of one repository: the first entry that matches. */
export function standingOf(policy: Policy, repository: string): { readonly class?: string; readonly mode?: Mode } {
  const { standings, standingLookup } = policy
  const says = (position: number) =>
    standings[position]!.match.some(pattern => pattern === repository || matchesRepository(pattern, repository))
  const first = standingLookup.find(repository).find(says)
  return first === undefined ? {} : standings[first]!
}

/** The classes of every repository a name or pattern can mean. */
export function classesOf(policy: Policy, repository: string): readonly Class[] {
  const names = repository.includes('*')
    ? policy.standings
        .filter(({ match }) => match.some(pattern => overlapsRepository(pattern, repository)))
        .map(standing => standing.class)
    : [standingOf(policy, repository).class]
  return [...new Set(names)].flatMap(name => (name === undefined ? [] : (policy.classes.get(name) ?? [])))
}

/** Why a target is none; undefined when it can be judged. */
export function checkTarget(target: Target): string | undefined {
  const fault = checkRepositoryPattern(target.repository)
  if (fault !== undefined) return `repository ${target.repository.slice(0, 80)}: ${fault}`
  for (const ref of target.refs) {
    const wrong = checkRefPattern(ref)
    if (wrong !== undefined) return `ref ${ref.slice(0, 80)}: ${wrong}`
  }
  return target.actions.length === 0 ? 'no action is named' : undefined
}
