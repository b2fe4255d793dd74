/** Objects nested deeper than this are not records. */
const DEPTH_MAX = 16

/**
 * The one spelling of a JSON value that is hashed: RFC 8785 (JSON Canonicalization Scheme) on the part of JSON where
 * everybody agrees, I-JSON (RFC 7493) without fractions. Keys are sorted by UTF-16 code unit, there is no white space, and absent
 * (`undefined`) members are left out. Numbers are safe integers only, because the printing of fractions differs between languages.
 * @throws TypeError naming the member that has no canonical form
 */
export function canonical(value: unknown): string {
  return write(value, '', 0)
}

function write(value: unknown, path: string, depth: number): string {
  if (depth > DEPTH_MAX) throw new TypeError(`${path}: nested more than ${DEPTH_MAX} deep`)
  switch (typeof value) {
    case 'string':
      if (!value.isWellFormed()) throw new TypeError(`${path || 'value'}: a lone surrogate has no UTF-8 form`)
      return JSON.stringify(value)
    case 'number':
      if (!Number.isSafeInteger(value)) throw new TypeError(`${path || 'value'}: ${value} is not a safe integer`)
      return value === 0 ? '0' : String(value)
    case 'boolean':
      return value ? 'true' : 'false'
    case 'object':
      if (value === null) return 'null'
      return Array.isArray(value) ? writeArray(value, path, depth) : writeObject(value, path, depth)
    default:
      throw new TypeError(`${path || 'value'}: a ${typeof value} has no canonical form`)
  }
}

function writeArray(items: readonly unknown[], path: string, depth: number): string {
  return `[${items.map((item, i) => write(item, `${path}[${i}]`, depth + 1)).join(',')}]`
}

function writeObject(object: object, path: string, depth: number): string {
  const members: string[] = []
  for (const key of Object.keys(object).sort()) {
    const member: unknown = Reflect.get(object, key)
    if (member === undefined) continue
    members.push(`${write(key, path, depth)}:${write(member, path ? `${path}.${key}` : key, depth + 1)}`)
  }
  return `{${members.join(',')}}`
}
