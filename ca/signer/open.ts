import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { basename, join } from 'node:path'
import type { AuthorityKey, SignerReference } from '../authority.ts'
import { fingerprint, parsePublicKeyLine, publicKeyBlob, publicKeyLine } from '../key.ts'
import { keySigner, type Signer } from '../signer.ts'
import { agentSigner } from './agent.ts'
import { type Protection, readKeyFile, writeKeyFile } from './keyfile.ts'
import { type KmsAccess, kmsSigner } from './kms.ts'
import { type VaultAccess, vaultSigner } from './vault.ts'

/** What opens the several kinds of signer: never in the authority's state, which names keys and holds no secret. */
export interface SignerAccess {
  readonly directory: string
  readonly protection?: Protection
  readonly vault?: VaultAccess
  readonly kms?: KmsAccess
}

/** The signer of a key of the authority; rejects when it cannot be reached, or holds another key than the state says. */
export async function openSigner(key: AuthorityKey, access: SignerAccess): Promise<Signer> {
  const publicKey = parsePublicKeyLine(key.publicKey).blob
  const signer = await openReference(key.signer, publicKey, access)
  if (!signer.publicKey.equals(publicKey)) {
    throw new Error(
      `${describe(key.signer)} holds ${fingerprint(signer.publicKey)}, the authority expects ${fingerprint(publicKey)} there`,
    )
  }
  return signer
}

async function openReference(reference: SignerReference, publicKey: Buffer, access: SignerAccess): Promise<Signer> {
  if (reference.kind === 'agent') return agentSigner(reference.socket, publicKey)
  if (reference.kind === 'vault') return vaultSigner(reference, configured(access.vault, 'Vault'))
  if (reference.kind === 'kms') return kmsSigner(reference, configured(access.kms, 'AWS KMS'))
  const protection = configured(access.protection, 'a passphrase')
  return keySigner(await readKeyFile(join(access.directory, reference.file), protection))
}

function configured<T>(value: T | undefined, what: string): T {
  if (value === undefined)
    throw new Error(`the authority's state names a key that needs ${what}, which is not configured`)
  return value
}

function describe(reference: SignerReference): string {
  if (reference.kind === 'file') return reference.file
  return reference.kind === 'agent' ? `the ssh-agent at ${reference.socket}` : `${reference.kind} key`
}

/** Makes a fresh ed25519 key in a file of the directory. */
export async function createKeyFile(directory: string, protection: Protection, now: number): Promise<AuthorityKey> {
  const pair = generateKeyPairSync('ed25519')
  const blob = publicKeyBlob(pair.publicKey)
  // Named by its fingerprint, so that no key is ever written over another.
  const file = `key-${Buffer.from(fingerprint(blob).slice(7), 'base64').toString('hex').slice(0, 16)}.json`
  await writeKeyFile(
    join(directory, basename(file)),
    createPrivateKey(pair.privateKey.export({ format: 'pem', type: 'pkcs8' })),
    protection,
  )
  return { publicKey: publicKeyLine(blob), signer: { kind: 'file', file }, created: new Date(now).toISOString() }
}

/** A key that somebody else keeps, as the authority's state names it; rejects when it cannot be reached. */
export async function externalKey(
  reference: SignerReference,
  publicKey: Buffer | undefined,
  access: SignerAccess,
  now: number,
): Promise<AuthorityKey> {
  if (reference.kind === 'agent' && publicKey === undefined)
    throw new Error('an ssh-agent holds several keys; say which by its public key')
  const signer = await openReference(reference, publicKey ?? Buffer.alloc(0), access)
  return { publicKey: publicKeyLine(signer.publicKey), signer: reference, created: new Date(now).toISOString() }
}
