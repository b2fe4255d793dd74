import { randomBytes } from 'node:crypto'

const CROCKFORD = '0123456789abcdefghjkmnpqrstvwxyz'

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
  let tail = ''
  for (const byte of randomBytes(11)) tail += CROCKFORD[byte & 31]
  return `${prefix}-${head}${tail}`
}
