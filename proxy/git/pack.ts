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
  return version === 2 || version === 3 ? { version, objects: bytes.readUInt32BE(8) } : undefined
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
    return await promise
  } finally {
    source.off('readable', look).off('end', onEnd).off('error', reject).off('close', onClose)
  }
}
