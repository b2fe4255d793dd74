import { createHash, randomBytes, randomInt } from 'node:crypto'

/** RFC 8628, section 6.1: no vowels, so that no words come up; twenty letters, eight of them, 34 bits. */
const LETTERS = 'BCDFGHJKLMNPQRSTVWXZ'
const SECRET_BYTES = 32

/** What terminal and browser show, as `WDJB-MJHT`. Worth nothing by itself: whoever has it can only offer their own account. */
export function newUserCode(): string {
  const letters = Array.from({ length: 8 }, () => LETTERS[randomInt(LETTERS.length)]).join('')
  return `${letters.slice(0, 4)}-${letters.slice(4)}`
}

/** As people type it: small letters, without the dash, with spaces. Undefined when it is none. */
export function readUserCode(text: string): string | undefined {
  const letters = text.slice(0, 64).toUpperCase().replace(/[\s-]/g, '')
  if (letters.length !== 8 || [...letters].some(letter => !LETTERS.includes(letter))) return undefined
  return `${letters.slice(0, 4)}-${letters.slice(4)}`
}

/** 256 random bits; their hash is all that is kept. */
export const newSecret = (): string => randomBytes(SECRET_BYTES).toString('base64url')

export const secretHash = (secret: string): Buffer => createHash('sha256').update(secret).digest()
