import { isWithin, localAt, type Weekly } from './hours.ts'

/** Who is on call by a plain rota: weekly shifts and weekly turns on a place's own clock, and what overrides them. */
export interface Rota {
  /** Everybody of each shift whose hours it is. */
  readonly shifts: readonly { readonly hours: Weekly; readonly people: readonly string[] }[]
  /** One after the other, a week each, counted from the first one's beginning. */
  readonly turns?: { readonly zone: string; readonly since: number; readonly people: readonly string[] }
  /** While one lasts, these and nobody else; of several that do, the last that is written. */
  readonly overrides: readonly { readonly from: number; readonly until: number; readonly people: readonly string[] }[]
}

const WEEK = 7 * 86_400_000

/** Schedule → the persons on call by it at an instant. */
export function allOnCallAt(rotas: ReadonlyMap<string, Rota>, now: number): Map<string, readonly string[]> {
  return new Map([...rotas].map(([schedule, rota]) => [schedule, onCallAt(rota, now)] as const))
}

/** The persons on call at an instant, each once. */
export function onCallAt(rota: Rota, now: number): readonly string[] {
  const override = rota.overrides.findLast(({ from, until }) => from <= now && now < until)
  if (override) return override.people
  const shifts = rota.shifts.filter(({ hours }) => isWithin(hours, now)).flatMap(({ people }) => people)
  return [...new Set([...shifts, ...turnAt(rota, now)])]
}

/** On the wall's clock, so that a handover at nine is at nine in summer too. */
function turnAt({ turns }: Rota, now: number): readonly string[] {
  if (turns === undefined || now < turns.since) return []
  const week = Math.floor((localAt(turns.zone, now) - localAt(turns.zone, turns.since)) / WEEK)
  const person = turns.people[week % turns.people.length]
  return person === undefined ? [] : [person]
}
