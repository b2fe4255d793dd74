import type { Plan } from '../config/policy/approvers.ts'
import { readPolicy } from '../config/policy/load.ts'
import { observedBy } from '../config/policy/observed.ts'
import { PolicyError } from '../config/policy/problems.ts'
import { unenforced } from '../config/policy/unenforced.ts'
import type { Policy } from '../config/policy.ts'
import { describeObserved, NOTHING_OBSERVED, type Observed } from '../grant/observe.ts'
import type { Act } from './register/act.ts'

const REASON_CHARACTERS_MAX = 1_000

/** By what requests are decided. */
export type Standing =
  /** The settings name no policy: `WITHOUT_POLICY` holds. */
  | { readonly kind: 'none' }
  | {
      readonly kind: 'policy'
      readonly policy: Policy
      /** Who is on call by schedules kept elsewhere, by the names they have there. */
      readonly schedules?: () => ReadonlyMap<string, readonly string[]>
    }
  /** The policy that the settings name has never loaded: nothing can be asked for. */
  | { readonly kind: 'broken'; readonly why: string }

/** Holders of the gate's own role `admin`, as approvers are named; no group of a policy or an identity provider has a colon. */
export const roleGroup = (role: string): string => `role:${role}`

/** Without a policy: an administrator who did not ask approves; a window is an hour, eight at most, and a request waits eight. */
export const WITHOUT_POLICY = {
  version: 'none',
  plan: { steps: [{ slots: [[{ kind: 'group', name: roleGroup('admin') }]] }] } satisfies Plan,
  usual: 3_600_000,
  longest: 8 * 3_600_000,
  timeout: 8 * 3_600_000,
} as const

/** The policy in force. */
export interface PolicyInForce {
  standing(): Standing
  /** What it has only observed; the same value as long as that does not change. */
  observed(): Observed
  /**
   * Takes over what the file or folder says now. A version that does not load changes nothing, unless there was none before; it
   * is recorded either way.
   */
  load(path: string | undefined): Promise<void>
  /** The same with what another place says. `from` says which, for the record. False: it does not load. */
  take(read: () => Policy, from?: string): Promise<boolean>
  /** There is to be a policy, and it is not here yet. */
  missing(why: string): void
}

export function createPolicyInForce(act: Act, log: { warn(facts: object, sentence: string): void }): PolicyInForce {
  let standing: Standing = { kind: 'none' }
  let observed = NOTHING_OBSERVED

  async function take(read: () => Policy, from?: string): Promise<boolean> {
    const before = standing.kind === 'policy' ? standing.policy.version : undefined
    try {
      const policy = read()
      const { version } = policy
      if (version === before) return true
      const reason = from === undefined ? {} : { reason: from }
      // Recorded before it decides anything.
      await act(async change => change.record({ kind: 'policy.loaded', by: 'drawbridge', version, ...reason }))
      standing = { kind: 'policy', policy }
      observed = observedBy(policy)
      const patterns = describeObserved(observed)
      if (patterns.length > 0) log.warn({ patterns }, 'mode: observe: what would be refused here is let through')
      for (const { place, sentence } of unenforced(policy)) log.warn({ place }, sentence)
      return true
    } catch (error) {
      if (!(error instanceof PolicyError)) throw error
      const why = `${from === undefined ? '' : `${from}: `}${error.message}`.slice(0, REASON_CHARACTERS_MAX)
      log.warn({ problems: error.problems }, 'the policy does not load; what was in force stays')
      if (standing.kind !== 'policy') standing = { kind: 'broken', why }
      const version = before ?? 'none'
      await act(async change => change.record({ kind: 'policy.refused', by: 'drawbridge', version, reason: why }))
      return false
    }
  }

  return {
    standing: () => standing,
    observed: () => observed,
    load: async path => {
      if (path !== undefined) await take(() => readPolicy(path))
      else {
        standing = { kind: 'none' }
        observed = NOTHING_OBSERVED
      }
    },
    take,
    missing: why => {
      if (standing.kind !== 'policy') standing = { kind: 'broken', why }
    },
  }
}
