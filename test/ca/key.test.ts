import { generateKeyPairSync } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { fingerprint, parsePublicKeyLine, publicKeyBlob, publicKeyLine, readPublicKey } from '../../ca/key.ts'
import { mpint, string } from '../../ca/wire.ts'
import { allKeys, keys, run, temporaryDirectory, userCertificate } from './keys.ts'

test.each([
  ['ed25519', []],
  ['ecdsa', ['-b', '256']],
  ['ecdsa', ['-b', '384']],
  ['ecdsa', ['-b', '521']],
  ['rsa', ['-b', '2048']],
])(
  'a key by ssh-keygen -t %s %s is read, written back to the same line and has its fingerprint',
  async (type, bits) => {
    const file = join(temporaryDirectory(), 'key')
    await run('ssh-keygen', ['-q', '-t', type, ...bits, '-N', '', '-C', 'ada at home', '-f', file])
    const line = readFileSync(`${file}.pub`, 'utf8')
    const read = parsePublicKeyLine(line)
    expect(read.comment).toBe('ada at home')
    expect(publicKeyBlob(read.key).equals(read.blob)).toBe(true)
    expect(publicKeyLine(read.blob, read.comment)).toBe(line.trimEnd())
    const { stdout } = await run('ssh-keygen', ['-l', '-f', `${file}.pub`])
    expect(stdout.split(' ')[1]).toBe(fingerprint(read.blob))
  },
)

test('ssh-keygen reads our lines for every type of key', async () => {
  const file = join(temporaryDirectory(), 'keys.pub')
  writeFileSync(file, allKeys.map(key => `${publicKeyLine(key.blob, key.name)}\n`).join(''))
  const { stdout } = await run('ssh-keygen', ['-l', '-f', file])
  expect(
    stdout
      .trim()
      .split('\n')
      .map(line => line.split(' ').slice(1, 3)),
  ).toEqual(allKeys.map(key => [fingerprint(key.blob), key.name]))
})

test.each(allKeys)('every truncation of a $name key, and a byte more, is refused', ({ blob }) => {
  for (let length = 0; length < blob.length; length++) expect(() => readPublicKey(blob.subarray(0, length))).toThrow()
  expect(() => readPublicKey(Buffer.concat([blob, Buffer.of(0)]))).toThrow(/after its end/)
})

test('an RSA key of 1024 bits is refused, and one of more than 16384', () => {
  const short = generateKeyPairSync('rsa', { modulusLength: 1024 })
  expect(() => readPublicKey(publicKeyBlob(short.publicKey))).toThrow(/1024 bits/)
  const long = Buffer.concat([string('ssh-rsa'), string(Buffer.of(1, 0, 1)), mpint(Buffer.alloc(2049, 0xff))])
  expect(() => readPublicKey(long)).toThrow(/at most 2049/)
})

test('an RSA key with an exponent of 1, an even modulus or an endless exponent is refused', () => {
  const modulus = Buffer.alloc(256, 0xff)
  const even = Buffer.concat([modulus.subarray(1), Buffer.of(0xfe)])
  const rsa = (exponent: Buffer, n: Buffer) => Buffer.concat([string('ssh-rsa'), mpint(exponent), mpint(n)])
  // With e = 1 the signature is the padded hash itself: anybody can write it.
  expect(() => readPublicKey(rsa(Buffer.of(1), modulus))).toThrow(/impossible/)
  expect(() => readPublicKey(rsa(Buffer.of(1, 0, 1), even))).toThrow(/impossible/)
  expect(() => readPublicKey(rsa(Buffer.alloc(200, 0x7f), modulus))).toThrow()
})

test('a point that is not on its curve, a compressed point and a curve of another name are refused', () => {
  const blob = Buffer.from(keys.p256.blob)
  blob[blob.length - 1]! ^= 1
  expect(() => readPublicKey(blob)).toThrow(/not on the curve/)
  const compressed = Buffer.concat([
    string('ecdsa-sha2-nistp256'),
    string('nistp256'),
    string(Buffer.concat([Buffer.of(2), keys.p256.blob.subarray(-64, -32)])),
  ])
  expect(() => readPublicKey(compressed)).toThrow(/uncompressed/)
  // Of the right length with another first byte: it would be a second spelling of the same key.
  const respelled = Buffer.from(keys.p256.blob)
  respelled[respelled.length - 65] = 6
  expect(() => readPublicKey(respelled)).toThrow(/uncompressed/)
  const other = Buffer.concat([string('ecdsa-sha2-nistp384'), keys.p256.blob.subarray(4 + 19)])
  expect(() => readPublicKey(other)).toThrow(/curve "nistp256"/)
})

test('DSA, security-key and certificate types are no plain keys', async () => {
  expect(() => readPublicKey(Buffer.concat([string('ssh-dss'), string('')]))).toThrow(/ssh-dss/)
  expect(() => readPublicKey(Buffer.concat([string('__proto__'), string('')]))).toThrow(/not taken/)
  // A library that reads a certificate as a key takes its nonce for the key.
  const certificate = await userCertificate(keys.ed25519, keys.ed25519)
  expect(() => readPublicKey(certificate.blob)).toThrow(/not taken/)
})

/** The last character before the padding holds bits that stand for nothing. */
function respell(base64: string): string {
  const last = base64.replace(/=+$/, '').at(-1)!
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
  const respelled = base64.replace(/.(=+)$/, `${alphabet[alphabet.indexOf(last) + 1]}$1`)
  expect(Buffer.from(respelled, 'base64').equals(Buffer.from(base64, 'base64'))).toBe(true)
  return respelled
}

test.each([
  ['a type that is not the blob’s', `ssh-rsa ${keys.ed25519.blob.toString('base64')}`],
  ['options in front', `command="x" ssh-ed25519 ${keys.ed25519.blob.toString('base64')}`],
  ['two lines', `${publicKeyLine(keys.ed25519.blob)}\n${publicKeyLine(keys.p256.blob)}\n`],
  ['broken base64', `ssh-ed25519 ${keys.ed25519.blob.toString('base64').replace(/.$/, '=')}`],
  ['a second spelling of its base64', `ecdsa-sha2-nistp256 ${respell(keys.p256.blob.toString('base64'))}`],
  ['nothing', ''],
  ['a private key', '-----BEGIN OPENSSH PRIVATE KEY-----'],
])('a line with %s is refused', (_, line) => {
  expect(() => parsePublicKeyLine(line)).toThrow()
})

test('a line of 16384 spaces is refused at once', () => {
  expect(() => parsePublicKeyLine(`a b${' '.repeat(16_000)}c d`)).toThrow()
  expect(() => parsePublicKeyLine(' '.repeat(20_000))).toThrow(/at most/)
})
