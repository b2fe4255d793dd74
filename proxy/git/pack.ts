import { type Readable, Transform, type TransformCallback } from 'node:stream'
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

/**
 * Passes everything on but the last `bytes` bytes, which it gives up only when `release` is called: no ref moves on the
 * host while its pack lacks a byte. Holds slices of what came in, never a copy.
 */
export class HeldTail extends Transform {
  /** Resolves when the input has ended and nothing but the tail is still here. Never rejects. */
  readonly whole: Promise<void>
  readonly #bytes: number
  readonly #onWhole: () => void
  #held: Buffer[] = []
  #heldBytes = 0
  #end: TransformCallback | undefined

  constructor(bytes: number) {
    super()
    this.#bytes = bytes
    const { promise, resolve } = Promise.withResolvers<void>()
    this.whole = promise
    this.#onWhole = resolve
  }

  /** Bytes held back now. */
  get held(): number {
    return this.#heldBytes
  }

  /** Lets go of what is held, and ends if the input has ended. What comes in afterwards is held anew. */
  release(): void {
    for (const part of this.#held) this.push(part)
    this.#held = []
    this.#heldBytes = 0
    this.#end?.()
    this.#end = undefined
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#held.push(chunk)
    this.#heldBytes += chunk.length
    while (this.#heldBytes > this.#bytes) {
      const first = this.#held[0]!
      const spare = this.#heldBytes - this.#bytes
      if (first.length <= spare) this.#held.shift()
      else this.#held[0] = first.subarray(spare)
      const passed = Math.min(first.length, spare)
      this.#heldBytes -= passed
      this.push(first.subarray(0, passed))
    }
    done()
  }

  override _flush(done: TransformCallback): void {
    // With nothing held, all has been released before: there is nothing more to decide.
    if (this.#heldBytes === 0) done()
    else this.#end = done
    this.#onWhole()
  }
}

/** A transform that holds back the last `bytes` bytes of what goes through it until it is told to `release` them. */
export function holdTail(bytes: number): HeldTail {
  return new HeldTail(bytes)
}
