import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Source } from '../source.ts'

export interface ConnectionOptions {
  /** Milliseconds for a request's head, from the connection's beginning. */
  readonly head: number
  /** Milliseconds more for the head of every further request. */
  readonly keepAlive: number
  isDraining(): boolean
}

const LAST_WORDS_MILLISECONDS = 2_000
const LINGER_MILLISECONDS = 2_000

/** What is told to a client whose request node's parser did not take. */
const MALFORMED: Readonly<Record<string, readonly [string, string]>> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'the head of the request is too large'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: ['413 Content Too Large', 'the chunk extensions of the request are too large'],
}

/** One TCP connection: whose it is, and the one request that may be under way on it. */
export class Connection {
  readonly id: string
  readonly source: Source
  readonly #socket: Socket
  readonly #options: ConnectionOptions
  #response: ServerResponse | undefined
  #timer: NodeJS.Timeout | undefined
  #last = false

  constructor(id: string, source: Source, socket: Socket, options: ConnectionOptions) {
    this.id = id
    this.source = source
    this.#socket = socket
    this.#options = options
    socket.on('close', () => clearTimeout(this.#timer))
    this.#awaitHead(options.head)
  }

  /** Takes a request up; false while another one is not answered to its end, or after the connection's last. */
  begin(response: ServerResponse): boolean {
    if (this.#last || this.#answering()) return false
    clearTimeout(this.#timer)
    this.#response = response
    response.on('finish', () => {
      this.#last = !response.shouldKeepAlive || this.#options.isDraining()
      if (this.#last) this.#socket.destroySoon()
      else this.#awaitHead(this.#options.keepAlive + this.#options.head)
    })
    return true
  }

  /** The parser gave up. An answer that has begun is broken off: words of ours in the middle of it would be taken for its own. */
  malformed(error: NodeJS.ErrnoException): void {
    if ((this.#answering() && this.#response?.headersSent) || !error.code?.startsWith('HPE_')) {
      this.#socket.destroy()
      return
    }
    const [status, text] = MALFORMED[error.code] ?? ['400 Bad Request', 'the request is not well-formed HTTP']
    this.#lastWords(status, text)
  }

  /**
   * No request after the one that is under way. Where none is, git may be sending its next at this moment, and would fail
   * if it were met by a close: it is waited for, and a little while only.
   */
  retire(): void {
    if (this.#response === undefined || this.#answering()) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.closeIfIdle(), LINGER_MILLISECONDS)
  }

  closeIfIdle(): void {
    if (!this.#answering()) this.#socket.destroySoon()
  }

  #answering(): boolean {
    return this.#response !== undefined && !this.#response.writableFinished
  }

  #awaitHead(milliseconds: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      if (this.#answering()) return
      this.#lastWords('408 Request Timeout', 'the head of the request did not come in time')
    }, milliseconds)
  }

  #lastWords(status: string, text: string): void {
    clearTimeout(this.#timer)
    if (!this.#socket.writable) {
      this.#socket.destroy()
      return
    }
    this.#socket.end(
      `HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${text.length + 1}\r\n` +
        `Connection: close\r\n\r\n${text}\n`,
    )
    // Ended, then destroyed: a client that goes on sending would otherwise hold the connection.
    this.#timer = setTimeout(() => this.#socket.destroy(), LAST_WORDS_MILLISECONDS)
  }
}
