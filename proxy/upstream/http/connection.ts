import { connect as connectSocket, isIP, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { connect as connectTls, type ConnectionOptions as TlsOptions } from 'node:tls'
import { Intake } from '../blocks.ts'
import { GATHER_MILLISECONDS, gathering } from '../gather.ts'
import type { Lending } from '../upstream.ts'
import { type ResponseHead, ResponseReader } from './response.ts'

export interface Request {
  /** Request line and headers, without what frames the body. */
  readonly head: string
  /** Sent with its length when it is all there, in chunks as it comes when it is a stream. */
  readonly body?: Readable | Buffer
}

export interface Response extends ResponseHead {
  readonly body: AnswerBody
}

/** A request under way. */
export interface Asked {
  /** The answer, once the head of it is there. */
  readonly answer: Promise<Response>
  /** Ends it, wherever it stands, and its answer in an error where that has not been read to its end. */
  giveUp(reason: Error): void
}

export interface ConnectionOptions {
  readonly url: URL
  /** Milliseconds until the connection must stand, with TLS on it. */
  readonly connectTimeout: number
  /** Milliseconds the host may leave us waiting. */
  readonly idleTimeout: number
  /** A TLS session to go on with. */
  readonly session?: Buffer
  onSession(session: Buffer): void
  /** It can take another request, for so many milliseconds if the host gave a number. */
  onFree(connection: Connection, milliseconds: number | undefined): void
  onClose(connection: Connection): void
}

/** What is read of an answer before somebody reads it: enough to notice that it breaks off. */
const UNREAD_BYTES_MAX = 16 * 1024

/** Something did not come in time. */
export class Late extends Error {
  readonly awaited: 'connect' | 'answer'

  constructor(awaited: 'connect' | 'answer') {
    super('the Git host was silent for too long')
    this.awaited = awaited
  }
}

/** The host closed the connection without a word. */
export class Unanswered extends Error {
  constructor(cause?: unknown) {
    super('the Git host closed the connection without an answer', { cause })
  }
}

/** One request and its answer. */
interface Exchange {
  readonly reader: ResponseReader
  readonly resolve: (response: Response) => void
  readonly reject: (error: unknown) => void
  readonly body: AnswerBody
  readonly source: Readable | undefined
  /** Every byte of the request was handed over. */
  sent: boolean
  head: ResponseHead | undefined
}

/** One connection to a host, for one request at a time: a socket read into memory that is used again. */
export class Connection {
  readonly #options: ConnectionOptions
  readonly #secure: boolean
  readonly #socket: Socket
  readonly #intake = new Intake()
  #exchange: Exchange | undefined
  /** Whether somebody takes what the host sends. */
  #wanted = true
  #connected = false
  #failure: unknown
  readonly #waits = gathering()
  #gathering: NodeJS.Timeout | undefined

  constructor(options: ConnectionOptions) {
    this.#options = options
    const { connectTimeout } = options
    this.#secure = options.url.protocol === 'https:'
    this.#socket = this.#connect()
    const late = setTimeout(() => this.destroy(new Late('connect')), connectTimeout)
    this.#socket
      .setNoDelay(true)
      .once(this.#secure ? 'secureConnect' : 'connect', () => {
        this.#connected = true
        clearTimeout(late)
      })
      .on('timeout', () => this.#onSilence())
      .on('drain', () => this.#exchange?.source?.resume())
      .on('error', error => {
        this.#failure ??= error
      })
      .on('close', () => {
        clearTimeout(late)
        this.#onClose()
      })
  }

  get usable(): boolean {
    return !this.#socket.destroyed && this.#socket.writable && this.#exchange === undefined
  }

  /** Sends a request. */
  ask({ head, body }: Request): Asked {
    this.#socket.ref()
    this.#socket.setTimeout(this.#options.idleTimeout)
    const { promise, resolve, reject } = Promise.withResolvers<Response>()
    const source = body === undefined || Buffer.isBuffer(body) ? undefined : body
    const reader = new ResponseReader({
      onHead: found => this.#onHead(found),
      onBody: bytes => {
        this.#wanted = exchange.body.offer(this.#intake.lend(bytes))
      },
    })
    const answer = new AnswerBody({
      onRead: () => this.#resume(),
      onGivenUp: () => this.destroy(new Error('the answer was given up')),
      giveBack: chunk => this.#intake.giveBack(chunk),
    })
    const exchange: Exchange = { reader, resolve, reject, body: answer, source, sent: !source, head: undefined }
    this.#exchange = exchange
    this.#wanted = true
    if (source) this.#stream(head, source, exchange)
    else if (Buffer.isBuffer(body)) {
      this.#socket.cork()
      this.#socket.write(`${head}Content-Length: ${body.length}\r\n\r\n`, 'latin1')
      this.#socket.write(body)
      this.#socket.uncork()
    } else this.#socket.write(`${head}\r\n`, 'latin1')
    return {
      answer: promise,
      // By then the connection may be carrying somebody else's: only what is this one's is given up.
      giveUp: reason => (this.#exchange === exchange ? this.destroy(reason) : answer.destroy(reason)),
    }
  }

  /** Lies ready for the next request, for so many milliseconds; keeps no process running. */
  rest(milliseconds: number): void {
    this.#socket.unref()
    this.#socket.setTimeout(milliseconds)
  }

  destroy(reason?: Error): void {
    this.#failure ??= reason
    this.#socket.destroy()
  }

  #connect(): Socket {
    const { url, session, onSession } = this.#options
    const host = url.hostname.replace(/^\[|\]$/g, '')
    const port = Number(url.port || (this.#secure ? 443 : 80))
    const onread = {
      buffer: () => this.#intake.next(this.#wanted && this.#exchange?.head !== undefined),
      callback: (count: number) => this.#onBytes(count),
    }
    if (!this.#secure) return connectSocket({ host, port, onread })
    // `onread` is tls.connect's as well, but not in its types.
    const options: TlsOptions & { onread: typeof onread } = {
      host,
      port,
      onread,
      ALPNProtocols: ['http/1.1'],
      ...(isIP(host) === 0 && { servername: host }),
      ...(session && { session }),
    }
    const socket = connectTls(options)
    // A session that is gone on with is not checked for the host's name again; node tells of one only when it was.
    return socket.on('session', onSession)
  }

  /** Chunks (RFC 9112, section 7.1), without copying what is in them. */
  #stream(head: string, source: Readable, exchange: Exchange): void {
    const socket = this.#socket
    socket.write(`${head}Transfer-Encoding: chunked\r\n\r\n`, 'latin1')
    let before = ''
    source
      .on('data', (chunk: Buffer) => {
        if (chunk.length === 0 || socket.destroyed) return
        socket.cork()
        socket.write(`${before}${chunk.length.toString(16)}\r\n`, 'latin1')
        before = '\r\n'
        if (!socket.write(chunk)) source.pause()
        socket.uncork()
      })
      .once('end', () => {
        exchange.sent = true
        socket.write(`${before}0\r\n\r\n`, 'latin1')
      })
      .on('error', error => this.destroy(error))
      .once('close', () => {
        // A request that breaks off must never look whole to the host: no last chunk, and no connection.
        if (!exchange.sent) this.destroy(source.errored ?? new Error('the request was broken off'))
      })
    if (source.destroyed && !source.readableEnded)
      this.destroy(source.errored ?? new Error('the request was broken off'))
  }

  /** @returns whether to go on reading */
  #onBytes(count: number): boolean {
    const exchange = this.#exchange
    const bytes = this.#intake.read(count)
    // A word nobody asked for would be taken for the next answer (CVE-2026-6733).
    if (!exchange) {
      this.destroy(new Error('the Git host spoke unasked'))
      return false
    }
    let taken: number
    try {
      taken = exchange.reader.take(bytes)
    } catch (error) {
      this.destroy(error as Error)
      return false
    }
    // TLS gives at most 16 KiB at a time, whatever lies there: to wait after each would only be slow.
    const gathers = !this.#secure && this.#waits(count)
    if (exchange.reader.done) this.#onAnswered(exchange, taken === bytes.length)
    else if (this.#wanted && gathers) {
      this.#gathering = setTimeout(() => this.#goOn(), GATHER_MILLISECONDS)
      return false
    }
    return this.#wanted
  }

  #goOn(): void {
    this.#gathering = undefined
    if (this.#wanted) this.#socket.resume()
  }

  #onHead(head: ResponseHead): void {
    const exchange = this.#exchange
    if (!exchange) return
    exchange.head = head
    exchange.resolve({ ...head, body: exchange.body })
  }

  #onAnswered({ head, sent, body, source }: Exchange, clean: boolean): void {
    this.#exchange = undefined
    this.#wanted = true
    body.complete()
    if (clean && sent && head?.keepsAlive && !this.#socket.destroyed) this.#options.onFree(this, restOf(head))
    else {
      this.#socket.destroy()
      source?.destroy()
    }
  }

  #resume(): void {
    if (this.#wanted || this.#socket.destroyed) return
    this.#wanted = true
    // The time nobody read is not the host's.
    this.#socket.setTimeout(this.#options.idleTimeout)
    this.#socket.resume()
  }

  #onSilence(): void {
    const exchange = this.#exchange
    if (!this.#connected) return
    if (!exchange) this.#socket.destroy()
    // A host that takes no more of the request; a client that sends no more of it has limits of its own.
    else if (exchange.sent ? this.#wanted : this.#socket.writableNeedDrain) this.destroy(new Late('answer'))
  }

  #onClose(): void {
    clearTimeout(this.#gathering)
    this.#intake.close()
    this.#options.onClose(this)
    const exchange = this.#exchange
    if (!exchange) return
    this.#exchange = undefined
    exchange.source?.destroy()
    let error = this.#failure
    const quiet = error === undefined || /^(?:ECONNRESET|EPIPE)$/.test(String((error as { code?: unknown }).code))
    if (quiet && !exchange.reader.begun) error = new Unanswered(error)
    if (error === undefined) {
      try {
        exchange.reader.end()
        exchange.body.complete()
        return
      } catch (cause) {
        error = cause
      }
    }
    exchange.reject(error)
    exchange.body.destroy(error as Error)
  }
}

/** `Keep-Alive: timeout=…` in milliseconds, less one second for what is under way when it ends. */
function restOf({ headers }: ResponseHead): number | undefined {
  const seconds = /(?:^|[\t ,])timeout=(\d{1,6})(?:[\t ,]|$)/i.exec(headers.get('keep-alive') ?? '')?.[1]
  return seconds === undefined ? undefined : Math.max(0, Number(seconds) - 1) * 1000
}

/** The body of an answer. Nothing of it is read from the socket before it is asked for. */
export class AnswerBody extends Readable implements Lending {
  readonly #options: { onRead(): void; onGivenUp(): void; giveBack(chunk: Buffer): void }
  #complete = false

  constructor(options: { onRead(): void; onGivenUp(): void; giveBack(chunk: Buffer): void }) {
    super({ highWaterMark: 0 })
    this.#options = options
    // It may break off before anybody reads it: that is for the reader to find, and no uncaught exception.
    this.on('error', () => {})
  }

  giveBack(chunk: Buffer): void {
    this.#options.giveBack(chunk)
  }

  /** Says whether to go on: to somebody who reads along, and a little while nobody does yet. */
  offer(chunk: Buffer): boolean {
    // With a high-water mark of nothing, `push` is true for a chunk that went straight to a reader.
    const flows = this.push(chunk)
    if (this.readableFlowing === null) return this.readableLength < UNREAD_BYTES_MAX
    return flows && !this.isPaused()
  }

  complete(): void {
    this.#complete = true
    this.push(null)
  }

  override _read(): void {
    this.#options.onRead()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (!this.#complete) this.#options.onGivenUp()
    done(error)
  }
}
