import { createHash } from 'node:crypto'
import {
  createRemoteJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from 'jose'
import { z } from 'zod'
import { PRESETS, type Preset, type WorkloadSettings } from '../../config/workload.ts'

/** The token of a CI job, judged (RFC 8725): who signed it, for whom, when, and whether the job is one of ours. */

export type Judged =
  | {
      readonly ok: true
      readonly workload: WorkloadSettings
      readonly principal: string
      readonly jti: string
      readonly issuer: string
      readonly expires: number
    }
  | { readonly ok: false; readonly code: string; readonly reason: string }

/** The keys of an issuer, found by its discovery document and by nothing that a token says. */
export type KeysOf = (issuer: URL) => Promise<JWTVerifyGetKey>

const TOKEN_CHARACTERS_MAX = 16_384
const ALGORITHMS = ['RS256', 'ES256', 'RS384', 'ES384', 'RS512', 'ES512', 'PS256', 'EdDSA']
const CLOCK_TOLERANCE_SECONDS = 30
/** CI systems make these for minutes; a longer one is no job's. */
const AGE_SECONDS_MAX = 24 * 3_600
const HEADER_FIELDS = ['alg', 'typ', 'kid', 'x5t', 'x5t#S256']
const PRINCIPAL_CHARACTERS_MAX = 255

/** Judges a job's token; never throws for what a stranger sends. */
export async function judgeWorkload(
  token: string,
  workloads: readonly WorkloadSettings[],
  { keysOf, now }: { readonly keysOf: KeysOf; readonly now: number },
): Promise<Judged> {
  if (token.length > TOKEN_CHARACTERS_MAX) return no('malformed', `a token of ${token.length} characters`)
  const unverified = peek(token)
  if (unverified === undefined) return no('malformed', 'no JSON Web Token')
  // `jku`, `jwk`, `x5u` and `x5c` would let the sender choose the key; `crit` asks for rules that are not kept here.
  const odd = Object.keys(unverified.header).find(name => !HEADER_FIELDS.includes(name))
  if (odd !== undefined) return no('header', `header field ${JSON.stringify(odd.slice(0, 32))} is not taken`)
  const ours = workloads.filter(({ issuer }) => sameIssuer(issuer, unverified.issuer))
  const [first] = ours
  if (first === undefined) return no('issuer', 'no workload is set up for its issuer')
  let keys: JWTVerifyGetKey
  try {
    keys = await keysOf(first.issuer)
  } catch (cause) {
    return no('issuer-unreachable', `the keys of ${first.issuer.href} cannot be had: ${messageOf(cause)}`)
  }
  let payload: JWTPayload
  try {
    const verified = await jwtVerify(token, keys, {
      algorithms: ALGORITHMS,
      issuer: unverified.issuer,
      currentDate: new Date(now),
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
      maxTokenAge: AGE_SECONDS_MAX,
      requiredClaims: ['iss', 'aud', 'sub', 'iat', 'exp'],
    })
    payload = verified.payload
  } catch (cause) {
    return no('token', messageOf(cause))
  }
  const { aud, exp = 0, jti } = payload
  // A token that names several is good at the others too, and they could bring it here.
  const audience = Array.isArray(aud) && aud.length === 1 ? aud[0] : aud
  const meant = ours.filter(workload => workload.audience === audience)
  if (meant.length === 0) return no('audience', 'it is for another audience')
  const workload = meant.find(one => whyNot(payload, one) === undefined)
  if (workload === undefined) return no('claims', meant.map(one => `${one.name}: ${whyNot(payload, one)}`).join('; '))
  const principal = principalOf(payload, PRESETS[workload.preset])
  if (principal === undefined) return no('principal', 'a claim that its name is made of is missing or odd')
  return {
    ok: true,
    workload,
    principal,
    issuer: unverified.issuer,
    jti: jti ?? createHash('sha256').update(token).digest('base64url'),
    expires: exp * 1_000,
  }
}

/** Finds keys by discovery (OpenID Connect Discovery 1.0), and keeps them. */
export function remoteKeys(): KeysOf {
  const known = new Map<string, JWTVerifyGetKey>()
  return async issuer => {
    const found = known.get(issuer.href)
    if (found !== undefined) return found
    const base = issuer.href.replace(/\/$/, '')
    const answer = await fetch(`${base}/.well-known/openid-configuration`, {
      redirect: 'error',
      signal: AbortSignal.timeout(DISCOVERY_MILLISECONDS_MAX),
    })
    const metadata = z.object({ issuer: z.string(), jwks_uri: z.url() }).parse(await answer.json())
    if (!sameIssuer(issuer, metadata.issuer)) throw new Error(`it says that it is ${metadata.issuer.slice(0, 200)}`)
    const uri = new URL(metadata.jwks_uri)
    if (uri.protocol !== 'https:' && issuer.protocol === 'https:') throw new Error('its keys are not behind https')
    const keys = createRemoteJWKSet(uri, { timeoutDuration: DISCOVERY_MILLISECONDS_MAX })
    known.set(issuer.href, keys)
    return keys
  }
}
const DISCOVERY_MILLISECONDS_MAX = 5_000

/** Which claim does not fit, as a sentence. */
function whyNot(payload: JWTPayload, { preset, claims }: WorkloadSettings): string | undefined {
  for (const [name, allowed] of claims) {
    const value = claimText(payload, name)
    if (value === undefined) return `claim ${name} is missing`
    if (!allowed.some(pattern => fits(pattern, value))) return `claim ${name} is ${JSON.stringify(value.slice(0, 200))}`
  }
  const { refused }: Preset = PRESETS[preset]
  for (const [name, values] of Object.entries(refused ?? {})) {
    const value = claimText(payload, name)
    if (claims.has(name)) continue
    if (value === undefined) return `claim ${name} is missing`
    if (values.includes(value)) return `claim ${name} is ${value}, which the settings would have to name`
  }
  return undefined
}

/** By its name as it stands, else as a path with slashes. Lists and objects are no text, and so match nothing. */
function claimText(payload: JWTPayload, name: string): string | undefined {
  let value: unknown = payload
  for (const part of Object.hasOwn(payload, name) ? [name] : name.split('/')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = Reflect.get(value, part)
  }
  if (typeof value === 'boolean' || (typeof value === 'number' && Number.isSafeInteger(value))) return String(value)
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** `*` is any run of characters within one part between slashes and colons; it never stands for nothing. */
function fits(pattern: string, value: string): boolean {
  if (!pattern.includes('*')) return pattern === value
  const source = pattern
    .split(/\*+/)
    .map(text => text.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
    .join('[^/:]+')
  return new RegExp(`^${source}$`, 'u').test(value)
}

function principalOf(payload: JWTPayload, { principal }: Preset): string | undefined {
  let whole = true
  const name = principal.replaceAll(/\{([^}]+)\}/g, (_, claim: string) => {
    const value = claimText(payload, claim)
    // What looks like a part of the name is none: `:` would make up another one.
    if (value === undefined || /[\s:\p{C}]/u.test(value)) whole = false
    return value ?? ''
  })
  return whole && name.length <= PRINCIPAL_CHARACTERS_MAX ? name : undefined
}

function peek(token: string): { readonly header: object; readonly issuer: string } | undefined {
  try {
    const { iss } = decodeJwt(token)
    return typeof iss === 'string' ? { header: decodeProtectedHeader(token), issuer: iss } : undefined
  } catch {
    return undefined
  }
}

const sameIssuer = (issuer: URL, text: string) => issuer.href.replace(/\/$/, '') === text.replace(/\/$/, '')

function messageOf(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).slice(0, 300)
}

function no(code: string, reason: string): Judged {
  return { ok: false, code: `workload-${code}`, reason }
}
