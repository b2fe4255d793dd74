import { Readable } from 'node:stream'

/** `bytes` as a stream that hands them out in two parts, parted at `at`. */
export function splitAt(bytes: Buffer, at: number): Readable {
  return chunks(bytes.subarray(0, at), bytes.subarray(at))
}

/** A stream of these chunks, each pushed in a turn of its own, as sockets do. */
export function chunks(...parts: Buffer[]): Readable {
  const left = parts.filter(part => part.length > 0)
  return new Readable({
    read() {
      setImmediate(() => this.push(left.shift() ?? null))
    },
  })
}

/** `bytes` one at a time. */
export function trickle(bytes: Buffer): Readable {
  return chunks(...Array.from(bytes, byte => Buffer.of(byte)))
}

export async function collect(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of stream) parts.push(part)
  return Buffer.concat(parts)
}
