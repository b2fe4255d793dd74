import type { KeyObject } from 'node:crypto'
import { publicKeyBlob } from './key.ts'
import { type SignatureAlgorithm, sign } from './signature.ts'

/**
 * Whoever holds an authority's private key: this process, an ssh-agent, Vault, a key management service. It signs bytes
 * and gives nothing else away.
 */
export interface Signer {
  /** The public key blob its signatures verify with. */
  readonly publicKey: Buffer
  /** The SSH signature blob over `data`. Rejects when the signer cannot be reached or will not sign. */
  sign(data: Buffer): Promise<Buffer>
}

/** A signer whose private key is in this process. */
export function keySigner(key: KeyObject, algorithm?: SignatureAlgorithm): Signer {
  return { publicKey: publicKeyBlob(key), sign: async data => sign(key, data, algorithm) }
}
