import { PassThrough, pipeline, type Readable, type Writable } from 'node:stream'
import {
  type Capability,
  capabilityValue,
  formatCapability,
  parseCapabilities,
  parseCapability,
} from './capabilities.ts'
import { type ObjectFormat, objectFormat, objectId } from './objectid.ts'
import { FLUSH, line, PacketReader, ProtocolError, packet, wholePackets } from './pktline.ts'

// v0  <id> SP <ref> NUL <capabilities> LF   <id> SP <ref> LF …   [shallow <id>]…   0000
// v1  version 1   then as v0
// v2  version 2   <capability> LF …   0000
// A repository without refs: <zeros> SP capabilities^{} NUL <capabilities>, or the flush packet alone.

const HEAD_BYTES_MAX = 256 << 10

/** What a host says of itself before anything is asked of it. */
export interface Advertisement {
  readonly protocol: 0 | 1 | 2
  readonly capabilities: readonly Capability[]
  readonly objectFormat: ObjectFormat
  /** v0 and v1: the ref on the first line; undefined for v2 and for a repository without refs. */
  readonly first?: AdvertisedRef
  /** What was read so far, with these capabilities in the place of the host's. */
  encode(capabilities: readonly Capability[]): Buffer
  /** Behind what `encode` gives: the other refs and the flush packet (v0 and v1), or the end of it (v2). */
  readonly rest: Readable
  /** true when the flush packet has been read: nothing more is to come. */
  readonly ended: boolean
}

export interface AdvertisedRef {
  /** As advertised: `HEAD`, a full name, `.have`, or one of these with `^{}` behind it for what a tag points to. */
  readonly name: string
  readonly id: string
}

/**
 * Reads the head of an advertisement, as far as the capabilities go.
 *
 * @throws ProtocolError when it is none; with the host's own words if it sent `ERR`
 */
export async function readAdvertisement(source: Readable): Promise<Advertisement> {
  const reader = new PacketReader(source, { limit: HEAD_BYTES_MAX })
  let text = await headLine(reader)
  if (text === 'version 2') return readV2(reader)
  const protocol = text === 'version 1' ? 1 : 0
  if (protocol === 1) text = await headLine(reader)
  const version = protocol === 1 ? line('version 1') : Buffer.alloc(0)
  if (text === undefined) {
    const encode = () => Buffer.concat([version, FLUSH])
    return { protocol, capabilities: [], objectFormat: 'sha1', encode, rest: reader.rest(), ended: true }
  }

  const nul = text.indexOf('\0')
  const refLine = nul < 0 ? text : text.slice(0, nul)
  const capabilities = nul < 0 ? [] : parseCapabilities(text.slice(nul + 1))
  const format = formatOf(capabilities)
  const first = refOf(refLine, format)
  if (!first) throw notGit()
  return {
    protocol,
    capabilities,
    objectFormat: format,
    ...(first.name !== 'capabilities^{}' && { first }),
    encode: edited => {
      const list = edited.map(formatCapability).join(' ')
      return Buffer.concat([version, packet(Buffer.from(`${refLine}\0${list}\n`, 'latin1'))])
    },
    rest: reader.rest(),
    ended: false,
  }
}

async function readV2(reader: PacketReader): Promise<Advertisement> {
  const capabilities: Capability[] = []
  for (let text = await headLine(reader); text !== undefined; text = await headLine(reader)) {
    capabilities.push(parseCapability(text))
  }
  return {
    protocol: 2,
    capabilities,
    objectFormat: formatOf(capabilities),
    encode: edited => {
      const lines = edited.map(each => packet(Buffer.from(`${formatCapability(each)}\n`, 'latin1')))
      return Buffer.concat([line('version 2'), ...lines, FLUSH])
    },
    rest: reader.rest(),
    ended: true,
  }
}

/** The next line, its bytes one for one as latin1 so that they go on unchanged; undefined at the flush packet. */
async function headLine(reader: PacketReader): Promise<string | undefined> {
  const packet = await reader.read()
  if (packet?.kind === 'flush') return undefined
  if (packet?.kind !== 'data') throw notGit()
  const text = packet.payload.toString('latin1').replace(/\n$/, '')
  if (text.startsWith('ERR ')) throw new ProtocolError('ERR_HOST', packet.payload.toString('utf8').slice(4).trim())
  return text
}

function notGit(): ProtocolError {
  return new ProtocolError('ERR_ADVERTISEMENT', 'the host answered with something that is no ref advertisement')
}

function formatOf(capabilities: readonly Capability[]): ObjectFormat {
  const format = objectFormat(capabilityValue(capabilities, 'object-format'))
  if (!format) throw new ProtocolError('ERR_ADVERTISEMENT', 'the host uses an object format that is not known here')
  return format
}

function refOf(text: string, format: ObjectFormat): AdvertisedRef | undefined {
  const blank = text.indexOf(' ')
  const id = objectId(text.slice(0, Math.max(0, blank)), format)
  return id === undefined ? undefined : { id, name: Buffer.from(text.slice(blank + 1), 'latin1').toString('utf8') }
}

/**
 * The advertisement with its capabilities changed by `edit`, as a stream that can be cut between any two of its packets.
 * `refs` gives the refs of protocol 0 and 1, where they are not to go on as they are.
 */
export function rewriteAdvertisement(source: Readable, edit: EditCapabilities, refs?: RewriteRefs): Readable {
  const advertisement = new PassThrough()
  // The outcome is the stream's own: it ends, or it is destroyed with the error.
  rewrite(source, advertisement, edit, refs).catch(error => advertisement.destroy(error))
  // Who waits for its input cannot be told to stop: the input is.
  advertisement.once('close', () => advertisement.readableEnded || source.destroy())
  return advertisement
}

type EditCapabilities = (capabilities: readonly Capability[]) => readonly Capability[]
type RewriteRefs = (head: Advertisement, capabilities: readonly Capability[]) => AsyncIterable<Buffer>

async function rewrite(
  source: Readable,
  to: Writable,
  edit: EditCapabilities,
  refs: RewriteRefs | undefined,
): Promise<void> {
  const head = await readAdvertisement(source)
  const capabilities = edit(head.capabilities)
  if (!head.ended) {
    if (source.destroyed && !source.readableEnded) throw source.errored ?? notGit()
    // By what the host says, not by what was asked of it: one that is too old for protocol 2 answers with its refs.
    if (refs) {
      pipeline(refs(head, capabilities), to, () => {})
      return
    }
    to.write(head.encode(capabilities))
    pipeline(source, wholePackets(), to, () => {})
    return
  }
  to.write(head.encode(capabilities))
  // Whatever a host says behind its flush packet is no part of the advertisement.
  source.resume()
  to.end()
}

/** What symbolic refs point to: `symref=HEAD:refs/heads/main` as `HEAD` → `refs/heads/main`. */
export function symrefs(capabilities: readonly Capability[]): Map<string, string> {
  const found = new Map<string, string>()
  for (const { name, value } of capabilities) {
    const colon = value?.indexOf(':') ?? -1
    if (name === 'symref' && value !== undefined && colon > 0) found.set(value.slice(0, colon), value.slice(colon + 1))
  }
  return found
}
