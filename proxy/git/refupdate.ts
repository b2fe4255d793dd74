import type { Readable } from 'node:stream'
import { parseCapabilities } from './capabilities.ts'
import { isZero, type ObjectFormat, objectFormat, objectId } from './objectid.ts'
import { type Packet, PacketReader, ProtocolError } from './pktline.ts'
import { checkRefname, specialNamespaceOf, utf8 } from './refname.ts'

// gitprotocol-pack, "Reference Update Request and Packfile Transfer":
//   [shallow <id>]…  <old> SP <new> SP <ref> [NUL <capabilities>]  …  0000  [<push option>… 0000]  [PACK…]
// Read as stock receive-pack reads it, which is more than the page says; what other hosts could read otherwise is refused.

const COMMANDS_MAX = 10_000
const COMMAND_LIST_BYTES_MAX = 4 << 20
const PUSH_OPTIONS_MAX = 100
const PUSH_OPTION_BYTES_MAX = 1024

/** One ref update as the client asked for it. Ids are in lower case. */
export interface RefUpdate {
  readonly ref: string
  readonly old: string
  readonly new: string
  /** By the ids of zeros alone; whether an update is a fast-forward is not known here. */
  readonly kind: 'create' | 'update' | 'delete'
}

/** The command section of a push and what stands behind it. */
export interface Commands {
  readonly updates: readonly RefUpdate[]
  /** All that was asked for on any line, '' where there is no value. */
  readonly capabilities: ReadonlyMap<string, string>
  readonly objectFormat: ObjectFormat
  readonly pushOptions: readonly string[]
  readonly shallows: readonly string[]
  /** The exact bytes of the command and push option sections, flush packets included. */
  readonly raw: Buffer
  /** The request, standing at the first byte behind `raw`: the pack, or its end where nothing but deletions was asked. */
  readonly pack: Readable
  /** false when only deletions were asked: then no pack follows, and a byte that does is nothing git would send. */
  readonly hasPack: boolean
  /** Nothing but a flush: git asks whether it may push (HTTP), or has found nothing to do (SSH). Uses up nothing. */
  readonly probe: boolean
}

/**
 * A push of which enough was understood to answer it with a report that names each ref, the one answer git shows in full:
 * it asks for something no grant can allow, or goes wrong behind its first command (`cause`).
 */
export class CommandsRefused extends ProtocolError {
  readonly commands: Commands
  /** Why, by ref; a ref that is not in it was refused with the others. */
  readonly reasons: ReadonlyMap<string, string>

  constructor(commands: Commands, reasons: ReadonlyMap<string, string>, cause?: ProtocolError) {
    const [ref, reason] = [...reasons][0] ?? ['', '']
    super(cause?.code ?? 'ERR_PUSH_REF', cause?.message ?? `${JSON.stringify(ref)}: ${reason}`, cause)
    this.name = 'CommandsRefused'
    this.commands = commands
    this.reasons = reasons
  }
}

export interface ReadCommandsOptions {
  /** Most ref updates in one push. */
  readonly commands?: number
  /** Most bytes of commands and push options together. */
  readonly bytes?: number
}

/**
 * Reads the commands of a push up to the first byte of its pack.
 *
 * @throws ProtocolError when the bytes are not wholly understood; CommandsRefused once there is a command to report on
 * @throws CommandsRefused when they are understood, but name a ref nobody may write
 */
export async function readCommands(request: Readable, options: ReadCommandsOptions = {}): Promise<Commands> {
  const reader = new PacketReader(request, { limit: options.bytes ?? COMMAND_LIST_BYTES_MAX })
  const list = new CommandList(options.commands ?? COMMANDS_MAX)
  const commandsWith = (pushOptions: readonly string[]): Commands => ({
    updates: list.updates,
    capabilities: list.capabilities,
    objectFormat: list.format,
    pushOptions,
    shallows: list.shallows,
    raw: reader.raw(),
    pack: reader.rest(),
    hasPack: list.updates.some(update => update.kind !== 'delete'),
    probe: list.updates.length === 0,
  })
  let commands: Commands
  try {
    for (let packet = await section(reader); packet !== 'end'; packet = await section(reader)) list.add(packet)
    const takesOptions = list.capabilities.has('push-options') && list.updates.length > 0
    commands = commandsWith(takesOptions ? await readPushOptions(reader) : [])
  } catch (error) {
    if (!(error instanceof ProtocolError) || list.updates.length === 0) throw error
    throw new CommandsRefused(commandsWith([]), new Map(), error)
  }
  const reasons = refusals(list.updates)
  if (reasons.size > 0) throw new CommandsRefused(commands, reasons)
  return commands
}

/** The next payload of a section, or its end. */
async function section(reader: PacketReader): Promise<Buffer | 'end'> {
  const packet = await reader.read()
  if (packet?.kind === 'data') return packet.payload
  if (packet?.kind === 'flush') return 'end'
  throw unexpectedEnd(packet, reader)
}

// git ends the section at 0001, 0002 and the end of input as well; a host that does not would read on and find commands.
function unexpectedEnd(packet: Packet | undefined, reader: PacketReader): ProtocolError {
  if (packet)
    return new ProtocolError('ERR_PUSH_SECTION', `the commands end with ${packet.kind}, not with a flush packet`)
  if (reader.raw().length === 0) return new ProtocolError('ERR_PUSH_EMPTY', 'the push has no commands')
  return new ProtocolError('ERR_PUSH_SECTION', 'the push ended before its flush packet')
}

class CommandList {
  readonly updates: RefUpdate[] = []
  readonly capabilities = new Map<string, string>()
  readonly shallows: string[] = []
  readonly #max: number
  /** undefined until the first command has been read. */
  #format: ObjectFormat | undefined

  constructor(max: number) {
    this.#max = max
  }

  get format(): ObjectFormat {
    return this.#format ?? 'sha1'
  }

  add(payload: Buffer): void {
    // git takes one line feed off the end, and no more.
    const text = payload.at(-1) === 0x0a ? payload.subarray(0, -1) : payload
    if (startsWith(text, 'shallow ')) {
      this.#shallow(text)
      return
    }
    const nul = text.indexOf(0)
    const command = nul < 0 ? text : text.subarray(0, nul)
    // Run by git in addition to the plain commands, and whether or not a nonce was offered: a list within the list,
    // in which any ref could be named. With or without the NUL, and whatever would be read as its beginning.
    if (startsWith(command, 'push-cert')) {
      throw new ProtocolError('ERR_PUSH_CERT', 'signed pushes are not passed on; push with --no-signed')
    }
    if (nul >= 0) this.#ask(text.subarray(nul + 1))
    this.#format ??= 'sha1'
    if (this.updates.length === this.#max) {
      throw new ProtocolError('ERR_PUSH_COMMANDS_MAX', `more than ${this.#max} ref updates in one push; push in parts`)
    }
    this.updates.push(this.#command(command))
  }

  #shallow(text: Buffer): void {
    const id = text.subarray('shallow '.length).toString('latin1')
    // The format is named behind the first command, which shallow lines come before.
    const known = objectId(id, 'sha1') ?? objectId(id, 'sha256')
    if (!known) throw new ProtocolError('ERR_PUSH_SHALLOW', 'a shallow line without an object id')
    this.shallows.push(known)
  }

  /** Capabilities behind the NUL of any line: git heeds them on each, so a second line can ask for what the first did not. */
  #ask(bytes: Buffer): void {
    // A decoy: git ends the list at a second NUL, and what follows it can look like a ref to another reader.
    if (bytes.includes(0)) throw new ProtocolError('ERR_PUSH_NUL', 'a command line with two NULs')
    const asked = parseCapabilities(bytes.toString('latin1'))
    for (const { name, value = '' } of asked) {
      const before = this.capabilities.get(name)
      if (before === undefined) this.capabilities.set(name, value)
      else if (before !== value && name === 'object-format') {
        throw new ProtocolError('ERR_PUSH_OBJECT_FORMAT', 'two object formats in one push')
      }
    }
    const format = objectFormat(this.capabilities.get('object-format'))
    if (!format) throw new ProtocolError('ERR_PUSH_OBJECT_FORMAT', 'an object format that is not known here')
    if (this.#format !== undefined && this.#format !== format) {
      throw new ProtocolError('ERR_PUSH_OBJECT_FORMAT', 'the object format is named after the first command')
    }
    this.#format = format
  }

  #command(bytes: Buffer): RefUpdate {
    const text = utf8(bytes)
    const [, before = '', after = '', ref = ''] = /^([^ ]*) ([^ ]*) (.+)$/s.exec(text ?? '') ?? []
    const old = objectId(before, this.format)
    const now = objectId(after, this.format)
    if (!old || !now || ref === '') throw new ProtocolError('ERR_PUSH_COMMAND', 'a command that is not "old new ref"')
    return { ref, old, new: now, kind: isZero(now) ? 'delete' : isZero(old) ? 'create' : 'update' }
  }
}

function startsWith(bytes: Buffer, text: string): boolean {
  return bytes.length >= text.length && bytes.toString('latin1', 0, text.length) === text
}

// Hosts hand push options to hooks by environment, by lines and by headers (CVE-2026-3854: a `;` in one became a field of
// the host's own): line ends and NUL are refused here, all the rest is data.
async function readPushOptions(reader: PacketReader): Promise<string[]> {
  const options: string[] = []
  for (let payload = await section(reader); payload !== 'end'; payload = await section(reader)) {
    const bytes = payload.at(-1) === 0x0a ? payload.subarray(0, -1) : payload
    if (options.length === PUSH_OPTIONS_MAX) {
      throw new ProtocolError('ERR_PUSH_OPTIONS_MAX', `more than ${PUSH_OPTIONS_MAX} push options`)
    }
    if (bytes.length > PUSH_OPTION_BYTES_MAX) {
      throw new ProtocolError('ERR_PUSH_OPTION', `a push option of more than ${PUSH_OPTION_BYTES_MAX} bytes`)
    }
    const option = utf8(bytes)
    if (option === undefined || /[\x00-\x1f\x7f]/.test(option)) {
      throw new ProtocolError('ERR_PUSH_OPTION', 'a push option with a control character in it')
    }
    options.push(option)
  }
  return options
}

/** Refs that nobody may write whatever the grant, and why. */
function refusals(updates: readonly RefUpdate[]): Map<string, string> {
  const reasons = new Map<string, string>()
  const seen = new Set<string>()
  for (const { ref } of updates) {
    const reason = checkRefname(ref)
    if (reason) reasons.set(ref, reason)
    // A replacement stands in for an object wherever it is read; one that points to itself breaks the repository.
    else if (specialNamespaceOf(ref) === 'replace') reasons.set(ref, 'replacements are never pushed through this gate')
    else if (seen.has(ref)) reasons.set(ref, 'the push names this ref twice')
    seen.add(ref)
  }
  return reasons
}
