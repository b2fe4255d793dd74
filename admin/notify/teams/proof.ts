import { createRemoteJWKSet, decodeProtectedHeader, type JSONWebKeySet, jwtVerify } from 'jose'
import { z } from 'zod'

/**
 * Whether the Bot Connector sent an activity: the checks that its documentation asks for, all of them.
 * https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-authentication
 */

const ISSUER = 'https://api.botframework.com'
const CHANNEL = 'msteams'
const CLOCK_TOLERANCE_SECONDS = 300
const TOKEN_CHARACTERS_MAX = 16_384
const FETCH_MILLISECONDS_MAX = 5_000

const metadata = z.object({ issuer: z.literal(ISSUER), jwks_uri: z.url() })
const endorsed = z.object({ kid: z.string(), endorsements: z.array(z.string()) })

/** Until when the token is good, in milliseconds since the epoch; or why this is not from the connector. */
export type Proof =
  | { readonly until: number }
  | { readonly refused: 'unsigned' | 'signature' | 'keys'; readonly reason: string }

export type Prove = (
  authorization: string | undefined,
  activity: { readonly serviceUrl: string },
  now: number,
) => Promise<Proof>

export function createProof({ appId, metadata: at }: { readonly appId: string; readonly metadata: URL }): Prove {
  let keys: Promise<ReturnType<typeof createRemoteJWKSet>> | undefined

  /** By the metadata and by nothing that a token says; a key that is not known yet is looked for again. */
  function connectorKeys(): Promise<ReturnType<typeof createRemoteJWKSet>> {
    keys ??= discover(at)
    keys.catch(() => {
      keys = undefined
    })
    return keys
  }

  return async (authorization, { serviceUrl }, now) => {
    const token = /^Bearer ([\w.-]+)$/.exec(authorization ?? '')?.[1]
    if (token === undefined || token.length > TOKEN_CHARACTERS_MAX) return { refused: 'unsigned', reason: 'no token' }
    const known = await connectorKeys().catch(() => undefined)
    if (known === undefined) return { refused: 'keys', reason: 'the keys of the connector cannot be had' }
    try {
      const { payload, protectedHeader } = await jwtVerify(token, known, {
        algorithms: ['RS256'],
        issuer: ISSUER,
        audience: appId,
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        currentDate: new Date(now),
        requiredClaims: ['exp'],
      })
      // Where answers go: with another address a bot would take its own token there.
      if ((payload.serviceurl ?? payload.serviceUrl) !== serviceUrl) return bad('the token is for another service URL')
      if (!isEndorsed(known.jwks(), protectedHeader.kid)) return bad(`its key is not endorsed for ${CHANNEL}`)
      return { until: (payload.exp ?? 0) * 1_000 + CLOCK_TOLERANCE_SECONDS * 1_000 }
    } catch (error) {
      return bad(`${headerOf(token)}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
}

async function discover(at: URL): Promise<ReturnType<typeof createRemoteJWKSet>> {
  const signal = AbortSignal.timeout(FETCH_MILLISECONDS_MAX)
  const answer = await fetch(at, { redirect: 'error', signal })
  const found = metadata.parse(await answer.json())
  const uri = new URL(found.jwks_uri)
  if (uri.protocol !== 'https:' && at.protocol === 'https:')
    throw new Error('the keys of the connector are not behind https')
  return createRemoteJWKSet(uri, { timeoutDuration: FETCH_MILLISECONDS_MAX })
}

/** Other channels of the connector have keys of their own, and what comes by them is no Teams. */
function isEndorsed(keys: JSONWebKeySet | undefined, kid: string | undefined): boolean {
  return (keys?.keys ?? []).some(key => {
    const read = endorsed.safeParse(key)
    return read.success && read.data.kid === kid && read.data.endorsements.includes(CHANNEL)
  })
}

const bad = (reason: string): Proof => ({ refused: 'signature', reason })

function headerOf(token: string): string {
  try {
    return `alg ${String(decodeProtectedHeader(token).alg).slice(0, 20)}`
  } catch {
    return 'no header'
  }
}
