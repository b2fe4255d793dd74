/** Groups kept apart; whatever comes beyond them is counted together, so that no ledger makes a report of any size. */
const GROUPS_MAX = 5_000

/** Counts by group. */
export interface Counted<T> {
  /** What is counted of the group with this name. */
  row(name: readonly string[]): T
  /** The groups, those with the most first by `weight`. */
  rows(weight: (value: T) => number): { readonly name: readonly string[]; readonly value: T }[]
  /** Of all that had no room; nothing when there was room. */
  readonly others: T | undefined
}

export function counted<T>(fresh: () => T): Counted<T> {
  const groups = new Map<string, { readonly name: readonly string[]; readonly value: T }>()
  let others: T | undefined
  return {
    row(name) {
      const key = JSON.stringify(name)
      const found = groups.get(key)
      if (found) return found.value
      if (groups.size >= GROUPS_MAX) {
        others ??= fresh()
        return others
      }
      const value = fresh()
      groups.set(key, { name, value })
      return value
    },
    rows: weight =>
      [...groups.values()].sort(
        (a, b) => weight(b.value) - weight(a.value) || (JSON.stringify(a.name) < JSON.stringify(b.name) ? -1 : 1),
      ),
    get others() {
      return others
    },
  }
}
