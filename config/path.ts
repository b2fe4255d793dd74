/** Where something stands in what was read: the keys and places that lead to it. */
export type Path = readonly (string | number)[]

/** As a person would say it: `upstreams.acme.host_keys[1]`. */
export function written(path: Path): string {
  return path.map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index > 0 ? '.' : ''}${part}`)).join('')
}

/** What stands there; undefined where nothing does. */
export function find(value: unknown, path: Path): unknown {
  let part = value
  for (const key of path) {
    if (typeof part !== 'object' || part === null || !Object.hasOwn(part, key)) return undefined
    part = (part as Record<string | number, unknown>)[key]
  }
  return part
}
