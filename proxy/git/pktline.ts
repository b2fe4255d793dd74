import { Readable, Transform, type TransformCallback } from 'node:stream'

// gitprotocol-common, "pkt-line format": four hex digits count themselves and the payload behind them.
//   0000 flush   0001 delim   0002 response-end   0003 reserved   0004 a packet without payload

/** What a writer may put into one packet, its four digits included (git's LARGE_PACKET_MAX). */
export const PACKET_MAX = 0xfff0
/** What a reader takes: stock git checks the payload, not the length, against its buffer and so takes three bytes more. */
const PACKET_READ_MAX = 0xfff3
/** Payload bytes of the largest packet we write. */
export const PAYLOAD_MAX = PACKET_MAX - 4

/** Bytes that are not what the protocol says. Caught once per connection; never a fault of ours. */
export class ProtocolError extends Error {
  readonly code: `ERR_${string}`

  constructor(code: `ERR_${string}`, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'ProtocolError'
    this.code = code
  }
}

export type Packet =
  | { readonly kind: 'data'; readonly payload: Buffer }
  | { readonly kind: 'flush' }
  | { readonly kind: 'delim' }
  | { readonly kind: 'response-end' }

const FLUSH_PACKET: Packet = { kind: 'flush' }
const DELIM_PACKET: Packet = { kind: 'delim' }
const RESPONSE_END_PACKET: Packet = { kind: 'response-end' }

// ---- writing ----

export const FLUSH: Buffer = Buffer.from('0000')
export const DELIM: Buffer = Buffer.from('0001')

/** The four digits in front of a payload of `length` bytes. */
export function packetHead(length: number): string {
  if (length > PAYLOAD_MAX) throw new RangeError(`a pkt-line holds ${PAYLOAD_MAX} bytes, not ${length}`)
  return (length + 4).toString(16).padStart(4, '0')
}

/** One packet around `payload`. Throws RangeError beyond `PAYLOAD_MAX`. */
export function packet(payload: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(packetHead(payload.length), 'latin1'), payload])
}

/** One packet holding a line of text and its line feed. */
export function line(text: string): Buffer {
  return packet(Buffer.from(`${text}\n`))
}

const ERR_TEXT_MAX = 4000

/** `ERR text`: stops a git client at any point where it awaits a packet; it prints `fatal: remote error: text`. */
export function err(text: string): Buffer {
  const lines = text.slice(0, ERR_TEXT_MAX).split(/\r?\n/)
  return packet(Buffer.from(`ERR ${lines.map(each => printable(each, ERR_TEXT_MAX)).join('\n')}`))
}

// CSI and OSC sequences go whole, so that `ESC [ 2 J` leaves no `[2J` behind.
const ESCAPES = /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?/g
const BLANKS = /[\t\n\v\f\r\u0085\u2028\u2029]+/g
// Format characters (bidi overrides, zero widths, tags) show a person something other than what is there.
const INVISIBLE = /[\p{Cc}\p{Cf}]/gu

/**
 * `text` as it may be shown on a terminal or put into one line: escapes, control and invisible characters taken out,
 * line ends turned into blanks, at most `max` UTF-16 units, `…` where something was cut off.
 */
export function printable(text: string, max: number): string {
  // What is cut away by the first slice could not have been shown anyway, whatever is taken out of the rest.
  const clean = text
    .slice(0, max * 4 + 64)
    .toWellFormed()
    .replace(ESCAPES, '')
    .replace(BLANKS, ' ')
    .replace(INVISIBLE, '')
    .trim()
  if (clean.length <= max) return clean
  return `${clean.slice(0, Math.max(0, max - 1)).replace(/[\ud800-\udbff]$/, '')}…`
}

// ---- reading ----

const NOT_HEX = 0x10000
const HEX = new Uint32Array(256).fill(NOT_HEX)
for (let digit = 0; digit < 16; digit++) {
  HEX[digit.toString(16).charCodeAt(0)] = digit
  HEX[digit.toString(16).toUpperCase().charCodeAt(0)] = digit
}

/** The pkt-len written in four hex digits, of either case as in git. Throws ProtocolError for what git would not take. */
function packetLength(a: number, b: number, c: number, d: number): number {
  const length = ((HEX[a] as number) << 12) | ((HEX[b] as number) << 8) | ((HEX[c] as number) << 4) | (HEX[d] as number)
  if (length === 3 || length > PACKET_READ_MAX) throw badLength(a, b, c, d)
  return length
}

function badLength(...digits: number[]): ProtocolError {
  const shown = JSON.stringify(String.fromCharCode(...digits))
  return new ProtocolError('ERR_PKT_LENGTH', `${shown} is no pkt-line length; is this git's smart protocol?`)
}

const WAKING = ['readable', 'end', 'close', 'error'] as const

export interface PacketReaderOptions {
  /** Most bytes taken as packets since the beginning or the last `forget`. */
  readonly limit?: number
}

/**
 * Reads packets off the front of a stream and leaves the rest of it alone.
 *
 * Exactly the bytes of the packet asked for are taken from the source, so the rest *is* the source: nothing is held
 * between, and back-pressure, errors and destruction work on it as they always did.
 */
export class PacketReader {
  readonly #source: Readable
  readonly #limit: number
  #taken: Buffer[] = []
  #bytes = 0
  /** pkt-len of a packet whose payload has not come in whole. */
  #length: number | undefined
  #failed: Error | undefined
  #waiting: (() => void) | undefined

  constructor(source: Readable | AsyncIterable<Buffer>, options: PacketReaderOptions = {}) {
    this.#source = source instanceof Readable ? source : Readable.from(source, { objectMode: false })
    this.#limit = options.limit ?? Number.POSITIVE_INFINITY
    // A source may fail between two reads: that is the next read's answer, not an uncaught exception.
    this.#source.on('error', (error: Error) => {
      this.#failed ??= error
    })
    // One listener for as long as packets are read. Taken off and put on for each wait, it would be called at once for
    // the bytes of an unfinished packet, again and again, and no input would ever come in.
    for (const event of WAKING) this.#source.on(event, this.#wake)
  }

  /**
   * The next packet; undefined when the source ended between two packets.
   *
   * @throws ProtocolError for a wrong length, a source that ends inside a packet, or more bytes than the limit
   */
  async read(): Promise<Packet | undefined> {
    for (;;) {
      const packet = this.#take()
      if (packet !== null) return packet
      await this.#more()
    }
  }

  /** The exact bytes of the packets read since the beginning or the last `forget`. */
  raw(): Buffer {
    if (this.#taken.length > 1) this.#taken = [Buffer.concat(this.#taken)]
    return this.#taken[0] ?? Buffer.alloc(0)
  }

  /** Lets go of the bytes of what was read, and begins to count towards the limit anew. */
  forget(): void {
    this.#taken = []
    this.#bytes = 0
  }

  /** The source, standing at the first byte after the last packet that was read. Read no packets after this. */
  rest(): Readable {
    for (const event of WAKING) this.#source.off(event, this.#wake)
    return this.#source
  }

  /** A packet, undefined at a clean end, null when more bytes must come in first. */
  #take(): Packet | undefined | null {
    if (this.#failed) throw this.#failed
    if (this.#length === undefined) {
      const head = this.#exactly(4)
      if (head === undefined || head === null) return head
      this.#length = packetLength(head[0]!, head[1]!, head[2]!, head[3]!)
      this.#keep(head)
    }
    const length = this.#length
    if (length > 4) {
      if (this.#bytes + length - 4 > this.#limit) throw this.#tooMuch()
      const payload = this.#exactly(length - 4)
      if (payload === undefined) throw endedInside()
      if (payload === null) return null
      this.#keep(payload)
      this.#length = undefined
      return { kind: 'data', payload }
    }
    this.#length = undefined
    if (length === 0) return FLUSH_PACKET
    if (length === 1) return DELIM_PACKET
    if (length === 2) return RESPONSE_END_PACKET
    return { kind: 'data', payload: Buffer.alloc(0) }
  }

  /** `count` bytes, undefined when the source ended before the first of them, null when they are not there yet. */
  #exactly(count: number): Buffer | undefined | null {
    const bytes: unknown = this.#source.read(count)
    if (bytes === null) return this.#source.readableEnded ? undefined : null
    if (!Buffer.isBuffer(bytes)) throw new TypeError('packets are read from streams of bytes')
    // An ended source hands out what it still has, however little.
    if (bytes.length < count) throw endedInside()
    return bytes
  }

  #keep(bytes: Buffer): void {
    this.#bytes += bytes.length
    if (this.#bytes > this.#limit) throw this.#tooMuch()
    this.#taken.push(bytes)
  }

  #tooMuch(): ProtocolError {
    return new ProtocolError('ERR_PKT_LIMIT', `more than ${this.#limit} bytes of packets in one request`)
  }

  #more(): Promise<void> {
    const source = this.#source
    if (source.destroyed && !source.readableEnded) throw source.errored ?? closed()
    return new Promise(resolve => {
      this.#waiting = resolve
    })
  }

  readonly #wake = (): void => {
    this.#waiting?.()
    this.#waiting = undefined
  }
}

function closed(): ProtocolError {
  return new ProtocolError('ERR_PKT_EOF', 'the connection was closed before the request was complete')
}

function endedInside(): ProtocolError {
  return new ProtocolError('ERR_PKT_EOF', 'the stream ended inside a packet')
}

// ---- relaying ----

/**
 * Told of each packet as it goes by: its pkt-len (0, 1, 2 for the special packets) and the first bytes of its payload,
 * as many as were asked for. A pkt-len of -1 stands for a bare pack, its bytes being those behind `PACK`. The bytes are
 * the relay's own: copy what is to be kept.
 */
export type Watch = (length: number, head: Buffer) => void

export interface PacketCounterOptions {
  /** How many bytes of each payload `watch` is shown. */
  readonly head?: number
  readonly watch?: Watch
  /** A bare pack may follow the packets (v0 and v1 without side-band): what begins with `PACK` is passed unframed. */
  readonly packMayFollow?: boolean
}

const NOTHING = Buffer.alloc(0)

/** Finds the packet boundaries in bytes that go by, whatever the chunks; copies no payload. */
export class PacketCounter {
  readonly #headBytes: number
  readonly #watch: Watch | undefined
  readonly #packMayFollow: boolean
  /** Length digits seen of a packet whose digits are split over chunks. */
  readonly #digits = Buffer.alloc(4)
  #digitCount = 0
  /** Payload bytes of the current packet still to come. */
  #left = 0
  #length = 0
  /** Payload bytes `watch` is still owed, and those collected for it so far. */
  #owed = 0
  #collected: Buffer[] = []
  #unframed = false

  constructor(options: PacketCounterOptions = {}) {
    this.#watch = options.watch
    this.#headBytes = options.head ?? 0
    this.#packMayFollow = options.packMayFollow ?? false
  }

  /** true between two packets, where a stream may be cut. */
  get atBoundary(): boolean {
    return this.#unframed || (this.#left === 0 && this.#digitCount === 0)
  }

  /**
   * Takes the next chunk and gives the offset in it where the last whole packet ends: what was held back before and the
   * bytes up to there can go on, the rest is to be held. 0: nothing was completed.
   *
   * @throws ProtocolError for a wrong length
   */
  count(chunk: Buffer): number {
    let at = 0
    let boundary = 0
    while (at < chunk.length) {
      if (this.#unframed) {
        if (this.#owed > 0) this.#show(chunk.subarray(at, at + this.#owed))
        return chunk.length
      }
      if (this.#left === 0) {
        at = this.#readLength(chunk, at)
        if (this.#digitCount !== 0) return boundary
        if (this.#unframed) continue
      }
      if (this.#left > 0) {
        const end = Math.min(at + this.#left, chunk.length)
        if (this.#owed > 0) this.#show(chunk.subarray(at, Math.min(at + this.#owed, end)))
        this.#left -= end - at
        at = end
      }
      if (this.#left === 0 && this.#digitCount === 0) boundary = at
    }
    return boundary
  }

  /** Reads length digits at `at` and gives the offset after them; `#digitCount` is 0 once all four were there. */
  #readLength(chunk: Buffer, at: number): number {
    let digits = chunk
    let first = at
    if (this.#digitCount > 0 || chunk.length - at < 4) {
      while (this.#digitCount < 4 && at < chunk.length) this.#digits[this.#digitCount++] = chunk[at++]!
      if (this.#digitCount < 4) return at
      this.#digitCount = 0
      digits = this.#digits
      first = 0
    } else {
      at += 4
    }
    if (this.#packMayFollow && digits.toString('latin1', first, first + 4) === 'PACK') {
      this.#unframed = true
      this.#length = -1
      this.#owed = this.#watch ? this.#headBytes : 0
      return at
    }
    this.#length = packetLength(digits[first]!, digits[first + 1]!, digits[first + 2]!, digits[first + 3]!)
    this.#left = Math.max(0, this.#length - 4)
    if (this.#watch) {
      this.#owed = Math.min(this.#headBytes, this.#left)
      if (this.#owed === 0) this.#watch(this.#length, NOTHING)
    }
    return at
  }

  #show(bytes: Buffer): void {
    this.#owed -= bytes.length
    if (this.#owed > 0) {
      // A copy: the chunk is not ours to keep.
      this.#collected.push(Buffer.from(bytes))
      return
    }
    const head = this.#collected.length === 0 ? bytes : Buffer.concat([...this.#collected, bytes])
    this.#collected = []
    this.#watch?.(this.#length, head)
  }
}

/**
 * Passes only whole packets on, so that wherever the relay is cut, whoever reads stands at a packet boundary and can
 * still be told why. Holds at most one unfinished packet. Ends in error when its input ends inside a packet.
 */
export function wholePackets(options: PacketCounterOptions = {}): Transform {
  const counter = new PacketCounter(options)
  let held: Buffer[] = []
  return new Transform({
    transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback) {
      let boundary: number
      try {
        boundary = counter.count(chunk)
      } catch (error) {
        done(error instanceof Error ? error : new Error(String(error)))
        return
      }
      if (boundary > 0) {
        for (const part of held) this.push(part)
        held = []
        this.push(boundary === chunk.length ? chunk : chunk.subarray(0, boundary))
      }
      if (boundary < chunk.length) held.push(chunk.subarray(boundary))
      done()
    },
    flush(done: TransformCallback) {
      done(held.length > 0 ? endedInside() : null)
    },
  })
}
