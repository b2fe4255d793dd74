import type { Identity } from '../../audit/record.ts'
import { type Certificate, isCertificateType, parseCertificate } from '../../ca/certificate.ts'
import { checkCertificate } from '../../ca/check.ts'
import { fingerprint, readPublicKey } from '../../ca/key.ts'
import {
  isSecurityKeyType,
  readUserKey,
  type UserKey,
  type UserSignatureAlgorithm,
  userSignatureAlgorithms,
} from '../../ca/securitykey.ts'
import { loginSignatureAlgorithm, type SignatureAlgorithm, signatureAlgorithms } from '../../ca/signature.ts'
import { FormatError } from '../../ca/wire.ts'
import { printable } from '../git/pktline.ts'

/** What a login request puts forward: nothing of it is proved yet. */
export interface Presented {
  /** The user name, `git` or the principal's own. */
  readonly user: string
  /** As the request named it; decides which signature counts. */
  readonly algorithm: string
  /** A public key, or a certificate. */
  readonly blob: Buffer
  readonly address: string
}

/** For whom a key or certificate stands, once its signature has been seen. */
export interface Recognised {
  readonly kind: 'recognised'
  readonly principal: string
  readonly identity: Identity
  /** See `Ask.credentials`. */
  readonly credentials: readonly string[]
  readonly proof: Proof
  /** See `Caller.stands`. */
  stands?(): boolean
}

/** What a signature has to fit for the login to be theirs. */
export interface Proof {
  readonly key: UserKey
  readonly algorithm: UserSignatureAlgorithm
}

/** Why a key or certificate is not taken. */
export interface Unrecognised {
  readonly kind: 'unrecognised'
  readonly code: string
  /** For the record. */
  readonly reason: string
  /** For the person, where there is something to be done about it. */
  readonly tell?: string
  /** A sound key that nobody has registered: possession of it can be proved. */
  readonly unknown?: Proof
}

export interface IdentityOptions {
  /** For whom the registered key with this SHA256 fingerprint stands; `expires` in milliseconds since 1970. */
  findKey(
    fingerprint: string,
  ): Promise<{ readonly principal: string; readonly expires?: number; readonly signin?: string } | undefined>
  /** Whether this public key blob may sign user certificates. */
  isAuthority(publicKey: Buffer): boolean
  isRevoked(certificate: Certificate): boolean
  /** Waited for before a certificate is judged: what these two answer from is up to date then. Rejects when that cannot be had. */
  learn?(): Promise<void>
  /** Milliseconds since 1970. */
  now(): number
}

/** The user name by which everybody may log in, whoever they are: the one in every `git@host:` URL. */
const ANYBODY = 'git'
const PRINCIPAL_CHARACTERS_MAX = 128
/** Names, in certificates of our own, the sign-in they were given out for. */
const SIGNIN_EXTENSION = 'signin@drawbridge'

/**
 * Finds out for whom a presented key or certificate stands. Also asked again for each command of a connection that stays
 * open: what expired or was revoked since stands for nobody.
 *
 * A certificate stands for the principal its *key id* names. Its principal list has to hold the user name of the login,
 * or, when that is `git`, the key id itself; so `-I alice -n alice` and `-I alice -n git` both let alice in by `git@`,
 * and a certificate for other hosts (`-n root,deploy`) lets nobody in. A registered key takes `git` or its principal's
 * own name.
 */
export async function recognise(presented: Presented, options: IdentityOptions): Promise<Recognised | Unrecognised> {
  const { algorithm: asked } = presented
  const algorithm = isSecurityKeyType(asked) ? asked : loginSignatureAlgorithm(asked)
  if (algorithm === undefined) {
    const sha1 = asked.startsWith('ssh-rsa')
    const sentence = sha1
      ? 'signatures with SHA-1 (ssh-rsa) are not taken; use a client that knows rsa-sha2-512'
      : `key algorithm ${printable(asked, 80)} is not taken`
    return { kind: 'unrecognised', code: 'key-algorithm', reason: sentence, ...(sha1 ? { tell: sentence } : {}) }
  }
  try {
    if (isSecurityKeyType(algorithm) || !isCertificateType(asked)) return await keyHolder(presented, algorithm, options)
    await options.learn?.()
    return certificateHolder(presented, algorithm, options)
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    return { kind: 'unrecognised', code: 'malformed-key', reason: error.message, tell: error.message }
  }
}

async function keyHolder(
  { blob, user }: Presented,
  algorithm: UserSignatureAlgorithm,
  { findKey, now }: IdentityOptions,
): Promise<Recognised | Unrecognised> {
  const key = readUserKey(blob)
  if (!userSignatureAlgorithms(key.type).includes(algorithm)) {
    return { kind: 'unrecognised', code: 'key-algorithm', reason: `a ${key.type} key does not sign by ${algorithm}` }
  }
  const proof: Proof = { key, algorithm }
  const print = fingerprint(blob)
  const found = await findKey(print)
  if (!found || (found.expires !== undefined && now() >= found.expires)) {
    const reason = found ? `the registration of key ${print} has expired` : `key ${print} is not registered`
    return { kind: 'unrecognised', code: found ? 'key-expired' : 'unknown-key', reason, unknown: proof }
  }
  if (user !== ANYBODY && user !== found.principal) {
    return {
      kind: 'unrecognised',
      code: 'wrong-user',
      reason: `key ${print} does not log in as ${printable(user, 80)}`,
    }
  }
  return {
    kind: 'recognised',
    principal: found.principal,
    identity: { kind: 'key', fingerprint: print },
    credentials: [`key:${print}`, ...signinOf(found.signin)],
    proof,
  }
}

function certificateHolder(
  { algorithm: asked, blob, user, address }: Presented,
  algorithm: SignatureAlgorithm,
  { isAuthority, isRevoked, now }: IdentityOptions,
): Recognised | Unrecognised {
  const certificate = parseCertificate(blob)
  const refuse = (code: string, reason: string): Unrecognised => {
    const serial = `certificate serial ${certificate.serial}`
    const sentence = printable(`${serial}: ${reason}`, 300)
    return { kind: 'unrecognised', code, reason: sentence, tell: sentence }
  }
  const key = readPublicKey(certificate.publicKey)
  if (!signatureAlgorithms(key.type).includes(algorithm) || certificate.algorithm !== keyTypeOfLogin(asked)) {
    return refuse('key-algorithm', `it does not fit the algorithm ${asked}`)
  }
  const checked = checkCertificate(certificate, { type: 'user', address, now: now(), isAuthority, isRevoked })
  if (!checked.ok) {
    // We never issue it, and whoever else signs for our people means another server by it.
    const forced = checked.code === 'unknown-critical-option' && certificate.criticalOptions.has('force-command')
    return refuse(
      checked.code,
      forced ? 'force-command is not obeyed here; use a certificate without it' : checked.reason,
    )
  }
  const { keyId, principals } = certificate
  if (!plainName(keyId)) return refuse('key-id', 'its key id is no name of a person or service')
  if (!principals.includes(user) && !(user === ANYBODY && principals.includes(keyId))) {
    return refuse('wrong-principal', `${JSON.stringify(user)} is not among its principals`)
  }
  const print = fingerprint(certificate.publicKey)
  return {
    kind: 'recognised',
    principal: keyId,
    identity: {
      kind: 'certificate',
      serial: String(certificate.serial),
      keyId,
      fingerprint: print,
      authority: fingerprint(certificate.authority),
    },
    credentials: [
      `serial:${certificate.serial}`,
      `key:${print}`,
      ...signinOf(certificate.extensions.get(SIGNIN_EXTENSION)),
    ],
    proof: { key, algorithm },
    stands: () => isAuthority(certificate.authority) && !isRevoked(certificate),
  }
}

/** What ends with the sign-in it was given out for is refused when that is. */
const signinOf = (signin: string | true | undefined): string[] =>
  typeof signin === 'string' && signin !== '' ? [`signin:${signin}`] : []

/** RFC 8332, section 3: the algorithm names a hash, the key type stays ssh-rsa. */
function keyTypeOfLogin(algorithm: string): string {
  return algorithm.replace(/^rsa-sha2-(256|512)/, 'ssh-rsa')
}

/** A name that looks the same in a record, on a terminal and in a policy. */
function plainName(name: string): boolean {
  return name !== '' && name.length <= PRINCIPAL_CHARACTERS_MAX && !/[\p{C}\p{Z}]/u.test(name)
}
