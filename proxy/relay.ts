import type { Readable, Writable } from 'node:stream'
import { FLUSH, PacketCounter, type Watch } from './git/pktline.ts'
import type { Session } from './session.ts'

export interface RelayOptions {
  /** false: the bytes are a bare pack without packets around it, and can only be passed or stopped. */
  readonly framed: boolean
  /** Shown each packet as it goes by, see `PacketCounter`. */
  readonly watch?: Watch
  readonly head?: number
  /** After negotiation without side-band a bare pack follows the packets. */
  readonly packMayFollow?: boolean
  /** Shown every chunk before it is counted into packets. */
  readonly tap?: (chunk: Buffer) => void
  /** Asked once before the bytes just watched go on; a refusal stops them. */
  readonly before?: () => Promise<boolean> | undefined
  /** A packet to put between two others as soon as it is there, once. */
  readonly insert?: () => Buffer | undefined
}

/** How a relay came to its end. `stopped`: the session's signal, or `before` said no. */
export type Relayed = 'ended' | 'stopped'

/**
 * Carries the host's answer to the client, whole packets only, so that wherever it is stopped the client stands at a
 * packet boundary and can be told why. Holds at most one unfinished packet; nothing is copied; a client that reads
 * slowly stops the host from sending.
 *
 * Rejects when the host breaks off or sends what is no packet. Ends neither stream.
 */
export function relay(from: Readable, to: Writable, session: Session, options: RelayOptions): Promise<Relayed> {
  const { signal } = session
  const counter = options.framed
    ? new PacketCounter({
        head: options.head ?? 0,
        watch: (length, head) => {
          last = length
          options.watch?.(length, head)
        },
        packMayFollow: options.packMayFollow ?? false,
      })
    : undefined
  let last = -1
  let held: Buffer[] = []
  let inserted = options.insert === undefined
  let asking = false
  let over = false

  return new Promise<Relayed>((resolve, reject) => {
    const finish = (how: Relayed | Error) => {
      if (over) return
      over = true
      signal.removeEventListener('abort', onAbort)
      from.off('data', onData).off('end', onEnd).off('error', finish)
      to.off('drain', onDrain).off('close', onClientClosed).off('error', onClientClosed)
      // Late errors of a source that is thrown away are nobody's.
      from.on('error', () => {})
      if (how instanceof Error) {
        from.destroy()
        reject(how)
        return
      }
      if (how === 'stopped') from.destroy()
      resolve(how)
    }
    const onAbort = () => finish('stopped')
    const onClientClosed = () => finish('stopped')
    const onDrain = () => {
      if (!asking) from.resume()
    }

    const write = (bytes: Buffer): boolean => {
      session.bytesOut += bytes.length
      return to.write(bytes)
    }

    const forward = (chunk: Buffer, boundary: number): void => {
      let flowing = true
      const note = inserted ? undefined : options.insert?.()
      if (note) inserted = true
      // Nothing may follow the flush that ends an answer, so the note goes before it; what is held begins a packet.
      const early = note && last === 0 && boundary < FLUSH.length
      if (early) write(note)
      for (const part of held) flowing = write(part)
      held = []
      if (note && !early) {
        const upTo = last === 0 ? boundary - FLUSH.length : boundary
        if (upTo > 0) write(chunk.subarray(0, upTo))
        flowing = write(note)
        if (last === 0) flowing = write(FLUSH)
      } else if (boundary > 0) {
        flowing = write(boundary === chunk.length ? chunk : chunk.subarray(0, boundary))
      }
      if (boundary < chunk.length) held.push(chunk.subarray(boundary))
      if (!flowing) from.pause()
    }

    const onData = (chunk: Buffer) => {
      options.tap?.(chunk)
      let boundary = chunk.length
      if (counter) {
        try {
          boundary = counter.count(chunk)
        } catch (error) {
          finish(error as Error)
          return
        }
        if (boundary === 0) {
          held.push(chunk)
          return
        }
      }
      const permission = options.before?.()
      if (!permission) {
        forward(chunk, boundary)
        return
      }
      asking = true
      from.pause()
      permission.then(
        allowed => {
          asking = false
          if (over) return
          if (!allowed) {
            finish('stopped')
            return
          }
          from.resume()
          forward(chunk, boundary)
        },
        (error: Error) => finish(error),
      )
    }
    const onEnd = () => {
      // `asking` pauses the source, so its end cannot come in between.
      if (held.length > 0) finish(new Error('the host broke off inside a packet'))
      else finish('ended')
    }

    if (signal.aborted) {
      finish('stopped')
      return
    }
    signal.addEventListener('abort', onAbort, { once: true })
    from.on('data', onData).on('end', onEnd).on('error', finish)
    to.on('drain', onDrain).on('close', onClientClosed).on('error', onClientClosed)
    if (to.destroyed) finish('stopped')
  })
}
