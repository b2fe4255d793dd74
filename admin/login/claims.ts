import type { Role } from '../../ca/token.ts'
import type { LoginSettings } from '../../config/settings.ts'
import { RESERVED } from '../api/access.ts'
import type { Person } from '../register/signins.ts'

/** What an identity provider says of somebody, read as whom the gate takes them for. */

export type Claims = Readonly<Record<string, unknown>>

/** Why nobody was recognised: a word for the log, and a sentence that the person may read. */
export interface Unrecognised {
  readonly code: 'claims' | 'principal' | 'unverified' | 'domain' | 'mfa'
  readonly reason: string
}

const PRINCIPAL_CHARACTERS_MAX = 128
const GROUPS_MAX = 1_000
const GROUP_CHARACTERS_MAX = 200
/** How far ahead of ours the provider's clock may be, milliseconds. */
const CLOCK_MILLISECONDS_MAX = 60_000

/**
 * The person these claims describe. They are of an ID token whose signature, issuer, audience, times and nonce were checked;
 * nothing that is missing here is made up.
 * @param now milliseconds since the epoch
 */
export function personOf(claims: Claims, settings: LoginSettings, now: number): Person | Unrecognised {
  const { iss, sub, sid } = claims
  if (typeof iss !== 'string' || typeof sub !== 'string') return no('claims', 'the provider did not say who you are')
  for (const [name, allowed] of settings.require) {
    const values = valuesOf(claim(claims, name))
    if (!values.some(value => allowed.includes(value))) {
      return no('claims', `the provider does not say of you what is needed here (claim ${name})`)
    }
  }
  const named = claim(claims, settings.principal)
  if (typeof named !== 'string') return no('principal', `the provider did not send the claim ${settings.principal}`)
  const principal = named.includes('@') ? named.toLowerCase() : named
  if (!isName(principal)) return no('principal', `the claim ${settings.principal} is no name that can be used here`)
  // Anybody may write any address into some providers' accounts; only a verified one is theirs.
  if (settings.principal === 'email' && claims.email_verified !== true) {
    return no('unverified', 'the provider does not say that your address is verified (claim email_verified)')
  }
  const [, domain] = /^[^@]+@([^@]+)$/.exec(principal) ?? []
  if (settings.domains.length > 0 && (domain === undefined || !settings.domains.includes(domain))) {
    return no('domain', 'your account is of another domain than those that may sign in here')
  }
  const groups = groupsOf(claim(claims, settings.groups))
  const mfa = secondFactor(claims, settings, now)
  if (settings.mfa.required && mfa === undefined) {
    return no('mfa', 'a second factor is needed here, and the provider does not say that you have shown one, and when')
  }
  return {
    principal,
    groups,
    roles: rolesOf(groups, settings),
    issuer: iss,
    subject: sub,
    ...(typeof sid === 'string' && sid !== '' && { session: sid }),
    ...(mfa !== undefined && { mfa }),
  }
}

/** By its name as it stands, else as a path: `realm_access.roles`. */
function claim(claims: Claims, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name]
  let value: unknown = claims
  for (const part of name.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = Reflect.get(value, part)
  }
  return value
}

function valuesOf(value: unknown): string[] {
  if (Array.isArray(value)) return value.filter(item => typeof item === 'string')
  return typeof value === 'string' || typeof value === 'boolean' || typeof value === 'number' ? [String(value)] : []
}

/** A colon marks the gate's own groups (`role:admin`), which no provider hands out. */
function groupsOf(value: unknown): string[] {
  const named = valuesOf(value).filter(
    group => group !== '' && group.length <= GROUP_CHARACTERS_MAX && !/[:\p{C}]/u.test(group),
  )
  return [...new Set(named)].slice(0, GROUPS_MAX)
}

function rolesOf(groups: readonly string[], { roles }: LoginSettings): Role[] {
  const given = [...roles].filter(([, of]) => of.some(group => groups.includes(group))).map(([role]) => role)
  return [...new Set<Role>(['developer', ...given])]
}

/**
 * When a second factor was shown. A provider's session may be hours old, so without `auth_time` it is not known when, and what is
 * not known was not shown.
 */
function secondFactor(claims: Claims, { mfa }: LoginSettings, now: number): number | undefined {
  const { amr, acr, auth_time: at } = claims
  const shown =
    valuesOf(amr).some(method => mfa.amr.includes(method)) || (typeof acr === 'string' && mfa.acr.includes(acr))
  if (!shown || typeof at !== 'number' || !Number.isSafeInteger(at) || at <= 0) return undefined
  const when = at * 1_000
  return when > now + CLOCK_MILLISECONDS_MAX ? undefined : Math.min(when, now)
}

/** Looks the same in a record, on a terminal and in a policy, and is no machine's name. */
function isName(name: string): boolean {
  return (
    name !== '' &&
    name.length <= PRINCIPAL_CHARACTERS_MAX &&
    name.isWellFormed() &&
    name === name.normalize('NFC') &&
    !/[\p{C}\p{Z},*?!#"'\\:]/u.test(name) &&
    !RESERVED.includes(name.toLowerCase())
  )
}

function no(code: Unrecognised['code'], reason: string): Unrecognised {
  return { code, reason }
}
