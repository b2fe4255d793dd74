import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto'
import { type PublicKey, type PublicKeyLine, readPublicKey, splitKeyLine } from './key.ts'
import { type SignatureAlgorithm, signatureAlgorithms, verifySignature } from './signature.ts'
import { FormatError, Reader, u32 } from './wire.ts'

/**
 * Keys that live in a FIDO authenticator (PROTOCOL.u2f). People log in with them; they are not certified, and certify nothing.
 *
 *   string  type                          string  type
 *   string  32 bytes of ed25519           string  "nistp256"
 *   string  application                   string  uncompressed point
 *                                         string  application
 *
 * What is signed is not the message but SHA-256(application), flags, counter, SHA-256(message); flags and counter follow
 * the signature.
 */
const SECURITY_KEY_TYPES = ['sk-ssh-ed25519@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com'] as const
export type SecurityKeyType = (typeof SECURITY_KEY_TYPES)[number]

export interface SecurityKey {
  readonly type: SecurityKeyType
  readonly key: KeyObject
  readonly blob: Buffer
  readonly application: string
}

/** What somebody can log in by without a certificate. */
export type UserKey = PublicKey | SecurityKey

const APPLICATION_BYTES_MAX = 255
const POINT_BYTES = 65
const KEY_LINE_CHARACTERS_MAX = 16_384
/** The authenticator was touched. */
const USER_PRESENT = 0x01

export function isSecurityKeyType(name: string): name is SecurityKeyType {
  return (SECURITY_KEY_TYPES as readonly string[]).includes(name)
}

/** Reads a public key blob to its last byte. Throws `FormatError`. */
export function readSecurityKey(blob: Buffer): SecurityKey {
  const reader = new Reader(blob, 'security key')
  const type = reader.name()
  if (!isSecurityKeyType(type)) {
    throw new FormatError('ERR_SSH_KEY_TYPE', `security key: type ${JSON.stringify(type)} is not taken`)
  }
  const key = type === 'sk-ssh-ed25519@openssh.com' ? readEd25519(reader) : readEcdsa(reader)
  const application = reader.text(APPLICATION_BYTES_MAX)
  reader.end()
  // A key made for a web site says its address here; only one made for SSH speaks for somebody over SSH.
  if (!application.startsWith('ssh:')) {
    throw new FormatError('ERR_SSH_KEY', `security key: made for ${JSON.stringify(application)}, not for ssh:`)
  }
  return { type, key, blob, application }
}

function readEd25519(reader: Reader): KeyObject {
  const point = reader.string(32)
  if (point.length !== 32)
    throw new FormatError('ERR_SSH_KEY', `${reader.what}: ${point.length} bytes of ed25519, not 32`)
  return imported({ kty: 'OKP', crv: 'Ed25519', x: point.toString('base64url') }, reader)
}

function readEcdsa(reader: Reader): KeyObject {
  const curve = reader.name()
  const point = reader.string(POINT_BYTES)
  if (curve !== 'nistp256' || point.length !== POINT_BYTES || point[0] !== 4) {
    throw new FormatError('ERR_SSH_KEY', `${reader.what}: no uncompressed point of nistp256`)
  }
  const [x, y] = [point.subarray(1, 33).toString('base64url'), point.subarray(33).toString('base64url')]
  return imported({ kty: 'EC', crv: 'P-256', x, y }, reader)
}

function imported(key: { kty: string; [field: string]: string }, { what }: Reader): KeyObject {
  try {
    return createPublicKey({ format: 'jwk', key })
  } catch (cause) {
    throw new FormatError('ERR_SSH_KEY', `${what}: not a usable key`, { cause })
  }
}

/**
 * Whether `signature` is one over `data` by this key, made while somebody touched it: a signature that malware took without its
 * owner noticing is none here, whatever the client asked for (`no-touch-required`). Malformed signatures answer false.
 */
export function verifySecurityKeySignature(
  { type, key, application }: SecurityKey,
  data: Buffer,
  signature: Buffer,
): boolean {
  try {
    const reader = new Reader(signature, 'signature')
    if (reader.name() !== type) return false
    const value = reader.string()
    const flags = reader.byte()
    const counter = reader.u32()
    reader.end()
    if ((flags & USER_PRESENT) === 0) return false
    const signed = Buffer.concat([sha256(application), Buffer.of(flags), u32(counter), sha256(data)])
    if (type === 'sk-ssh-ed25519@openssh.com') return value.length === 64 && verify(null, signed, key, value)
    const point = new Reader(value, 'signature')
    const pair = [point.mpint(32), point.mpint(32)].map(number =>
      Buffer.concat([Buffer.alloc(32 - number.length), number]),
    )
    point.end()
    return verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, Buffer.concat(pair))
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}

function sha256(data: Buffer | string): Buffer {
  return createHash('sha256').update(data).digest()
}

/** Reads a key somebody may log in by, in an authenticator or not. Throws `FormatError`. */
export function readUserKey(blob: Buffer): UserKey {
  return isSecurityKeyType(new Reader(blob, 'public key').name()) ? readSecurityKey(blob) : readPublicKey(blob)
}

/** The same, from the line of a .pub file or of authorized_keys without options. Throws `FormatError`. */
export function parseUserKeyLine(text: string): UserKey & Pick<PublicKeyLine, 'comment'> {
  const { blob, comment } = splitKeyLine(text, 'public key', KEY_LINE_CHARACTERS_MAX)
  return { ...readUserKey(blob), comment }
}

export type UserSignatureAlgorithm = SignatureAlgorithm | SecurityKeyType

/** The algorithms a key of this type signs with; a security key has one, by its own name. */
export function userSignatureAlgorithms(type: UserKey['type']): readonly UserSignatureAlgorithm[] {
  return isSecurityKeyType(type) ? [type] : signatureAlgorithms(type)
}

/** Whether `signature` is one over `data` by `key` with that one algorithm. */
export function verifyUserSignature(
  key: UserKey,
  data: Buffer,
  signature: Buffer,
  algorithm: UserSignatureAlgorithm,
): boolean {
  if ('application' in key) return algorithm === key.type && verifySecurityKeySignature(key, data, signature)
  return verifySignature(key, data, signature, [algorithm])
}
