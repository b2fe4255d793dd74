import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Authority,
  type AuthorityKey,
  distrust,
  initAuthority,
  type RingName,
  readAuthority,
  rotate,
  trustedKeys,
  writeAuthority,
} from './authority.ts'
import { openPrivateDirectory, readPrivate, writeDurably } from './durable.ts'
import { parsePublicKeyLine } from './key.ts'
import { EMPTY_KRL, encodeKrl, type Krl, parseKrl, type Revocations, revocations } from './krl.ts'
import { mergeRanges } from './serialrange.ts'
import type { Protection } from './signer/keyfile.ts'
import { createKeyFile, openSigner, type SignerAccess } from './signer/open.ts'
import type { Signer } from './signer.ts'

/** What is revoked: one certificate by its serial, everything with a key id, or everything for a key. */
export type Revocation = { readonly serial: bigint } | { readonly keyId: string } | { readonly publicKey: Buffer }

export interface Custody {
  /** The current key of a ring. */
  signer(ring: RingName): Signer
  /** Any key of ours, trusted or not. */
  isAuthority(publicKey: Buffer): boolean
  isRevoked(publicKey: Buffer, keyId: string): boolean
  /** The public key lines that are trusted now. */
  trusted(): Record<RingName, string[]>
  rotate(ring: RingName, next: AuthorityKey): Promise<void>
  /** Resolves to the ring the key was in. */
  distrust(fingerprint: string): Promise<RingName>
  revoke(revocation: Revocation): Promise<void>
  krl(): Krl
}

const KRL_FILE = 'revoked.krl'

/** The four keys an authority begins with. */
export type FirstKeys = Readonly<Record<RingName, { readonly current: AuthorityKey; readonly next: AuthorityKey }>>

/** Four fresh ed25519 keys in files of the directory. */
export async function freshKeys(directory: string, protection: Protection, now: number): Promise<FirstKeys> {
  await openPrivateDirectory(directory)
  const key = () => createKeyFile(directory, protection, now)
  return { user: { current: await key(), next: await key() }, host: { current: await key(), next: await key() } }
}

/** Makes a new authority of these keys, and a KRL that revokes nothing; rejects where there is an authority already. */
export async function createAuthority(directory: string, keys: FirstKeys, now: number): Promise<Authority> {
  if ((await readAuthority(directory)) !== undefined) throw new Error(`${directory} holds an authority already`)
  const authority = initAuthority(keys)
  await writeDurably(join(directory, KRL_FILE), encodeKrl(krlOf(authority, EMPTY_KRL, now)))
  await writeAuthority(directory, authority)
  return authority
}

export interface CustodyOptions {
  readonly directory: string
  readonly access: SignerAccess
  readonly now: () => number
  /** How long a retired key stays trusted in each ring: the longest lifetime of its certificates. */
  readonly lifetimeSeconds: Readonly<Record<RingName, number>>
}

/** Opens the authority kept in a directory, with the signers of its current keys. Each change is on disk before it takes effect. */
export async function openCustody({ directory, access, now, lifetimeSeconds }: CustodyOptions): Promise<Custody> {
  await openPrivateDirectory(directory)
  const found = await readAuthority(directory)
  if (found === undefined) throw new Error(`${directory} holds no authority; make one with "drawbridge ca init"`)
  let authority = found
  let krl = await readRevoked(directory)
  let revoked = revocations(krl)
  const signers = {
    user: await openSigner(authority.user.current, access),
    host: await openSigner(authority.host.current, access),
  }

  async function writeKrl(next: Krl): Promise<void> {
    await writeDurably(join(directory, KRL_FILE), encodeKrl(next))
    krl = next
    revoked = revocations(krl)
  }

  let before: Promise<unknown> = Promise.resolve()
  /** Changes go one after the other: each builds on what the one before wrote. */
  function inTurn<T>(change: () => Promise<T>): Promise<T> {
    const changed = before.then(change)
    before = changed.catch(() => {})
    return changed
  }

  return {
    signer: ring => signers[ring],
    isAuthority: publicKey => ownKeys(authority).some(own => own.equals(publicKey)),
    isRevoked: (publicKey, keyId) => isSubjectRevoked(revoked, krl, publicKey, keyId),
    trusted: () => ({ user: trustedKeys(authority.user, now()), host: trustedKeys(authority.host, now()) }),
    rotate: (ring, next) =>
      inTurn(async () => {
        const leaving = authority[ring].current
        const rotated = rotate(authority, ring, next, now(), lifetimeSeconds[ring])
        // The key that signs from now on, and the one after it, can be reached: tried before anything is changed.
        const signer = await openSigner(rotated[ring].current, access)
        await openSigner(next, access)
        await writeKrl(krlOf(rotated, krl, now()))
        await writeAuthority(directory, rotated)
        authority = rotated
        signers[ring] = signer
        // It never signs again; what is not there cannot leak.
        await forgetKey(directory, leaving)
      }),
    distrust: fingerprint =>
      inTurn(async () => {
        const remaining = distrust(authority, fingerprint)
        // The KRL first: a crash in between leaves a key that is still listed, and refused.
        await writeKrl(krlOf(remaining, krl, now()))
        await writeAuthority(directory, remaining)
        const ring = remaining.user === authority.user ? 'host' : 'user'
        authority = remaining
        return ring
      }),
    revoke: revocation => inTurn(() => writeKrl(krlOf(authority, addRevocation(krl, revocation), now()))),
    krl: () => krl,
  }
}

async function forgetKey(directory: string, { signer }: AuthorityKey): Promise<void> {
  if (signer.kind === 'file') await rm(join(directory, signer.file), { force: true })
}

/** Without the file nothing would be revoked any more, so that its loss is no fresh start. */
async function readRevoked(directory: string): Promise<Krl> {
  const file = join(directory, KRL_FILE)
  const content = await readPrivate(file)
  if (content === undefined)
    throw new Error(`${file} is missing, and with it what was revoked; bring it back from a backup`)
  return parseKrl(content)
}

function addRevocation(krl: Krl, revocation: Revocation): Krl {
  if ('publicKey' in revocation) return { ...krl, keys: [...krl.keys, revocation.publicKey] }
  const [section = { authority: undefined, serials: [], keyIds: [] }, ...others] = krl.certificates
  const added =
    'serial' in revocation
      ? { ...section, serials: [...section.serials, [revocation.serial, revocation.serial] as const] }
      : { ...section, keyIds: [...section.keyIds, revocation.keyId] }
  return { ...krl, certificates: [added, ...others] }
}

/**
 * The next version of the list. Serials are one count over all our keys, so each key has a section with all of them: hosts
 * that trust other authorities too must not refuse certificates of those for bearing the same number or key id.
 */
function krlOf(authority: Authority, krl: Krl, now: number): Krl {
  const serials = mergeRanges(krl.certificates.flatMap(section => section.serials))
  const keyIds = [...new Set(krl.certificates.flatMap(section => section.keyIds))]
  const distrusted = authority.distrusted.map(line => parsePublicKeyLine(line).blob)
  const keys = new Map([...krl.keys, ...distrusted].map(blob => [blob.toString('base64'), blob]))
  const version = krl.version + 1n
  const certificates = ringKeys(authority).map(own => ({ authority: own, serials, keyIds }))
  return {
    ...krl,
    version,
    generated: BigInt(Math.floor(now / 1000)),
    comment: 'drawbridge',
    certificates,
    keys: [...keys.values()],
  }
}

function ringKeys({ user, host }: Authority): Buffer[] {
  return [user, host]
    .flatMap(ring => [ring.current, ring.next, ...ring.retired])
    .map(({ publicKey }) => parsePublicKeyLine(publicKey).blob)
}

function ownKeys(authority: Authority): Buffer[] {
  return [...ringKeys(authority), ...authority.distrusted.map(line => parsePublicKeyLine(line).blob)]
}

function isSubjectRevoked(revoked: Revocations, krl: Krl, publicKey: Buffer, keyId: string): boolean {
  return revoked.isKeyRevoked(publicKey) || krl.certificates.some(section => section.keyIds.includes(keyId))
}
