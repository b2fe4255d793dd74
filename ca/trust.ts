import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Certificate } from './certificate.ts'
import { parsePublicKeyLine } from './key.ts'
import { EMPTY_KRL, encodeKrl, type Krl, parseKrl, revocations } from './krl.ts'

/**
 * What a door has to know of the authority: the keys whose certificates are taken, and what is revoked. It travels as one text,
 * so that nobody ever sees the keys of one moment beside the revocations of another.
 */
export interface Trust {
  /** Public key lines that sign user certificates, and host certificates. */
  readonly user: readonly string[]
  readonly host: readonly string[]
  readonly krl: Krl
}

/** The questions asked at a door. */
export interface Door {
  /** Whether this public key blob signs user certificates. */
  isAuthority(publicKey: Buffer): boolean
  isHostAuthority(publicKey: Buffer): boolean
  isRevoked(certificate: Pick<Certificate, 'publicKey' | 'authority' | 'serial' | 'keyId'>): boolean
}

const KEYS_MAX = 128
const keyLines = z.array(z.string().max(16_384)).max(KEYS_MAX)
const schema = z.strictObject({ user: keyLines, host: keyLines, krl: z.base64() })

export function writeTrust({ user, host, krl }: Trust): string {
  return JSON.stringify({ user, host, krl: encodeKrl(krl).toString('base64') })
}

/** @throws for anything `writeTrust` would not write: a list that is understood in part revokes in part */
export function readTrust(text: string): Trust {
  const { user, host, krl } = schema.parse(JSON.parse(text))
  return { user, host, krl: parseKrl(Buffer.from(krl, 'base64')) }
}

/** Names a state of trust by its content. */
export function trustVersion(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** Nobody's certificates are taken. */
export const NO_TRUST: Trust = {
  user: [],
  host: [],
  krl: EMPTY_KRL,
}

export function doorOf({ user, host, krl }: Trust): Door {
  const blobs = (lines: readonly string[]) =>
    new Set(lines.map(line => parsePublicKeyLine(line).blob.toString('base64')))
  const [users, hosts] = [blobs(user), blobs(host)]
  const { isRevoked } = revocations(krl)
  return {
    isAuthority: blob => users.has(blob.toString('base64')),
    isHostAuthority: blob => hosts.has(blob.toString('base64')),
    isRevoked,
  }
}
