import { createHash, sign as cryptoSign } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readPublicKey } from '../../ca/key.ts'
import { opensshPrivateKey } from '../../ca/privatekey.ts'
import { loginSignatureAlgorithm, sign, signatureAlgorithms, verifySignature } from '../../ca/signature.ts'
import { Reader, string, u32 } from '../../ca/wire.ts'
import { algorithmOf, allKeys, keys, run, temporaryDirectory } from './keys.ts'

const data = Buffer.from('the bytes of a login request')

test.each(allKeys)('$name signs and verifies, by each of its algorithms and by no other', ({ privateKey, blob }) => {
  for (const algorithm of signatureAlgorithms(readPublicKey(blob).type)) {
    const signature = sign(privateKey, data, algorithm)
    expect(algorithmOf(signature)).toBe(algorithm)
    expect(verifySignature(blob, data, signature)).toBe(true)
    expect(verifySignature(blob, data, signature, [algorithm])).toBe(true)
    expect(verifySignature(blob, data, signature, [])).toBe(false)
    expect(verifySignature(blob, Buffer.concat([data, Buffer.of(0)]), signature)).toBe(false)
    for (const other of allKeys)
      if (other.blob !== blob) expect(verifySignature(other.blob, data, signature)).toBe(false)
  }
})

test('an RSA login that promised SHA-512 is not kept with SHA-256', () => {
  const signature = sign(keys.rsa.privateKey, data, 'rsa-sha2-256')
  expect(verifySignature(keys.rsa.blob, data, signature, ['rsa-sha2-512'])).toBe(false)
})

test('a signature with SHA-1 is never taken, under its own name or another', () => {
  const sha1 = cryptoSign('sha1', data, keys.rsa.privateKey)
  for (const name of ['ssh-rsa', 'rsa-sha2-256', 'rsa-sha2-512']) {
    const signature = Buffer.concat([string(name), string(sha1)])
    expect(verifySignature(keys.rsa.blob, data, signature, [name])).toBe(false)
  }
  expect(loginSignatureAlgorithm('ssh-rsa')).toBeUndefined()
  expect(loginSignatureAlgorithm('ssh-rsa-cert-v01@openssh.com')).toBeUndefined()
  expect(loginSignatureAlgorithm('rsa-sha2-256-cert-v01@openssh.com')).toBe('rsa-sha2-256')
})

test.each(allKeys)(
  'every truncation of a $name signature, a byte more and every flipped bit is refused',
  ({ privateKey, blob }) => {
    const signature = sign(privateKey, data)
    for (let length = 0; length < signature.length; length++)
      expect(verifySignature(blob, data, signature.subarray(0, length))).toBe(false)
    expect(verifySignature(blob, data, Buffer.concat([signature, Buffer.of(0)]))).toBe(false)
    for (let bit = 0; bit < signature.length * 8; bit += 7) {
      const flipped = Buffer.from(signature)
      flipped[bit >> 3]! ^= 1 << (bit & 7)
      expect(verifySignature(blob, data, flipped)).toBe(false)
    }
  },
)

test('an RSA signature without its leading zeros is taken, as RFC 8332 section 3 allows', () => {
  // One signature in 256 begins with a zero byte.
  for (let i = 0; ; i++) {
    const message = Buffer.from(`message ${i}`)
    const value = cryptoSign('sha512', message, keys.rsa.privateKey)
    if (value[0] !== 0) continue
    const short = Buffer.concat([string('rsa-sha2-512'), string(value.subarray(1))])
    expect(verifySignature(keys.rsa.blob, message, short)).toBe(true)
    break
  }
})

test('an ECDSA signature with padded numbers is refused: it would be a second spelling of the same one', () => {
  const reader = new Reader(sign(keys.p256.privateKey, data), 'signature')
  const name = reader.name()
  const value = new Reader(reader.string(), 'value')
  const [r, s] = [value.string(), value.string()]
  const padded = Buffer.concat([
    string(name),
    string(Buffer.concat([string(Buffer.concat([Buffer.of(0), r])), string(s)])),
  ])
  expect(verifySignature(keys.p256.blob, data, padded)).toBe(false)
})

test('signing with an algorithm of another key type is an error', () => {
  expect(() => sign(keys.ed25519.privateKey, data, 'rsa-sha2-512')).toThrow(/does not sign/)
})

// PROTOCOL.sshsig: magic, version, public key, namespace, reserved, hash, signature; signed are magic, namespace, reserved,
// hash and the message's digest.
function signedData(message: Buffer): Buffer {
  const digest = createHash('sha512').update(message).digest()
  return Buffer.concat([Buffer.from('SSHSIG'), string('file'), string(''), string('sha512'), string(digest)])
}

test.each(allKeys)(
  'ssh-keygen -Y signs with a $name key what we verify, and verifies what we sign',
  async ({ privateKey, blob }) => {
    const directory = temporaryDirectory()
    const key = join(directory, 'key')
    const message = join(directory, 'message')
    writeFileSync(key, opensshPrivateKey(privateKey), { mode: 0o600 })
    writeFileSync(message, data)
    await run('ssh-keygen', ['-q', '-Y', 'sign', '-n', 'file', '-f', key, message])
    const reader = new Reader(
      Buffer.from(readFileSync(`${message}.sig`, 'utf8').replace(/-----[^-]+-----/g, ''), 'base64'),
      'sshsig',
    )
    reader.raw(6 + 4)
    const [publicKey] = [reader.string(), reader.string(), reader.string(), reader.string()]
    expect(publicKey!.equals(blob)).toBe(true)
    expect(verifySignature(blob, signedData(data), reader.string())).toBe(true)

    const ours = sign(privateKey, signedData(data))
    const file = Buffer.concat([
      Buffer.from('SSHSIG'),
      u32(1),
      string(blob),
      string('file'),
      string(''),
      string('sha512'),
      string(ours),
    ])
    const armoured = file.toString('base64').replace(/.{70}/g, '$&\n')
    writeFileSync(`${message}.sig`, `-----BEGIN SSH SIGNATURE-----\n${armoured}\n-----END SSH SIGNATURE-----\n`)
    const { stdout } = await run('sh', ['-c', 'ssh-keygen -Y check-novalidate -n file -s "$0.sig" < "$0"', message])
    expect(stdout).toContain('Good "file" signature')
  },
)
