import { type Class, type Delegation, foldIdentity, type People, type Standing } from '../policy.ts'
import { readDuration } from '../units.ts'
import { readClock, readDays, weekly } from './hours.ts'
import type { Fault } from './problems.ts'
import type { Rota } from './rota.ts'
import { type ClassDocument, type PolicyDocument, readDate } from './schema.ts'

/**
 * What a policy says beside its rules: who is who, who stands in for whom, who is on call, and which repositories are of
 * which class.
 */

const DAY = 86_400_000

type Complain = (fault: Fault) => void

const listOf = <T>(given: T | readonly T[] | undefined): readonly T[] => {
  return given === undefined ? [] : Array.isArray(given) ? given : [given as T]
}
const span = (text: string) => readDuration(text)!
/** Leaves a key out instead of giving it the value undefined. */
const given = <K extends string, V>(key: K, value: V | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { [k in K]?: V }

export function compilePeople(document: PolicyDocument, complain: Complain): People {
  const persons = new Map<string, string>()
  const groups = new Map<string, Set<string>>()
  const claim = (identity: string, person: string, path: Fault['path']) => {
    const folded = foldIdentity(identity)
    const known = persons.get(folded)
    if (known === undefined || known === person) persons.set(folded, person)
    else complain({ path, message: `"${identity}" already belongs to ${known}; an identity has one person behind it` })
  }
  for (const [name, said] of Object.entries(document.people ?? {})) {
    const person = foldIdentity(name)
    claim(name, person, ['people', name])
    const identities = typeof said === 'object' && !Array.isArray(said) ? said.identities : said
    for (const identity of listOf(identities)) claim(identity, person, ['people', name])
  }
  const person = (name: string) => persons.get(foldIdentity(name)) ?? foldIdentity(name)
  for (const [name, said] of Object.entries(document.services ?? {})) {
    const owner = person(said.owner)
    claim(name, owner, ['services', name])
    claim(`service:${name}`, owner, ['services', name])
    for (const identity of listOf(said.identities)) claim(identity, owner, ['services', name, 'identities'])
  }
  for (const [group, members] of Object.entries(document.groups ?? {})) {
    if (persons.has(foldIdentity(group)))
      complain({
        path: ['groups', group],
        key: true,
        message: `"${group}" is also the name of a person or service; approvers could mean either`,
      })
    for (const member of listOf(members)) {
      const id = person(member)
      const memberships = groups.get(id) ?? new Set()
      groups.set(id, memberships.add(group))
    }
  }
  return { persons, groups }
}

export function compileDelegations(document: PolicyDocument, people: People, complain: Complain): Delegation[] {
  const person = (name: string) => people.persons.get(foldIdentity(name)) ?? foldIdentity(name)
  return (document.delegates ?? []).map((said, index) => {
    const from = person(said.from)
    const to = person(said.to)
    const since = said.since === undefined ? 0 : readDate(said.since)!
    // A date alone means that day as well.
    const until = readDate(said.until)! + (said.until.includes('T') ? 0 : DAY)
    if (from === to) complain({ path: ['delegates', index], message: 'nobody stands in for themselves' })
    if (until <= since) complain({ path: ['delegates', index, 'until'], message: 'until comes before since' })
    return { from, to, since, until }
  })
}

export function compileRotas(document: PolicyDocument, people: People, complain: Complain): ReadonlyMap<string, Rota> {
  const persons = (names: string | readonly string[]) =>
    listOf(names).map(name => people.persons.get(foldIdentity(name)) ?? foldIdentity(name))
  const rotas = Object.entries(document.on_call ?? {}).map(([name, said]): [string, Rota] => {
    const zone = said.zone ?? document.time_zone ?? 'UTC'
    if (!said.shifts && !said.turns && !said.overrides)
      complain({ path: ['on_call', name], message: 'nobody is ever on call by this; add shifts, turns or overrides' })
    const shifts = (said.shifts ?? []).map(shift => {
      const days = listOf(shift.days).flatMap(day => readDays(day)!)
      const hours = weekly(zone, [{ days, from: readClock(shift.from)!, to: readClock(shift.to)! }])
      return { hours, people: persons(shift.people) }
    })
    const overrides = (said.overrides ?? []).map((override, index) => {
      const [from, until] = [readDate(override.from)!, readDate(override.until)!]
      if (until <= from)
        complain({ path: ['on_call', name, 'overrides', index, 'until'], message: 'until comes before from' })
      return { from, until, people: persons(override.people) }
    })
    const turns = said.turns && { zone, since: readDate(said.turns.since)!, people: persons(said.turns.people) }
    return [name, { shifts, ...(turns && { turns }), overrides }]
  })
  return new Map(rotas)
}

export function compileClasses(document: PolicyDocument): Map<string, Class> {
  return new Map(Object.entries(document.classes ?? {}).map(([name, said]) => [name, compileClass(name, said)]))
}

function compileClass(name: string, said: ClassDocument): Class {
  return {
    name,
    approvals: said.approvals ?? 0,
    longest: said.longest === undefined ? Number.POSITIVE_INFINITY : span(said.longest),
    ...given('mfa', said.mfa === undefined ? undefined : span(said.mfa)),
    automatic: said.automatic ?? true,
    reason: said.reason ?? false,
  }
}

export function compileStandings(
  document: PolicyDocument,
  classes: ReadonlySet<string>,
  complain: Complain,
): Standing[] {
  return (document.repositories ?? []).map((said, index) => {
    if (said.class !== undefined && !classes.has(said.class)) {
      complain({
        path: ['repositories', index, 'class'],
        message: `there is no class "${said.class}"; classes: ${[...classes].join(', ') || 'none'}`,
      })
    }
    return { match: listOf(said.match), ...given('class', said.class), ...given('mode', said.mode) }
  })
}
