import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { canonical } from './canonical.ts'
import { sha256 } from './chain.ts'

/** A head's signature never passes for one over anything else. */
const DOMAIN = 'drawbridge ledger head v1\0'

/**
 * What the ledger was at one moment: published outside the database, it makes any later change to the records up to `seq`
 * visible, also to those who own the database.
 */
export interface Head {
  readonly seq: number
  /** The link of record `seq`, SHA-256 in lower-case hex. */
  readonly hash: string
  /** The root of the Merkle tree (RFC 9162) over the links of records 1 to `seq`, hex. */
  readonly root: string
  /** When it was signed, UTC with milliseconds. */
  readonly time: string
  /** Which key: see `keyId`. */
  readonly key: string
  /** Ed25519 over domain ‖ canonical JSON of the other members, base64. */
  readonly signature: string
}

/** The key heads are signed with. */
export interface HeadKey {
  readonly id: string
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

/** `SHA256:` and the base64 of the digest of the raw public key: short enough to print on paper and compare. */
export function keyId(publicKey: KeyObject): string {
  const { x } = publicKey.export({ format: 'jwk' })
  if (publicKey.asymmetricKeyType !== 'ed25519' || x === undefined)
    throw new TypeError('heads are signed with Ed25519 keys only')
  return `SHA256:${sha256(Buffer.from(x, 'base64url')).toString('base64').replace(/=+$/, '')}`
}

/** Signs what the ledger is now. */
export function signHead(key: HeadKey, at: Pick<Head, 'seq' | 'hash' | 'root' | 'time'>): Head {
  const unsigned = { seq: at.seq, hash: at.hash, root: at.root, time: at.time, key: key.id }
  return { ...unsigned, signature: sign(null, signedBytes(unsigned), key.privateKey).toString('base64') }
}

/** Whether the head was signed by the key of `trusted` that it names. A key that is not trusted signs nothing. */
export function verifyHead(head: Head, trusted: readonly KeyObject[]): boolean {
  const publicKey = trusted.find(key => keyId(key) === head.key)
  if (!publicKey) return false
  try {
    return verify(null, signedBytes(head), publicKey, Buffer.from(head.signature, 'base64'))
  } catch {
    // Members that have no canonical form: not ours.
    return false
  }
}

function signedBytes({ seq, hash, root, time, key }: Omit<Head, 'signature'>): Buffer {
  return Buffer.from(DOMAIN + canonical({ seq, hash, root, time, key }))
}

/**
 * The key in `path` (PKCS #8 PEM), made on first use and readable for its owner alone. Its public half is written beside it as
 * `<path>.pub`, to be kept where the database's owner cannot reach.
 * @throws Error when others can read the file, or it holds another kind of key
 */
export async function loadHeadKey(path: string): Promise<HeadKey> {
  const pem = (await readKey(path)) ?? (await makeKey(path))
  const privateKey = createPrivateKey(pem)
  const publicKey = createPublicKey(privateKey)
  return { id: keyId(publicKey), privateKey, publicKey }
}

async function readKey(path: string): Promise<string | undefined> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
    try {
      const { mode } = await file.stat()
      if (mode & 0o077)
        throw new Error(`${path}: others may read or write this private key; chmod 600 it, or better make a new one`)
      return await file.readFile('utf8')
    } finally {
      await file.close()
    }
  } catch (cause) {
    if (Reflect.get(cause as object, 'code') === 'ENOENT') return undefined
    throw cause
  }
}

async function makeKey(path: string): Promise<string> {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  await writeNew(`${path}.pub`, publicKey.export({ type: 'spki', format: 'pem' }).toString(), 0o644, 'w')
  // Exclusive: of two processes that start at once one makes the key and the other stops, and reads it the next time.
  await writeNew(path, pem, 0o600, 'wx')
  return pem
}

async function writeNew(path: string, text: string, mode: number, flags: 'w' | 'wx'): Promise<void> {
  const file = await open(path, flags, mode)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Public keys from a file: one or several PEM blocks. */
export async function readPublicKeys(path: string): Promise<KeyObject[]> {
  const text = await readFile(path, 'utf8')
  const blocks = text.match(/-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----/g) ?? []
  if (blocks.length === 0) throw new Error(`${path}: no PEM public key in it`)
  return blocks.map(block => createPublicKey(block))
}

/** A head from a line of a heads file. @throws Error naming what is missing */
export function parseHead(line: string): Head {
  const value: unknown = JSON.parse(line)
  if (typeof value !== 'object' || value === null) throw new Error('a head is a JSON object')
  const member = (name: string) => Reflect.get(value, name) as unknown
  const seq = member('seq')
  if (!Number.isSafeInteger(seq)) throw new Error('a head has a whole number as its seq')
  const text = (name: string) => {
    const found = member(name)
    if (typeof found !== 'string') throw new Error(`a head has text as its ${name}`)
    return found
  }
  const signed = { hash: text('hash'), root: text('root'), time: text('time'), key: text('key') }
  return { seq: seq as number, ...signed, signature: text('signature') }
}
