import { sign as cryptoSign, verify as cryptoVerify, type KeyObject } from 'node:crypto'
import { CERTIFICATE_SUFFIX, CURVES, type Curve, keyTypeOf, type PublicKey, readPublicKey } from './key.ts'
import { FormatError, mpint, Reader, string } from './wire.ts'

/**
 * SSH signature blobs: `string algorithm, string signature` (RFC 4253, section 6.6; RFC 5656, section 3.1.2; RFC 8332;
 * RFC 8709). `ssh-rsa`, the signature with SHA-1, is in no list here and so is neither made nor taken anywhere.
 */
const SIGNATURE_ALGORITHMS = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
] as const

export type SignatureAlgorithm = (typeof SIGNATURE_ALGORITHMS)[number]

const RSA_HASHES = { 'rsa-sha2-256': 'sha256', 'rsa-sha2-512': 'sha512' } as const

/** The algorithms a key of this type signs with, the preferred one first. */
export function signatureAlgorithms(type: PublicKey['type']): readonly SignatureAlgorithm[] {
  return type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type]
}

/**
 * The signature algorithm behind a public key algorithm name of a login (RFC 4252, section 7; RFC 8332, section 3):
 * `rsa-sha2-512-cert-v01@openssh.com` signs with rsa-sha2-512. Undefined for unknown names and for those with SHA-1, which
 * are `ssh-rsa` and `ssh-rsa-cert-v01@openssh.com`.
 */
export function loginSignatureAlgorithm(publicKeyAlgorithm: string): SignatureAlgorithm | undefined {
  const plain = publicKeyAlgorithm.endsWith(CERTIFICATE_SUFFIX)
    ? publicKeyAlgorithm.slice(0, -CERTIFICATE_SUFFIX.length)
    : publicKeyAlgorithm
  return SIGNATURE_ALGORITHMS.find(algorithm => algorithm === plain)
}

/**
 * Whether `signature` is one over `data` by `key` (a public key blob, or one already read), by an algorithm that fits the
 * key and is among `allowed`. A login passes the one algorithm its request named. Malformed signatures answer false;
 * a key blob that cannot be read throws `FormatError`.
 */
export function verifySignature(
  key: Buffer | PublicKey,
  data: Buffer,
  signature: Buffer,
  allowed: readonly string[] = SIGNATURE_ALGORITHMS,
): boolean {
  const publicKey = Buffer.isBuffer(key) ? readPublicKey(key) : key
  try {
    const reader = new Reader(signature, 'signature')
    const name = reader.name()
    const value = reader.string()
    reader.end()
    const algorithm = signatureAlgorithms(publicKey.type).find(known => known === name)
    if (algorithm === undefined || !allowed.includes(algorithm)) return false
    return verifyValue(publicKey, algorithm, data, value)
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}

function verifyValue({ type, key }: PublicKey, algorithm: SignatureAlgorithm, data: Buffer, value: Buffer): boolean {
  if (algorithm === 'ssh-ed25519') return value.length === 64 && cryptoVerify(null, data, key, value)
  if (algorithm === 'rsa-sha2-256' || algorithm === 'rsa-sha2-512') {
    const length = Math.ceil((key.asymmetricKeyDetails?.modulusLength ?? 0) / 8)
    if (value.length > length) return false
    // RFC 8332, section 3: there are signers that leave leading zeros out; OpenSSH takes that, and so do we.
    return cryptoVerify(RSA_HASHES[algorithm], data, key, leftPad(value, length))
  }
  const curve = CURVES[type]!
  const reader = new Reader(value, 'signature')
  const r = reader.mpint(curve.bytes)
  const s = reader.mpint(curve.bytes)
  reader.end()
  const fixed = Buffer.concat([leftPad(r, curve.bytes), leftPad(s, curve.bytes)])
  return cryptoVerify(curve.hash, data, { key, dsaEncoding: 'ieee-p1363' }, fixed)
}

function leftPad(bytes: Buffer, length: number): Buffer {
  return Buffer.concat([Buffer.alloc(length - bytes.length), bytes])
}

/** Signs with a private key; RSA keys with SHA-512 unless told otherwise. Throws when the algorithm does not fit the key. */
export function sign(key: KeyObject, data: Buffer, algorithm?: SignatureAlgorithm): Buffer {
  const type = keyTypeOf(key)
  const chosen = algorithm ?? signatureAlgorithms(type)[0]!
  if (!signatureAlgorithms(type).includes(chosen))
    throw new TypeError(`a key of type ${type} does not sign with ${chosen}`)
  if (chosen === 'ssh-ed25519') return signatureBlob(chosen, cryptoSign(null, data, key))
  if (chosen === 'rsa-sha2-256' || chosen === 'rsa-sha2-512') {
    return signatureBlob(chosen, cryptoSign(RSA_HASHES[chosen], data, key))
  }
  const curve = CURVES[type]!
  return ecdsaSignatureBlob(curve, cryptoSign(curve.hash, data, { key, dsaEncoding: 'ieee-p1363' }))
}

/** The blob of an ed25519 or RSA signature that some signer made. */
export function signatureBlob(algorithm: SignatureAlgorithm, value: Buffer): Buffer {
  return Buffer.concat([string(algorithm), string(value)])
}

/** The blob of an ECDSA signature given as r and s side by side (IEEE P1363). */
function ecdsaSignatureBlob(curve: Curve, fixed: Buffer): Buffer {
  const value = Buffer.concat([mpint(fixed.subarray(0, curve.bytes)), mpint(fixed.subarray(curve.bytes))])
  return Buffer.concat([string(`ecdsa-sha2-${curve.name}`), string(value)])
}

/**
 * The blob of a signature as key services answer it: ECDSA in DER (two INTEGERs in a SEQUENCE), RSA with SHA-512 and ed25519
 * as bare bytes. Throws `FormatError` for DER that is not exactly that.
 */
export function signatureFromService(type: PublicKey['type'], value: Buffer): Buffer {
  const curve = CURVES[type]
  if (curve === undefined) return signatureBlob(signatureAlgorithms(type)[0]!, value)
  const reader = new Reader(value, 'DER signature')
  const sequence = new Reader(derElement(reader, 0x30), 'DER signature')
  const [r, s] = [derElement(sequence, 0x02), derElement(sequence, 0x02)]
  sequence.end()
  reader.end()
  return Buffer.concat([string(type), string(Buffer.concat([mpint(r), mpint(s)]))])
}

function derElement(reader: Reader, tag: number): Buffer {
  if (reader.byte() !== tag) throw new FormatError('ERR_DER', `${reader.what}: no element ${tag} where one must be`)
  const length = reader.byte()
  // One byte of length is enough below 128 bytes; a P-521 signature is a little longer and takes a second.
  if (length === 0x81) return reader.raw(reader.byte())
  if (length > 0x7f) throw new FormatError('ERR_DER', `${reader.what}: an element that is too long`)
  return reader.raw(length)
}
