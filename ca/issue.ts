import type { Emit } from '../audit/record.ts'
import { matchSourceAddress } from './address.ts'
import type { Certificate } from './certificate.ts'
import { fingerprint, readPublicKey } from './key.ts'
import type { Serials } from './serial.ts'
import { type CertificateContent, signCertificate } from './sign.ts'
import type { Signer } from './signer.ts'
import { FormatError } from './wire.ts'

/** A certificate that somebody wants. Times are milliseconds since 1970. */
export interface CertificateRequest {
  readonly type: 'user' | 'host'
  /** Whoever asks: a principal, or `drawbridge` for itself. */
  readonly by: string
  /** The subject's public key blob. */
  readonly publicKey: Buffer
  readonly keyId: string
  /** User names, or host names. */
  readonly principals: readonly string[]
  /** Absent: from now on. */
  readonly starts?: number
  /** The end of the sign-in, or of the grant, whichever comes first: the caller knows. */
  readonly expires: number
  readonly sourceAddress?: string
  /** Vendors' extensions, such as `login@github.com`. */
  readonly extensions?: ReadonlyMap<string, string>
}

export type IssueRefusalCode =
  | 'key'
  | 'revoked'
  | 'key-id'
  | 'principals'
  | 'window'
  | 'lifetime'
  | 'source-address'
  | 'extensions'
  | 'ledger-unreachable'
  | 'signer-failed'

export interface IssueRefusal {
  readonly ok: false
  readonly code: IssueRefusalCode
  readonly reason: string
}

export type IssueResult = { readonly ok: true; readonly certificate: Certificate } | IssueRefusal

export interface IssueLimits {
  readonly userLifetimeSeconds: number
  readonly hostLifetimeSeconds: number
  readonly principals: number
  readonly keyIdCharacters: number
}

export const ISSUE_LIMITS: IssueLimits = {
  userLifetimeSeconds: 24 * 3600,
  hostLifetimeSeconds: 90 * 24 * 3600,
  principals: 16,
  keyIdCharacters: 200,
}

/** How far a certificate is backdated for hosts whose clock is behind. */
export const CLOCK_SKEW_SECONDS = 60
const PRINCIPAL_CHARACTERS_MAX = 255
const EXTENSIONS_MAX = 16
const EXTENSION_CHARACTERS_MAX = 256

export interface Issuer {
  /** The current key of the ring for that type of certificate. */
  readonly signer: (type: 'user' | 'host') => Signer
  /** Keys that sign certificates; none of them is ever the subject of one. */
  readonly isAuthority: (publicKey: Buffer) => boolean
  /** Whether this key or everything under this key id is revoked. */
  readonly isRevoked: (publicKey: Buffer, keyId: string) => boolean
  readonly serials: Serials
  readonly emit: Emit
  readonly limits: IssueLimits
  readonly now: () => number
}

/**
 * Judges, numbers, records and signs, in this order: the record is durable before the certificate exists, and a ledger that
 * cannot be written is a refusal. Every refusal is recorded as well, where the ledger can be reached.
 */
export async function issueCertificate(issuer: Issuer, request: CertificateRequest): Promise<IssueResult> {
  const judged = judge(request, issuer)
  if (!judged.ok) return refuse(issuer, request, '', judged)
  const { content } = judged
  const signed = await recordAndSign(issuer, request, content.validBefore, serial =>
    signCertificate(issuer.signer(request.type), { ...content, serial }),
  )
  return signed.ok ? { ok: true, certificate: signed.value } : signed
}

/** What the ledger is told of a certificate that was asked for. */
type Asked = Pick<CertificateRequest, 'by' | 'keyId' | 'principals'>

/** Numbers a certificate, records it, and only then has it signed. */
export async function recordAndSign<T>(
  issuer: Issuer,
  asked: Asked,
  validBefore: bigint,
  sign: (serial: bigint) => Promise<T>,
): Promise<{ readonly ok: true; readonly value: T } | IssueRefusal> {
  const serial = await issuer.serials.next()
  try {
    await issuer.emit(record('certificate.issued', asked, serial, Number(validBefore) * 1000))
  } catch {
    return {
      ok: false,
      code: 'ledger-unreachable',
      reason: 'the issue could not be recorded; try again when the ledger is back',
    }
  }
  try {
    return { ok: true, value: await sign(serial) }
  } catch (error) {
    const reason = `the signer failed: ${error instanceof Error ? error.message : String(error)}`
    return refuse(issuer, asked, String(serial), { ok: false, code: 'signer-failed', reason })
  }
}

/** Records a refusal and gives it back. */
export async function refuse(
  issuer: Issuer,
  asked: Asked,
  serial: string,
  refusal: IssueRefusal,
): Promise<IssueRefusal> {
  const { expires: _, ...refused } = record('certificate.refused', asked, serial, 0)
  // The answer is no either way; that it could not be recorded takes nothing back.
  await issuer.emit({ ...refused, reason: `${refusal.code}: ${refusal.reason}` }).catch(() => {})
  return refusal
}

function record(
  kind: 'certificate.issued' | 'certificate.refused',
  asked: Asked,
  serial: bigint | string,
  expires: number,
) {
  // A refused request may hold anything; the ledger takes a bounded piece of it.
  const principals = asked.principals
    .slice(0, ISSUE_LIMITS.principals)
    .map(principal => principal.slice(0, PRINCIPAL_CHARACTERS_MAX))
  const keyId = asked.keyId.slice(0, ISSUE_LIMITS.keyIdCharacters)
  return { kind, by: asked.by, serial: String(serial), keyId, principals, expires: new Date(expires).toISOString() }
}

type Judgement = { readonly ok: true; readonly content: Omit<CertificateContent, 'serial'> } | IssueRefusal

/** One rule after the other, each leaving with its name; what remains is the content of the certificate. */
function judge(request: CertificateRequest, { limits, isAuthority, isRevoked, now }: Issuer): Judgement {
  const { type, publicKey, keyId, principals, sourceAddress, extensions = new Map<string, string>() } = request
  try {
    readPublicKey(publicKey)
  } catch (error) {
    if (error instanceof FormatError) return no('key', error.message)
    throw error
  }
  // An authority certified by itself would be a subject that can sign for others.
  if (isAuthority(publicKey)) return no('key', `${fingerprint(publicKey)} is an authority's own key`)
  if (keyId.length > limits.keyIdCharacters || !isPlainText(keyId)) {
    return no('key-id', `a key id has 1 to ${limits.keyIdCharacters} characters, none of them a control character`)
  }
  if (isRevoked(publicKey, keyId)) return no('revoked', 'the key, or everything with this key id, is revoked')
  if (principals.length === 0)
    return no('principals', 'no principals: the certificate would be for nobody, or to some readers for everybody')
  if (principals.length > limits.principals)
    return no('principals', `${principals.length} principals, at most ${limits.principals}`)
  const wrong = principals.find(principal => !(type === 'user' ? isUserName(principal) : isHostName(principal)))
  if (wrong !== undefined) return no('principals', `${JSON.stringify(wrong.slice(0, 64))} is no ${type} name`)
  if (new Set(principals).size < principals.length) return no('principals', 'a principal is named twice')
  const window = judgeWindow(request, limits, now())
  if (!window.ok) return window
  if (sourceAddress !== undefined && type === 'host')
    return no('source-address', 'a host certificate has no source-address')
  if (sourceAddress !== undefined && matchSourceAddress('', sourceAddress) === 'invalid') {
    return no(
      'source-address',
      `${JSON.stringify(sourceAddress.slice(0, 200))} is no list of addresses and networks, such as 192.0.2.0/24,2001:db8::/32`,
    )
  }
  if (extensions.size > EXTENSIONS_MAX)
    return no('extensions', `${extensions.size} extensions, at most ${EXTENSIONS_MAX}`)
  for (const [name, value] of extensions) {
    if (type === 'host' || !isVendorExtension(name))
      return no('extensions', `extension ${JSON.stringify(name.slice(0, 64))} is not given`)
    if (value.length > EXTENSION_CHARACTERS_MAX || !isPlainText(value))
      return no('extensions', `the value of ${name} is too long, empty or no text`)
  }
  const criticalOptions = new Map(sourceAddress === undefined ? [] : [['source-address', sourceAddress]])
  return {
    ok: true,
    content: { type, publicKey, keyId, principals, ...window.value, criticalOptions, extensions: new Map(extensions) },
  }
}

/** From when to when, seconds since 1970, of what was asked for in milliseconds. */
export function judgeWindow(
  request: Pick<CertificateRequest, 'type' | 'starts' | 'expires'>,
  limits: IssueLimits,
  now: number,
) {
  const { type, starts = now, expires } = request
  if (!Number.isSafeInteger(expires) || !Number.isSafeInteger(starts))
    return no('window', 'start and end are milliseconds since 1970')
  const longest = (type === 'user' ? limits.userLifetimeSeconds : limits.hostLifetimeSeconds) * 1000
  const first = Math.max(starts, now)
  if (expires <= first) return no('window', 'the window is over before the certificate would begin')
  if (starts > now + longest) return no('window', 'the window begins too far ahead; ask again nearer to it')
  if (expires - first > longest)
    return no('lifetime', `${Math.round((expires - first) / 1000)} s, at most ${longest / 1000} s`)
  // Backdated for slow clocks only when it begins at once: a window in the future begins when it was granted to.
  const validAfter = starts > now ? Math.ceil(starts / 1000) : Math.floor(now / 1000) - CLOCK_SKEW_SECONDS
  const validBefore = Math.floor(expires / 1000)
  if (validBefore <= validAfter || validBefore * 1000 <= now) return no('window', 'the window is shorter than a second')
  return { ok: true as const, value: { validAfter: BigInt(validAfter), validBefore: BigInt(validBefore) } }
}

export function no(code: IssueRefusalCode, reason: string): IssueRefusal {
  return { ok: false, code, reason }
}

function isPlainText(text: string): boolean {
  return text !== '' && text.isWellFormed() && !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text)
}

/** No spaces, and none of the characters that mean something in principals files and patterns. */
function isUserName(name: string): boolean {
  return name.length <= PRINCIPAL_CHARACTERS_MAX && isPlainText(name) && !/[\s,*?!#"'\\]/.test(name)
}

function isHostName(name: string): boolean {
  return name.length <= PRINCIPAL_CHARACTERS_MAX && /^[a-z0-9_]([a-z0-9_.:-]*[a-z0-9])?$/.test(name)
}

/** `name@domain` is a vendor's; names without a domain are OpenSSH's own (permit-pty, permit-port-forwarding …). */
function isVendorExtension(name: string): boolean {
  return (
    name.length <= EXTENSION_CHARACTERS_MAX && /^[a-z0-9-]+@[a-z0-9.-]+$/.test(name) && !name.endsWith('@openssh.com')
  )
}
