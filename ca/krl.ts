import { createHash } from 'node:crypto'
import type { Certificate } from './certificate.ts'
import { readPublicKey } from './key.ts'
import { inRanges, mergeRanges, readSerials, type SerialRange, writeSerials } from './serialrange.ts'
import { FormatError, Reader, string, u32, u64 } from './wire.ts'

/**
 * Key revocation lists, PROTOCOL.krl:
 *
 *   8 bytes  "SSHKRL\n\0"
 *   u32      format, 1
 *   u64      version, growing
 *   u64      seconds since 1970 at which it was made
 *   u64      flags
 *   string   reserved
 *   string   comment
 *   sections, each: byte type, string data
 *
 * The list carries no count of its sections and no digest: one cut between two sections reads as a shorter list. Whoever
 * stores or sends it has to see to it that it is whole.
 */
export interface Krl {
  readonly version: bigint
  /** Seconds since 1970. */
  readonly generated: bigint
  readonly comment: string
  readonly certificates: readonly RevokedCertificates[]
  /** Plain public key blobs; the key of a certificate, or of the authority that signed it, is met by them too. */
  readonly keys: readonly Buffer[]
  /** SHA-1 and SHA-256 digests of public key blobs. */
  readonly sha1: readonly Buffer[]
  readonly sha256: readonly Buffer[]
}

export interface RevokedCertificates {
  /** The authority whose certificates these are; undefined for those of any. */
  readonly authority: Buffer | undefined
  /** In order, apart. */
  readonly serials: readonly SerialRange[]
  readonly keyIds: readonly string[]
}

export const EMPTY_KRL: Krl = {
  version: 0n,
  generated: 0n,
  comment: '',
  certificates: [],
  keys: [],
  sha1: [],
  sha256: [],
}

const KRL_BYTES_MAX = 16 << 20
const MAGIC = Buffer.from('SSHKRL\n\0', 'latin1')
const SECTION = { certificates: 1, key: 2, sha1: 3, signature: 4, sha256: 5, extension: 255 } as const
const CERTIFICATE_SECTION = { list: 0x20, range: 0x21, bitmap: 0x22, keyId: 0x23, extension: 0x39 } as const

/** Reads a KRL to its last byte; throws `FormatError`. What it does not understand could revoke something: refused. */
export function parseKrl(bytes: Buffer): Krl {
  if (bytes.length > KRL_BYTES_MAX)
    throw new FormatError('ERR_SSH_TOO_LONG', `KRL: ${bytes.length} bytes, at most ${KRL_BYTES_MAX} are taken`)
  const reader = new Reader(bytes, 'KRL')
  if (!reader.raw(8).equals(MAGIC)) throw new FormatError('ERR_KRL_MAGIC', 'KRL: this is no key revocation list')
  const format = reader.u32()
  if (format !== 1) throw new FormatError('ERR_KRL_FORMAT', `KRL: format ${format}, only 1 is understood`)
  const version = reader.u64()
  const generated = reader.u64()
  if (reader.u64() !== 0n) throw new FormatError('ERR_KRL_FORMAT', 'KRL: flags that are not understood')
  reader.string() // reserved, "ignored if present"
  const comment = reader.text()
  const certificates: RevokedCertificates[] = []
  const keys: Buffer[] = []
  const sha1: Buffer[] = []
  const sha256: Buffer[] = []
  while (!reader.done) {
    const type = reader.byte()
    const section = new Reader(reader.string(), `KRL section ${type}`)
    if (type === SECTION.certificates) certificates.push(readCertificates(section))
    else if (type === SECTION.key) keys.push(...readBlobs(section))
    else if (type === SECTION.sha1) sha1.push(...readBlobs(section, 20))
    else if (type === SECTION.sha256) sha256.push(...readBlobs(section, 32))
    else if (type === SECTION.extension) readExtension(section)
    // OpenSSH has dropped signed KRLs; a signature nobody checks would only look like safety.
    else throw new FormatError('ERR_KRL_SECTION', `KRL: section ${type} is not understood`)
  }
  return { version, generated, comment, certificates, keys, sha1, sha256 }
}

function readCertificates(section: Reader): RevokedCertificates {
  const authority = section.string()
  if (authority.length > 0) readPublicKey(authority)
  section.string() // reserved
  const serials: SerialRange[] = []
  const keyIds: string[] = []
  while (!section.done) {
    const type = section.byte()
    const data = new Reader(section.string(), `KRL certificate section ${type}`)
    if (type === CERTIFICATE_SECTION.keyId) while (!data.done) keyIds.push(data.text())
    else if (type === CERTIFICATE_SECTION.extension) readExtension(data)
    else serials.push(...readSerials(type, data))
    data.end()
  }
  return { authority: authority.length > 0 ? authority : undefined, serials: mergeRanges(serials), keyIds }
}

function readBlobs(section: Reader, length?: number): Buffer[] {
  const blobs: Buffer[] = []
  while (!section.done) {
    const blob = section.string()
    if (blob.length !== (length ?? blob.length) || blob.length === 0) {
      throw new FormatError('ERR_KRL_SECTION', `${section.what}: an entry of ${blob.length} bytes`)
    }
    blobs.push(blob)
  }
  return blobs
}

/** An extension that is not critical may be passed over. */
function readExtension(section: Reader): void {
  const name = section.text()
  const critical = section.boolean()
  section.string()
  section.end()
  if (critical)
    throw new FormatError('ERR_KRL_EXTENSION', `KRL: critical extension ${JSON.stringify(name)} is not understood`)
}

/** Writes a KRL that OpenSSH reads; the same content gives the same bytes. */
export function encodeKrl(krl: Krl): Buffer {
  const sections = [
    ...krl.certificates.map(certificates => section(SECTION.certificates, encodeCertificates(certificates))),
    ...blobSection(SECTION.key, krl.keys),
    ...blobSection(SECTION.sha1, krl.sha1),
    ...blobSection(SECTION.sha256, krl.sha256),
  ]
  return Buffer.concat([
    MAGIC,
    u32(1),
    u64(krl.version),
    u64(krl.generated),
    u64(0n),
    string(''),
    string(krl.comment),
    ...sections,
  ])
}

function encodeCertificates({ authority, serials, keyIds }: RevokedCertificates): Buffer {
  const parts = writeSerials(serials).map(({ type, data }) => section(type, data))
  if (keyIds.length > 0) parts.push(section(CERTIFICATE_SECTION.keyId, Buffer.concat([...keyIds].sort().map(string))))
  return Buffer.concat([string(authority ?? ''), string(''), ...parts])
}

function blobSection(type: number, blobs: readonly Buffer[]): Buffer[] {
  return blobs.length === 0 ? [] : [section(type, Buffer.concat([...blobs].sort(Buffer.compare).map(string)))]
}

function section(type: number, data: Buffer): Buffer {
  return Buffer.concat([Buffer.of(type), string(data)])
}

export interface Revocations {
  /** Its serial, its key id, its key or the authority that signed it. */
  isRevoked(certificate: Pick<Certificate, 'publicKey' | 'authority' | 'serial' | 'keyId'>): boolean
  isKeyRevoked(publicKey: Buffer): boolean
}

/** The questions a KRL answers, as OpenSSH's ssh_krl_check_key answers them. */
export function revocations(krl: Krl): Revocations {
  const keys = new Set(krl.keys.map(blob => blob.toString('base64')))
  const sha1 = new Set(krl.sha1.map(digest => digest.toString('hex')))
  const sha256 = new Set(krl.sha256.map(digest => digest.toString('hex')))
  const issued = krl.certificates.map(({ authority, serials, keyIds }) => ({
    authority,
    serials,
    keyIds: new Set(keyIds),
  }))
  const digest = (hash: string, blob: Buffer) => createHash(hash).update(blob).digest('hex')
  const isKeyRevoked = (blob: Buffer) =>
    keys.has(blob.toString('base64')) ||
    (sha1.size > 0 && sha1.has(digest('sha1', blob))) ||
    (sha256.size > 0 && sha256.has(digest('sha256', blob)))
  return {
    isKeyRevoked,
    isRevoked({ publicKey, authority, serial, keyId }) {
      if (isKeyRevoked(publicKey) || isKeyRevoked(authority)) return true
      return issued.some(section => {
        if (section.authority !== undefined && !section.authority.equals(authority)) return false
        return section.keyIds.has(keyId) || inRanges(section.serials, serial)
      })
    },
  }
}
