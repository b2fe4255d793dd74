import { createHash } from 'node:crypto'
import type { Approver, Plan } from '../config/policy/approvers.ts'
import type { Weekly } from '../config/policy/hours.ts'
import type { Action, Bounds, PathList } from '../grant/grant.ts'
import { fullRef } from '../grant/pattern.ts'

/** What is asked for, by what terms it is decided, and when two askings are the same. Pure. */

/** Exactly what is asked for and decided about; an approval binds to every word of it. */
export interface AskedFor {
  /** Who gets the window. */
  readonly principal: string
  /** Who asked, where it was somebody else. */
  readonly requester: string
  readonly targets: readonly {
    readonly repository: string
    readonly actions: readonly Action[]
    readonly refs: readonly string[]
  }[]
  /** What a push is to change, where less is asked for than the rules give. */
  readonly paths?: PathList
  /** Milliseconds. */
  readonly window: number
  readonly starts?: number
  /** A window for each time that these hours come within `window`, instead of one. */
  readonly recurring?: Weekly
  readonly idle?: number
  readonly uses?: number
  readonly reason: string
  readonly ticket?: string
  readonly breakGlass?: boolean
  /** The token of the job that asks: the windows are its alone. */
  readonly job?: string
  /** The request whose windows this one wants to be longer. */
  readonly extends?: string
}

/** By what terms it is decided: `Terms` of the policy, as far as a request's life depends on them. */
export interface Conditions {
  /** The version that said so. */
  readonly policy: string
  readonly rules: readonly string[]
  readonly plan: Plan
  readonly immediate?: 'automatic' | 'break-glass'
  readonly review?: { readonly plan: Plan; readonly within: number }
  /** Milliseconds it waits for its approvals. */
  readonly timeout: number
  readonly escalation?: { readonly after: number; readonly to: readonly Approver[] }
  /** Where and when what it opens holds. */
  readonly bounds?: Bounds
}

/** A second request for the same thing by the same principal is the first: this is what "the same thing" means. */
export function dedupeKey(asked: AskedFor): string {
  return hash([
    asked.principal,
    targetsKey(asked),
    asked.extends ?? null,
    asked.breakGlass ?? false,
    ...(asked.job === undefined ? [] : [asked.job]),
    ...(asked.recurring === undefined ? [] : ['recurring']),
    ...(asked.paths === undefined ? [] : [{ paths: asked.paths }]),
  ])
}

/** Whether every word is the same, in whatever order the repositories, actions and refs were typed. */
export function isSame(one: AskedFor, other: AskedFor): boolean {
  const inOneOrder = (asked: AskedFor) => hash({ ...asked, targets: targetsKey(asked) })
  return inOneOrder(one) === inOneOrder(other)
}

/** Whether nothing is asked for but some of what `whole` asks for, in the same words and with the same limits on paths. */
export function isPartOf(asked: AskedFor, whole: AskedFor): boolean {
  const known = new Set(whole.targets.map(hash))
  return asked.targets.every(target => known.has(hash(target))) && hash(asked.paths ?? []) === hash(whole.paths ?? [])
}

/** What a vote has to carry: another id, repository, ref, window or word of the reason is another digest. */
export function digestOf(id: string, asked: AskedFor, conditions: Conditions): string {
  return hash([id, asked, conditions])
}

/** In whatever order they were typed. */
function targetsKey({ targets }: AskedFor): string[] {
  return targets
    .map(({ repository, actions, refs }) => JSON.stringify([repository, [...actions].sort(), refs.map(fullRef).sort()]))
    .sort()
}

function hash(value: unknown): string {
  return createHash('sha256').update(canonical(value)).digest('base64url')
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined)
  return `{${entries
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`)
    .join(',')}}`
}
