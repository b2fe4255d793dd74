import { randomBytes } from 'node:crypto'
import {
  type Certificate,
  type CertificateFields,
  encodeCertificate,
  encodeUnsigned,
  parseCertificate,
} from './certificate.ts'
import { verifySignature } from './signature.ts'
import type { Signer } from './signer.ts'

/** What the authority decides about a certificate; nonce and authority are the signer's. */
export type CertificateContent = Omit<CertificateFields, 'nonce' | 'authority'>

const NONCE_BYTES = 32

/**
 * Signs a certificate. What the signer answers is verified and the result read back as strictly as a stranger's, so that
 * a signer with another key, a fault in it, or content that no reader would take never leaves the authority.
 */
export async function signCertificate(signer: Signer, content: CertificateContent): Promise<Certificate> {
  const fields = { ...content, nonce: randomBytes(NONCE_BYTES), authority: signer.publicKey }
  const unsigned = encodeUnsigned(fields)
  const signature = await signer.sign(unsigned)
  if (!verifySignature(signer.publicKey, unsigned, signature)) {
    throw new Error('the signer answered with a signature that does not verify with its public key')
  }
  return parseCertificate(encodeCertificate(fields, signature))
}
