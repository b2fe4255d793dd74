import { randomBytes } from 'node:crypto'

const CROCKFORD = '0123456789abcdefghjkmnpqrstvwxyz'

const TAIL_BYTES = 11

/** Asked of the system for many identifiers at once: one by one it costs more than all the rest of making them. */
let random: Buffer = Buffer.alloc(0)
let at = 0

/**
 * A new identifier: `prefix-` and 20 characters of Crockford's base32, the first nine of them the time in milliseconds,
 * so that identifiers sort by age; 55 random bits follow. Short enough to read out, safe in a URL and a file name.
 */
export function newId(prefix: 'op' | 'g' | 'r' | 'n' | 't' | 'c' | 's' | 'x', now: number = Date.now()): string {
  let time = now
  let head = ''
  for (let i = 0; i < 9; i++) {
    head = CROCKFORD[time % 32] + head
    time = Math.floor(time / 32)
  }
  if (at + TAIL_BYTES > random.length) {
    random = randomBytes(TAIL_BYTES * 100)
    at = 0
  }
  let tail = ''
  for (const end = at + TAIL_BYTES; at < end; at++) tail += CROCKFORD[(random[at] as number) & 31]
  return `${prefix}-${head}${tail}`
}
