import { createCipheriv, createDecipheriv, createPrivateKey, type KeyObject, randomBytes, scrypt } from 'node:crypto'
import { promisify } from 'node:util'
import { z } from 'zod'
import { readPrivate, writeDurably } from '../durable.ts'
import { publicKeyBlob, publicKeyLine } from '../key.ts'

/**
 * A private key in a file of our own, JSON: the key (PKCS #8) encrypted by AES-256-GCM under a key that scrypt makes from a
 * passphrase. Everything else in the file is authenticated with it, so that neither the public key shown nor the cost of
 * scrypt can be changed unseen. Without encryption only when asked for in so many words, for trials.
 */
export type Protection = { readonly passphrase: string } | { readonly plain: true }

/** 128 MiB and some tenths of a second each time the authority starts. */
const SCRYPT_COST = 2 ** 17
/** A file that was tampered with must not make us reserve all memory before the tag is checked. */
const SCRYPT_COST_MAX = 2 ** 20
const SCRYPT_BLOCK = 8
const FORMAT = 'drawbridge-key-v1'

const scryptKey = promisify<string, Buffer, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(scrypt)

const plainFile = z.object({
  format: z.literal(FORMAT),
  publicKey: z.string(),
  cipher: z.literal('none'),
  privateKey: z.base64(),
})
const encryptedFile = z.object({
  format: z.literal(FORMAT),
  publicKey: z.string(),
  cipher: z.literal('aes-256-gcm'),
  kdf: z.object({ name: z.literal('scrypt'), cost: z.int(), salt: z.base64() }),
  iv: z.base64(),
  tag: z.base64(),
  privateKey: z.base64(),
})
const keyFileSchema = z.discriminatedUnion('cipher', [plainFile, encryptedFile])

type KeyFile = z.infer<typeof keyFileSchema>
type EncryptedFile = z.infer<typeof encryptedFile>

/** Writes the file with mode 0600. `cost` is scrypt's N. */
export async function writeKeyFile(
  file: string,
  key: KeyObject,
  protection: Protection,
  cost: number = SCRYPT_COST,
): Promise<void> {
  const der = key.export({ format: 'der', type: 'pkcs8' })
  const publicKey = publicKeyLine(publicKeyBlob(key))
  if ('plain' in protection) {
    const content: KeyFile = { format: FORMAT, publicKey, cipher: 'none', privateKey: der.toString('base64') }
    return writeDurably(file, `${JSON.stringify(content, null, 2)}\n`)
  }
  if (protection.passphrase === '') throw new Error('the passphrase is empty')
  const salt = randomBytes(16)
  const iv = randomBytes(12)
  const header = {
    format: FORMAT,
    publicKey,
    cipher: 'aes-256-gcm',
    kdf: { name: 'scrypt', cost, salt: salt.toString('base64') },
    iv: iv.toString('base64'),
  } as const
  const cipher = createCipheriv('aes-256-gcm', await derive(protection.passphrase, salt, cost), iv)
  cipher.setAAD(authenticated(header))
  const encrypted = Buffer.concat([cipher.update(der), cipher.final()])
  const content: KeyFile = {
    ...header,
    tag: cipher.getAuthTag().toString('base64'),
    privateKey: encrypted.toString('base64'),
  }
  await writeDurably(file, `${JSON.stringify(content, null, 2)}\n`)
}

/** Reads the key back. Throws, with what to do, for a wrong passphrase, a changed file, or an unencrypted one where none is allowed. */
export async function readKeyFile(file: string, protection: Protection): Promise<KeyObject> {
  const content = await readPrivate(file)
  if (content === undefined) throw new Error(`${file}: there is no key file; make one with "drawbridge ca init"`)
  const keyFile = parseKeyFile(content, file)
  const der =
    keyFile.cipher === 'none'
      ? plainKey(keyFile.privateKey, protection, file)
      : await decrypt(keyFile, protection, file)
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  if (publicKeyLine(publicKeyBlob(key)) !== keyFile.publicKey)
    throw new Error(`${file}: its public key is not that of its private key`)
  return key
}

function parseKeyFile(content: Buffer, file: string): KeyFile {
  try {
    return keyFileSchema.parse(JSON.parse(content.toString('utf8')))
  } catch (cause) {
    throw new Error(`${file}: not a key file of Drawbridge, or of a later version`, { cause })
  }
}

function plainKey(privateKey: string, protection: Protection, file: string): Buffer {
  if (!('plain' in protection)) throw new Error(`${file}: the key is not encrypted; a passphrase is expected here`)
  return Buffer.from(privateKey, 'base64')
}

async function decrypt(
  { tag, privateKey, ...header }: EncryptedFile,
  protection: Protection,
  file: string,
): Promise<Buffer> {
  if ('plain' in protection) throw new Error(`${file}: the key is encrypted; give its passphrase`)
  const { cost, salt } = header.kdf
  if (!Number.isInteger(Math.log2(cost)) || cost < 2 || cost > SCRYPT_COST_MAX) {
    throw new Error(`${file}: a scrypt cost of ${cost} is not taken`)
  }
  const secret = await derive(protection.passphrase, Buffer.from(salt, 'base64'), cost)
  const decipher = createDecipheriv('aes-256-gcm', secret, Buffer.from(header.iv, 'base64'), {
    authTagLength: 16,
  })
  try {
    decipher.setAAD(authenticated(header))
    decipher.setAuthTag(Buffer.from(tag, 'base64'))
    return Buffer.concat([decipher.update(Buffer.from(privateKey, 'base64')), decipher.final()])
  } catch (cause) {
    throw new Error(`${file}: wrong passphrase, or the file was changed`, { cause })
  }
}

function authenticated({ format, publicKey, cipher, kdf, iv }: Omit<EncryptedFile, 'tag' | 'privateKey'>): Buffer {
  return Buffer.from(JSON.stringify([format, publicKey, cipher, kdf.name, kdf.cost, kdf.salt, iv]))
}

function derive(passphrase: string, salt: Buffer, cost: number): Promise<Buffer> {
  return scryptKey(passphrase.normalize('NFC'), salt, 32, {
    N: cost,
    r: SCRYPT_BLOCK,
    p: 1,
    maxmem: 256 * SCRYPT_BLOCK * cost,
  })
}
