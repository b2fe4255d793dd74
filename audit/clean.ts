import { createHash } from 'node:crypto'
import { canonical } from './canonical.ts'
import type { Record } from './record.ts'

/** A ref, reason or user agent longer than this is cut; what was cut can be compared by its digest. */
export const STRING_CHARACTERS_MAX = 1_000
/** A list longer than this is cut. As many as a push may have commands. */
export const LIST_ITEMS_MAX = 10_000
/** A whole record, canonical, in bytes. */
export const RECORD_BYTES_MAX = 4 << 20

/** A record of up to so many characters, canonical, may be told to be clean by one look; most have some hundred. */
const GLANCE_CHARACTERS_MAX = 8_000

/** When the whole is still too big, its strings are cut to this and its lists to that. */
const TIGHT_STRING_CHARACTERS_MAX = 100
const TIGHT_LIST_ITEMS_MAX = 1_000

/**
 * What must never stand raw in a record: C0 and C1 controls and DEL (line breaks, NUL, the ESC of terminal sequences), the bidi
 * controls that show a text in another order than it is in, zero-width characters and the line separators of JavaScript.
 */
const UNPRINTABLE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu

/** Things that look like a secret wherever they stand: a reason typed by a person, a push option, a claimed user name. */
const SECRETS: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g, '[private key]'],
  // A word follows "basic" in prose too; a credential is longer and not all lower case.
  [/\b([Bb]earer|[Bb]asic)\s+(?=\S*[\dA-Z+/=])[A-Za-z0-9+/=_.~-]{12,}/g, '$1 [redacted]'],
  [/\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g, '[token]'],
  [
    /\b(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{16,}|xox[abeprs]-[A-Za-z0-9-]{10,})/g,
    '[token]',
  ],
  [/\b([a-z][a-z0-9+.-]{1,20}:\/\/[^\s:/@]{0,200}):[^\s/@]{1,1000}@/gi, '$1:[redacted]@'],
  [/\b(password|passwd|secret|token|api[_-]?key)(\s*=\s*|:\s*)[^\s,;&]{4,}/gi, '$1$2[redacted]'],
]

interface Caps {
  readonly characters: number
  readonly items: number
}

/** Cleans a record; made once with the secrets the process knows, so that those are recognised whatever they look like. */
export type Clean = (record: Record) => Record

/** A cleaned record, and its canonical JSON. */
export interface Spelled {
  readonly record: Record
  readonly body: string
}

/**
 * Makes the function every record goes through before it is written: one record is one line and harmless on a terminal, no string
 * or list is beyond its cap, numbers are integers, and no secret is left, neither one of `secrets` nor anything that looks like one.
 */
export function cleaner(secrets: readonly string[] = []): Clean {
  const known = worthHiding(secrets)

  function cleanString(text: string, caps: Caps): string {
    // Redacted before it is cut: a cut through the middle would leave half a secret that no pattern knows.
    let out = text
    if (text.length >= 8) {
      for (const secret of known) out = out.replaceAll(secret, '[redacted]')
      for (const [pattern, instead] of SECRETS) out = out.replace(pattern, instead)
    }
    if (out.length > caps.characters) out = cut(out, caps.characters)
    return out.toWellFormed().replace(UNPRINTABLE, visible)
  }

  function cleanValue(value: unknown, caps: Caps): unknown {
    if (typeof value === 'string') return cleanString(value, caps)
    // A duration from performance.now() has a fraction, which has no canonical form.
    if (typeof value === 'number') return safeInteger(value)
    if (Array.isArray(value)) return value.slice(0, caps.items).map(item => cleanValue(item, caps))
    if (value === null || typeof value !== 'object') return value
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, cleanValue(member, caps)]))
  }

  return record => {
    const loose = cleanValue(record, { characters: STRING_CHARACTERS_MAX, items: LIST_ITEMS_MAX })
    const fits = Buffer.byteLength(JSON.stringify(loose)) <= RECORD_BYTES_MAX
    const tight = { characters: TIGHT_STRING_CHARACTERS_MAX, items: TIGHT_LIST_ITEMS_MAX }
    return (fits ? loose : cleanValue(record, tight)) as Record
  }
}

/**
 * Makes the function that cleans a record and spells it. Nearly every record is clean as it comes, and not long: then one look at
 * its spelling tells, where cleaning it would take as many looks as it has strings.
 *
 * What it makes throws a TypeError for a record that has no canonical form even when cleaned.
 */
export function speller(secrets: readonly string[] = []): (record: Record) => Spelled {
  const known = worthHiding(secrets)
  const clean = cleaner(secrets)
  return record => {
    const body = spellingAsItIs(record)
    if (body !== undefined && isClean(body, known)) return { record, body }
    const cleaned = clean(record)
    return { record: cleaned, body: canonical(cleaned) }
  }
}

function spellingAsItIs(record: Record): string | undefined {
  try {
    return canonical(record)
  } catch {
    // A fraction or a lone surrogate: cleaning mends both.
    return undefined
  }
}

/**
 * Whether cleaning would change nothing, told by a record's canonical JSON. Without a backslash in it every string stands there
 * letter for letter, so that whatever is found in one is found here too. Of so few characters no list is too long.
 */
function isClean(body: string, known: readonly string[]): boolean {
  if (body.length > GLANCE_CHARACTERS_MAX || body.includes('\\') || body.search(UNPRINTABLE) >= 0) return false
  if (hasLongString(body)) return false
  return !SECRETS.some(([pattern]) => body.search(pattern) >= 0) && !known.some(secret => body.includes(secret))
}

/** From one quotation mark to the next; that something else is as long as that between two strings only means it is cleaned for nothing. */
function hasLongString(body: string): boolean {
  let from = 0
  for (let mark = body.indexOf('"'); mark >= 0; mark = body.indexOf('"', from)) {
    if (mark - from > STRING_CHARACTERS_MAX) return true
    from = mark + 1
  }
  return false
}

/** Longest first. Short values (an empty password, `git`) would blot out half of every record. */
function worthHiding(secrets: readonly string[]): string[] {
  return secrets.filter(secret => secret.length >= 8).sort((a, b) => b.length - a.length)
}

/** A control character as JSON would escape it, in plain sight: an investigator still sees what was tried. */
function visible(character: string): string {
  return `\\u${character.codePointAt(0)!.toString(16).padStart(4, '0')}`
}

function cut(text: string, characters: number): string {
  const digest = createHash('sha256').update(text).digest('hex')
  return `${text.slice(0, characters).toWellFormed()}…[${text.length} characters, sha256 ${digest}]`
}

function safeInteger(value: number): number {
  if (Number.isNaN(value)) return 0
  return Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, Math.round(value)))
}
