import { allOnCallAt } from '../config/policy/rota.ts'
import { personOf } from '../config/policy.ts'
import type { PolicyInForce, Standing } from './policy.ts'

/** Schedule → the persons who are on call at a moment, as far as it is known. */
export type OnCall = ReadonlyMap<string, readonly string[]>

/** By the rotas of the policy and the schedules of the settings; a rota counts alone where both have the name. */
export function onCallNow(standing: Standing, now: number): OnCall {
  if (standing.kind !== 'policy') return new Map()
  const { policy, schedules } = standing
  const elsewhere = [...(schedules?.() ?? [])].map(([schedule, names]) => {
    return [schedule, names.map(name => personOf(policy, name))] as const
  })
  return new Map([...elsewhere, ...allOnCallAt(policy.rotas, now)])
}

/** The schedules by which a person is on call. */
export const schedulesOf = (onCall: OnCall, person: string): string[] =>
  [...onCall].filter(([, people]) => people.includes(person)).map(([schedule]) => schedule)

/** The policy in force, which also knows who is on call by the schedules of the settings. */
export function withSchedules(policy: PolicyInForce, schedules: () => OnCall): PolicyInForce {
  return {
    ...policy,
    standing: () => {
      const standing = policy.standing()
      return standing.kind === 'policy' ? { ...standing, schedules } : standing
    },
  }
}
