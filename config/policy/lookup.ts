/**
 * Finds the few of many patterns that can match one name: each stands in a tree at its leading segments without a star,
 * so that a name meets only those on its own way down. What is found is a superset, in order; the pattern itself decides.
 */
export interface Lookup {
  /** Positions, ascending, of the entries of which a pattern may match this plain name. */
  find(name: string): readonly number[]
}

interface Node {
  readonly below: Map<string, Node>
  readonly entries: number[]
}

export function lookup(entries: readonly (readonly string[])[]): Lookup {
  const root: Node = { below: new Map(), entries: [] }
  entries.forEach((patterns, position) => {
    for (const pattern of patterns) {
      const node = descend(root, pattern)
      if (node.entries.at(-1) !== position) node.entries.push(position)
    }
  })
  return { find: name => collect(root, name) }
}

function descend(root: Node, pattern: string): Node {
  let node = root
  for (const segment of pattern.split('/')) {
    if (segment.includes('*')) break
    let next = node.below.get(segment)
    if (!next) {
      next = { below: new Map(), entries: [] }
      node.below.set(segment, next)
    }
    node = next
  }
  return node
}

function collect(root: Node, name: string): readonly number[] {
  const met: number[][] = []
  let node: Node | undefined = root
  for (const segment of name.split('/')) {
    if (node.entries.length > 0) met.push(node.entries)
    node = node.below.get(segment)
    if (!node) break
  }
  if (node && node.entries.length > 0) met.push(node.entries)
  if (met.length < 2) return met[0] ?? []
  // An entry with several patterns may stand at several nodes.
  return [...new Set(met.flat())].sort((a, b) => a - b)
}
