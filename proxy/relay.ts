import type { Readable, Writable } from 'node:stream'
import { FLUSH, PacketCounter, type Watch } from './git/pktline.ts'
import type { Session } from './session.ts'
import type { Lending } from './upstream/upstream.ts'

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

/** A part of a chunk that waits for the end of its packet. */
interface Part {
  readonly bytes: Buffer
  /** The chunk of which it is the last part. */
  readonly last: Buffer
}

/** How a relay came to its end. `stopped`: the session's signal, or `before` said no. */
export type Relayed = 'ended' | 'stopped'

/**
 * Carries the host's answer to the client, whole packets only, so that wherever it is stopped the client stands at a
 * packet boundary and can be told why. Holds at most one unfinished packet; nothing is copied, and memory that was lent
 * is given back once the client has it; a client that reads slowly stops the host from sending.
 *
 * Rejects when the host breaks off or sends what is no packet. Ends neither stream.
 */
export function relay(
  from: Readable & Partial<Lending>,
  to: Writable,
  session: Session,
  options: RelayOptions,
): Promise<Relayed> {
  const { signal } = session
  const counter = options.framed
    ? new PacketCounter({
        head: options.head ?? 0,
        watch: (packetLength, head) => {
          length = packetLength
          options.watch?.(packetLength, head)
        },
        packMayFollow: options.packMayFollow ?? false,
      })
    : undefined
  let length = -1
  let held: Part[] = []
  let inserted = options.insert === undefined
  let asking = false
  let ended = false
  let over = false

  return new Promise<Relayed>((resolve, reject) => {
    const finish = (how: Relayed | Error) => {
      if (over) return
      over = true
      release()
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

    // What the host's socket gave at once goes to the client's at once, however small the pieces it came in.
    let gathering = false
    const gather = () => {
      if (gathering) return
      gathering = true
      to.cork()
      process.nextTick(release)
    }
    const release = () => {
      if (!gathering) return
      gathering = false
      to.uncork()
    }

    // Not where somebody is shown the chunks: it may keep them.
    const lent = from.giveBack !== undefined && options.tap === undefined
    const write = (bytes: Buffer, last?: Buffer): boolean => {
      session.carry('out', bytes.length)
      gather()
      if (!lent || !last) return to.write(bytes)
      // Of one whose write failed nobody knows whether it is still looked at.
      return to.write(bytes, error => error || from.giveBack?.(last))
    }

    const forward = (chunk: Buffer, boundary: number): void => {
      let flowing = true
      const note = inserted ? undefined : options.insert?.()
      if (note) inserted = true
      // Nothing may follow the flush that ends an answer, so the note goes before it; what is held begins a packet.
      const early = note && length === 0 && boundary < FLUSH.length
      if (early) write(note)
      for (const { bytes, last } of held) flowing = write(bytes, last)
      held = []
      const rest = boundary < chunk.length ? chunk.subarray(boundary) : undefined
      const last = rest ? undefined : chunk
      if (note && !early) {
        const upTo = length === 0 ? boundary - FLUSH.length : boundary
        if (upTo > 0) write(chunk.subarray(0, upTo), last)
        flowing = write(note)
        if (length === 0) flowing = write(FLUSH)
      } else if (boundary > 0) {
        flowing = write(rest ? chunk.subarray(0, boundary) : chunk, last)
      }
      if (rest) held.push({ bytes: rest, last: chunk })
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
          held.push({ bytes: chunk, last: chunk })
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
          if (ended) onEnd()
        },
        (error: Error) => finish(error),
      )
    }
    const onEnd = () => {
      ended = true
      // A source that is paused ends all the same when its last chunk was taken, and that one is still waiting.
      if (asking) return
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
