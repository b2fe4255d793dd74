import { type Document, isAlias, isMap, isPair, isScalar, LineCounter, type Node, parseDocument, visit } from 'yaml'
import type { Path } from './path.ts'
import { readPlainYaml } from './plainyaml.ts'
import { ConfigError, type Problem } from './problem.ts'

/** Far above any file a person writes; below it a parser cannot be kept busy for long. */
const YAML_BYTES_MAX = 1 << 20
const DEPTH_MAX = 32
/** More than this are the consequence of the first, or an attack. */
const PROBLEMS_SHOWN = 20

/** A parsed file: its plain value, and where each part of it stands. */
export interface Yaml {
  readonly value: unknown
  /** The line of each entry of a list at the top. */
  lines(key: string): readonly number[]
  /** Line and column (from 1) of the value at `path`, or of the nearest part above it that exists. */
  at(path: Path): { line: number; column: number }
  /** Line and column of a key itself: for a key that should not be there. */
  atKey(path: Path): { line: number; column: number }
}

/**
 * Reads one YAML 1.2 document made of plain mappings, lists, texts, numbers and booleans.
 *
 * Refused, because each has been used to make a small file large or to say two things at once: aliases and anchors
 * ("billion laughs"), merge keys, tags, duplicate keys, several documents, files over 1 MiB, nesting deeper than 32.
 * @throws ConfigError with every problem found
 */
export function readYaml(text: string, file: string): Yaml {
  if (Buffer.byteLength(text) > YAML_BYTES_MAX) {
    throw new ConfigError(file, [{ line: 1, column: 1, path: '', message: `larger than ${YAML_BYTES_MAX} bytes` }])
  }
  // Finding places takes most of the time of a whole parser, and a file without a fault is asked for few of them.
  const plain = readPlainYaml(text)
  if (!plain) return parseYaml(text, file)
  const { value, lines } = plain
  let parsed: Yaml | undefined
  const whole = () => {
    parsed ??= parseYaml(text, file)
    return parsed
  }
  return {
    value,
    lines: key => {
      const found = listAt(value, key).map(entry =>
        typeof entry === 'object' && entry !== null ? lines.get(entry) : undefined,
      )
      return found.every(line => line !== undefined) ? found : whole().lines(key)
    },
    at: path => whole().at(path),
    atKey: path => whole().atKey(path),
  }
}

function listAt(value: unknown, key: string): readonly unknown[] {
  const list = typeof value === 'object' && value !== null && Object.hasOwn(value, key) ? Reflect.get(value, key) : []
  return Array.isArray(list) ? list : []
}

/** The same by the whole parser, whatever the text is like. */
export function parseYaml(text: string, file: string): Yaml {
  const lines = new LineCounter()
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const document = parseDocument(text, {
    lineCounter: lines,
    uniqueKeys: true,
    merge: false,
    prettyErrors: false,
    logLevel: 'error',
  })
  const problems: Problem[] = document.errors.slice(0, PROBLEMS_SHOWN).map(error => ({
    ...place(error.pos[0]),
    path: '',
    // The parser's own messages quote the file, where a secret may stand.
    message: SYNTAX[error.code] ?? `not YAML (${error.code.toLowerCase().replaceAll('_', ' ')})`,
  }))
  problems.push(...forbidden(document).map(({ offset, message }) => ({ ...place(offset), path: '', message })))
  if (problems.length > 0) throw new ConfigError(file, problems)
  // No alias is left at this point; the bound is the second lock on the same door.
  const value: unknown = document.toJS({ maxAliasCount: 0 })
  return {
    value,
    lines: key => listAt(value, key).map((_, index) => place(offsetOf(document, [key, index])).line),
    at: path => place(offsetOf(document, path)),
    atKey: path => place(offsetOfKey(document, path)),
  }
}

const SYNTAX: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'this key is given twice in one mapping; keep one',
  MULTIPLE_DOCS: 'a second document begins here (---); one file holds one document',
  TAB_AS_INDENT: 'indented by a tab; YAML wants spaces',
  BAD_INDENT: 'not indented like the lines around it',
  MISSING_CHAR: 'not YAML: a quote, comma or bracket is missing here',
  UNEXPECTED_TOKEN: 'not YAML: this cannot stand here',
  BLOCK_AS_IMPLICIT_KEY: 'not YAML: a key, or a text holding ": ", wants quotes here',
  BAD_ALIAS: 'a text that begins with * wants quotes',
  TAG_RESOLVE_FAILED: 'a text that begins with ! wants quotes',
}

function forbidden(document: Document.Parsed): { offset: number; message: string }[] {
  const found: { offset: number; message: string }[] = []
  const refuse = (node: Node, message: string) => found.push({ offset: node.range?.[0] ?? 0, message })
  visit(document, {
    Node(_, node, path) {
      if (isAlias(node))
        refuse(node, 'aliases (*name) are not accepted; write the value out, or in quotes if it begins with *')
      else if (node.anchor)
        refuse(
          node,
          'anchors (&name) are not accepted; write the value out where it is used, or in quotes if it begins with &',
        )
      if (!isAlias(node) && node.tag && !PLAIN_TAG.test(node.tag))
        refuse(node, 'tags (!name) are not accepted; a text that begins with ! wants quotes')
      if (found.length >= PROBLEMS_SHOWN) return visit.BREAK
      if (path.length > DEPTH_MAX && path.filter(part => !isPair(part)).length > DEPTH_MAX) {
        refuse(node, `nested deeper than ${DEPTH_MAX}`)
        return visit.BREAK
      }
      return undefined
    },
    Pair(_, { key }) {
      if (!isScalar(key)) return
      if (key.value === '<<') refuse(key, '<<: merge keys are not accepted; write the values out')
      // The value would become the prototype of the object it stands in.
      if (key.value === '__proto__') refuse(key, '__proto__ is not accepted as a key')
    },
  })
  return found
}

// Mappings and lists carry their own standard tag; anything else was written by hand.
const PLAIN_TAG = /^tag:yaml\.org,2002:(map|seq|str|int|float|bool|null)$/

function offsetOf(document: Document.Parsed, path: Path): number {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true) as Node | undefined
    if (node?.range) return node.range[0]
  }
  return document.contents?.range?.[0] ?? 0
}

function offsetOfKey(document: Document.Parsed, path: Path): number {
  const parent = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true)
  if (isMap(parent)) {
    for (const { key } of parent.items) {
      if (isScalar(key) && String(key.value) === String(path.at(-1)) && key.range) return key.range[0]
    }
  }
  return offsetOf(document, path)
}
