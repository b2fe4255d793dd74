import type { Readable } from 'node:stream'
import { parseCapabilities, parseCapability } from './capabilities.ts'
import { type ObjectFormat, objectFormat, objectId } from './objectid.ts'
import { DELIM, FLUSH, line, PacketReader, ProtocolError, printable } from './pktline.ts'
import { utf8 } from './refname.ts'

// What a client asks of upload-pack.
//   v2  command=<name>  <capability>…  [0001  <argument>…]  0000      and again, on one connection (gitprotocol-v2)
//   v0  want <id> <capabilities>  want <id>…  [shallow|deepen|deepen-since|deepen-not|filter …]…  0000
//       then have <id>… 0000 …  done                                    (gitprotocol-pack, "Packfile Negotiation")

/** Half of it are the haves a large repository may negotiate with, half the wants of one with a hundred thousand refs. */
const FETCH_REQUEST_BYTES_MAX = 16 << 20
const DETAIL_MAX = 200

/** What one fetch asks for. */
export interface Fetch {
  /** Object ids, in lower case. */
  readonly wants: readonly string[]
  /** v2: refs wanted by name. */
  readonly wantRefs: readonly string[]
  /** How many objects the client says it has. */
  readonly haves: number
  readonly shallows: readonly string[]
  /** A depth in commits. */
  readonly deepen?: number
  /** Refs whose history is left out, as they were written. */
  readonly deepenNot: readonly string[]
  /** `5`, `since 1700000000`, `not refs/heads/main`, or several of them; undefined for a whole history. */
  readonly depth?: string
  readonly filter?: string
  /** The client negotiates no further: a pack is to follow. */
  readonly done: boolean
  /** No haves and no shallow lines: a clone. */
  readonly kind: 'clone' | 'incremental'
}

interface Request {
  readonly capabilities: ReadonlyMap<string, string>
  /** The exact bytes of this request, flush packet included. */
  readonly raw: Buffer
}

/** One command of protocol 2. */
export type Command = Request &
  (
    | { readonly command: 'ls-refs'; readonly refPrefixes: readonly string[] }
    /** `lines`: its arguments as they were sent. */
    | { readonly command: 'fetch'; readonly fetch: Fetch; readonly lines: readonly string[] }
    /** One that is not relayed: `object-info`, `bundle-uri`, or one we have never heard of. */
    | { readonly command: 'other'; readonly name: string }
  )

/** A request of protocol 0 or 1. */
export interface FetchRequest extends Request {
  readonly fetch: Fetch
  /** The request behind `raw`. */
  readonly rest: Readable
}

/** A reader for `readCommand`, bounded for each command. */
export function commandReader(request: Readable, bytes: number = FETCH_REQUEST_BYTES_MAX): PacketReader {
  return new PacketReader(request, { limit: bytes })
}

/**
 * Reads one command of protocol 2 and leaves the stream at the next. undefined: the client has ended, or said with a
 * lone flush packet that it will ask no more.
 *
 * @throws ProtocolError for what stock upload-pack would not take, and for arguments that are not known here
 */
export async function readCommand(reader: PacketReader): Promise<Command | undefined> {
  reader.forget()
  let name: string | undefined
  const capabilities = new Map<string, string>()
  let end = await textOrEnd(reader)
  if (end === undefined || end === FLUSHED) return undefined
  // git takes the command on any of the lines before the delimiter, but only one.
  for (; typeof end === 'string'; end = await textOrEnd(reader)) {
    const { name: key, value = '' } = parseCapability(end)
    if (key !== 'command') capabilities.set(key, value)
    else if (name === undefined) name = value
    else throw wrong('two commands in one request')
  }
  if (end === undefined) throw endedEarly()
  if (name === undefined) throw wrong('a request without a command')
  const format = formatOf(capabilities)

  const lines: string[] = []
  if (end === DELIMITED) {
    for (end = await textOrEnd(reader); typeof end === 'string'; end = await textOrEnd(reader)) lines.push(end)
    if (end !== FLUSHED) throw endedEarly()
  }
  const request = { capabilities, raw: reader.raw() }
  if (name === 'ls-refs') return { ...request, command: name, refPrefixes: refPrefixes(lines) }
  if (name === 'fetch') return { ...request, command: name, fetch: fetchOf(lines, format, V2_FLAGS), lines }
  return { ...request, command: 'other', name: printable(name, 64) }
}

/** A fetch command without `include-tag`, by which a host adds tags to what is wanted. */
export function withoutTags({ capabilities, lines, raw }: Extract<Command, { command: 'fetch' }>): Buffer {
  if (!lines.includes('include-tag')) return raw
  const told = [...capabilities].map(([name, value]) => line(value === '' ? name : `${name}=${value}`))
  const kept = lines.filter(text => text !== 'include-tag').map(line)
  return Buffer.concat([line('command=fetch'), ...told, DELIM, ...kept, FLUSH])
}

/**
 * Reads a request of protocol 0 or 1. `stateless` (HTTP): all of it, to `done` or its end. Otherwise only the wants, up to
 * their flush packet: the haves are a conversation that the host must answer first.
 *
 * undefined: the client wants nothing.
 *
 * @throws ProtocolError for what stock upload-pack would not take, and for lines that are not known here
 */
export async function readFetchRequest(
  request: Readable,
  { stateless, bytes = FETCH_REQUEST_BYTES_MAX }: { readonly stateless: boolean; readonly bytes?: number },
): Promise<FetchRequest | undefined> {
  const reader = new PacketReader(request, { limit: bytes })
  const capabilities = new Map<string, string>()
  const lines: string[] = []
  let text = await textOrEnd(reader)
  if (text === undefined || text === FLUSHED) return undefined
  for (; typeof text === 'string'; text = await textOrEnd(reader)) {
    // Capabilities follow the id on the first line; git heeds them on any.
    const [, want, asked] = /^(want [0-9a-fA-F]+)(?: (.*))?$/.exec(text) ?? []
    for (const each of parseCapabilities(asked ?? '')) capabilities.set(each.name, each.value ?? '')
    lines.push(want ?? text)
  }
  if (text !== FLUSHED) throw endedEarly()
  if (stateless) {
    for (text = await textOrEnd(reader); text !== undefined; text = await textOrEnd(reader)) {
      if (text === DELIMITED) throw endedEarly()
      if (text === FLUSHED) continue
      lines.push(text)
      if (text === 'done') break
    }
  }
  const fetch = fetchOf(lines, formatOf(capabilities), V0_FLAGS)
  return { capabilities, fetch, raw: reader.raw(), rest: reader.rest() }
}

const FLUSHED = Symbol('flush')
const DELIMITED = Symbol('delim')

/** The next line, or what stands in its place. */
async function textOrEnd(reader: PacketReader): Promise<string | typeof FLUSHED | typeof DELIMITED | undefined> {
  const packet = await reader.read()
  if (packet === undefined) return undefined
  if (packet.kind === 'flush') return FLUSHED
  if (packet.kind === 'delim') return DELIMITED
  if (packet.kind === 'response-end') throw endedEarly()
  const text = utf8(packet.payload.at(-1) === 0x0a ? packet.payload.subarray(0, -1) : packet.payload)
  // git stops reading a line at its NUL; a host that does not would see another line.
  if (text === undefined || /[\x00-\x1f\x7f]/.test(text)) throw wrong('a line with a control character in it')
  return text
}

function wrong(what: string): ProtocolError {
  return new ProtocolError('ERR_FETCH_REQUEST', `${what}, in a request to fetch`)
}

function endedEarly(): ProtocolError {
  return wrong('a section that does not end with a flush packet')
}

/** The hash a request names objects with. */
export function formatOf(capabilities: ReadonlyMap<string, string>): ObjectFormat {
  const format = objectFormat(capabilities.get('object-format'))
  if (!format) throw wrong('an object format that is not known here')
  return format
}

const LS_REFS_FLAGS = new Set(['peel', 'symrefs', 'unborn'])

function refPrefixes(lines: readonly string[]): string[] {
  const prefixes: string[] = []
  for (const text of lines) {
    if (text.startsWith('ref-prefix ')) prefixes.push(text.slice('ref-prefix '.length))
    else if (!LS_REFS_FLAGS.has(text)) throw wrong(`the unknown argument ${JSON.stringify(printable(text, 80))}`)
  }
  return prefixes
}

const V0_FLAGS: ReadonlySet<string> = new Set(['deepen-relative'])
// Not among them: packfile-uris, by which the host would send the client elsewhere for its objects.
const V2_FLAGS: ReadonlySet<string> = new Set([
  'thin-pack',
  'no-progress',
  'include-tag',
  'ofs-delta',
  'deepen-relative',
  'sideband-all',
  'wait-for-done',
])

function fetchOf(lines: readonly string[], format: ObjectFormat, flags: ReadonlySet<string>): Fetch {
  const wants: string[] = []
  const wantRefs: string[] = []
  const shallows: string[] = []
  const depth: string[] = []
  const deepenNot: string[] = []
  let deepen: number | undefined
  let filter: string | undefined
  let haves = 0
  let done = false
  for (const text of lines) {
    const blank = text.indexOf(' ')
    const [word, rest] = blank < 0 ? [text, ''] : [text.slice(0, blank), text.slice(blank + 1)]
    if (word === 'want') wants.push(idOf(rest, format))
    else if (word === 'have') haves += idOf(rest, format) ? 1 : 0
    else if (word === 'shallow') shallows.push(idOf(rest, format))
    else if (text === 'done') done = true
    else if (word === 'want-ref' && flags === V2_FLAGS && rest) wantRefs.push(rest)
    else if (word === 'deepen' && /^\d{1,10}$/.test(rest)) {
      depth.push(rest)
      deepen = Math.max(deepen ?? 0, Number(rest))
    } else if (word === 'deepen-since' && /^\d{1,20}$/.test(rest)) depth.push(`since ${rest}`)
    else if (word === 'deepen-not' && rest) {
      depth.push(`not ${rest}`)
      deepenNot.push(rest)
    } else if (word === 'filter' && rest) filter = printable(rest, DETAIL_MAX)
    else if (!flags.has(text)) throw wrong(`the unknown line ${JSON.stringify(printable(text, 80))}`)
  }
  return {
    wants,
    wantRefs,
    haves,
    shallows,
    ...(deepen !== undefined && { deepen }),
    deepenNot,
    ...(depth.length > 0 && { depth: printable(depth.join(', '), DETAIL_MAX) }),
    ...(filter !== undefined && { filter }),
    done,
    kind: haves === 0 && shallows.length === 0 ? 'clone' : 'incremental',
  }
}

function idOf(text: string, format: ObjectFormat): string {
  const id = objectId(text, format)
  if (!id) throw wrong('something that is no object id where one belongs')
  return id
}
