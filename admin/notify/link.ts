import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { openPrivateDirectory, readPrivate, writeDurably } from '../../ca/durable.ts'
import type { Delivery } from './channel.ts'

/**
 * One-time links: who may decide about which request, as it was worded, until when. The token is the claims in base64url, a dot,
 * and their HMAC-SHA-256; without the key none can be made or altered, and the id in it is good for one vote.
 */

const KEY_BYTES = 32
const KEY_FILE = 'link.key'
const TOKEN_CHARACTERS_MAX = 2_000
/** In front of what is signed, so that a MAC made for anything else is none for a link. */
const PURPOSE = 'drawbridge link v1\n'

const claims = z.strictObject({
  id: z.string().max(50),
  /** By which channel it was sent, and of which kind that is. */
  channel: z.string().max(50),
  via: z.enum(['email', 'teams']),
  person: z.string().max(300),
  request: z.string().max(50),
  /** Of exactly what was asked; see `digestOf`. */
  digest: z.string().max(100),
  /** Milliseconds since the epoch. */
  expires: z.int(),
})
export type LinkClaims = z.infer<typeof claims>

export type LinkCode = 'malformed' | 'signature' | 'expired'

/** A link for one person to decide one request, where the gate can be reached by one. */
export type LinkFor = (decision: {
  readonly channel: string
  readonly via: LinkClaims['via']
  readonly person: string
  readonly request: string
  readonly digest: string
  readonly lapses: number
}) => string | undefined

/** The link that belongs into this delivery: it has one where somebody is asked. */
export function linkOf(
  linkFor: LinkFor,
  { name: channel, via }: { readonly name: string; readonly via: LinkClaims['via'] },
  { person, content }: Delivery,
): string | undefined {
  const { request } = content.data
  if (person === undefined || request === undefined) return undefined
  const { id, digest, lapses_at } = request
  return linkFor({ channel, via, person, request: id, digest, lapses: Date.parse(lapses_at) })
}

/** @param folder private to the control plane; made where it is missing, with a key in it */
export async function loadOrCreateLinkKey(folder: string): Promise<Buffer> {
  await openPrivateDirectory(folder)
  const file = join(folder, KEY_FILE)
  const found = await readPrivate(file)
  if (found?.length === KEY_BYTES) return found
  if (found !== undefined) throw new Error(`${file}: not ${KEY_BYTES} bytes; remove it to have a new one made`)
  const key = randomBytes(KEY_BYTES)
  await writeDurably(file, key)
  return key
}

export function signLink(key: Buffer, content: Omit<LinkClaims, 'id'>): string {
  const said = Buffer.from(JSON.stringify({ id: randomBytes(16).toString('base64url'), ...content })).toString(
    'base64url',
  )
  return `${said}.${mac(key, said).toString('base64url')}`
}

/** The claims, or why this is no link of ours. Of a link that is not, nothing is believed and nothing read. */
export function readLink(key: Buffer, token: string, now: number): LinkClaims | { readonly refused: LinkCode } {
  const [said, tag, ...more] = token.length <= TOKEN_CHARACTERS_MAX ? token.split('.') : []
  if (said === undefined || tag === undefined || more.length > 0) return { refused: 'malformed' }
  const given = Buffer.from(tag, 'base64url')
  const right = mac(key, said)
  // The text as well: base64url has several spellings of the same bytes.
  if (given.length !== right.length || !timingSafeEqual(given, right) || right.toString('base64url') !== tag) {
    return { refused: 'signature' }
  }
  const read = claims.parse(JSON.parse(Buffer.from(said, 'base64url').toString('utf8')))
  return read.expires <= now ? { refused: 'expired' } : read
}

const mac = (key: Buffer, said: string) => createHmac('sha256', key).update(PURPOSE).update(said).digest()
