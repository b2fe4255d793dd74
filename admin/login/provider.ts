import { createRemoteJWKSet, type JWTPayload, jwtVerify } from 'jose'
import * as client from 'openid-client'
import type { LoginSettings } from '../../config/settings.ts'
import type { Claims } from './claims.ts'
import type { Seal } from './seal.ts'

/** What is kept of a browser that was sent to the provider, to hold its answer against. */
export interface Sent {
  readonly state: string
  readonly nonce: string
  /** PKCE (RFC 7636): without it a code that leaked on its way would be worth a sign-in. */
  readonly verifier: string
  /** The person has to show who they are even when the provider remembers them. */
  readonly fresh: boolean
}

/** The provider could not be asked, or its answer does not hold. The message is for the log. */
export class ProviderError extends Error {
  readonly code: 'unreachable' | 'refused' | 'answer'
  constructor(code: ProviderError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ProviderError'
    this.code = code
  }
}

/** The OpenID Connect provider people sign in with. */
export interface Provider {
  /** Where to send a browser. */
  send(options: { readonly redirect: string; readonly fresh: boolean }): Promise<{ url: URL; sent: Sent }>
  /**
   * Takes the browser's return: the code is exchanged, and the ID token's claims are given; with `recheck` in the settings also
   * what `renew` takes.
   * @throws ProviderError
   */
  receive(returned: URL, sent: Sent): Promise<{ readonly claims: Claims; readonly refresh?: string }>
  /**
   * Asks whether a session of the provider's goes on: `over` where it says that the account, or what was given for it, is no
   * more.
   * @throws ProviderError when that could not be learnt
   */
  renew(refresh: string): Promise<{ readonly refresh: string } | 'over'>
  /**
   * Verifies a logout token's signature, issuer and audience (OpenID Connect Back-Channel Logout 1.0, section 2.6).
   * @throws what jose throws
   */
  verifyLogout(token: string, now: number): Promise<JWTPayload>
}

/** What sign-in by a provider needs; made in `main.ts`. */
export interface People {
  readonly settings: LoginSettings
  readonly provider: Provider
  readonly seal: Seal
}

const TIMEOUT_SECONDS = 10
/** How long the provider's own metadata is good for. */
const DISCOVERY_MILLISECONDS = 3_600_000
/** A sign-in that the provider calls fresh may be so old, seconds: people take their time with a second factor. */
const FRESH_SECONDS = 300
/** Signatures by the provider's own key; never `none`, never a MAC by a secret that others share. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']
const CLOCK_TOLERANCE_SECONDS = 60
/** Answers by which a provider ends what it gave (RFC 6749, section 5.2; OpenID Connect Core, section 3.1.2.6). */
const OVER = ['invalid_grant', 'interaction_required', 'login_required', 'consent_required']

export function createProvider(settings: LoginSettings): Provider {
  const { issuer, clientId, clientSecret, scopes, mfa } = settings
  let found: { readonly config: client.Configuration; readonly jwks: ReturnType<typeof createRemoteJWKSet> } | undefined
  let looked = Number.NEGATIVE_INFINITY

  async function discover() {
    if (found !== undefined && performance.now() - looked < DISCOVERY_MILLISECONDS) return found
    const authentication = clientSecret === undefined ? client.None() : client.ClientSecretBasic(clientSecret)
    const insecure = issuer.protocol === 'http:'
    const config = await client
      .discovery(issuer, clientId, { [client.clockTolerance]: CLOCK_TOLERANCE_SECONDS }, authentication, {
        timeout: TIMEOUT_SECONDS,
        // Signatures of ID tokens are checked although TLS brought them: one proof more costs nothing.
        execute: [client.enableNonRepudiationChecks, ...(insecure ? [client.allowInsecureRequests] : [])],
      })
      .catch(cause => {
        throw new ProviderError('unreachable', `the provider at ${issuer} cannot be asked: ${messageOf(cause)}`, {
          cause,
        })
      })
    const { jwks_uri: keys } = config.serverMetadata()
    if (keys === undefined) throw new ProviderError('answer', `the provider at ${issuer} publishes no keys (jwks_uri)`)
    found = { config, jwks: createRemoteJWKSet(new URL(keys), { timeoutDuration: TIMEOUT_SECONDS * 1_000 }) }
    looked = performance.now()
    return found
  }

  return {
    send: async ({ redirect, fresh }) => {
      const { config } = await discover()
      const sent = {
        state: client.randomState(),
        nonce: client.randomNonce(),
        verifier: client.randomPKCECodeVerifier(),
        fresh,
      }
      const url = client.buildAuthorizationUrl(config, {
        redirect_uri: redirect,
        scope: scopes.join(' '),
        state: sent.state,
        nonce: sent.nonce,
        code_challenge: await client.calculatePKCECodeChallenge(sent.verifier),
        code_challenge_method: 'S256',
        ...(fresh && { prompt: 'login', max_age: '0' }),
        ...(mfa.acr.length > 0 && (fresh || mfa.required) && { acr_values: mfa.acr.join(' ') }),
      })
      return { url, sent }
    },

    receive: async (returned, { state, nonce, verifier, fresh }) => {
      const { config } = await discover()
      const checks = {
        expectedState: state,
        expectedNonce: nonce,
        pkceCodeVerifier: verifier,
        idTokenExpected: true,
        ...(fresh && { maxAge: FRESH_SECONDS }),
      }
      const tokens = await client.authorizationCodeGrant(config, returned, checks).catch(cause => {
        const code = cause instanceof client.AuthorizationResponseError ? 'refused' : 'answer'
        throw new ProviderError(code, `sign-in at ${issuer}: ${messageOf(cause)}`, { cause })
      })
      const claims = tokens.claims()
      if (claims === undefined) throw new ProviderError('answer', `the provider at ${issuer} sent no ID token`)
      const whole = await withUserInfo(config, claims, tokens.access_token)
      if (settings.recheck === undefined) return { claims: whole }
      if (tokens.refresh_token === undefined) {
        const why = 'gave no refresh token, and login.recheck asks with one: see login.scopes (offline_access)'
        throw new ProviderError('answer', `the provider at ${issuer} ${why}`)
      }
      return { claims: whole, refresh: tokens.refresh_token }
    },

    renew: async refresh => {
      const { config } = await discover()
      try {
        const tokens = await client.refreshTokenGrant(config, refresh)
        return { refresh: tokens.refresh_token ?? refresh }
      } catch (cause) {
        if (cause instanceof client.ResponseBodyError && OVER.includes(cause.error)) return 'over'
        throw new ProviderError('unreachable', `the provider at ${issuer} renews nothing: ${messageOf(cause)}`, {
          cause,
        })
      }
    },

    verifyLogout: async (token, now) => {
      const { config, jwks } = await discover()
      const { payload } = await jwtVerify(token, jwks, {
        algorithms: ALGORITHMS,
        issuer: config.serverMetadata().issuer,
        audience: clientId,
        currentDate: new Date(now),
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        requiredClaims: ['iat', 'jti', 'events'],
      })
      return payload
    },
  }

  /** Many providers put groups and addresses only there. What the signed token says wins. */
  async function withUserInfo(config: client.Configuration, claims: client.IDToken, accessToken: string) {
    if (config.serverMetadata().userinfo_endpoint === undefined) return claims
    const needed = [settings.principal, settings.groups, ...settings.require.keys()]
    if (needed.every(name => Object.hasOwn(claims, name.split('.')[0] ?? ''))) return claims
    const more = await client.fetchUserInfo(config, accessToken, claims.sub).catch(cause => {
      throw new ProviderError('answer', `userinfo of ${issuer}: ${messageOf(cause)}`, { cause })
    })
    // How and when somebody signed in is never taken from anything but the signed token.
    const { amr: _amr, acr: _acr, auth_time: _at, sid: _sid, ...facts } = more
    return { ...facts, ...claims }
  }
}

/** Never the answer's body: it may hold tokens. */
function messageOf(cause: unknown): string {
  const error = cause instanceof Error ? cause : new Error(String(cause))
  const word = Reflect.get(error, 'error')
  const below = error.cause instanceof Error ? `: ${error.cause.message}` : ''
  return `${error.message}${typeof word === 'string' ? ` (${word})` : ''}${below}`.slice(0, 500)
}
