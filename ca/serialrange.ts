import { FormatError, mpint, type Reader, u64 } from './wire.ts'

/** The serial sections of a KRL (PROTOCOL.krl, section 3): lists, ranges and bitmaps, read into ranges and written from them. */

/** First and last serial, both included. */
export type SerialRange = readonly [first: bigint, last: bigint]

const LIST = 0x20
const RANGE = 0x21
const BITMAP = 0x22

/** OpenSSH takes bitmaps of up to 2048 bytes. */
const BITMAP_BYTES_MAX = 2048
const BITMAP_BITS_MAX = BigInt(BITMAP_BYTES_MAX * 8)
const SERIAL_MAX = 0xffff_ffff_ffff_ffffn
/** A section costs its type and its length. */
const SECTION_BYTES = 5
const RANGE_BYTES = SECTION_BYTES + 16

/** The serials of one section, in the order they stand there. */
export function readSerials(type: number, data: Reader): SerialRange[] {
  const serials = readSection(type, data)
  // Certificates without a serial have 0; OpenSSH takes no list that revokes it.
  if (serials.some(([first]) => first === 0n))
    throw new FormatError('ERR_KRL_SERIALS', 'KRL: serial 0 cannot be revoked')
  return serials
}

function readSection(type: number, data: Reader): SerialRange[] {
  if (type === LIST) return readList(data)
  if (type === RANGE) return [readRange(data)]
  if (type === BITMAP) return readBitmap(data)
  throw new FormatError('ERR_KRL_SECTION', `KRL: certificate section ${type} is not understood`)
}

function readList(data: Reader): SerialRange[] {
  const serials: SerialRange[] = []
  while (!data.done) {
    const serial = data.u64()
    serials.push([serial, serial])
  }
  return serials
}

function readRange(data: Reader): SerialRange {
  const [first, last] = [data.u64(), data.u64()]
  if (first > last) throw new FormatError('ERR_KRL_SERIALS', `KRL: a range that runs backwards, ${first} to ${last}`)
  return [first, last]
}

/** Bit i, counted from the lowest, stands for the offset plus i. */
function readBitmap(data: Reader): SerialRange[] {
  const offset = data.u64()
  const bitmap = data.mpint(BITMAP_BYTES_MAX)
  const serials: SerialRange[] = []
  for (let bit = 0; bit < bitmap.length * 8; bit++) {
    if (!(bitmap[bitmap.length - 1 - (bit >> 3)]! & (1 << (bit & 7)))) continue
    const serial = offset + BigInt(bit)
    if (serial > SERIAL_MAX) throw new FormatError('ERR_KRL_SERIALS', 'KRL: a bitmap that runs past the last serial')
    serials.push([serial, serial])
  }
  return serials
}

/** The same serials as ranges in order, none touching the next. */
export function mergeRanges(ranges: readonly SerialRange[]): SerialRange[] {
  const merged: [bigint, bigint][] = []
  for (const [first, last] of [...ranges].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))) {
    const previous = merged.at(-1)
    if (previous === undefined || first > previous[1] + 1n) merged.push([first, last])
    else if (last > previous[1]) previous[1] = last
  }
  return merged
}

/** Whether merged ranges hold a serial. */
export function inRanges(ranges: readonly SerialRange[], serial: bigint): boolean {
  let [low, high] = [0, ranges.length - 1]
  while (low <= high) {
    const middle = (low + high) >> 1
    const [first, last] = ranges[middle]!
    if (serial < first) high = middle - 1
    else if (serial > last) low = middle + 1
    else return true
  }
  return false
}

/**
 * The sections for these serials: bitmaps where serials stand close together, ranges for long runs, a list for the rest.
 * Throws a RangeError for serial 0, which no certificate can be revoked by.
 */
export function writeSerials(serials: readonly SerialRange[]): { type: number; data: Buffer }[] {
  const sections: { type: number; data: Buffer }[] = []
  const singles: bigint[] = []
  const merged = mergeRanges(serials)
  if (merged[0]?.[0] === 0n) throw new RangeError('serial 0 cannot be revoked')
  for (const neighbours of neighbourhoods(merged)) {
    const bitmap = bitmapOf(neighbours)
    if (bitmap !== undefined && bitmap.length + SECTION_BYTES < plainBytes(neighbours))
      sections.push({ type: BITMAP, data: bitmap })
    else {
      for (const [first, last] of neighbours) {
        if (last - first < 2n) singles.push(...(first === last ? [first] : [first, last]))
        else sections.push({ type: RANGE, data: Buffer.concat([u64(first), u64(last)]) })
      }
    }
  }
  if (singles.length > 0) sections.push({ type: LIST, data: Buffer.concat(singles.map(u64)) })
  return sections
}

/** Ranges so close that the bits between them cost less than a section of their own. */
function neighbourhoods(ranges: readonly SerialRange[]): SerialRange[][] {
  const groups: SerialRange[][] = []
  for (const range of ranges) {
    const group = groups.at(-1)
    const [start, end] = [group?.[0]?.[0], group?.at(-1)?.[1]]
    const joins =
      start !== undefined &&
      end !== undefined &&
      range[0] - end <= BigInt(RANGE_BYTES * 8) &&
      range[1] - start < BITMAP_BITS_MAX
    if (joins) group!.push(range)
    else groups.push([range])
  }
  return groups
}

function plainBytes(ranges: readonly SerialRange[]): number {
  return ranges.reduce(
    (sum, [first, last]) => sum + (last - first < 2n ? Number(last - first + 1n) * 8 : RANGE_BYTES),
    0,
  )
}

function bitmapOf(ranges: readonly SerialRange[]): Buffer | undefined {
  const offset = ranges[0]![0]
  const span = ranges.at(-1)![1] - offset + 1n
  if (span > BITMAP_BITS_MAX) return undefined
  const bytes = Buffer.alloc(Math.ceil(Number(span) / 8))
  for (const [first, last] of ranges) {
    for (let bit = Number(first - offset); bit <= Number(last - offset); bit++)
      bytes[bytes.length - 1 - (bit >> 3)]! |= 1 << (bit & 7)
  }
  return Buffer.concat([u64(offset), mpint(bytes)])
}
