import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { type CryptoKey, exportJWK, generateKeyPair } from 'jose'
import { Provider } from 'oidc-provider'

/** A real OpenID Connect provider on loopback, with accounts of one's own and plain pages to log in by: for trials and tests. */
export interface TestProvider {
  readonly issuer: URL
  /** The key it signs with; tests forge tokens by it. */
  readonly key: { readonly kid: string; readonly privateKey: CryptoKey }
  /** What it says of whom: login name → claims beside `sub`. */
  readonly people: Map<string, Readonly<Record<string, unknown>>>
  /** Tells the gate through the back channel that every session of an account is over. */
  logOut(account: string): Promise<void>
  close(): Promise<void>
}

export const CLIENT = { id: 'drawbridge', secret: 'client-secret-4f1b77c2' }

/** @param gate the base of the admin API, known by the first request at the latest: browsers are sent back there */
export async function startProvider(gate: () => string): Promise<TestProvider> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const issuer = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  const { privateKey } = await generateKeyPair('RS256', { extractable: true })
  const kid = 'test-key'
  const jwk = { ...(await exportJWK(privateKey)), kid, alg: 'RS256', use: 'sig' }
  const people = new Map<string, Readonly<Record<string, unknown>>>()
  let made: Provider | undefined
  const provider = () => {
    made ??= new Provider(issuer.origin, {
      clients: [
        {
          client_id: CLIENT.id,
          client_secret: CLIENT.secret,
          redirect_uris: [`${gate()}/login/callback`],
          backchannel_logout_uri: `${gate()}/login/backchannel`,
          backchannel_logout_session_required: true,
          require_auth_time: true,
          grant_types: ['authorization_code', 'refresh_token'],
        },
      ],
      jwks: { keys: [jwk] },
      claims: { openid: ['sub', 'amr'], profile: ['preferred_username', 'groups'], email: ['email', 'email_verified'] },
      acrValues: ['urn:test:mfa'],
      features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: false } },
      interactions: { url: (_context, { uid }) => `/interaction/${uid}` },
      // Nobody is asked for consent: the gate is the company's own.
      loadExistingGrant: async ({ oidc }) => {
        const accountId = oidc.session?.accountId
        if (accountId === undefined) return undefined
        const { Grant } = provider()
        const grant = Object.assign(new Grant(), { accountId, clientId: CLIENT.id })
        grant.addOIDCScope('openid profile email')
        await grant.save()
        return grant
      },
      // With every code, as Keycloak and GitLab do; others want the scope offline_access.
      issueRefreshToken: async () => true,
      ttl: {
        RefreshToken: 600,
        AccessToken: 600,
        AuthorizationCode: 60,
        Grant: 600,
        IdToken: 600,
        Interaction: 600,
        Session: 600,
      },
      // Its own guard against loopback addresses is off: the gate is there.
      fetch: async (url, { method, headers, body } = {}) =>
        await fetch(url, { ...(method && { method }), ...(headers && { headers }), ...(body && { body }) }),
      cookies: { keys: ['test'] },
      pkce: { required: () => true },
      findAccount: (_context, id) => {
        const claims = people.get(id)
        if (claims === undefined) return undefined
        const { amr: _, ...rest } = claims
        return { accountId: id, claims: async () => ({ sub: id, preferred_username: id, ...rest }) }
      },
    })
    return made
  }
  server.on('request', (request, response) => {
    if (!request.url?.startsWith('/interaction/')) return void provider().callback()(request, response)
    logIn(provider(), request, response, account => people.get(account)?.amr).catch(() => response.destroy())
  })
  return {
    issuer,
    key: { kid, privateKey },
    people,
    logOut: async account => {
      const client = await provider().Client.find(CLIENT.id)
      const tell: unknown = Reflect.get(client ?? {}, 'backchannelLogout')
      if (typeof tell !== 'function') throw new Error('this provider has no back channel')
      await tell.call(client, account, undefined)
    },
    close: () =>
      new Promise(resolve => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}

/** The page on which one says who one is. */
async function logIn(
  provider: Provider,
  request: IncomingMessage,
  response: ServerResponse,
  amrOf: (account: string) => unknown,
): Promise<void> {
  if (request.method === 'GET') {
    response.setHeader('content-type', 'text/html')
    response.end('<form action="" method="post"><input name="login" autofocus><button>Log in</button></form>')
    return
  }
  const accountId = new URLSearchParams(await text(request)).get('login') ?? ''
  const amr = amrOf(accountId)
  await provider.interactionFinished(request, response, {
    login: { accountId, ...(Array.isArray(amr) && { amr }) },
  })
}
