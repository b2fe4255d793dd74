import { onCallAt } from '../config/policy/rota.ts'
import type { Standing } from './policy.ts'

/** Schedule → the persons who are on call at a moment, as far as it is known. */
export type OnCall = ReadonlyMap<string, readonly string[]>

export function onCallNow(standing: Standing, now: number): OnCall {
  if (standing.kind !== 'policy') return new Map()
  return new Map([...standing.policy.rotas].map(([schedule, rota]) => [schedule, onCallAt(rota, now)]))
}

/** The schedules by which a person is on call. */
export const schedulesOf = (onCall: OnCall, person: string): string[] =>
  [...onCall].filter(([, people]) => people.includes(person)).map(([schedule]) => schedule)
