import { type KeyObject, randomBytes } from 'node:crypto'
import { CURVES, keyTypeOf, publicKeyBlob } from './key.ts'
import { mpint, string, u32 } from './wire.ts'

/**
 * The file ssh and ssh-keygen read (PROTOCOL.key), without a passphrase: for a key that lives no longer than its
 * certificate. Write it with mode 0600.
 */
export function opensshPrivateKey(key: KeyObject, comment = ''): string {
  const check = randomBytes(4)
  const section = Buffer.concat([check, check, privateKeyBlob(key), string(comment)])
  const padding = Buffer.from([1, 2, 3, 4, 5, 6, 7].slice(0, (8 - (section.length % 8)) % 8))
  const file = Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    string('none'), // cipher
    string('none'), // kdf
    string(''), // kdf options
    u32(1),
    string(publicKeyBlob(key)),
    string(Buffer.concat([section, padding])),
  ])
  const lines = file.toString('base64').match(/.{1,70}/g)!
  return ['-----BEGIN OPENSSH PRIVATE KEY-----', ...lines, '-----END OPENSSH PRIVATE KEY-----', ''].join('\n')
}

/** The type of a private key, then its fields, the public ones first (PROTOCOL.key refers to draft-miller-ssh-agent, section 4.2). */
function privateKeyBlob(key: KeyObject): Buffer {
  const type = keyTypeOf(key)
  const jwk = key.export({ format: 'jwk' })
  const field = (value: string | undefined) => Buffer.from(value ?? '', 'base64url')
  if (type === 'ssh-ed25519') {
    return Buffer.concat([string(type), string(field(jwk.x)), string(Buffer.concat([field(jwk.d), field(jwk.x)]))])
  }
  if (type === 'ssh-rsa') {
    const numbers = [jwk.n, jwk.e, jwk.d, jwk.qi, jwk.p, jwk.q]
    return Buffer.concat([string(type), ...numbers.map(number => mpint(field(number)))])
  }
  const point = Buffer.concat([Buffer.of(4), field(jwk.x), field(jwk.y)])
  return Buffer.concat([string(type), string(CURVES[type]!.name), string(point), mpint(field(jwk.d))])
}
