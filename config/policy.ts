import type { Action, PathList } from '../grant/grant.ts'
import type { Condition, Pattern } from './conditions.ts'
import type { Approver, Plan } from './policy/approvers.ts'
import type { EventTrigger } from './policy/events.ts'
import type { Weekly } from './policy/hours.ts'
import type { Lookup } from './policy/lookup.ts'
import type { Naming } from './policy/naming.ts'
import type { Networks } from './policy/network.ts'
import type { Quota } from './policy/quota.ts'
import type { Rota } from './policy/rota.ts'

/** The policy as it was understood: every default in place, every name resolved, ready to be asked. Made by `policy/load.ts`. */
export interface Policy {
  /** `p-` and twelve hexadecimal digits of SHA-256 over the canonical content: the same words, the same version. */
  readonly version: string
  readonly files: readonly string[]
  readonly mode: Mode
  /** In the order in which they are tried. */
  readonly rules: readonly Rule[]
  readonly byName: ReadonlyMap<string, Rule>
  readonly lookup: Lookup
  readonly naming: Naming
  readonly people: People
  readonly delegations: readonly Delegation[]
  readonly standings: readonly Standing[]
  readonly standingLookup: Lookup
  readonly classes: ReadonlyMap<string, Class>
  /** Schedules of its own, by name. */
  readonly rotas: ReadonlyMap<string, Rota>
}

export type Mode = 'enforce' | 'observe'

/** Who is who. Identities are folded by `foldIdentity`. */
export interface People {
  /** Identity → person; a service account leads to its owner. */
  readonly persons: ReadonlyMap<string, string>
  /** Person → groups the policy itself puts them in. */
  readonly groups: ReadonlyMap<string, ReadonlySet<string>>
}

/** While it lasts, `to` may approve where `from` might. */
export interface Delegation {
  readonly from: string
  readonly to: string
  readonly since: number
  readonly until: number
}

/** What an entry under `repositories:` says of those it matches. */
export interface Standing {
  readonly match: readonly string[]
  readonly class?: string
  readonly mode?: Mode
}

/** Holds for all repositories of the class, whatever a rule says. */
export interface Class {
  readonly name: string
  readonly approvals: number
  readonly longest: number
  readonly mfa?: number
  readonly automatic: boolean
  readonly reason: boolean
}

/** Who may ask by a rule. */
export interface Who {
  readonly anyone: boolean
  readonly people: ReadonlySet<string>
  readonly groups: readonly string[]
  readonly onCall: readonly string[]
  /** Patterns over principals of continuous integration and service accounts. */
  readonly ci: readonly Pattern[]
  readonly services: readonly Pattern[]
}

export interface Rule {
  readonly name: string
  /** `policy.yaml:12`, for whoever wants to change it. */
  readonly place: string
  /** Its place in the order. */
  readonly order: number
  readonly actions: ReadonlySet<Action>
  /** What a host has to say that began; such a rule speaks of nothing that somebody asks for. */
  readonly events?: readonly EventTrigger[]
  /** The pipeline whose end closes what a merge opened; absent: the first that ends. */
  readonly until?: string
  readonly repositories: readonly string[]
  readonly classes?: readonly string[]
  /** Empty: any branch or tag. */
  readonly refs: readonly string[]
  /** A push under the rule changes only what this list allows, see `grant/paths.ts`. */
  readonly paths?: PathList
  /** Absent: every person, no machine. */
  readonly who?: Who
  readonly when?: Condition
  readonly final: boolean
  readonly forbid?: string
  readonly approval?: Plan
  readonly automatic?: { readonly onCall?: string; readonly quota?: Quota }
  readonly breakGlass?: { readonly review: Plan; readonly within: number }
  readonly escalation?: { readonly after: number; readonly to: readonly Approver[] }
  readonly window: { readonly longest: number; readonly usual: number; readonly beyond: 'refuse' | 'clip' }
  readonly timeout: number
  readonly idle?: number
  readonly reason?: { readonly pattern?: Pattern; readonly example?: string }
  readonly ticket?: { readonly pattern: Pattern; readonly example?: string }
  readonly mfa?: number
  readonly networks?: Networks
  readonly hours?: Weekly
  readonly uses?: number
  readonly bytes?: number
  readonly recurring?: { readonly hours: Weekly; readonly longest: number }
  readonly autoRequest?: { readonly wait: number }
  readonly mode?: Mode
}

/** How two spellings of one identity are told to be one: by Unicode's compatibility form and without case. */
export function foldIdentity(identity: string): string {
  return identity.normalize('NFKC').toLowerCase().normalize('NFKC')
}

/** The one person behind a principal; without an entry in the policy a principal is a person of its own. */
export function personOf(policy: { readonly people: People }, principal: string): string {
  const folded = foldIdentity(principal)
  return policy.people.persons.get(folded) ?? folded
}

/** In whose place a person may approve at this moment, besides their own. It is not handed on: a delegate's delegate has nothing. */
export function standsInFor(
  policy: { readonly delegations: readonly Delegation[] },
  person: string,
  now: number,
): readonly string[] {
  return policy.delegations.filter(d => d.to === person && d.since <= now && now < d.until).map(d => d.from)
}
