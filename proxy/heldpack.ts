import { createHash, type Hash } from 'node:crypto'
import { Readable } from 'node:stream'
import { PACK_HEADER_BYTES, saltedHeader } from './git/pack.ts'

export interface HeldPackOptions {
  /** The commands; held back themselves when no pack follows, because then they are what changes the host. */
  readonly commands: Buffer
  readonly hasPack: boolean
  readonly pack: Readable
  /** Bytes of the checksum a pack ends with: without them no host moves a ref. */
  readonly trailerBytes: number
  /**
   * How the end of the pack is known. `end`: the request ends (HTTP). `checksum`: the bytes so far end in their own
   * checksum; git over SSH keeps its side open while it waits for the report.
   */
  readonly endsBy: 'end' | 'checksum'
  /** Shown every byte of the pack, the trailer included, before the trailer is let go; may ask to be waited for. */
  onBytes?(chunk: Buffer): Promise<void> | undefined
  /**
   * Asked once, when everything but the trailer has gone; `whole`: the pack ends where it says, in its own checksum. False
   * ends the stream in error: the push cannot land.
   */
  release(whole: boolean): Promise<boolean>
}

/** What the host may leave lying before the client is stopped. */
const WINDOW_BYTES = 256 << 10

/** The push was not let go. Carries no blame: who asked for the release knows why. */
export class NotReleased extends Error {
  constructor() {
    super('the last bytes of the push were held back')
    this.name = 'NotReleased'
  }
}

/**
 * The body of a push for the host: the commands and the pack, which is given its trailer when `release` says yes.
 *
 * Holding back the last bytes of the request alone would not do: with a few bytes more behind the pack, the host would
 * have all of it before anybody was asked, and move its refs. So the pack is salted, see `saltedHeader`: no trailer that
 * the client sends fits what the host reads, wherever it stands, and the one that does is made here, at the end.
 *
 * Copies nothing but the tail of small chunks; a host that reads slowly stops the client.
 */
export function heldPack(options: HeldPackOptions): Readable {
  const { pack, trailerBytes, commands } = options
  let tail: Buffer = Buffer.alloc(0)
  let started = false
  let finished = false
  /** The host takes more; somebody who is shown the bytes asked to be waited for. */
  let wanted = false
  let waiting = false
  let shown: Promise<void> | undefined
  const algorithm = trailerBytes === 32 ? 'sha256' : 'sha1'
  /** Over what the client sent, and over what the host is sent. */
  const said = createHash(algorithm)
  const sent = createHash(algorithm)
  /** The pack's header while it is not complete. */
  let header: Buffer | undefined = Buffer.alloc(0)

  const body = new Readable({
    highWaterMark: WINDOW_BYTES,
    read() {
      wanted = true
      if (started) {
        goOn()
        return
      }
      started = true
      if (!options.hasPack) {
        tail = commands
        void finish()
        return
      }
      this.push(commands)
      pack.on('data', onData).once('end', onEnd).once('error', onError).once('close', onClose)
      pack.resume()
    },
    destroy(error, done) {
      leave()
      // Whoever answers the client reads on from here.
      pack.pause()
      done(error)
    },
  })

  const goOn = () => {
    // No longer ours: pausing it now would stop whoever reads the rest of it away.
    if (finished) return
    if (!waiting && wanted) pack.resume()
    else pack.pause()
  }

  const leave = () => {
    finished = true
    pack.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose)
  }

  const onData = (chunk: Buffer) => {
    shown = options.onBytes?.(chunk)
    advance(chunk)
    if (options.endsBy === 'checksum' && endsInItsChecksum(said, tail, trailerBytes)) {
      void finish()
      return
    }
    if (shown) {
      waiting = true
      shown.then(
        () => {
          waiting = false
          goOn()
        },
        (error: Error) => body.destroy(error),
      )
    }
    goOn()
  }

  /** Lets go of everything but the last `trailerBytes`. */
  const advance = (chunk: Buffer): void => {
    const spare = tail.length + chunk.length - trailerBytes
    if (spare <= 0) {
      tail = Buffer.concat([tail, chunk])
      return
    }
    const fromTail = Math.min(spare, tail.length)
    const fromChunk = spare - fromTail
    if (fromTail > 0) pass(tail.subarray(0, fromTail))
    if (fromChunk > 0) pass(chunk.subarray(0, fromChunk))
    const kept = chunk.subarray(fromChunk)
    tail = fromTail === tail.length ? kept : Buffer.concat([tail.subarray(fromTail), kept])
  }

  const pass = (bytes: Buffer): void => {
    said.update(bytes)
    let rest = bytes
    if (header) {
      const missing = PACK_HEADER_BYTES - header.length
      header = Buffer.concat([header, bytes.subarray(0, missing)])
      if (header.length < PACK_HEADER_BYTES) return
      rest = bytes.subarray(missing)
      give(saltedHeader(header))
      header = undefined
    }
    if (rest.length > 0) give(rest)
  }

  const give = (bytes: Buffer): void => {
    sent.update(bytes)
    body.push(bytes)
    // Not what `push` returned: the host may have taken it, and asked for more, while it was being pushed.
    wanted = body.readableLength < WINDOW_BYTES
  }

  const onEnd = () => void finish()
  const onError = (error: Error) => body.destroy(error)
  const onClose = () => {
    if (!finished) body.destroy(new Error('the client broke off'))
  }

  const finish = async (): Promise<void> => {
    if (finished) return
    leave()
    try {
      await shown
      const whole = !options.hasPack || endsInItsChecksum(said, tail, trailerBytes)
      if (!(await options.release(whole)) || !whole) {
        body.destroy(new NotReleased())
        return
      }
    } catch (error) {
      body.destroy(error instanceof Error ? error : new Error(String(error)))
      return
    }
    if (body.destroyed) return
    body.push(options.hasPack ? sent.digest() : tail)
    body.push(null)
  }

  return body
}

function endsInItsChecksum(sum: Hash, tail: Buffer, trailerBytes: number): boolean {
  return tail.length === trailerBytes && sum.copy().digest().equals(tail)
}
