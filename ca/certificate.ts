import { CERTIFICATE_SUFFIX, KEY_BLOB_BYTES_MAX, keyType, readKeyFields, readPublicKey, splitKeyLine } from './key.ts'
import { FormatError, Reader, string, u32, u64 } from './wire.ts'

/**
 * OpenSSH certificates, PROTOCOL.certkeys:
 *
 *   string  type, ends in -cert-v01@openssh.com
 *   string  nonce
 *   …       the fields of the subject's public key
 *   u64     serial
 *   u32     1 user, 2 host
 *   string  key id
 *   string  principals: strings, packed
 *   u64     valid after       seconds since 1970
 *   u64     valid before      2^64-1 is for ever
 *   string  critical options: name and data, packed, names in order
 *   string  extensions:       the same
 *   string  reserved
 *   string  signature key     the authority's public key
 *   string  signature         over everything above
 *
 * Reading says what the bytes are; whether to believe them is `checkCertificate`.
 */
export interface CertificateFields {
  readonly nonce: Buffer
  /** The subject's plain public key blob. */
  readonly publicKey: Buffer
  readonly serial: bigint
  readonly type: 'user' | 'host'
  readonly keyId: string
  readonly principals: readonly string[]
  /** Seconds since 1970; valid from this second on. */
  readonly validAfter: bigint
  /** Seconds since 1970; the first second at which it is no longer valid. */
  readonly validBefore: bigint
  /** Name → value; `true` for a flag, which has no data. */
  readonly criticalOptions: Options
  readonly extensions: Options
  /** The public key blob of the authority that signs. */
  readonly authority: Buffer
}

export interface Certificate extends CertificateFields {
  /** The whole certificate. */
  readonly blob: Buffer
  /** The key type of the certificate, `ssh-ed25519-cert-v01@openssh.com` and the like. */
  readonly algorithm: string
  /** The bytes the signature is over. */
  readonly signed: Buffer
  readonly signature: Buffer
}

export type Options = ReadonlyMap<string, string | true>

export const FOREVER = 0xffff_ffff_ffff_ffffn

const CERTIFICATE_BYTES_MAX = 64 << 10
/** OpenSSH's SSHKEY_CERT_MAX_PRINCIPALS. */
const PRINCIPALS_MAX = 256
const OPTIONS_MAX = 64
/** A short nonce leaves room to aim for a collision in the signature's hash; 16 and 32 are what writers use. */
const NONCE_BYTES_MIN = 16
const NONCE_BYTES_MAX = 256
const SIGNATURE_BYTES_MAX = 4096
const TYPES = { 1: 'user', 2: 'host' } as const
const LINE_CHARACTERS_MAX = CERTIFICATE_BYTES_MAX * 2

/** Reads one certificate to its last byte; throws `FormatError` for anything OpenSSH's own writer would not write. */
export function parseCertificate(blob: Buffer): Certificate {
  if (blob.length > CERTIFICATE_BYTES_MAX) {
    throw new FormatError(
      'ERR_SSH_TOO_LONG',
      `certificate: ${blob.length} bytes, at most ${CERTIFICATE_BYTES_MAX} are taken`,
    )
  }
  const reader = new Reader(blob, 'certificate')
  const algorithm = reader.name()
  if (!algorithm.endsWith(CERTIFICATE_SUFFIX)) {
    throw new FormatError('ERR_CERTIFICATE_TYPE', `certificate: type ${JSON.stringify(algorithm)} is no certificate`)
  }
  const plainType = keyType(algorithm.slice(0, -CERTIFICATE_SUFFIX.length))
  const nonce = reader.string(NONCE_BYTES_MAX)
  if (nonce.length < NONCE_BYTES_MIN)
    throw new FormatError('ERR_CERTIFICATE_NONCE', `certificate: a nonce of ${nonce.length} bytes`)
  const keyStart = reader.at
  readKeyFields(plainType, reader)
  const publicKey = Buffer.concat([string(plainType), blob.subarray(keyStart, reader.at)])
  const serial = reader.u64()
  const typeNumber = reader.u32()
  if (typeNumber !== 1 && typeNumber !== 2) {
    throw new FormatError('ERR_CERTIFICATE_TYPE', `certificate: type ${typeNumber} is neither user (1) nor host (2)`)
  }
  const keyId = reader.text()
  const principals = readPrincipals(reader.string())
  const validAfter = reader.u64()
  const validBefore = reader.u64()
  if (validAfter >= validBefore)
    throw new FormatError('ERR_CERTIFICATE_WINDOW', 'certificate: its window ends before it starts')
  const criticalOptions = readOptions(reader.string(), 'critical options')
  const extensions = readOptions(reader.string(), 'extensions')
  if (reader.string().length > 0)
    throw new FormatError('ERR_CERTIFICATE_RESERVED', 'certificate: data in the reserved field')
  const authority = readAuthority(reader.string(KEY_BLOB_BYTES_MAX))
  const signed = blob.subarray(0, reader.at)
  const signature = reader.string(SIGNATURE_BYTES_MAX)
  reader.end()
  return {
    blob,
    algorithm,
    nonce,
    publicKey,
    serial,
    type: TYPES[typeNumber],
    keyId,
    principals,
    validAfter,
    validBefore,
    criticalOptions,
    extensions,
    authority,
    signed,
    signature,
  }
}

function readPrincipals(packed: Buffer): string[] {
  const reader = new Reader(packed, 'certificate principals')
  const principals: string[] = []
  while (!reader.done) {
    if (principals.length === PRINCIPALS_MAX) {
      throw new FormatError('ERR_CERTIFICATE_PRINCIPALS', `certificate: more than ${PRINCIPALS_MAX} principals`)
    }
    principals.push(reader.text())
  }
  return principals
}

/**
 * Names in ascending order of their bytes, each once: a second `force-command` after the first is how one reader would
 * see another option than the next. Data is empty (a flag) or exactly one string.
 */
function readOptions(packed: Buffer, what: string): Map<string, string | true> {
  const reader = new Reader(packed, `certificate ${what}`)
  const options = new Map<string, string | true>()
  let last: Buffer | undefined
  while (!reader.done) {
    if (options.size === OPTIONS_MAX)
      throw new FormatError('ERR_CERTIFICATE_OPTIONS', `certificate: more than ${OPTIONS_MAX} ${what}`)
    const name = reader.text()
    const nameBytes = Buffer.from(name)
    if (last !== undefined && Buffer.compare(last, nameBytes) >= 0) {
      throw new FormatError(
        'ERR_CERTIFICATE_OPTIONS',
        `certificate: ${what} not in order, or twice: ${JSON.stringify(name)}`,
      )
    }
    last = nameBytes
    options.set(name, readOptionData(reader.string(), `certificate ${what} ${JSON.stringify(name)}`))
  }
  return options
}

function readOptionData(data: Buffer, what: string): string | true {
  if (data.length === 0) return true
  const reader = new Reader(data, what)
  const value = reader.text()
  reader.end()
  return value
}

/** The signature key is a plain key, looked at by its name before anything in it is read. */
function readAuthority(blob: Buffer): Buffer {
  const name = new Reader(blob, 'certificate signature key').name()
  // CVE-2025-49825: a certificate in this place, if it is taken for the key inside it, lets whoever holds any
  // certificate of the authority sign further ones; reading it recursively lets a small blob nest without end.
  if (name.includes('-cert-'))
    throw new FormatError('ERR_CERTIFICATE_NESTED', 'certificate: signed by a certificate, not by a key')
  return readPublicKey(blob).blob
}

/** The bytes a signature is made over. */
export function encodeUnsigned(fields: CertificateFields): Buffer {
  const subject = new Reader(fields.publicKey, 'public key')
  const plainType = keyType(subject.name())
  return Buffer.concat([
    string(plainType + CERTIFICATE_SUFFIX),
    string(fields.nonce),
    fields.publicKey.subarray(subject.at),
    u64(fields.serial),
    u32(fields.type === 'user' ? 1 : 2),
    string(fields.keyId),
    string(Buffer.concat(fields.principals.map(string))),
    u64(fields.validAfter),
    u64(fields.validBefore),
    encodeOptions(fields.criticalOptions),
    encodeOptions(fields.extensions),
    string(''),
    string(fields.authority),
  ])
}

/** The whole certificate: its fields and the signature over them. */
export function encodeCertificate(fields: CertificateFields, signature: Buffer): Buffer {
  return Buffer.concat([encodeUnsigned(fields), string(signature)])
}

function encodeOptions(options: Options): Buffer {
  const sorted = [...options]
    .map(([name, value]) => ({ name: Buffer.from(name), data: value === true ? Buffer.alloc(0) : string(value) }))
    .sort((a, b) => Buffer.compare(a.name, b.name))
  return string(Buffer.concat(sorted.flatMap(({ name, data }) => [string(name), string(data)])))
}

/** `type base64 [comment]`, the line of a -cert.pub file. */
export function certificateLine(certificate: Certificate, comment = certificate.keyId): string {
  return `${certificate.algorithm} ${certificate.blob.toString('base64')}${comment === '' ? '' : ` ${comment.replace(/\p{Cc}/gu, ' ')}`}`
}

/** Reads the line of a -cert.pub file. Throws `FormatError`. */
export function parseCertificateLine(text: string): Certificate {
  return parseCertificate(splitKeyLine(text, 'certificate', LINE_CHARACTERS_MAX).blob)
}

/** Whether a public key type names a certificate. */
export function isCertificateType(type: string): boolean {
  return type.endsWith(CERTIFICATE_SUFFIX)
}
