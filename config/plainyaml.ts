/**
 * Reads the plain part of YAML that people write nearly all of the time, at a tenth of the cost of a whole parser: block
 * mappings and lists, values on one line, lists and mappings in brackets on one line, comments. `yaml.ts` reads everything
 * else, and finds every fault and every place. Whatever is doubtful here is not read here, so the two never disagree.
 */

/** A value, and the line (from 1) on which each mapping of a list begins. */
export interface PlainYaml {
  readonly value: Mapping
  readonly lines: ReadonlyMap<object, number>
}

type Value = string | number | boolean | null | Value[] | Mapping
interface Mapping {
  [key: string]: Value
}

/** What is left for the whole parser. Thrown, because it ends the reading from any depth. */
const NOT_PLAIN = Symbol('not plain')
const DEPTH_MAX = 16

/** Undefined: not plain, or not YAML at all. */
export function readPlainYaml(text: string): PlainYaml | undefined {
  // No tabs, returns, marks of byte order, or letters outside of the first plane; no directives and no second document.
  if (/[^\n\x20-\x7e\u00a1-\u2027\u202a-\ud7ff\ue000-\ufefe]/.test(text) || /^(?:%|---|\.\.\.)/m.test(text))
    return undefined
  const reader = new Reader(text)
  try {
    return { value: reader.document(), lines: reader.lines }
  } catch (thrown) {
    if (thrown === NOT_PLAIN) return undefined
    throw thrown
  }
}

/** A line with something on it. */
interface Line {
  readonly number: number
  readonly indent: number
  /** From its first letter on. */
  readonly text: string
}

/** The rest of the line may be the value; a key is short and is never read as anything but a text. */
const KEY = /^([A-Za-z][\w.@/-]{0,100}):(?: +(.*))?$/
const FLOW_KEY = /([A-Za-z][\w.@/-]{0,100}): +/y
const NO_TEXT = /^(?:null|true|false)$/i
const PLAIN = /^[A-Za-z0-9_./^$(+<=;\\]/
const NUMBER =
  /^(?:0o[0-7]+|0x[0-9a-fA-F]+|[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$/i
const QUOTED = /"([^"\\]*)"|'([^']*)'/y
const END_OF_LINE = /^ *(?: #.*)?$/

class Reader {
  readonly lines = new Map<object, number>()
  readonly #lines: Line[] = []
  #next = 0

  constructor(text: string) {
    for (const [index, line] of text.split('\n').entries()) {
      const indent = line.search(/[^ ]/)
      if (indent < 0 || line[indent] === '#') continue
      this.#lines.push({ number: index + 1, indent, text: line.slice(indent).replace(/ +$/, '') })
    }
  }

  document(): Mapping {
    if (this.#lines.length === 0) throw NOT_PLAIN
    const mapping = this.#mapping(0, 0)
    if (this.#next < this.#lines.length) throw NOT_PLAIN
    return mapping
  }

  /** The block of keys at this indent; `first` is the rest of a line that began it, behind a dash. */
  #mapping(indent: number, depth: number, first?: string): Mapping {
    if (depth > DEPTH_MAX) throw NOT_PLAIN
    const mapping: Mapping = {}
    for (let text = first ?? this.#text(indent); text !== undefined; text = this.#text(indent)) {
      const [, key, rest = ''] = KEY.exec(text) ?? []
      // A key given twice has to be told with its place.
      if (key === undefined || NO_TEXT.test(key) || Object.hasOwn(mapping, key)) throw NOT_PLAIN
      this.#next++
      mapping[key] =
        rest === '' || rest.startsWith('#') ? this.#below(indent, depth) : this.#inline(rest, indent, depth)
    }
    return mapping
  }

  /** What stands below a key. A list may stand as far left as its key. */
  #below(indent: number, depth: number): Value {
    const line = this.#lines[this.#next]
    if (line === undefined || line.indent < indent) return null
    const isList = line.text.startsWith('- ')
    if (line.indent === indent) return isList ? this.#list(indent, depth + 1) : null
    return isList ? this.#list(line.indent, depth + 1) : this.#mapping(line.indent, depth + 1)
  }

  #list(indent: number, depth: number): Value[] {
    if (depth > DEPTH_MAX) throw NOT_PLAIN
    const list: Value[] = []
    for (let text = this.#text(indent); text?.startsWith('- '); text = this.#text(indent)) {
      const item = text.slice(2).replace(/^ +/, '')
      if (KEY.test(item)) {
        const { number } = this.#lines[this.#next]!
        const mapping = this.#mapping(indent + text.length - item.length, depth + 1, item)
        this.lines.set(mapping, number)
        list.push(mapping)
      } else {
        this.#next++
        list.push(this.#inline(item, indent, depth))
      }
    }
    return list
  }

  /** The line that comes next, if it stands at this indent; undefined where the block is over. */
  #text(indent: number): string | undefined {
    const line = this.#lines[this.#next]
    if (line === undefined || line.indent < indent) return undefined
    if (line.indent > indent) throw NOT_PLAIN
    return line.text
  }

  /** A value that ends with its line. */
  #inline(text: string, indent: number, depth: number): Value {
    const { number } = this.#lines[this.#next - 1]!
    // A line further in goes on with the value.
    if ((this.#lines[this.#next]?.indent ?? 0) > indent) throw NOT_PLAIN
    if (!/^["'[{]/.test(text)) return plain(text.replace(/ +#.*$/, ''))
    const flow = new Flow(text)
    const value = flow.value(depth + 1)
    if (!END_OF_LINE.test(text.slice(flow.at))) throw NOT_PLAIN
    if (typeof value === 'object' && value !== null) this.lines.set(value, number)
    return value
  }
}

/** Quotes and brackets on one line. */
class Flow {
  at = 0
  readonly #text: string

  constructor(text: string) {
    this.#text = text
  }

  value(depth: number): Value {
    if (depth > DEPTH_MAX) throw NOT_PLAIN
    const first = this.#text[this.at]
    if (first === '[') return this.#list(depth)
    if (first === '{') return this.#mapping(depth)
    if (first === '"' || first === "'") {
      const [whole, double, single = ''] = this.#match(QUOTED)
      this.at += whole.length
      return double ?? single
    }
    const end = this.#text.slice(this.at).search(/[,[\]{}]/)
    if (end < 0) throw NOT_PLAIN
    const text = this.#text.slice(this.at, this.at + end)
    this.at += end
    if (text.includes(' #')) throw NOT_PLAIN
    return plain(text.replace(/ +$/, ''))
  }

  #list(depth: number): Value[] {
    const list: Value[] = []
    this.#entries(']', () => list.push(this.value(depth + 1)))
    return list
  }

  #mapping(depth: number): Mapping {
    const mapping: Mapping = {}
    this.#entries('}', () => {
      const [whole, key = ''] = this.#match(FLOW_KEY)
      if (NO_TEXT.test(key) || Object.hasOwn(mapping, key)) throw NOT_PLAIN
      this.at += whole.length
      mapping[key] = this.value(depth + 1)
    })
    return mapping
  }

  #entries(end: string, read: () => void): void {
    this.at++
    this.#spaces()
    if (this.#text[this.at] === end) {
      this.at++
      return
    }
    for (;;) {
      read()
      this.#spaces()
      const met = this.#text[this.at++]
      if (met === end) return
      if (met !== ',') throw NOT_PLAIN
      this.#spaces()
    }
  }

  #match(pattern: RegExp): RegExpExecArray {
    pattern.lastIndex = this.at
    const found = pattern.exec(this.#text)
    if (found === null) throw NOT_PLAIN
    return found
  }

  #spaces(): void {
    while (this.#text[this.at] === ' ') this.at++
  }
}

/** A value without quotes, by the core schema of YAML 1.2. */
function plain(text: string): Value {
  if (!PLAIN.test(text) || text.includes(': ') || text.endsWith(':')) throw NOT_PLAIN
  if (NO_TEXT.test(text)) {
    if (text === 'true' || text === 'false') return text === 'true'
    throw NOT_PLAIN
  }
  if (!NUMBER.test(text)) return text
  if (!/^\d{1,15}$/.test(text)) throw NOT_PLAIN
  return Number(text)
}
