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
    this.#head()
    this.#send(chunk, done)
  }

  // What came in while a write was under way goes out as one chunk: hosts hand out packs in pieces of a few KiB.
  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.#head()
    this.#response.cork()
    for (const { chunk } of chunks.slice(0, -1)) this.#response.write(chunk)
    this.#send(chunks.at(-1)?.chunk ?? Buffer.alloc(0), done)
    this.#response.uncork()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#head()
    this.#await(done)
    this.#response.end(() => this.#drained())
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#timer)
    const gone = error ?? (this.writableFinished ? null : new Error('the client left before its answer was complete'))
    if (!this.#response.writableFinished) this.#response.destroy()
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.(gone)
    done(gone)
  }

  #head(): void {
    const { contentType, preamble } = this.#options
    if (this.#response.headersSent) return
    this.#response.writeHead(200, { 'content-type': contentType, ...NEVER_CACHED })
    if (preamble) this.#response.write(preamble)
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
