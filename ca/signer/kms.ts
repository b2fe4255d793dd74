import { createHash, createPublicKey } from 'node:crypto'
import { z } from 'zod'
import { type AwsCredentials, signRequest } from '../../audit/sigv4.ts'
import { CURVES, type KeyType, publicKeyBlob, readPublicKey } from '../key.ts'
import { signatureFromService } from '../signature.ts'
import type { Signer } from '../signer.ts'
import { requestJson } from './request.ts'

/** A key in AWS KMS (JSON 1.1 protocol, `TrentService.GetPublicKey` and `TrentService.Sign`), of usage SIGN_VERIFY. */
export interface KmsAccess {
  /** Asked for at each request: the credentials of a role expire. */
  readonly credentials: () => Promise<AwsCredentials>
  /** Instead of `https://kms.REGION.amazonaws.com`: a VPC endpoint. */
  readonly endpoint?: string
  readonly now?: () => number
}

const publicKeySchema = z.object({ PublicKey: z.base64() })
const signSchema = z.object({ Signature: z.base64() })
/** Messages that are not hashed here go whole, and KMS takes no longer ones. */
const RAW_MESSAGE_BYTES_MAX = 4096

export async function kmsSigner(
  reference: { readonly keyId: string; readonly region: string },
  access: KmsAccess,
): Promise<Signer> {
  const KeyId = reference.keyId
  const answer = publicKeySchema.parse(await call(reference.region, access, 'GetPublicKey', { KeyId }))
  const key = createPublicKey({ key: Buffer.from(answer.PublicKey, 'base64'), format: 'der', type: 'spki' })
  const { type, blob } = readPublicKey(publicKeyBlob(key))
  return {
    publicKey: blob,
    async sign(data) {
      const { Signature } = signSchema.parse(
        await call(reference.region, access, 'Sign', { KeyId, ...message(type, data) }),
      )
      return signatureFromService(type, Buffer.from(Signature, 'base64'))
    },
  }
}

function message(type: KeyType, data: Buffer): { Message: string; MessageType: string; SigningAlgorithm: string } {
  if (type === 'ssh-ed25519') {
    if (data.length > RAW_MESSAGE_BYTES_MAX)
      throw new Error(`KMS signs at most ${RAW_MESSAGE_BYTES_MAX} bytes with ed25519; ask for fewer principals`)
    return { Message: data.toString('base64'), MessageType: 'RAW', SigningAlgorithm: 'ED25519_SHA_512' }
  }
  const hash = type === 'ssh-rsa' ? 'sha512' : CURVES[type]!.hash
  const name = type === 'ssh-rsa' ? 'RSASSA_PKCS1_V1_5_SHA_512' : `ECDSA_SHA_${hash.slice(3)}`
  return { Message: createHash(hash).update(data).digest('base64'), MessageType: 'DIGEST', SigningAlgorithm: name }
}

async function call(region: string, access: KmsAccess, action: string, body: object): Promise<unknown> {
  const url = new URL(access.endpoint ?? `https://kms.${region}.amazonaws.com/`)
  const text = JSON.stringify(body)
  const headers = { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': `TrentService.${action}` }
  const now = (access.now ?? Date.now)()
  const signed = signRequest(
    { method: 'POST', url, headers, body: text, region, service: 'kms', now },
    await access.credentials(),
  )
  return requestJson('AWS KMS', url, { method: 'POST', headers: signed, body: text })
}
