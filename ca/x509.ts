import 'reflect-metadata'
import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509'

/**
 * X.509 for the gate's own TLS (RFC 5280): a root, and server certificates by it. Keys are P-256: there are TLS clients that
 * take no ed25519. Nothing here is loaded where no TLS is asked of the authority.
 */

const CURVE = { name: 'ECDSA', namedCurve: 'P-256' } as const
const SIGNING = { name: 'ECDSA', hash: 'SHA-256' } as const
const ROOT_NAME = [{ CN: ['drawbridge TLS root'] }]

export interface Validity {
  readonly serial: bigint
  /** Milliseconds since 1970, as is `expires`. */
  readonly starts: number
  readonly expires: number
}

export interface ServerCertificate extends Validity {
  readonly publicKey: KeyObject
  /** DNS names and IP addresses; the first one is the subject's as well. */
  readonly names: readonly string[]
}

/** A self-signed certificate for the root's private key, PEM. */
export async function makeRoot(key: KeyObject, validity: Validity): Promise<string> {
  const publicKey = verifying(createPublicKey(key))
  const root = await X509CertificateGenerator.createSelfSigned({
    name: ROOT_NAME,
    ...fieldsOf(validity),
    keys: { publicKey, privateKey: signing(key) },
    extensions: [
      // It signs servers and no further authorities.
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
      await SubjectKeyIdentifierExtension.create(publicKey),
    ],
  })
  return `${root.toString('pem')}\n`
}

/** A server certificate by the root, PEM. OpenSSL reads and verifies what was made before it leaves. */
export async function signServer(
  root: { readonly certificate: string; readonly key: KeyObject },
  { publicKey, names, ...validity }: ServerCertificate,
): Promise<string> {
  const issuer = new X509Certificate(root.certificate)
  const subject = verifying(publicKey)
  const signed = await X509CertificateGenerator.create({
    issuer: ROOT_NAME,
    subject: [{ CN: [names[0] ?? ''] }],
    ...fieldsOf(validity),
    publicKey: subject,
    signingKey: signing(root.key),
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension(names.map(value => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }))),
      await AuthorityKeyIdentifierExtension.create(verifying(issuer.publicKey)),
      await SubjectKeyIdentifierExtension.create(subject),
    ],
  })
  const pem = `${signed.toString('pem')}\n`
  const made = new X509Certificate(pem)
  if (!made.checkIssued(issuer) || !made.verify(issuer.publicKey) || !made.publicKey.equals(publicKey)) {
    throw new Error('the certificate that was made does not verify by the root')
  }
  return pem
}

const verifying = (key: KeyObject) => key.toCryptoKey(CURVE, true, ['verify'])
const signing = (key: KeyObject) => key.toCryptoKey(CURVE, false, ['sign'])

function fieldsOf({ serial, starts, expires }: Validity) {
  return {
    serialNumber: serial.toString(16).padStart(16, '0'),
    notBefore: new Date(starts),
    notAfter: new Date(expires),
    signingAlgorithm: SIGNING,
  }
}
