import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
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
 * The beginning of the same pack with one object more, an empty blob, deflated in a way nobody can foretell: as empty
 * stored blocks, whose padding bits mean nothing (RFC 1951, section 3.2.4). Whoever wrote the pack does not know the
 * checksum it ends with now, and so cannot have put that checksum anywhere into it.
 */
export function saltedHeader(header: Buffer): Buffer {
  const counted = Buffer.from(header.subarray(0, PACK_HEADER_BYTES))
  counted.writeUInt32BE(counted.readUInt32BE(8) + 1, 8)
  return Buffer.concat([counted, emptyBlob(randomBytes(SALT_BLOCKS))])
}

// gitformat-pack: type and size in one byte, 3 and 0; then zlib (RFC 1950): two bytes of header, the blocks, Adler-32.
function emptyBlob(salt: Buffer): Buffer {
  const blocks = [...salt].map((bits, at) => {
    const last = at === salt.length - 1 ? 1 : 0
    return Buffer.of((bits & 0xf8) | last, 0, 0, 0xff, 0xff)
  })
  return Buffer.concat([Buffer.of(0x30, 0x78, 0x01), ...blocks, Buffer.of(0, 0, 0, 1)])
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
