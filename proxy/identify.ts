import { createHash } from 'node:crypto'
import type { Origin } from '../audit/record.ts'
import type { Caller } from './client.ts'

/** What a verified session token says. */
export interface TokenClaims {
  readonly id: string
  readonly principal: string
  /** Milliseconds since the epoch. */
  readonly expires: number
}

export interface IdentifyOptions {
  /** Checks a token's signature, audience and times; says in a sentence why not. */
  verifyToken(token: string): Promise<TokenClaims | { readonly refused: string }>
  now(): number
}

const REMEMBERED_MAX = 10_000
const TOKEN_CHARACTERS_MAX = 4096

/**
 * Recognises people by their session tokens. A verified token is remembered by its hash, so that a clone's many requests
 * cost one signature check; whether it was revoked since is asked of Redis with every use, together with the grants.
 */
export function identifier({ verifyToken, now }: IdentifyOptions) {
  const remembered = new Map<string, TokenClaims>()

  return async (token: string, origin: Origin): Promise<Caller | { readonly refused: string }> => {
    if (token.length > TOKEN_CHARACTERS_MAX) return { refused: 'too long to be a token' }
    const hash = createHash('sha256').update(token).digest('base64')
    let claims = remembered.get(hash)
    if (!claims || claims.expires <= now()) {
      remembered.delete(hash)
      const verified = await verifyToken(token)
      if ('refused' in verified) return verified
      claims = verified
      // The oldest goes first: a Map keeps the order of insertion.
      if (remembered.size >= REMEMBERED_MAX) remembered.delete(remembered.keys().next().value as string)
      remembered.set(hash, claims)
    }
    const { principal, id } = claims
    return { principal, identity: { kind: 'token', id }, credentials: [`token:${id}`], origin }
  }
}
