import { join } from 'node:path'
import {
  type CryptoKey,
  calculateJwkThumbprint,
  decodeProtectedHeader,
  errors,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JSONWebKeySet,
  type JWK,
  jwtVerify,
  SignJWT,
} from 'jose'
import { z } from 'zod'
import { openPrivateDirectory, readPrivate, writeDurably } from './durable.ts'

/**
 * Session tokens: short-lived JWTs (RFC 7519, RFC 8725) signed with Ed25519, bound to one audience, each with an id by which
 * it can be revoked at once. Whether it is revoked is for the caller to ask; here it is only told who signed what.
 */
/** `front`: a proxy, which asks in the name of who logged in there and may do nothing else. */
export type Role = 'developer' | 'approver' | 'auditor' | 'admin' | 'front'

export interface TokenClaims {
  /** By which it is revoked (`jti`). */
  readonly id: string
  readonly principal: string
  readonly roles: readonly Role[]
  /** The sign-in it was given out for; it ends with that. */
  readonly signin?: string
  /** The request whose windows it is for; it opens no others. */
  readonly request?: string
  readonly audience: string
  readonly issuer: string
  /** Milliseconds since 1970. */
  readonly issued: number
  readonly expires: number
}

/** What a token is to say. Whole seconds of its times count. */
export interface TokenContent extends Omit<TokenClaims, 'issued'> {
  readonly now: number
}

export interface TokenKey {
  readonly kid: string
  readonly privateKey: CryptoKey
  /** With `kid`, `alg` and `use`; no private part. */
  readonly publicJwk: JWK
}

export type TokenRefusalCode =
  | 'malformed'
  | 'algorithm'
  | 'header'
  | 'unknown-key'
  | 'signature'
  | 'type'
  | 'audience'
  | 'issuer'
  | 'expired'
  | 'not-yet-valid'
  | 'claims'

export type TokenResult =
  | { readonly ok: true; readonly claims: TokenClaims }
  | { readonly ok: false; readonly code: TokenRefusalCode; readonly reason: string }

export interface TokenOptions {
  /** The public keys that are trusted, told apart by `kid`. */
  readonly keys: JSONWebKeySet
  readonly audience: string
  readonly issuer: string
  /** Milliseconds since 1970. */
  readonly now: number
}

/** Who issues session tokens and for whom, within one installation. */
export const SESSION_ISSUER = 'drawbridge'
export const SESSION_AUDIENCE = 'drawbridge'

const ALGORITHM = 'EdDSA'
/** A type of our own (RFC 8725, section 3.11): an ID token or another JWT by the same key is no session token. */
const TYPE = 'drawbridge-session+jwt'
export const TOKEN_CHARACTERS_MAX = 4096
const KEY_FILE = 'token.jwk'

const claimsSchema = z.object({
  jti: z.string().min(1).max(64),
  sub: z.string().min(1).max(255),
  roles: z.array(z.enum(['developer', 'approver', 'auditor', 'admin', 'front'])).max(4),
  signin: z.string().min(1).max(64).optional(),
  request: z.string().min(1).max(64).optional(),
  iat: z.int(),
  exp: z.int(),
})
const privateJwkSchema = z.object({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: z.string(), d: z.string() })

export async function issueToken(key: TokenKey, content: TokenContent): Promise<string> {
  const issued = Math.floor(content.now / 1000)
  return await new SignJWT({
    roles: [...content.roles],
    ...(content.signin !== undefined && { signin: content.signin }),
    ...(content.request !== undefined && { request: content.request }),
  })
    .setProtectedHeader({ alg: ALGORITHM, typ: TYPE, kid: key.kid })
    .setJti(content.id)
    .setSubject(content.principal)
    .setAudience(content.audience)
    .setIssuer(content.issuer)
    .setIssuedAt(issued)
    .setNotBefore(issued)
    .setExpirationTime(Math.floor(content.expires / 1000))
    .sign(key.privateKey)
}

/** Judges a token; never throws for what a stranger sends. */
export async function verifyToken(token: string, options: TokenOptions): Promise<TokenResult> {
  if (token.length > TOKEN_CHARACTERS_MAX) return refuse('malformed', `a token of ${token.length} characters`)
  const header = readHeader(token)
  if (header === undefined) return refuse('malformed', 'no token of this gate')
  // Each header field is one of ours or the token is not. `jku`, `jwk`, `x5u` and `x5c` would let the sender choose the key;
  // `crit` asks for rules that are not kept here; `b64` changes what is signed.
  const unknown = Object.keys(header).find(name => !['alg', 'typ', 'kid'].includes(name))
  if (unknown !== undefined)
    return refuse('header', `header field ${JSON.stringify(unknown.slice(0, 32))} is not taken`)
  // One algorithm, whatever the token says of itself: no `none`, and no HMAC keyed with a public key.
  if (header.alg !== ALGORITHM) return refuse('algorithm', `only ${ALGORITHM} is taken`)
  if (header.typ !== TYPE) return refuse('type', 'not a session token')
  const jwk = options.keys.keys.find(({ kid }) => kid !== undefined && kid === header.kid)
  if (jwk === undefined) return refuse('unknown-key', 'signed with a key that is not known, or no longer')
  // The key's own kind is pinned as well: an RSA or symmetric key that got into the set signs no session.
  if (jwk.kty !== 'OKP' || jwk.crv !== 'Ed25519')
    return refuse('unknown-key', 'the key of that id is not for session tokens')
  try {
    const { payload } = await jwtVerify(token, await importJWK(jwk, ALGORITHM), {
      algorithms: [ALGORITHM],
      typ: TYPE,
      audience: options.audience,
      issuer: options.issuer,
      currentDate: new Date(options.now),
      clockTolerance: 0,
      requiredClaims: ['iss', 'aud', 'sub', 'jti', 'iat', 'nbf', 'exp'],
    })
    // jose takes a list that contains the audience; ours names one, so that one token opens one door.
    if (payload.aud !== options.audience) return refuse('audience', 'for more than this audience')
    const claims = claimsSchema.safeParse(payload)
    if (!claims.success) return refuse('claims', 'claims missing or of the wrong kind')
    const { jti, sub, roles, signin, request, iat, exp } = claims.data
    return {
      ok: true,
      claims: {
        id: jti,
        principal: sub,
        roles,
        ...(signin !== undefined && { signin }),
        ...(request !== undefined && { request }),
        audience: options.audience,
        issuer: options.issuer,
        issued: iat * 1000,
        expires: exp * 1000,
      },
    }
  } catch (error) {
    return refusalOf(error)
  }
}

function readHeader(token: string) {
  try {
    return decodeProtectedHeader(token)
  } catch {
    return undefined
  }
}

function refusalOf(error: unknown): TokenResult {
  if (error instanceof errors.JWTExpired) return refuse('expired', 'the token has expired; sign in again')
  if (error instanceof errors.JWSSignatureVerificationFailed) return refuse('signature', 'the signature does not fit')
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === 'aud') return refuse('audience', 'for another audience')
    if (error.claim === 'iss') return refuse('issuer', 'from another issuer')
    if (error.claim === 'nbf' && error.reason === 'check_failed') return refuse('not-yet-valid', 'not valid yet')
    return refuse('claims', `claim ${error.claim} is missing or wrong`)
  }
  if (error instanceof errors.JOSEError) return refuse('malformed', 'no token of this gate')
  throw error
}

function refuse(code: TokenRefusalCode, reason: string): TokenResult {
  return { ok: false, code, reason }
}

/** The signing key of session tokens, from `token.jwk` in a private directory; made there where it is missing. */
export async function loadOrCreateTokenKey(directory: string): Promise<TokenKey> {
  await openPrivateDirectory(directory)
  const file = join(directory, KEY_FILE)
  const content = await readPrivate(file)
  if (content !== undefined) return tokenKey(parsePrivateJwk(content, file))
  const { privateKey } = await generateKeyPair(ALGORITHM, { crv: 'Ed25519', extractable: true })
  const { kty, crv, x, d } = await exportJWK(privateKey)
  await writeDurably(file, `${JSON.stringify({ kty, crv, x, d })}\n`)
  return tokenKey(privateJwkSchema.parse({ kty, crv, x, d }))
}

function parsePrivateJwk(content: Buffer, file: string): z.infer<typeof privateJwkSchema> {
  try {
    return privateJwkSchema.parse(JSON.parse(content.toString('utf8')))
  } catch (cause) {
    throw new Error(
      `${file}: no Ed25519 key (JWK) in it; remove the file to have a new one made, which ends all sessions`,
      { cause },
    )
  }
}

async function tokenKey(jwk: z.infer<typeof privateJwkSchema>): Promise<TokenKey> {
  const kid = await calculateJwkThumbprint(jwk)
  const privateKey = await importJWK(jwk, ALGORITHM)
  if (privateKey instanceof Uint8Array) throw new Error('an Ed25519 key cannot be symmetric')
  const { d: _, ...publicPart } = jwk
  return { kid, privateKey, publicJwk: { ...publicPart, kid, alg: ALGORITHM, use: 'sig' } }
}

/** The JWK set that verifiers are given: the current key, and those that signed tokens still in use. */
export function publicKeySet(...keys: readonly TokenKey[]): JSONWebKeySet {
  return { keys: keys.map(({ publicJwk }) => publicJwk) }
}
