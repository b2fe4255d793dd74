import { createPublicKey } from 'node:crypto'
import { z } from 'zod'
import { CURVES, type KeyType, publicKeyBlob, readPublicKey } from '../key.ts'
import { signatureFromService } from '../signature.ts'
import type { Signer } from '../signer.ts'
import { string } from '../wire.ts'
import { requestJson } from './request.ts'

/**
 * A key in HashiCorp Vault's transit engine: `GET /v1/transit/keys/NAME` for the public half, `POST /v1/transit/sign/NAME` to
 * sign. The authority's token needs `read` on the first and `update` on the second, and nothing else.
 */
export interface VaultAccess {
  /** `https://vault.example.org:8200` */
  readonly address: string
  /** Asked for at each request, so that a renewed token is used. */
  readonly token: () => Promise<string>
  /** The engine's mount, `transit` by default. */
  readonly mount?: string
  readonly namespace?: string
}

const keySchema = z.object({
  data: z.object({ type: z.string(), keys: z.record(z.string(), z.object({ public_key: z.string() })) }),
})
const signSchema = z.object({ data: z.object({ signature: z.string().regex(/^vault:v[0-9]+:[A-Za-z0-9+/]+={0,2}$/) }) })

/** Opens one version of a key: a rotation in Vault is a new key to the authority, and comes in as its next one. */
export async function vaultSigner(
  reference: { readonly key: string; readonly version: number },
  access: VaultAccess,
): Promise<Signer> {
  const { key, version } = reference
  const answer = keySchema.parse(await call(access, 'GET', `keys/${encodeURIComponent(key)}`))
  const publicText = answer.data.keys[String(version)]?.public_key
  if (publicText === undefined) throw new Error(`Vault has no version ${version} of the transit key ${key}`)
  const publicKey = readVaultKey(answer.data.type, publicText)
  const { type } = readPublicKey(publicKey)
  const parameters = signParameters(type)
  return {
    publicKey,
    async sign(data) {
      const body = { input: data.toString('base64'), key_version: version, ...parameters }
      const { signature } = signSchema.parse(await call(access, 'POST', `sign/${encodeURIComponent(key)}`, body)).data
      return signatureFromService(type, Buffer.from(signature.split(':')[2]!, 'base64'))
    },
  }
}

/** RSA is PSS unless told otherwise, and every kind but ed25519 is hashed with SHA-256 unless told otherwise. */
function signParameters(type: KeyType): Record<string, string> {
  if (type === 'ssh-ed25519') return {}
  if (type === 'ssh-rsa') return { hash_algorithm: 'sha2-512', signature_algorithm: 'pkcs1v15' }
  return { hash_algorithm: CURVES[type]!.hash.replace('sha', 'sha2-'), marshaling_algorithm: 'asn1' }
}

/** ed25519 keys come as 32 bytes in base64, all others as PEM. */
function readVaultKey(type: string, text: string): Buffer {
  if (type === 'ed25519')
    return readPublicKey(Buffer.concat([string('ssh-ed25519'), string(Buffer.from(text, 'base64'))])).blob
  return readPublicKey(publicKeyBlob(createPublicKey(text))).blob
}

async function call(
  { address, token, mount = 'transit', namespace }: VaultAccess,
  method: 'GET' | 'POST',
  path: string,
  body?: object,
) {
  const headers = {
    'X-Vault-Token': await token(),
    // Vault's own protection against requests that a browser or a confused server was led to make.
    'X-Vault-Request': 'true',
    ...(namespace === undefined ? {} : { 'X-Vault-Namespace': namespace }),
    ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
  }
  return requestJson('Vault', new URL(`/v1/${mount}/${path}`, address), {
    method,
    headers,
    ...(body && { body: JSON.stringify(body) }),
  })
}
