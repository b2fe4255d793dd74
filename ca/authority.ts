import { join } from 'node:path'
import { z } from 'zod'
import { openPrivateDirectory, readPrivate, writeDurably } from './durable.ts'
import { fingerprint, parsePublicKeyLine, publicKeyLine } from './key.ts'

/**
 * The keys of the authority and their rotation. There are two rings, one whose keys sign user certificates and one for host
 * certificates, so that the one can turn without the other and neither kind of certificate ever stands in for the other.
 *
 * In a ring the next key is known and trusted before it signs anything, so that every host and developer has it by then;
 * the current key signs; those before it are trusted until the last certificate they signed has run out. A key that got into
 * wrong hands is distrusted: it leaves the trusted ones at once and goes into the KRL for good.
 */
export interface Authority {
  readonly user: Ring
  readonly host: Ring
  /** Public key lines of keys that must never be trusted again. */
  readonly distrusted: readonly string[]
}

export interface Ring {
  readonly next: AuthorityKey
  readonly current: AuthorityKey
  readonly retired: readonly RetiredKey[]
}

export type SignerReference =
  | { readonly kind: 'file'; readonly file: string }
  | { readonly kind: 'agent'; readonly socket: string }
  | { readonly kind: 'vault'; readonly key: string; readonly version: number }
  | { readonly kind: 'kms'; readonly keyId: string; readonly region: string }

export interface AuthorityKey {
  /** `type base64`. */
  readonly publicKey: string
  /** Where the private half is. */
  readonly signer: SignerReference
  readonly created: string
}

export interface RetiredKey extends AuthorityKey {
  readonly retired: string
  /** Until when its certificates are taken. */
  readonly trustedUntil: string
}

export type RingName = 'user' | 'host'

/** A new authority. All four keys must be different ones. */
export function initAuthority(
  keys: { readonly [ring in RingName]: { readonly current: AuthorityKey; readonly next: AuthorityKey } },
): Authority {
  const authority = { user: { ...keys.user, retired: [] }, host: { ...keys.host, retired: [] }, distrusted: [] }
  refuseRepeated(authority)
  return authority
}

/** Turns a ring: next becomes current, current is retired, and the key that is handed in becomes next. Times in milliseconds. */
export function rotate(
  authority: Authority,
  ring: RingName,
  next: AuthorityKey,
  now: number,
  lifetimeSeconds: number,
): Authority {
  const { current, next: coming, retired } = authority[ring]
  const leaving: RetiredKey = { ...current, retired: iso(now), trustedUntil: iso(now + lifetimeSeconds * 1000) }
  const rotated = {
    ...authority,
    [ring]: { next, current: coming, retired: [leaving, ...retired.filter(key => isTrusted(key, now))] },
  }
  refuseRepeated(rotated)
  return rotated
}

/**
 * Ends the trust in a retired key now. A key that still signs, or is about to, has to be rotated out first, or there would
 * be nothing to sign with; throws where that is so, and where the authority has no such key.
 */
export function distrust(authority: Authority, keyFingerprint: string): Authority {
  const is = (key: AuthorityKey) => fingerprint(parsePublicKeyLine(key.publicKey).blob) === keyFingerprint
  for (const name of ['user', 'host'] as const) {
    const ring = authority[name]
    if (is(ring.current) || is(ring.next)) {
      throw new Error(
        `${keyFingerprint} is the ${is(ring.current) ? 'current' : 'next'} ${name} key; rotate until it is retired, then distrust it`,
      )
    }
    const key = ring.retired.find(is)
    if (key === undefined) continue
    const remaining = { ...ring, retired: ring.retired.filter(other => other !== key) }
    return { ...authority, [name]: remaining, distrusted: [...authority.distrusted, key.publicKey] }
  }
  throw new Error(`the authority has no key ${keyFingerprint}`)
}

/** The public key lines whose certificates are taken at that time: next, current, and retired ones that have not run out. */
export function trustedKeys(ring: Ring, now: number): string[] {
  return [ring.current, ring.next, ...ring.retired.filter(key => isTrusted(key, now))].map(({ publicKey }) => publicKey)
}

function isTrusted(key: RetiredKey, now: number): boolean {
  return now < Date.parse(key.trustedUntil)
}

function iso(time: number): string {
  return new Date(time).toISOString()
}

function refuseRepeated({ user, host, distrusted }: Authority): void {
  const rings = [user, host].flatMap(ring => [ring.next, ring.current, ...ring.retired])
  const keys = [...rings.map(({ publicKey }) => publicKey), ...distrusted]
  if (new Set(keys).size < keys.length)
    throw new Error('this key is, or was, a key of the authority already; bring a new one')
}

/** A sshd's TrustedUserCAKeys file, of the trusted public key lines of the user ring. */
export function trustedUserCaKeys(keys: readonly string[]): string {
  return keys.map(key => `${key} drawbridge\n`).join('')
}

/** Lines for known_hosts, of the trusted lines of the host ring and host patterns (`git.example.org`, `[gate]:2222`). */
export function knownHostsLines(keys: readonly string[], hosts: readonly string[]): string {
  const wrong = hosts.find(host => host === '' || /[\s,#]/.test(host))
  if (hosts.length === 0 || wrong !== undefined) {
    throw new Error(`${JSON.stringify(wrong ?? '')} is no host pattern of known_hosts`)
  }
  return keys.map(key => `@cert-authority ${hosts.join(',')} ${key}\n`).join('')
}

const FILE = 'authority.json'
const RETIRED_MAX = 100

const publicKeySchema = z.string().refine(line => {
  try {
    return publicKeyLine(parsePublicKeyLine(line).blob) === line
  } catch {
    return false
  }
}, 'no public key line')
const signerSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('file'), file: z.string().regex(/^[\w.-]+$/) }),
  z.object({ kind: z.literal('agent'), socket: z.string() }),
  z.object({ kind: z.literal('vault'), key: z.string(), version: z.int().min(1) }),
  z.object({ kind: z.literal('kms'), keyId: z.string(), region: z.string() }),
])
const keySchema = z.object({ publicKey: publicKeySchema, signer: signerSchema, created: z.iso.datetime() })
const retiredSchema = keySchema.extend({ retired: z.iso.datetime(), trustedUntil: z.iso.datetime() })
const ringSchema = z.object({ next: keySchema, current: keySchema, retired: z.array(retiredSchema).max(RETIRED_MAX) })
const authoritySchema = z.object({ user: ringSchema, host: ringSchema, distrusted: z.array(publicKeySchema) })

/** The authority kept in a directory; undefined where there is none yet. Throws for a file that is not whole. */
export async function readAuthority(directory: string): Promise<Authority | undefined> {
  await openPrivateDirectory(directory)
  const file = join(directory, FILE)
  const content = await readPrivate(file)
  if (content === undefined) return undefined
  try {
    const authority = authoritySchema.parse(JSON.parse(content.toString('utf8')))
    refuseRepeated(authority)
    return authority
  } catch (cause) {
    throw new Error(`${file}: not the state of an authority: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    })
  }
}

export async function writeAuthority(directory: string, authority: Authority): Promise<void> {
  await writeDurably(join(directory, FILE), `${JSON.stringify(authority, null, 2)}\n`)
}
