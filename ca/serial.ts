import { join } from 'node:path'
import { readPrivate, writeDurably } from './durable.ts'

/**
 * Serial numbers that are never given twice.
 *
 * A serial is a counter that starts at the time of day: milliseconds since 1970 times 2^20, so 61 bits of the 64 last until
 * the year 2527. Before a block of numbers is used, the end of the block is on disk; a restart goes on behind it, whatever
 * was handed out. Should the file be lost, or brought back from an old backup, the clock alone puts the next block past all
 * earlier ones, for nobody issues a million certificates a millisecond. Only a lost file together with a clock set back
 * could repeat a number. Random serials would need neither file nor clock, but could repeat; a plain counter would repeat
 * after every restored backup. And since serials ascend with time, "everything before noon" is one range in a KRL.
 */
export interface Serials {
  next(): Promise<bigint>
}

const FILE = 'serial'
const BLOCK = 1024n
const CLOCK_SHIFT = 20n

/** Opens the counter kept in a directory. One process at a time may have it open. */
export async function openSerials(directory: string, now: () => number = Date.now): Promise<Serials> {
  const file = join(directory, FILE)
  let end = parseEnd(await readPrivate(file), file)
  let next = end
  let before: Promise<unknown> = Promise.resolve()

  async function take(): Promise<bigint> {
    if (next === end) {
      const clock = BigInt(now()) << CLOCK_SHIFT
      const start = clock > end ? clock : end
      await writeDurably(file, `${start + BLOCK}\n`)
      next = start
      end = start + BLOCK
    }
    return next++
  }

  return {
    next() {
      // One after the other: two callers at the end of a block must not both write the next one.
      const serial = before.then(take)
      before = serial.catch(() => {})
      return serial
    },
  }
}

function parseEnd(content: Buffer | undefined, file: string): bigint {
  if (content === undefined) return 1n
  const text = content.toString('latin1').trim()
  if (!/^[1-9][0-9]{0,18}$/.test(text))
    throw new Error(`${file}: no serial number in it; remove the file to go on from the clock`)
  return BigInt(text)
}
