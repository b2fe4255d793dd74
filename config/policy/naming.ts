/**
 * Finds the rules that may name somebody, by their groups: where thousands of rules speak of the same repositories, whom
 * they name is what tells them apart.
 */
export interface Naming {
  /** Positions, ascending, of a superset of the rules that concern this asker; undefined where these are `most` or more. */
  find(person: string, memberships: readonly Iterable<string>[], most: number): readonly number[] | undefined
}

/** As much of a rule as matters here. */
interface Named {
  readonly order: number
  readonly final: boolean
  readonly who?: {
    readonly anyone: boolean
    readonly people: ReadonlySet<string>
    readonly groups: readonly string[]
    readonly onCall: readonly unknown[]
    readonly ci: readonly unknown[]
    readonly services: readonly unknown[]
  }
}

export function naming(rules: readonly Named[]): Naming {
  const always: number[] = []
  const byGroup = new Map<string, number[]>()
  const byPerson = new Map<string, number[]>()
  for (const { who, final, order } of rules) {
    // A final rule concerns those whom it does not name most of all.
    if (!who || final || who.anyone || who.onCall.length > 0 || who.ci.length > 0 || who.services.length > 0) {
      always.push(order)
      continue
    }
    for (const group of who.groups) add(byGroup, group, order)
    for (const person of who.people) add(byPerson, person, order)
  }
  return {
    find(person, memberships, most) {
      const found = [always, byPerson.get(person) ?? []]
      for (const groups of memberships) {
        for (const group of groups) {
          const named = byGroup.get(group)
          if (named) found.push(named)
        }
      }
      const count = found.reduce((sum, positions) => sum + positions.length, 0)
      return count < most ? [...new Set(found.flat())].sort((a, b) => a - b) : undefined
    },
  }
}

function add(index: Map<string, number[]>, key: string, position: number): void {
  const positions = index.get(key)
  if (positions) positions.push(position)
  else index.set(key, [position])
}
