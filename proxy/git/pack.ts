import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import { deflateSync } from 'node:zlib'
import { ProtocolError } from './pktline.ts'

// gitformat-pack: `PACK`, version (4 bytes), number of objects (4 bytes), the objects, a checksum as long as an object id.

export const PACK_HEADER_BYTES = 12

export interface PackHeader {
  readonly version: number
  readonly objects: number
}

/** The header in the first bytes of a pack; undefined when they are no pack's. */
export function parsePackHeader(bytes: Buffer): PackHeader | undefined {
  if (bytes.length < PACK_HEADER_BYTES || bytes.toString('latin1', 0, 4) !== 'PACK') return undefined
  const version = bytes.readUInt32BE(4)
  const objects = bytes.readUInt32BE(8)
  return (version === 2 || version === 3) && objects < OBJECTS_MAX ? { version, objects } : undefined
}

/** One more than the field can say would be none. */
const OBJECTS_MAX = 0xffff_ffff
/** Five random bits in each. */
const SALT_BLOCKS = 26
/**
 * What the object holds that a pack is salted with. The same for all packs of this process, so that a host is left with one
 * such object and not with one a push; foretold by nobody, because a pack that held it already would have it twice, which
 * `git index-pack --strict` takes for damage. (The empty blob would not do: it is in every pack with an empty file.)
 */
const SALT_CONTENT = randomBytes(15)

/**
 * The beginning of the same pack with one object more, a small blob, deflated in a way nobody can foretell: behind empty
 * stored blocks, whose padding bits mean nothing (RFC 1951, section 3.2.4). Whoever wrote the pack does not know the
 * checksum it ends with now, and so cannot have put that checksum anywhere into it. In front of the others, because these
 * name each other by their distance.
 */
export function saltedHeader(header: Buffer): Buffer {
  const counted = Buffer.from(header.subarray(0, PACK_HEADER_BYTES))
  counted.writeUInt32BE(counted.readUInt32BE(8) + 1, 8)
  return Buffer.concat([counted, saltedBlob(randomBytes(SALT_BLOCKS))])
}

// gitformat-pack: type (3) and size in one byte; then zlib (RFC 1950): two bytes of header, the blocks, Adler-32.
function saltedBlob(salt: Buffer): Buffer {
  const deflated = deflateSync(SALT_CONTENT, { level: 0 })
  const blocks = [...salt].map(bits => Buffer.of(bits & 0xf8, 0, 0, 0xff, 0xff))
  return Buffer.concat([
    Buffer.of(0x30 | SALT_CONTENT.length),
    deflated.subarray(0, 2),
    ...blocks,
    deflated.subarray(2),
  ])
}

/**
 * Reads the header of the pack that `source` stands at and puts it back, so that `source` still begins with it.
 *
 * @throws ProtocolError when there is none: a second list of commands behind the first is one such thing
 */
export async function peekPackHeader(source: Readable): Promise<PackHeader> {
  const header = parsePackHeader(await peek(source, PACK_HEADER_BYTES))
  if (!header) throw new ProtocolError('ERR_PACK_HEADER', 'the commands of the push are not followed by a pack')
  return header
}

/** The first `count` bytes, or the fewer that come before the end; they stay in the stream. */
async function peek(source: Readable, count: number): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const look = () => {
    const bytes: Buffer | null = source.read(count)
    if (bytes === null) return
    // At once, and only once: a second `readable` may come before whoever waits for the promise is told.
    source.off('readable', look)
    source.unshift(bytes)
    resolve(bytes)
  }
  const onEnd = () => resolve(Buffer.alloc(0))
  const onClose = () => reject(source.errored ?? new ProtocolError('ERR_PKT_EOF', 'the connection was closed'))
  source.on('readable', look).on('end', onEnd).on('error', reject).on('close', onClose)
  try {
    if (source.readableEnded) onEnd()
    else if (source.destroyed) onClose()
    // Not only when told: a `readable` that was for the reader before us is not said again.
    else look()
    return await promise
  } finally {
    source.off('readable', look).off('end', onEnd).off('error', reject).off('close', onClose)
  }
}
