/**
 * The SSH wire representation (RFC 4251, section 5): a cursor over bytes that came from outside, and small functions
 * that give back the bytes of one value. Everything the authority reads or writes goes through here.
 */

/** Bytes that are not what the specification says: `code` for programs, the message for people. */
export class FormatError extends Error {
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'FormatError'
    this.code = code
  }
}

/** No string in a key, certificate, signature or KRL is longer; a KRL itself is bounded by its own reader. */
const STRING_BYTES_MAX = 16 << 20
const NAME_BYTES_MAX = 64

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * A cursor. Each call takes one value and moves on; short input, a length that points past the end and a value in a form
 * that no honest writer uses all throw `FormatError`. `what` names the thing being read in the error.
 */
export class Reader {
  readonly bytes: Buffer
  readonly what: string
  at = 0

  constructor(bytes: Buffer, what: string) {
    this.bytes = bytes
    this.what = what
  }

  get done(): boolean {
    return this.at === this.bytes.length
  }

  /** The next `length` bytes, not copied. */
  raw(length: number): Buffer {
    // Compared by subtraction: `at + length` of a hostile u32 must not be trusted to stay small.
    if (length > this.bytes.length - this.at) {
      throw new FormatError(
        'ERR_SSH_TRUNCATED',
        `${this.what}: ${length} bytes wanted at byte ${this.at}, ${this.bytes.length - this.at} left`,
      )
    }
    const value = this.bytes.subarray(this.at, this.at + length)
    this.at += length
    return value
  }

  byte(): number {
    return this.raw(1).readUInt8(0)
  }

  /** RFC 4251 takes any non-zero byte for true; a strict reader takes 1. */
  boolean(): boolean {
    const value = this.byte()
    if (value > 1)
      throw new FormatError('ERR_SSH_BOOLEAN', `${this.what}: ${value} is no boolean, at byte ${this.at - 1}`)
    return value === 1
  }

  u32(): number {
    return this.raw(4).readUInt32BE(0)
  }

  u64(): bigint {
    return this.raw(8).readBigUInt64BE(0)
  }

  string(max: number = STRING_BYTES_MAX): Buffer {
    const length = this.u32()
    if (length > max) {
      throw new FormatError(
        'ERR_SSH_TOO_LONG',
        `${this.what}: a string of ${length} bytes at byte ${this.at - 4}, at most ${max} are taken`,
      )
    }
    return this.raw(length)
  }

  /** A string that is text: UTF-8 without NUL. A NUL would end the text for a reader in C and not for us. */
  text(max: number = STRING_BYTES_MAX): string {
    const start = this.at
    const bytes = this.string(max)
    if (bytes.includes(0)) throw new FormatError('ERR_SSH_TEXT', `${this.what}: NUL in the text at byte ${start}`)
    try {
      return utf8.decode(bytes)
    } catch (cause) {
      throw new FormatError('ERR_SSH_TEXT', `${this.what}: the text at byte ${start} is not UTF-8`, { cause })
    }
  }

  /** The name of an algorithm or a curve (RFC 4251, section 6): printable ASCII without comma, at most 64 bytes. */
  name(): string {
    const start = this.at
    const name = this.string(NAME_BYTES_MAX).toString('latin1')
    if (!isName(name)) throw new FormatError('ERR_SSH_NAME', `${this.what}: no algorithm name at byte ${start}`)
    return name
  }

  nameList(): string[] {
    const start = this.at
    const list = this.string().toString('latin1')
    const names = list === '' ? [] : list.split(',')
    if (!names.every(isName)) throw new FormatError('ERR_SSH_NAME', `${this.what}: no list of names at byte ${start}`)
    return names
  }

  /**
   * A positive mpint in its one shortest form, as the bytes of its magnitude without the sign byte. Zero, negative
   * numbers and superfluous leading zeros are refused: two spellings of one number would be two spellings of one key.
   */
  mpint(max: number): Buffer {
    const start = this.at
    const bytes = this.string(max + 1)
    const [first, second] = bytes
    if (first === undefined) throw new FormatError('ERR_SSH_MPINT', `${this.what}: zero at byte ${start}`)
    if (first & 0x80) throw new FormatError('ERR_SSH_MPINT', `${this.what}: a negative number at byte ${start}`)
    if (first !== 0) return bytes.length <= max ? bytes : this.#mpintTooLong(start, max)
    if (second === undefined || !(second & 0x80)) {
      throw new FormatError('ERR_SSH_MPINT', `${this.what}: a number not in its shortest form at byte ${start}`)
    }
    return bytes.subarray(1)
  }

  #mpintTooLong(start: number, max: number): never {
    throw new FormatError('ERR_SSH_TOO_LONG', `${this.what}: a number of more than ${max} bytes at byte ${start}`)
  }

  /** Nothing may follow: bytes after the end are where a second reading of the same thing would hide. */
  end(): void {
    if (!this.done) {
      throw new FormatError('ERR_SSH_TRAILING', `${this.what}: ${this.bytes.length - this.at} bytes after its end`)
    }
  }
}

function isName(name: string): boolean {
  return /^[!-+\--~]{1,64}$/.test(name)
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** Throws a RangeError for a value outside 0 … 2^64-1. */
export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(value)
  return bytes
}

export function string(value: Buffer | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value
  return Buffer.concat([u32(bytes.length), bytes])
}

/** The mpint of a non-negative number given as big-endian magnitude, leading zeros or not. */
export function mpint(magnitude: Buffer): Buffer {
  let start = 0
  while (start < magnitude.length && magnitude[start] === 0) start++
  const bytes = magnitude.subarray(start)
  return string((bytes[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : bytes)
}

export function nameList(names: readonly string[]): Buffer {
  return string(names.join(','))
}
