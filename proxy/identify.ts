import { hash } from 'node:crypto'
import type { JSONWebKeySet } from 'jose'
import type { Origin } from '../audit/record.ts'
import { SESSION_AUDIENCE, SESSION_ISSUER, verifyToken } from '../ca/token.ts'
import type { Caller } from './client.ts'

export interface IdentifyOptions {
  /** The public keys that session tokens are signed with, as a JSON Web Key Set; undefined when there are none yet. */
  tokenKeys(): Promise<string | undefined>
  /** Milliseconds since the epoch. */
  now(): number
}

const REMEMBERED_MAX = 10_000
/** A key set is asked for again after this, and at once, though no more often than the second, for an unknown key. */
const KEYS_MILLISECONDS = 60_000
const KEYS_AGAIN_MILLISECONDS = 1_000

interface Remembered {
  readonly id: string
  readonly principal: string
  readonly signin?: string
  readonly request?: string
  readonly expires: number
}

/**
 * Recognises people by their session tokens. A verified token is remembered by its hash, so that a clone's many requests
 * cost one signature check; whether it was revoked since is asked of Redis with every use, together with the grants.
 */
export function identifier({ tokenKeys, now }: IdentifyOptions) {
  const remembered = new Map<string, Remembered>()
  let keys: JSONWebKeySet = { keys: [] }
  let fetched = Number.NEGATIVE_INFINITY

  const freshKeys = async (age: number): Promise<JSONWebKeySet> => {
    if (performance.now() - fetched < age) return keys
    const text = await tokenKeys()
    fetched = performance.now()
    keys = text === undefined ? { keys: [] } : (JSON.parse(text) as JSONWebKeySet)
    return keys
  }

  const verify = async (token: string): Promise<Remembered | { readonly refused: string }> => {
    const options = { audience: SESSION_AUDIENCE, issuer: SESSION_ISSUER, now: now() }
    let result = await verifyToken(token, { ...options, keys: await freshKeys(KEYS_MILLISECONDS) })
    if (!result.ok && result.code === 'unknown-key') {
      result = await verifyToken(token, { ...options, keys: await freshKeys(KEYS_AGAIN_MILLISECONDS) })
    }
    return result.ok ? result.claims : { refused: `${result.code}: ${result.reason}` }
  }

  return async (token: string, origin: Origin): Promise<Caller | { readonly refused: string }> => {
    const digest = hash('sha256', token, 'base64')
    let claims = remembered.get(digest)
    if (!claims || claims.expires <= now()) {
      remembered.delete(digest)
      const verified = await verify(token)
      if ('refused' in verified) return verified
      claims = verified
      // The oldest goes first: a Map keeps the order of insertion.
      if (remembered.size >= REMEMBERED_MAX) remembered.delete(remembered.keys().next().value as string)
      remembered.set(digest, claims)
    }
    const { principal, id, signin, request } = claims
    const credentials = [`token:${id}`, ...(signin === undefined ? [] : [`signin:${signin}`])]
    const bound = request === undefined ? {} : { request }
    return { principal, identity: { kind: 'token', id }, credentials, origin, ...bound }
  }
}
