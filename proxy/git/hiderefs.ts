import { PassThrough, pipeline, type Readable } from 'node:stream'
import { type Advertisement, symrefs } from './advertisement.ts'
import { type Capability, formatCapability } from './capabilities.ts'
import { type ObjectFormat, objectId } from './objectid.ts'
import { FLUSH, line, PacketReader, ProtocolError, packet } from './pktline.ts'
import { utf8 } from './refname.ts'

// What a host tells of its refs, with some of them left out: as git's own `transfer.hideRefs`, but for one reader.
//   v0, v1   <id> SP <ref> NUL <capabilities> LF   <id> SP <ref> LF   <id> SP <ref>^{} LF …   [shallow <id>]…   0000
//   ls-refs  <id> SP <ref> [SP symref-target:<ref>] [SP peeled:<id>] LF …   0000      (gitprotocol-v2, "ls-refs")

/** What somebody is shown. */
export interface View {
  /** Whether a full ref name is among what they may read. */
  covers(ref: string): boolean
  /** Told of each that goes by to them, and what it stands at; what a tag points to comes by the tag's own name. */
  shown?(ref: string, id: string): void
}

/** git's own bound of a line is a packet. */
const LINE_BYTES_MAX = 0xffff

/** A ref as it is told by ls-refs. */
interface ListedRef {
  readonly name: string
  /** undefined: it has no commit yet. */
  readonly id?: string
  /** What a tag points to. */
  readonly peeled?: string
  /** The ref that this one stands for. */
  readonly target?: string
}

/**
 * Whether a ref is shown. One that stands for another is that other one: a name that may be read must not lead to one
 * that may not. `HEAD` is nothing by itself.
 */
function isShown({ name, target }: ListedRef, { covers }: View): boolean {
  if (name === 'HEAD') return target !== undefined && covers(target)
  return covers(name) && (target === undefined || covers(target))
}

/** One line of an answer to ls-refs; undefined when it is none. */
function readListedRef(payload: Buffer, format: ObjectFormat): ListedRef | undefined {
  // A name that is no UTF-8 is never one that a window speaks of.
  const [first = '', name, ...attributes] = (utf8(payload) ?? '').replace(/\n$/, '').split(' ')
  const id = objectId(first, format)
  if (name === undefined || (id === undefined && first !== 'unborn')) return undefined
  const attribute = (key: string) => attributes.find(each => each.startsWith(key))?.slice(key.length)
  const target = attribute('symref-target:')
  const peeled = objectId(attribute('peeled:') ?? '', format)
  return { name, ...(id && { id }), ...(peeled && { peeled }), ...(target !== undefined && { target }) }
}

/** The answer to an ls-refs without the lines that are not to be seen. */
export function hideListed(answer: Readable, format: ObjectFormat, view: View): Readable {
  const shown = new PassThrough()
  // The outcome is the stream's own: it ends, or it is destroyed with the error.
  pipeline(listed(answer, format, view), shown, () => {})
  // Who waits for its input cannot be told to stop: the input is.
  shown.once('close', () => shown.readableEnded || answer.destroy())
  return shown
}

async function* listed(answer: Readable, format: ObjectFormat, view: View): AsyncGenerator<Buffer> {
  for await (const { payload, ref } of readListed(answer, format)) {
    if (ref ? isShown(ref, view) : isError(payload)) yield packet(payload)
    if (ref) tell(ref, view)
  }
  yield FLUSH
}

/**
 * The refs a host tells in answer to ls-refs, of those in `view`.
 *
 * @throws ProtocolError when it does not tell them
 */
export async function takeListed(answer: Readable, format: ObjectFormat, view: View): Promise<void> {
  for await (const { payload, ref } of readListed(answer, format)) {
    if (isError(payload)) throw notRefs()
    if (ref) tell(ref, view)
  }
}

async function* readListed(
  answer: Readable,
  format: ObjectFormat,
): AsyncGenerator<{ payload: Buffer; ref?: ListedRef }> {
  const reader = new PacketReader(answer, { limit: LINE_BYTES_MAX })
  for (let payload = await next(reader); payload; payload = await next(reader)) {
    const ref = readListedRef(payload, format)
    yield { payload, ...(ref && { ref }) }
  }
  // To its end: only then is the connection fit for the next question.
  await reader.read()
}

function tell(ref: ListedRef, view: View): void {
  if (!isShown(ref, view)) return
  for (const id of [ref.id, ref.peeled]) if (id) view.shown?.(ref.name, id)
}

const isError = (payload: Buffer) => payload.toString('latin1', 0, 4) === 'ERR '

/** The refs and the flush packet of an advertisement of protocol 0 or 1, with these capabilities and without what is not to be seen. */
export async function* hideAdvertised(
  head: Advertisement,
  capabilities: readonly Capability[],
  view: View,
): AsyncGenerator<Buffer> {
  if (head.protocol === 1) yield line('version 1')
  const targets = symrefs(capabilities)
  const told = capabilities.filter(({ name, value }) => name !== 'symref' || view.covers(value?.split(':')[1] ?? ''))
  const list = told.map(formatCapability).join(' ')
  const shows = (advertised: string) => {
    const name = advertised.replace(/\^\{\}$/, '')
    const target = targets.get(name)
    return isShown({ name, ...(target !== undefined && { target }) }, view) ? name : undefined
  }

  // The capabilities stand on the first line, whichever that comes to be.
  let begun = false
  const first = (text: string) => {
    begun = true
    return packet(Buffer.from(`${text}\0${list}\n`))
  }
  const nothing = () => first(`${'0'.repeat(head.objectFormat === 'sha256' ? 64 : 40)} capabilities^{}`)
  const show = (id: string, name: string) => {
    const shown = shows(name)
    if (shown === undefined) return undefined
    view.shown?.(shown, id)
    return begun ? line(`${id} ${name}`) : first(`${id} ${name}`)
  }

  const before = head.first && show(head.first.id, head.first.name)
  if (before) yield before
  const reader = new PacketReader(head.rest, { limit: LINE_BYTES_MAX })
  for (let payload = await next(reader); payload; payload = await next(reader)) {
    const text = (utf8(payload) ?? '').replace(/\n$/, '')
    const blank = text.indexOf(' ')
    if (text.startsWith('shallow ')) {
      if (!begun) yield nothing()
      yield line(text)
      continue
    }
    const id = objectId(text.slice(0, Math.max(0, blank)), head.objectFormat)
    const ref = id && show(id, text.slice(blank + 1))
    if (ref) yield ref
  }
  if (!begun) yield nothing()
  yield FLUSH
}

/** The payload of the next packet; undefined at the flush. */
async function next(reader: PacketReader): Promise<Buffer | undefined> {
  reader.forget()
  const packet = await reader.read()
  if (packet?.kind === 'flush') return undefined
  if (packet?.kind !== 'data') throw notRefs()
  return packet.payload
}

function notRefs(): ProtocolError {
  return new ProtocolError('ERR_REFS', 'the Git host did not tell its refs in a form known here')
}
