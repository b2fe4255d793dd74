import { decodeProtectedHeader, type JWTPayload } from 'jose'

/** Whose sessions a logout token ends. */
export interface Logout {
  readonly issuer: string
  readonly jti: string
  readonly subject?: string
  readonly session?: string
  /** Milliseconds since the epoch, after which the token is too old to be taken in any case. */
  readonly forget: number
}

const EVENT = 'http://schemas.openid.net/event/backchannel-logout'
/** A logout token is sent when the session ends, so an old one is somebody's copy. */
const AGE_MILLISECONDS_MAX = 10 * 60_000
const CLOCK_MILLISECONDS_MAX = 60_000
const JTI_CHARACTERS_MAX = 256

/**
 * What a logout token orders, of one whose signature, issuer and audience were verified (OpenID Connect Back-Channel Logout 1.0,
 * section 2.6, steps 4 to 7).
 * @returns the reason when it orders nothing
 */
export function readLogout(token: string, payload: JWTPayload, now: number): Logout | { readonly refused: string } {
  const { typ } = decodeProtectedHeader(token)
  if (typ !== undefined && !/^(application\/)?(logout\+)?jwt$/i.test(typ))
    return { refused: `it is a ${typ.slice(0, 40)}` }
  const { iss, sub, sid, jti, iat, events, nonce } = payload
  // An ID token of the same provider for the same client is no order to end anything; a nonce is what tells it.
  if (nonce !== undefined) return { refused: 'it has a nonce' }
  const event: unknown = typeof events === 'object' && events !== null ? Reflect.get(events, EVENT) : undefined
  if (typeof event !== 'object' || event === null) return { refused: 'it names no logout event' }
  if (typeof iss !== 'string' || typeof iat !== 'number') return { refused: 'iss or iat is missing' }
  if (typeof jti !== 'string' || jti === '' || jti.length > JTI_CHARACTERS_MAX)
    return { refused: 'jti is missing or long' }
  const at = iat * 1_000
  if (at > now + CLOCK_MILLISECONDS_MAX || now - at > AGE_MILLISECONDS_MAX)
    return { refused: 'it is too old, or of the future' }
  const subject = typeof sub === 'string' && sub !== '' ? sub : undefined
  const session = typeof sid === 'string' && sid !== '' ? sid : undefined
  if (subject === undefined && session === undefined) return { refused: 'it names neither sub nor sid' }
  return {
    issuer: iss,
    jti,
    ...(subject !== undefined && { subject }),
    ...(session !== undefined && { session }),
    forget: at + AGE_MILLISECONDS_MAX + CLOCK_MILLISECONDS_MAX,
  }
}
