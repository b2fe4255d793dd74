// RFC 9112, from the client's side. Strict where two readings are possible: what an answer leaves open is where the next
// one on the same connection could begin, so anything doubtful is an error and the connection is not used again.
//   status line CRLF, header lines CRLF, CRLF, body        1xx answers may stand in front
//   body: Content-Length, or chunks: size[;extensions] CRLF, bytes CRLF, …, 0 CRLF, trailers CRLF, CRLF

/** The head without its empty line; each line of it, and each line of chunk sizes and trailers. */
export const HEAD_BYTES_MAX = 32 * 1024
const LINE_BYTES_MAX = 16 * 1024
const CHUNK_LINE_BYTES_MAX = 256
const HEADERS_MAX = 128
/** Interim answers (100, 102, 103) in front of the one that counts. */
const INTERIM_MAX = 16
const TRAILER_BYTES_MAX = 8 * 1024
/** Chunks of up to so much are pushed together. */
const MOVED_BYTES_MAX = 16 * 1024
const PLAIN_DIGITS_MAX = 7

export interface ResponseHead {
  readonly status: number
  /** By name in lower case. */
  readonly headers: ReadonlyMap<string, string>
  /** How the end of the body is told. `close`: by nothing but the end of the connection. */
  readonly framing: 'length' | 'chunked' | 'close' | 'none'
  /** Whether the host means to keep the connection open after this answer. */
  readonly keepsAlive: boolean
}

export interface ResponseHandlers {
  onHead(head: ResponseHead): void
  /** A part of the body, in the bytes that were given to `take`. */
  onBody(bytes: Buffer): void
}

/** Bytes that are no answer, or could be read as more than one. */
export class ResponseError extends Error {
  readonly code = 'ERR_HTTP_RESPONSE'

  constructor(message: string) {
    super(`the Git host's answer is not well-formed HTTP: ${message}`)
    this.name = 'ResponseError'
  }
}

type State = 'status' | 'header' | 'sized' | 'chunk-size' | 'chunk' | 'chunk-end' | 'trailer' | 'unsized' | 'done'

/** Headers of which a second one would leave open which is meant. */
const ONLY_ONCE = new Set(['content-length', 'transfer-encoding', 'content-type', 'content-encoding', 'location'])

const STATUS_LINE = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
const LENGTH = /^\d{1,15}$/
const CHUNK_LINE = /^([0-9A-Fa-f]{1,12})(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?$/
const [LF, CR] = [0x0a, 0x0d]

/** Reads one answer, whatever the pieces it comes in. Holds nothing but a line that is not complete. */
export class ResponseReader {
  readonly #handlers: ResponseHandlers
  #state: State = 'status'
  /** The beginning of a line whose end has not come in. */
  #line: Buffer[] = []
  #lineBytes = 0
  /** Bytes of head or trailers so far. */
  #bytes = 0
  #interim = 0
  #minor = 1
  #status = 0
  #headers = new Map<string, string>()
  #count = 0
  /** Bytes of the body, or of the chunk, that are still to come. */
  #left = 0

  constructor(handlers: ResponseHandlers) {
    this.#handlers = handlers
  }

  /** Whether the answer is complete. */
  get done(): boolean {
    return this.#state === 'done'
  }

  /** Whether anything of an answer has come in. */
  get begun(): boolean {
    return this.#state !== 'status' || this.#lineBytes > 0 || this.#interim > 0
  }

  /**
   * Takes the next bytes and gives how many of them are this answer's: fewer than there are only when it is complete.
   * The bytes may be moved: small chunks are pushed together where they lie, over the lines between them.
   *
   * @throws ResponseError
   */
  take(bytes: Buffer): number {
    let at = 0
    // The part of the body that was found and not yet shown.
    let from = 0
    let to = 0
    while (at < bytes.length && this.#state !== 'done') {
      switch (this.#state) {
        case 'sized':
        case 'chunk':
        case 'unsized': {
          const end = this.#state === 'unsized' ? bytes.length : Math.min(bytes.length, at + this.#left)
          this.#left -= end - at
          // Hosts write packs in chunks of a few KiB: to move one costs little, to hand each on by itself a good deal.
          if (to > from && end - at <= MOVED_BYTES_MAX) {
            bytes.copyWithin(to, at, end)
            to += end - at
          } else {
            this.#show(bytes, from, to)
            from = at
            to = end
          }
          at = end
          if (this.#left === 0 && this.#state !== 'unsized')
            this.#state = this.#state === 'sized' ? 'done' : 'chunk-end'
          break
        }
        default: {
          const plain = this.#lineBytes === 0 ? this.#plainChunkLine(bytes, at) : 0
          if (plain > 0) {
            at += plain
            break
          }
          const end = bytes.indexOf(LF, at)
          const stop = end < 0 ? bytes.length : end + 1
          this.#collect(bytes.subarray(at, stop))
          at = stop
          if (end >= 0) this.#onLine(this.#wholeLine())
        }
      }
    }
    this.#show(bytes, from, to)
    return at
  }

  #show(bytes: Buffer, from: number, to: number): void {
    if (to > from) this.#handlers.onBody(bytes.subarray(from, to))
  }

  /** The lines between two chunks as every host writes them, without a string made of each: their length, or 0. */
  #plainChunkLine(bytes: Buffer, at: number): number {
    if (this.#state === 'chunk-end') {
      if (bytes[at] !== CR || bytes[at + 1] !== LF) return 0
      this.#state = 'chunk-size'
      return 2
    }
    if (this.#state !== 'chunk-size') return 0
    let size = 0
    for (let digits = 0; digits <= PLAIN_DIGITS_MAX; digits++) {
      const byte = bytes[at + digits]
      const digit = byte === undefined ? -1 : hexDigit(byte)
      if (digit >= 0) {
        size = size * 16 + digit
        continue
      }
      if (size === 0 || byte !== CR || bytes[at + digits + 1] !== LF) return 0
      this.#left = size
      this.#bytes = 0
      this.#state = 'chunk'
      return digits + 2
    }
    return 0
  }

  /**
   * The connection has ended.
   *
   * @throws ResponseError when the answer was not complete
   */
  end(): void {
    if (this.#state === 'unsized') this.#state = 'done'
    if (this.#state !== 'done') throw new ResponseError('it breaks off')
  }

  #collect(part: Buffer): void {
    const max = this.#state.startsWith('chunk') ? CHUNK_LINE_BYTES_MAX : LINE_BYTES_MAX
    this.#lineBytes += part.length
    if (this.#lineBytes > max) throw new ResponseError(`a line of more than ${max} bytes`)
    // A copy: the bytes are their giver's again when `take` returns.
    this.#line.push(part.at(-1) === LF ? part : Buffer.from(part))
  }

  #wholeLine(): string {
    const line = this.#line.length === 1 ? (this.#line[0] as Buffer) : Buffer.concat(this.#line)
    this.#line = []
    this.#lineBytes = 0
    // A line feed alone ends a line for some readers and not for others (request smuggling, the other way round).
    if (line.at(-2) !== CR) throw new ResponseError('a line that ends in LF alone')
    return line.toString('latin1', 0, line.length - 2)
  }

  #onLine(line: string): void {
    switch (this.#state) {
      case 'status':
        this.#onStatus(line)
        break
      case 'header':
        if (line === '') this.#onHead()
        else this.#onHeader(line)
        break
      case 'chunk-size': {
        const size = CHUNK_LINE.exec(line)?.[1]
        if (size === undefined) throw new ResponseError(`${shown(line)} is no chunk size`)
        this.#left = Number.parseInt(size, 16)
        this.#bytes = 0
        this.#state = this.#left > 0 ? 'chunk' : 'trailer'
        break
      }
      case 'chunk-end':
        if (line !== '') throw new ResponseError('a chunk that is longer than it says')
        this.#state = 'chunk-size'
        break
      case 'trailer':
        // Read over: nothing in git's protocol is said in one.
        if (line === '') this.#state = 'done'
        else if (!isHeader(line)) throw new ResponseError(`${shown(line)} is no trailer`)
        else this.#limit(line, TRAILER_BYTES_MAX)
        break
      default:
        throw new Error(`a line in state ${this.#state}`)
    }
  }

  #onStatus(line: string): void {
    const [, minor, status] = STATUS_LINE.exec(line) ?? []
    if (status === undefined) throw new ResponseError(`${shown(line)} is no status line`)
    this.#minor = Number(minor)
    this.#status = Number(status)
    this.#limit(line, HEAD_BYTES_MAX)
    this.#state = 'header'
  }

  #onHeader(line: string): void {
    this.#limit(line, HEAD_BYTES_MAX)
    if (++this.#count > HEADERS_MAX) throw new ResponseError(`more than ${HEADERS_MAX} headers`)
    // A blank before the colon, and a line that goes on the one before (obs-fold), are no token.
    if (!isHeader(line)) throw new ResponseError(`${shown(line)} is no header`)
    const colon = line.indexOf(':')
    const name = line.slice(0, colon).toLowerCase()
    const value = withoutBlanks(line, colon + 1)
    const before = this.#headers.get(name)
    if (before !== undefined && ONLY_ONCE.has(name)) throw new ResponseError(`two ${name} headers`)
    this.#headers.set(name, before === undefined ? value : `${before}, ${value}`)
  }

  #onHead(): void {
    const status = this.#status
    if (status === 101) throw new ResponseError('it changes to a protocol that nobody asked for')
    if (status < 200) {
      if (++this.#interim > INTERIM_MAX) throw new ResponseError(`more than ${INTERIM_MAX} interim answers`)
      this.#state = 'status'
      this.#headers = new Map()
      this.#count = 0
      return
    }
    const framing = this.#framing()
    this.#bytes = 0
    switch (framing) {
      case 'length':
        this.#left = Number(this.#headers.get('content-length'))
        this.#state = this.#left > 0 ? 'sized' : 'done'
        break
      case 'chunked':
        this.#state = 'chunk-size'
        break
      case 'close':
        this.#state = 'unsized'
        break
      default:
        this.#state = 'done'
    }
    const options = new Set((this.#headers.get('connection') ?? '').toLowerCase().split(/[\t ]*,[\t ]*/))
    const keepsAlive = this.#minor === 1 && framing !== 'close' && !options.has('close')
    this.#handlers.onHead({ status, headers: this.#headers, framing, keepsAlive })
  }

  // RFC 9112, section 6.3.
  #framing(): ResponseHead['framing'] {
    const length = this.#headers.get('content-length')
    const coding = this.#headers.get('transfer-encoding')
    if (length !== undefined && coding !== undefined) throw new ResponseError('a length and a transfer coding')
    if (length !== undefined && !LENGTH.test(length)) throw new ResponseError(`${shown(length)} is no length`)
    if (coding !== undefined && (coding.toLowerCase() !== 'chunked' || this.#minor === 0)) {
      throw new ResponseError(`the transfer coding ${shown(coding)}`)
    }
    if (this.#status === 204 || this.#status === 304) return 'none'
    if (coding !== undefined) return 'chunked'
    return length === undefined ? 'close' : 'length'
  }

  #limit(line: string, max: number): void {
    this.#bytes += line.length + 2
    if (this.#bytes > max) throw new ResponseError(`more than ${max} bytes of ${this.#state}s`)
  }
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
}

function isHeader(line: string): boolean {
  const colon = line.indexOf(':')
  return colon > 0 && TOKEN.test(line.slice(0, colon)) && VALUE.test(line.slice(colon + 1))
}

/** From `start`, without blanks and tabs around it. Not trim(): that takes off more than RFC 9110 calls a blank. */
function withoutBlanks(line: string, start: number): string {
  const blank = (at: number) => line.charCodeAt(at) === 0x20 || line.charCodeAt(at) === 0x09
  let [from, to] = [start, line.length]
  while (from < to && blank(from)) from++
  while (to > from && blank(to - 1)) to--
  return line.slice(from, to)
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 60))
}
