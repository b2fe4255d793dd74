import { expect, test } from 'vitest'
import {
  type Certificate,
  certificateLine,
  encodeCertificate,
  encodeUnsigned,
  parseCertificate,
  parseCertificateLine,
} from '../../ca/certificate.ts'
import { checkCertificate } from '../../ca/check.ts'
import { publicKeyLine } from '../../ca/key.ts'
import { sign } from '../../ca/signature.ts'
import { FormatError, string, u32, u64 } from '../../ca/wire.ts'
import { allKeys, keys, NOON, NOON_SECONDS, type TestKey, userCertificate } from './keys.ts'

/** Fields as bytes, for writing certificates that no honest writer would. */
interface Raw {
  type: Buffer
  nonce: Buffer
  key: Buffer
  serial: Buffer
  kind: Buffer
  keyId: Buffer
  principals: Buffer
  validAfter: Buffer
  validBefore: Buffer
  critical: Buffer
  extensions: Buffer
  reserved: Buffer
  authority: Buffer
}

function forge(changes: Partial<Raw>, after: Buffer = Buffer.alloc(0), authority: TestKey = keys.ed25519): Buffer {
  const raw: Raw = {
    type: string('ssh-ed25519-cert-v01@openssh.com'),
    nonce: string(Buffer.alloc(32, 7)),
    key: keys.ed25519.blob.subarray(4 + 11),
    serial: u64(1n),
    kind: u32(1),
    keyId: string('ada'),
    principals: string(string('ada')),
    validAfter: u64(NOON_SECONDS - 60n),
    validBefore: u64(NOON_SECONDS + 60n),
    critical: string(''),
    extensions: string(''),
    reserved: string(''),
    authority: string(authority.blob),
    ...changes,
  }
  const signed = Buffer.concat(Object.values(raw))
  return Buffer.concat([signed, string(sign(authority.privateKey, signed)), after])
}

function refusal(blob: Buffer): string {
  try {
    parseCertificate(blob)
  } catch (error) {
    if (error instanceof FormatError) return error.code
    throw error
  }
  return 'taken'
}

const option = (name: string, value?: string | Buffer) =>
  Buffer.concat([string(name), string(value === undefined ? '' : string(value))])
const options = (...list: Buffer[]) => string(Buffer.concat(list))

function check(certificate: Certificate, authority: TestKey) {
  return checkCertificate(certificate, {
    type: 'user',
    principal: 'ada',
    now: NOON,
    isAuthority: blob => blob.equals(authority.blob),
    isRevoked: () => false,
  })
}

test('the forger writes a good certificate when nothing is changed', () => {
  const certificate = parseCertificate(forge({}))
  expect(check(certificate, keys.ed25519)).toEqual({ ok: true })
})

test.each(allKeys.flatMap(authority => allKeys.map(subject => ({ authority, subject }))))(
  'a $subject.name key certified by $authority.name is read back from its line and encodes to the same bytes',
  async ({ authority, subject }) => {
    const certificate = await userCertificate(authority, subject, {
      criticalOptions: new Map([
        ['source-address', '10.0.0.0/8'],
        ['force-command', ''],
      ]),
      extensions: new Map<string, string | true>([
        ['zzz', true],
        ['login@github.com', 'ada'],
        ['id@github.com', '7'],
      ]),
    })
    const read = parseCertificateLine(`${certificateLine(certificate)}\n`)
    expect(read).toEqual(certificate)
    expect(encodeCertificate(read, read.signature).equals(certificate.blob)).toBe(true)
    expect(encodeUnsigned(read).equals(read.signed)).toBe(true)
    expect(check(read, authority)).toMatchObject({ code: 'unknown-critical-option' })
  },
)

test.each(allKeys)(
  'every truncation of a certificate for a $name key is refused, and every byte more',
  async subject => {
    const { blob } = await userCertificate(subject, subject, { criticalOptions: new Map([['source-address', '::/0']]) })
    for (let length = 0; length < blob.length; length++) expect(refusal(blob.subarray(0, length))).not.toBe('taken')
    expect(refusal(Buffer.concat([blob, Buffer.of(0)]))).toBe('ERR_SSH_TRAILING')
  },
)

test('a flipped bit anywhere in a signed certificate is refused, by the reader or by the signature', async () => {
  const { blob } = await userCertificate(keys.ed25519, keys.p256, {
    extensions: new Map([['login@github.com', 'ada']]),
  })
  for (let bit = 0; bit < blob.length * 8; bit += 3) {
    const flipped = Buffer.from(blob)
    flipped[bit >> 3]! ^= 1 << (bit & 7)
    let certificate: Certificate
    try {
      certificate = parseCertificate(flipped)
    } catch (error) {
      expect(error).toBeInstanceOf(FormatError)
      continue
    }
    expect(check(certificate, keys.ed25519).ok).toBe(false)
  }
})

/**
 * CVE-2025-49825, told: mallory has a certificate of her own. She signs another with her key, names `root`, and puts her
 * certificate where the authority's key belongs. A reader that takes the certificate for the key inside it, and asks
 * whether the authority signed *that*, lets her in as root.
 */
test('a certificate signed by a certificate is refused before the inner one is read', async () => {
  const mallory = keys.p256
  const hers = await userCertificate(keys.ed25519, mallory)
  expect(refusal(forge({ principals: string(string('root')), authority: string(hers.blob) }, undefined, mallory))).toBe(
    'ERR_CERTIFICATE_NESTED',
  )
  // Nested without end, or broken inside: its name is enough to refuse it.
  const broken = Buffer.concat([string('ssh-ed25519-cert-v01@openssh.com'), Buffer.alloc(50, 0xff)])
  expect(refusal(forge({ authority: string(broken) }))).toBe('ERR_CERTIFICATE_NESTED')
})

test('the nonce is only random bytes: a key hidden in it is not the subject', () => {
  const certificate = parseCertificate(forge({ nonce: string(keys.p256.blob) }))
  expect(certificate.publicKey.equals(keys.ed25519.blob)).toBe(true)
  expect(refusal(forge({ nonce: string('') }))).toBe('ERR_CERTIFICATE_NONCE')
  expect(refusal(forge({ nonce: string(Buffer.alloc(300)) }))).toBe('ERR_SSH_TOO_LONG')
})

test.each<[string, Partial<Raw>, string]>([
  ['a type that is no certificate', { type: string('ssh-ed25519') }, 'ERR_CERTIFICATE_TYPE'],
  ['a certificate type that is not known', { type: string('ssh-dss-cert-v01@openssh.com') }, 'ERR_SSH_KEY_TYPE'],
  ['a type 0', { kind: u32(0) }, 'ERR_CERTIFICATE_TYPE'],
  ['a type 3', { kind: u32(3) }, 'ERR_CERTIFICATE_TYPE'],
  ['a NUL in the key id', { keyId: string('ada\0root') }, 'ERR_SSH_TEXT'],
  ['a NUL in a principal', { principals: string(string('ada\0')) }, 'ERR_SSH_TEXT'],
  [
    'bytes after the last principal',
    { principals: string(Buffer.concat([string('ada'), Buffer.of(0)])) },
    'ERR_SSH_TRUNCATED',
  ],
  [
    '257 principals',
    { principals: string(Buffer.concat(new Array<Buffer>(257).fill(string('a')))) },
    'ERR_CERTIFICATE_PRINCIPALS',
  ],
  ['a window of no length', { validAfter: u64(5n), validBefore: u64(5n) }, 'ERR_CERTIFICATE_WINDOW'],
  ['a window that runs backwards', { validAfter: u64(6n), validBefore: u64(5n) }, 'ERR_CERTIFICATE_WINDOW'],
  [
    'options out of order',
    { critical: options(option('source-address', '::/0'), option('force-command', 'x')) },
    'ERR_CERTIFICATE_OPTIONS',
  ],
  [
    'an option twice',
    { critical: options(option('force-command', 'x'), option('force-command', 'y')) },
    'ERR_CERTIFICATE_OPTIONS',
  ],
  [
    'an extension twice',
    { extensions: options(option('permit-pty'), option('permit-pty')) },
    'ERR_CERTIFICATE_OPTIONS',
  ],
  [
    '65 extensions',
    { extensions: options(...Array.from({ length: 65 }, (_, i) => option(`x${100 + i}`))) },
    'ERR_CERTIFICATE_OPTIONS',
  ],
  ['an option without its data', { critical: options(string('force-command')) }, 'ERR_SSH_TRUNCATED'],
  [
    'bytes after an option’s value',
    { critical: options(string('force-command'), string(Buffer.concat([string('x'), Buffer.of(1)]))) },
    'ERR_SSH_TRAILING',
  ],
  [
    'data that is no string',
    { extensions: options(string('x'), string(Buffer.of(0, 0, 0, 9, 1))) },
    'ERR_SSH_TRUNCATED',
  ],
  ['data in the reserved field', { reserved: string('x') }, 'ERR_CERTIFICATE_RESERVED'],
  [
    'an authority with bytes after its key',
    { authority: string(Buffer.concat([keys.ed25519.blob, Buffer.of(0)])) },
    'ERR_SSH_TRAILING',
  ],
  ['an authority of an unknown type', { authority: string(string('ssh-dss')) }, 'ERR_SSH_KEY_TYPE'],
  ['a subject key cut short', { key: string(Buffer.alloc(31)) }, 'ERR_SSH_KEY'],
  ['more than 64 KiB', { keyId: string('a'.repeat(70_000)) }, 'ERR_SSH_TOO_LONG'],
])('a certificate with %s is refused', (_, changes, code) => {
  expect(refusal(forge(changes))).toBe(code)
})

test('bytes after the signature are refused, and inside its blob', () => {
  expect(refusal(forge({}, Buffer.of(0)))).toBe('ERR_SSH_TRAILING')
  const good = parseCertificate(forge({}))
  const padded = Buffer.concat([good.signed, string(Buffer.concat([good.signature, Buffer.of(0)]))])
  expect(check(parseCertificate(padded), keys.ed25519)).toMatchObject({ ok: false, code: 'bad-signature' })
})

test('a line with the type of another certificate, or of a key, is refused', async () => {
  const certificate = await userCertificate(keys.ed25519, keys.rsa)
  expect(() => parseCertificateLine(certificateLine(certificate).replace('ssh-rsa', 'ssh-ed25519'))).toThrow(
    /another type/,
  )
  expect(() => parseCertificateLine(publicKeyLine(keys.ed25519.blob))).toThrow(/no certificate/)
})

test('a comment with line breaks does not make two lines', async () => {
  const certificate = await userCertificate(keys.ed25519, keys.ed25519)
  expect(certificateLine(certificate, 'a\nssh-rsa b')).not.toContain('\n')
})
