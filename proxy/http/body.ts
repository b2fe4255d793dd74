import type { IncomingMessage } from 'node:http'
import { pipeline, Readable, Transform } from 'node:stream'
import { createGunzip, type ZlibOptions } from 'node:zlib'
import { ProtocolError } from '../git/pktline.ts'

/** git zips its wants and haves, and never a pack: half a million of each fit in here. */
export const GUNZIPPED_BYTES_MAX = 64 << 20
/** Object ids in hex shrink to about a half. Only text that says the same thing again and again shrinks more than this. */
export const GUNZIP_RATIO_MAX = 100
/** Below this nobody cares about the ratio. */
const GUNZIP_RATIO_FREE_BYTES = 1 << 20

/**
 * The bytes of a request, read only as fast as they are asked for.
 *
 * Destroying it leaves the connection alone: whoever answers may still want to drain the rest, see `drain`.
 */
export class RequestBody extends Readable {
  readonly #request: IncomingMessage
  readonly #idle: number
  #timer: NodeJS.Timeout | undefined
  #bytes = 0

  /** @param idle milliseconds a client may leave us waiting for its next byte; while we do not ask, none pass */
  constructor(request: IncomingMessage, idle: number) {
    super()
    this.#request = request
    this.#idle = idle
    request.on('data', this.#onData).on('end', this.#onEnd).on('error', this.#onGone).on('close', this.#onGone)
    request.pause()
  }

  /** Bytes received, as they came: compressed where they were. */
  get bytes(): number {
    return this.#bytes
  }

  override _read(): void {
    this.#wait()
    this.#request.resume()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#timer)
    this.#request.pause()
    this.#request.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onGone)
    done(error)
  }

  #wait(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.destroy(new ProtocolError('ERR_BODY_IDLE', `no byte of the request came in ${this.#idle / 1000} seconds`))
    }, this.#idle)
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#bytes += chunk.length
    clearTimeout(this.#timer)
    if (this.push(chunk)) this.#wait()
    else this.#request.pause()
  }

  readonly #onEnd = (): void => {
    clearTimeout(this.#timer)
    this.push(null)
  }

  readonly #onGone = (): void => {
    // 'close' without 'end': node calls a request that broke off closed as well.
    if (!this.#request.complete) this.destroy(new ProtocolError('ERR_BODY_EOF', 'the client broke off its request'))
  }
}

/**
 * The body with its gzip taken off. Fails, rather than ends, on anything but one whole gzip stream: garbage behind it
 * would be bytes that the gate did not judge. Bounded in size and ratio against bombs.
 */
export function gunzip(body: RequestBody): Readable {
  // Known to node since 22.15, not yet to its types.
  const options: ZlibOptions & { rejectGarbageAfterEnd: boolean } = { rejectGarbageAfterEnd: true }
  let bytes = 0
  const bounded = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      if (bytes > GUNZIPPED_BYTES_MAX) {
        done(new ProtocolError('ERR_GUNZIP_SIZE', `a gzip body of more than ${GUNZIPPED_BYTES_MAX} bytes`))
      } else if (bytes > GUNZIP_RATIO_FREE_BYTES && bytes > body.bytes * GUNZIP_RATIO_MAX) {
        done(new ProtocolError('ERR_GUNZIP_RATIO', `a gzip body that grows more than ${GUNZIP_RATIO_MAX} times`))
      } else {
        done(null, chunk)
      }
    },
  })
  const unzip = createGunzip(options)
  // An error in any of the three is the error of the last, which is the one that is read.
  pipeline(body, unzip, bounded, () => {})
  return bounded
}

/**
 * Reads and drops what is left of a request, so that git, which reads no answer before it has sent everything, gets ours.
 *
 * @returns false when more than `bytesMax` came or `milliseconds` passed: the connection is then good for nothing more
 */
export function drain(request: IncomingMessage, bytesMax: number, milliseconds: number): Promise<boolean> {
  if (request.complete && request.readableLength === 0) {
    request.resume()
    return Promise.resolve(true)
  }
  if (request.destroyed) return Promise.resolve(false)
  return new Promise(resolve => {
    let bytes = 0
    const timer = setTimeout(() => done(false), milliseconds)
    const onData = (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > bytesMax) done(false)
    }
    const onEnd = () => done(true)
    const onClose = () => done(false)
    function done(whole: boolean) {
      clearTimeout(timer)
      request.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose)
      if (!whole) request.pause()
      resolve(whole)
    }
    request.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onClose).resume()
  })
}
