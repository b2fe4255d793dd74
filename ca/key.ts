import { createHash, createPublicKey, type KeyObject } from 'node:crypto'
import { FormatError, mpint, Reader, string } from './wire.ts'

/**
 * SSH public keys (RFC 4253, section 6.6; RFC 5656, section 3.1; RFC 8709, section 4) and node's KeyObjects, both ways.
 * The types are those an OpenSSH server takes today without DSA and without hardware-bound keys.
 */
export type KeyType = 'ssh-ed25519' | 'ecdsa-sha2-nistp256' | 'ecdsa-sha2-nistp384' | 'ecdsa-sha2-nistp521' | 'ssh-rsa'

export interface PublicKey {
  readonly type: KeyType
  readonly key: KeyObject
  readonly blob: Buffer
}

export interface PublicKeyLine extends PublicKey {
  readonly comment: string
}

/** What PROTOCOL.certkeys appends to the type of a plain key. */
export const CERTIFICATE_SUFFIX = '-cert-v01@openssh.com'

const RSA_BITS_MIN = 2048
const RSA_BITS_MAX = 16_384
/** OpenSSL takes no longer exponent with a long modulus: verifying would take arbitrarily long. */
const RSA_EXPONENT_BYTES_MAX = 8
export const KEY_BLOB_BYTES_MAX = 4096
/** A line of authorized_keys with a 16384-bit key and a comment. */
const KEY_LINE_CHARACTERS_MAX = 16_384

export interface Curve {
  readonly name: string
  readonly jwk: string
  /** What OpenSSL, and so a KeyObject, calls it. */
  readonly openssl: string
  /** Bytes of one coordinate, and of r and s in a signature. */
  readonly bytes: number
  readonly hash: string
}

export const CURVES: Readonly<Partial<Record<KeyType, Curve>>> = {
  'ecdsa-sha2-nistp256': { name: 'nistp256', jwk: 'P-256', openssl: 'prime256v1', bytes: 32, hash: 'sha256' },
  'ecdsa-sha2-nistp384': { name: 'nistp384', jwk: 'P-384', openssl: 'secp384r1', bytes: 48, hash: 'sha384' },
  'ecdsa-sha2-nistp521': { name: 'nistp521', jwk: 'P-521', openssl: 'secp521r1', bytes: 66, hash: 'sha512' },
}

/**
 * Reads a public key blob to its last byte. Throws `FormatError` for anything that is not exactly one key of a known
 * type: certificates too, for whoever expects a key must not be handed the nonce of a certificate.
 */
export function readPublicKey(blob: Buffer): PublicKey {
  if (blob.length > KEY_BLOB_BYTES_MAX) {
    throw new FormatError(
      'ERR_SSH_TOO_LONG',
      `public key: ${blob.length} bytes, at most ${KEY_BLOB_BYTES_MAX} are taken`,
    )
  }
  const reader = new Reader(blob, 'public key')
  const type = keyType(reader.name())
  const key = readKeyFields(type, reader)
  reader.end()
  return { type, key, blob }
}

/** The key type with that name; throws `FormatError` for names that are unknown or no longer safe. */
export function keyType(name: string): KeyType {
  if (name === 'ssh-ed25519' || name === 'ssh-rsa' || Object.hasOwn(CURVES, name)) return name as KeyType
  throw new FormatError(
    'ERR_SSH_KEY_TYPE',
    `public key: type ${JSON.stringify(name)} is not taken; use ed25519, ECDSA or RSA`,
  )
}

/** Reads the fields that follow the type in a key, and the nonce in a certificate. */
export function readKeyFields(type: KeyType, reader: Reader): KeyObject {
  if (type === 'ssh-ed25519') return readEd25519(reader)
  if (type === 'ssh-rsa') return readRsa(reader)
  return readEcdsa(CURVES[type]!, reader)
}

function readEd25519(reader: Reader): KeyObject {
  const point = reader.string(32)
  if (point.length !== 32)
    throw new FormatError('ERR_SSH_KEY', `${reader.what}: an ed25519 key of ${point.length} bytes, not 32`)
  return importKey({ kty: 'OKP', crv: 'Ed25519', x: point.toString('base64url') }, reader.what)
}

function readEcdsa(curve: Curve, reader: Reader): KeyObject {
  const name = reader.name()
  if (name !== curve.name) {
    throw new FormatError(
      'ERR_SSH_KEY',
      `${reader.what}: curve ${JSON.stringify(name)} in a key of type ecdsa-sha2-${curve.name}`,
    )
  }
  // Only the uncompressed point (first byte 4); OpenSSH writes and takes no other.
  const point = reader.string(1 + 2 * curve.bytes)
  if (point.length !== 1 + 2 * curve.bytes || point[0] !== 4) {
    throw new FormatError('ERR_SSH_KEY', `${reader.what}: no uncompressed point of ${curve.name}`)
  }
  const x = point.subarray(1, 1 + curve.bytes).toString('base64url')
  const y = point.subarray(1 + curve.bytes).toString('base64url')
  // The import fails for a point that is not on the curve.
  return importKey({ kty: 'EC', crv: curve.jwk, x, y }, reader.what)
}

function readRsa(reader: Reader): KeyObject {
  const exponent = reader.mpint(RSA_EXPONENT_BYTES_MAX)
  const modulus = reader.mpint(RSA_BITS_MAX / 8)
  const bits = modulus.length * 8 - Math.clz32(modulus[0]!) + 24
  if (bits < RSA_BITS_MIN)
    throw new FormatError(
      'ERR_SSH_KEY',
      `${reader.what}: an RSA key of ${bits} bits, at least ${RSA_BITS_MIN} are needed`,
    )
  const odd = (bytes: Buffer) => (bytes[bytes.length - 1]! & 1) === 1
  if (!odd(modulus) || !odd(exponent) || (exponent.length === 1 && exponent[0] === 1)) {
    throw new FormatError('ERR_SSH_KEY', `${reader.what}: an RSA key with an impossible modulus or exponent`)
  }
  return importKey({ kty: 'RSA', e: exponent.toString('base64url'), n: modulus.toString('base64url') }, reader.what)
}

function importKey(key: { kty: string; [field: string]: string }, what: string): KeyObject {
  try {
    return createPublicKey({ format: 'jwk', key })
  } catch (cause) {
    throw new FormatError(
      'ERR_SSH_KEY',
      `${what}: ${key.kty === 'EC' ? 'the point is not on the curve' : 'not a usable key'}`,
      { cause },
    )
  }
}

/** The SSH type of a node key, public or private. Throws `FormatError` for other kinds of key. */
export function keyTypeOf(key: KeyObject): KeyType {
  if (key.asymmetricKeyType === 'ed25519') return 'ssh-ed25519'
  if (key.asymmetricKeyType === 'rsa') return 'ssh-rsa'
  for (const type of Object.keys(CURVES) as KeyType[]) {
    if (key.asymmetricKeyDetails?.namedCurve === CURVES[type]!.openssl) return type
  }
  throw new FormatError(
    'ERR_SSH_KEY_TYPE',
    `no SSH key type for ${key.asymmetricKeyType}; use ed25519, ECDSA (P-256, P-384, P-521) or RSA`,
  )
}

/** The blob of a public key, or of the public half of a private one. Throws `FormatError` for other kinds of key. */
export function publicKeyBlob(key: KeyObject): Buffer {
  const type = keyTypeOf(key)
  const jwk = (key.type === 'private' ? createPublicKey(key) : key).export({ format: 'jwk' })
  const field = (value: string | undefined) => Buffer.from(value ?? '', 'base64url')
  if (type === 'ssh-ed25519') return Buffer.concat([string(type), string(field(jwk.x))])
  if (type === 'ssh-rsa') return Buffer.concat([string(type), mpint(field(jwk.e)), mpint(field(jwk.n))])
  const point = Buffer.concat([Buffer.of(4), field(jwk.x), field(jwk.y)])
  return Buffer.concat([string(type), string(CURVES[type]!.name), string(point)])
}

/** `SHA256:` and 43 characters of base64, as ssh-keygen prints it. */
export function fingerprint(blob: Buffer): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`
}

/** `type base64 [comment]`: a line of authorized_keys or a .pub file. */
export function publicKeyLine(blob: Buffer, comment = ''): string {
  const type = new Reader(blob, 'public key').name()
  return `${type} ${blob.toString('base64')}${comment === '' ? '' : ` ${comment}`}`
}

/** Splits `type base64 [comment]` and decodes the middle; the type must be the one inside the blob. */
export function splitKeyLine(text: string, what: string, max: number): { blob: Buffer; comment: string } {
  if (text.length > max)
    throw new FormatError('ERR_SSH_TOO_LONG', `${what}: a line of ${text.length} characters, at most ${max} are taken`)
  const line = text.trim()
  if (/[\r\n\0]/.test(line)) throw new FormatError('ERR_SSH_LINE', `${what}: more than one line; give one`)
  const [, type, base64, comment = ''] = /^([^ \t]+)[ \t]+([A-Za-z0-9+/=]+)(?:[ \t]+(.*))?$/.exec(line) ?? []
  if (type === undefined || base64 === undefined) {
    throw new FormatError(
      'ERR_SSH_LINE',
      `${what}: not "type base64 comment"; give the line of the .pub file, without options`,
    )
  }
  const blob = Buffer.from(base64, 'base64')
  // Buffer.from skips what it cannot read; only the one spelling of the bytes is taken.
  if (blob.toString('base64') !== base64) throw new FormatError('ERR_SSH_LINE', `${what}: the base64 is broken`)
  if (new Reader(blob, what).name() !== type) {
    throw new FormatError(
      'ERR_SSH_KEY_TYPE',
      `${what}: the line says ${JSON.stringify(type)}, its content is another type`,
    )
  }
  return { blob, comment }
}

/** Reads a line of a .pub file or of authorized_keys without options. Throws `FormatError`. */
export function parsePublicKeyLine(text: string): PublicKeyLine {
  const { blob, comment } = splitKeyLine(text, 'public key', KEY_LINE_CHARACTERS_MAX)
  return { ...readPublicKey(blob), comment }
}
