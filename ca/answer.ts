import type { Record as AuditRecord, Emit } from '../audit/record.ts'
import { certificateLine } from './certificate.ts'
import type { Custody, Revocation } from './custody.ts'
import { type Issuer, issueCertificate } from './issue.ts'
import { fingerprint, parsePublicKeyLine } from './key.ts'
import { encodeKrl } from './krl.ts'
import { type AuthorityRequest, type Refused, requestSchema } from './protocol.ts'
import { createKeyFile, externalKey, type SignerAccess } from './signer/open.ts'
import type { TlsAuthority } from './tls.ts'
import { FormatError } from './wire.ts'

export interface AnswerOptions {
  readonly custody: Custody
  readonly issuer: Issuer
  readonly tls: TlsAuthority
  readonly access: SignerAccess
  readonly emit: Emit
  readonly now: () => number
}

type Request<Ask extends AuthorityRequest['ask']> = Extract<AuthorityRequest, { ask: Ask }>
type Answer = { readonly ok: true; readonly [field: string]: unknown } | Refused

/** Answers one request. What is wrong with a request is an answer; what goes wrong here is one too, with the code `failed`. */
export async function answer(message: unknown, options: AnswerOptions): Promise<Answer> {
  const request = requestSchema.safeParse(message)
  if (!request.success) {
    const [issue] = request.error.issues
    return refused('request', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not a request'}`)
  }
  try {
    return await answerRequest(request.data, options)
  } catch (error) {
    return refused(
      error instanceof FormatError ? 'key' : 'failed',
      error instanceof Error ? error.message : String(error),
    )
  }
}

async function answerRequest(request: AuthorityRequest, options: AnswerOptions): Promise<Answer> {
  const { custody } = options
  if (request.ask === 'issue') return issue(request, options)
  if (request.ask === 'tls')
    return options.tls.issue({ ...request, publicKey: Buffer.from(request.publicKey, 'base64') })
  if (request.ask === 'tls-root') return { ok: true, root: (await options.tls.root()) ?? null }
  if (request.ask === 'trusted') return { ok: true, ...custody.trusted(), krl: String(custody.krl().version) }
  if (request.ask === 'krl') return { ok: true, krl: encodeKrl(custody.krl()).toString('base64') }
  if (request.ask === 'rotate') return rotate(request, options)
  if (request.ask === 'distrust') return distrust(request, options)
  return revoke(request, options)
}

async function issue({ ask: _, publicKey, ...request }: Request<'issue'>, { issuer }: AnswerOptions): Promise<Answer> {
  const extensions = new Map(Object.entries(request.extensions ?? {}))
  const result = await issueCertificate(issuer, {
    type: request.type,
    by: request.by,
    publicKey: blobOf(publicKey),
    keyId: request.keyId,
    principals: request.principals,
    expires: request.expires,
    extensions,
    ...(request.starts === undefined ? {} : { starts: request.starts }),
    ...(request.sourceAddress === undefined ? {} : { sourceAddress: request.sourceAddress }),
  })
  if (!result.ok) return result
  return { ok: true, certificate: certificateLine(result.certificate), serial: String(result.certificate.serial) }
}

/** An unreadable line is an empty blob here: the issuer refuses that, and records that it did. */
function blobOf(line: string): Buffer {
  try {
    return parsePublicKeyLine(line).blob
  } catch {
    return Buffer.alloc(0)
  }
}

async function rotate(
  { by, ring, next }: Request<'rotate'>,
  { custody, access, emit, now }: AnswerOptions,
): Promise<Answer> {
  const key = next === undefined ? await freshKey(access, now()) : await external(next, access, now())
  // Recorded first: a key must never sign that the ledger does not know of.
  await emit({ kind: 'authority.rotated', by, ring, fingerprint: fingerprint(parsePublicKeyLine(key.publicKey).blob) })
  await custody.rotate(ring, key)
  return { ok: true }
}

function freshKey(access: SignerAccess, now: number) {
  if (access.protection === undefined)
    throw new Error('keys are not kept in files here; say which external key comes next')
  return createKeyFile(access.directory, access.protection, now)
}

function external(next: NonNullable<Request<'rotate'>['next']>, access: SignerAccess, now: number) {
  if (next.kind !== 'agent') return externalKey(next, undefined, access, now)
  return externalKey({ kind: 'agent', socket: next.socket }, parsePublicKeyLine(next.publicKey).blob, access, now)
}

/** Denying does not wait for the ledger: first the trust ends, then it is recorded, and the answer tells of both. */
async function distrust(request: Request<'distrust'>, { custody, emit }: AnswerOptions): Promise<Answer> {
  const ring = await custody.distrust(request.fingerprint)
  return recorded(emit, { kind: 'authority.distrusted', by: request.by, ring, fingerprint: request.fingerprint })
}

async function revoke(
  { by, reason, serial, keyId, publicKey }: Request<'revoke'>,
  { custody, emit }: AnswerOptions,
): Promise<Answer> {
  const revocations: Revocation[] = [
    ...(serial === undefined ? [] : [{ serial: BigInt(serial) }]),
    ...(keyId === undefined ? [] : [{ keyId }]),
    ...(publicKey === undefined ? [] : [{ publicKey: parsePublicKeyLine(publicKey).blob }]),
  ]
  const [revocation] = revocations
  if (revocation === undefined || revocations.length > 1)
    return refused('request', 'name one of serial, keyId and publicKey')
  if ('publicKey' in revocation && custody.isAuthority(revocation.publicKey)) {
    return refused('key', "this is an authority's key; rotate until it is retired, then distrust it")
  }
  await custody.revoke(revocation)
  const of = 'publicKey' in revocation ? `key ${fingerprint(revocation.publicKey)}: ` : ''
  return recorded(emit, {
    kind: 'certificate.revoked',
    by,
    serial: serial ?? '',
    keyId: keyId ?? '',
    principals: [],
    reason: `${of}${reason}`,
  })
}

async function recorded(emit: Emit, record: AuditRecord): Promise<Answer> {
  try {
    await emit(record)
    return { ok: true }
  } catch {
    return refused('ledger-unreachable', 'done, but it could not be recorded; ask again when the ledger is back')
  }
}

function refused(code: string, reason: string): Refused {
  return { ok: false, code, reason }
}
