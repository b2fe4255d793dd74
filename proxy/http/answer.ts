import type { ServerResponse } from 'node:http'
import { Writable } from 'node:stream'

/** What may wait for a client that is slower than its host. */
const WINDOW_BYTES = 128 << 10

/** Every answer is for one person at one moment. */
const NEVER_CACHED = {
  'cache-control': 'no-cache, max-age=0, must-revalidate',
  expires: 'Fri, 01 Jan 1980 00:00:00 GMT',
  pragma: 'no-cache',
  'x-content-type-options': 'nosniff',
} as const

/** An answer that is complete with so little goes out in one piece, head and all: most of what git asks for. */
const SMALL_BYTES = 8 << 10

const NOTHING = Buffer.alloc(0)

export interface AnswerOptions {
  readonly contentType: string
  /** Sent in front of the first byte that is written: `# service=…` of an advertisement. */
  readonly preamble?: Buffer
  /** Milliseconds a client may leave a write lying. */
  readonly stall: number
}

/**
 * The body of a 200, whose head goes out with its first byte, so that a fault before that can still be told by a status.
 * Buffers are handed on as they are. Destroying it breaks the connection off: half an answer must never look whole.
 */
export class Answer extends Writable {
  readonly #response: ServerResponse
  readonly #options: AnswerOptions
  #timer: NodeJS.Timeout | undefined
  #waiting: ((error?: Error | null) => void) | undefined
  /** The beginning of the answer, held back for a moment: it may be all of it. */
  #first: Buffer | undefined
  #soon: NodeJS.Immediate | undefined
  #begun = false

  constructor(response: ServerResponse, options: AnswerOptions) {
    super({ decodeStrings: true, highWaterMark: WINDOW_BYTES })
    this.#response = response
    this.#options = options
    response.on('close', () => {
      if (!response.writableFinished) this.destroy()
    })
    // Whoever writes learns of it through the write; whoever does not is told by `gone`.
    this.on('error', () => {})
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (!this.#begun && chunk.length <= SMALL_BYTES && this.#first === undefined) {
      // A copy: with the write done, the bytes are their owner's again.
      this.#first = Buffer.from(chunk)
      this.#soon = setImmediate(() => this.#begin())
      done()
      return
    }
    this.#begin()
    this.#send(chunk, done)
  }

  // What came in while a write was under way goes out as one chunk: hosts hand out packs in pieces of a few KiB.
  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.#begin()
    const { socket } = this.#response
    // The socket as well: node lets it go before it writes what it gathered, and that was a system call for each piece.
    socket?.cork()
    this.#response.cork()
    for (const { chunk } of chunks.slice(0, -1)) this.#response.write(chunk)
    this.#send(chunks.at(-1)?.chunk ?? NOTHING, done)
    this.#response.uncork()
    socket?.uncork()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#await(done)
    if (this.#begun || this.#response.headersSent) {
      this.#response.end(() => this.#drained())
      return
    }
    clearImmediate(this.#soon)
    this.#begun = true
    const { preamble = NOTHING } = this.#options
    const body = Buffer.concat([preamble, this.#first ?? NOTHING])
    this.#response.writeHead(200, { ...this.#headers(), 'content-length': String(body.length) })
    this.#response.end(body, () => this.#drained())
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#timer)
    clearImmediate(this.#soon)
    const gone = error ?? (this.writableFinished ? null : new Error('the client left before its answer was complete'))
    if (!this.#response.writableFinished) this.#response.destroy()
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.(gone)
    done(gone)
  }

  #headers(): Record<string, string> {
    return { 'content-type': this.#options.contentType, ...NEVER_CACHED }
  }

  /** Sends the head, and what was held back. */
  #begin(): void {
    if (this.#begun || this.#response.headersSent) return
    clearImmediate(this.#soon)
    this.#begun = true
    this.#response.writeHead(200, this.#headers())
    const { preamble } = this.#options
    if (preamble) this.#response.write(preamble)
    if (this.#first) this.#response.write(this.#first)
    this.#first = undefined
  }

  // The callback, not `drain`: node loses that one when a corked answer is flushed at once, and the answer would stand still.
  #send(bytes: Buffer, done: (error?: Error | null) => void): void {
    this.#await(done)
    this.#response.write(bytes, () => this.#drained())
  }

  #await(done: (error?: Error | null) => void): void {
    this.#waiting = done
    this.#timer = setTimeout(() => this.destroy(new Error('the client does not read its answer')), this.#options.stall)
  }

  #drained(): void {
    clearTimeout(this.#timer)
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.()
  }
}

/** A whole answer of a few lines, for a person. git shows each line of a refused request as `remote: …`. */
export function say(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  const body = Buffer.from(`${text}\n`)
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': String(body.length),
    ...NEVER_CACHED,
    ...headers,
  })
  response.end(body)
}
