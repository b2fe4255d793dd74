import type { PathList } from '../../grant/grant.ts'
import type { Class, Rule } from '../policy.ts'
import { type Approver, approverText, mergePlans, type Plan, raisePlan } from './approvers.ts'
import type { Facts, Person } from './govern.ts'
import type { Weekly } from './hours.ts'
import type { Networks } from './network.ts'

/** What a request has to meet and what it may get: of all rules that govern it, and of the classes of its repositories, the strictest. */
export interface Terms {
  readonly rules: readonly string[]
  /** Who has to approve; nobody where it opens at once. */
  readonly plan: Plan
  readonly immediate?: 'automatic' | 'break-glass'
  readonly review?: { readonly plan: Plan; readonly within: number }
  /** Milliseconds, all of these. */
  readonly longest: number
  /** Which rule or class says so. */
  readonly longestBy: string
  readonly usual: number
  readonly beyond: 'refuse' | 'clip'
  readonly timeout: number
  readonly idle?: number
  readonly mfa?: number
  readonly uses?: number
  readonly bytes?: number
  readonly reasons: readonly NonNullable<Rule['reason']>[]
  readonly tickets: readonly NonNullable<Rule['ticket']>[]
  readonly networks: readonly Networks[]
  /** What a push changes is allowed by each of these. */
  readonly paths: readonly PathList[]
  readonly hours: readonly Weekly[]
  readonly escalation?: { readonly after: number; readonly to: readonly Approver[] }
  readonly autoRequest?: { readonly wait: number }
  readonly recurring?: NonNullable<Rule['recurring']>
}

/** The terms, or why there are none. `rules` are all that govern, at least one, and none of them forbids. */
export function termsOf(
  rules: readonly Rule[],
  classes: readonly Class[],
  who: Person,
  facts: Facts,
  now: number,
): Terms | string {
  const floor = Math.max(0, ...classes.map(({ approvals }) => approvals))
  const bound = classes.find(({ automatic, approvals }) => !automatic || approvals > 0)
  const plans: Plan[] = []
  let automatic = 0
  for (const rule of rules) {
    if (rule.breakGlass) continue
    const why = rule.automatic ? whyNotAutomatic(rule, bound, who, facts, now) : undefined
    if (rule.automatic && why === undefined) automatic++
    else if (rule.approval) plans.push(rule.approval)
    else return `rule "${rule.name}" approves by itself or not at all: ${why ?? 'it names no approvers'}`
  }
  const breakGlass = rules.flatMap(rule => rule.breakGlass ?? [])
  const [longest, longestBy] = least([
    ...rules.map(rule => [rule.window.longest, `rule "${rule.name}"`] as const),
    ...classes.map(({ name, longest }) => [longest, `class ${name}`] as const),
  ])
  const immediate = breakGlass.length > 0 ? 'break-glass' : automatic === rules.length ? 'automatic' : undefined
  return {
    rules: rules.map(rule => rule.name),
    plan: raisePlan(mergePlans(plans), floor),
    ...(immediate && { immediate }),
    ...(breakGlass.length > 0 && {
      review: {
        plan: raisePlan(mergePlans(breakGlass.map(({ review }) => review)), floor),
        within: Math.min(...breakGlass.map(({ within }) => within)),
      },
    }),
    longest,
    longestBy,
    usual: Math.min(longest, ...rules.map(rule => rule.window.usual)),
    beyond: rules.every(rule => rule.window.beyond === 'clip') ? 'clip' : 'refuse',
    timeout: Math.min(...rules.map(rule => rule.timeout)),
    ...smallest(
      'idle',
      rules.map(rule => rule.idle),
    ),
    ...smallest(
      'mfa',
      [...rules, ...classes].map(({ mfa }) => mfa),
    ),
    ...smallest(
      'uses',
      rules.map(rule => rule.uses),
    ),
    ...smallest(
      'bytes',
      rules.map(rule => rule.bytes),
    ),
    reasons: [...rules.flatMap(rule => rule.reason ?? []), ...classes.flatMap(({ reason }) => (reason ? [{}] : []))],
    tickets: rules.flatMap(rule => rule.ticket ?? []),
    networks: rules.flatMap(rule => rule.networks ?? []),
    paths: rules.flatMap(rule => (rule.paths ? [rule.paths] : [])),
    hours: rules.flatMap(rule => rule.hours ?? []),
    ...escalationOf(rules),
    ...(rules.every(rule => rule.autoRequest) && {
      autoRequest: { wait: Math.min(...rules.map(rule => rule.autoRequest!.wait)) },
    }),
    // Two rules with hours of their own have no common recurrence that anybody wrote down.
    ...(rules.length === 1 && rules[0]!.recurring && { recurring: rules[0]!.recurring }),
  }
}

function whyNotAutomatic(
  rule: Rule,
  bound: Class | undefined,
  who: Person,
  facts: Facts,
  now: number,
): string | undefined {
  if (bound) return `repositories of class ${bound.name} are never opened without people`
  const { onCall, quota } = rule.automatic!
  if (onCall !== undefined && !facts.onCall?.get(onCall)?.includes(who.person))
    return `${who.principal} is not known to be on call for ${onCall}`
  if (!quota) return undefined
  if (!facts.automatic) return 'how often it did so already is not known'
  const recent = facts.automatic.filter(({ rule: name, at }) => name === rule.name && at > now - quota.period)
  return recent.length < quota.count ? undefined : `its quota of ${quota.count} is used up`
}

function escalationOf(rules: readonly Rule[]): Pick<Terms, 'escalation'> {
  const all = rules.flatMap(rule => rule.escalation ?? [])
  if (all.length === 0) return {}
  const to = new Map(all.flatMap(escalation => escalation.to).map(approver => [approverText(approver), approver]))
  return { escalation: { after: Math.min(...all.map(({ after }) => after)), to: [...to.values()] } }
}

function least(bounds: readonly (readonly [number, string])[]): readonly [number, string] {
  return bounds.reduce((a, b) => (b[0] < a[0] ? b : a))
}

function smallest<K extends string>(key: K, values: readonly (number | undefined)[]): { [k in K]?: number } {
  const known = values.filter(value => value !== undefined)
  return (known.length > 0 ? { [key]: Math.min(...known) } : {}) as { [k in K]?: number }
}
