import { matchSourceAddress } from './address.ts'
import type { Certificate } from './certificate.ts'
import { fingerprint } from './key.ts'
import { verifySignature } from './signature.ts'

export type CheckRefusalCode =
  | 'unknown-authority'
  | 'bad-signature'
  | 'wrong-type'
  | 'revoked'
  | 'not-yet-valid'
  | 'expired'
  | 'unknown-critical-option'
  | 'no-principals'
  | 'wrong-principal'
  | 'source-address'

export type CheckResult =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: CheckRefusalCode; readonly reason: string }

export interface CheckOptions {
  readonly type: 'user' | 'host'
  /** The user name, or for a host certificate the name that was dialled. Without it any list but the empty one is taken. */
  readonly principal?: string
  /** Where the client connects from; without it a certificate with `source-address` is refused. */
  readonly address?: string
  /** Milliseconds since 1970. */
  readonly now: number
  /** Whether this public key blob is a trusted authority for certificates of this type; compare bytes. */
  readonly isAuthority: (publicKey: Buffer) => boolean
  readonly isRevoked: (certificate: Certificate) => boolean
  /** Critical options, besides `source-address`, that the caller itself enforces. */
  readonly criticalOptions?: readonly string[]
}

/**
 * Everything that must hold before a certificate speaks for somebody (PROTOCOL.certkeys; OpenSSH's
 * sshkey_cert_check_authority and auth_cert_options). That the peer holds the subject's private key is for the caller to
 * prove, with `verifySignature` and the certificate's `publicKey`.
 */
export function checkCertificate(certificate: Certificate, options: CheckOptions): CheckResult {
  // The authority by its bytes and its signature first: nothing else in the certificate is worth reading before.
  if (!options.isAuthority(certificate.authority)) {
    return refuse(
      'unknown-authority',
      `signed by ${fingerprint(certificate.authority)}, which is no trusted ${options.type} authority`,
    )
  }
  if (!verifySignature(certificate.authority, certificate.signed, certificate.signature)) {
    return refuse('bad-signature', "the authority's signature does not fit")
  }
  if (certificate.type !== options.type) {
    return refuse('wrong-type', `a ${certificate.type} certificate where a ${options.type} certificate is needed`)
  }
  if (options.isRevoked(certificate)) return refuse('revoked', `serial ${certificate.serial} is revoked`)
  const now = BigInt(Math.floor(options.now / 1000))
  if (now < certificate.validAfter)
    return refuse('not-yet-valid', `not valid before ${instant(certificate.validAfter)}`)
  if (now >= certificate.validBefore) return refuse('expired', `expired at ${instant(certificate.validBefore)}`)
  for (const name of certificate.criticalOptions.keys()) {
    // OpenSSH knows no critical option for hosts at all.
    const known = options.type === 'user' && (name === 'source-address' || options.criticalOptions?.includes(name))
    if (!known) return refuse('unknown-critical-option', `critical option ${JSON.stringify(name)} is not understood`)
  }
  // PROTOCOL.certkeys lets an empty list stand for everybody; sshd, and we, take it for nobody.
  if (certificate.principals.length === 0) return refuse('no-principals', 'the certificate names no principal')
  if (options.principal !== undefined && !certificate.principals.includes(options.principal)) {
    return refuse('wrong-principal', `${JSON.stringify(options.principal)} is not among its principals`)
  }
  return checkSourceAddress(certificate, options.address)
}

function checkSourceAddress(certificate: Certificate, address: string | undefined): CheckResult {
  const list = certificate.criticalOptions.get('source-address')
  if (list === undefined) return { ok: true }
  if (list === true) return refuse('source-address', 'source-address without a list')
  const match = matchSourceAddress(address ?? '', list)
  if (match === 'invalid')
    return refuse('source-address', `source-address ${JSON.stringify(list)} is no list of networks`)
  if (match === 'no-match') return refuse('source-address', `${address ?? 'an unknown address'} is not in ${list}`)
  return { ok: true }
}

function refuse(code: CheckRefusalCode, reason: string): CheckResult {
  return { ok: false, code, reason }
}

/** Seconds of a certificate as a date, where a date can hold them. */
function instant(seconds: bigint): string {
  return seconds > 8_640_000_000_000n ? `second ${seconds}` : new Date(Number(seconds) * 1000).toISOString()
}
