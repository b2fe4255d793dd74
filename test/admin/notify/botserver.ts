import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type CryptoKey, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { z } from 'zod'
import type { TeamsBotSettings } from '../../../config/notify.ts'
import { attachments, type Card, MESSAGE_BYTES_MAX, textOf } from './teamsserver.ts'

/**
 * The Bot Connector of Microsoft Teams, its keys and its sign-in, as far as the gate uses them and as they are documented:
 * articles/rest-api/bot-framework-rest-connector-authentication.md of MicrosoftDocs/bot-docs,
 * bots/how-to/get-teams-context.md of MicrosoftDocs/msteams-docs,
 * authoring-cards/universal-action-model.md of MicrosoftDocs/AdaptiveCards.
 */

const APP = '0c5a5c0e-1111-4111-8111-3f1e1a2b3c4d'
const TENANT = '72f988bf-86f1-41af-91ab-2d7cd011db47'
const CHANNEL = '19:b7b84cba410c406ba671dbbf5e0a3519@thread.tacv2'
const SECRET = 'the-secret-of-the-bot'

const activity = z.strictObject({ type: z.literal('message'), attachments })
const newThread = z.strictObject({
  isGroup: z.literal(true),
  tenantId: z.literal(TENANT),
  channelData: z.strictObject({ channel: z.strictObject({ id: z.literal(CHANNEL) }) }),
  activity,
})

export interface TeamsMember {
  readonly id: string
  readonly objectId: string
  readonly userPrincipalName?: string
  readonly email?: string
  readonly tenantId: string
  readonly userRole: string
}

export interface BotServer {
  readonly settings: TeamsBotSettings
  /** The cards in the channel by activity, as they stand now. */
  readonly cards: Map<string, Card>
  /** What was said below a card. */
  readonly replies: { readonly thread: string; readonly text: string }[]
  readonly members: Map<string, TeamsMember>
  /** How often a token was asked for. */
  tokens: number
  /** Takes no token any more that it gave. */
  revoke(): void
  /** Signs an activity as the connector does; `over` changes what the token says. */
  authorize(
    over?: JWTPayload & { readonly lasts?: string; readonly kid?: string; readonly key?: CryptoKey },
  ): Promise<string>
  /** What the connector sends when a member presses a button below the last card. */
  press(member: string, title: string, over?: object): Record<string, unknown>
  text(): string
  stop(): Promise<void>
}

export async function startBot(): Promise<BotServer> {
  const { publicKey, privateKey } = await generateKeyPair('RS256')
  const jwk = { ...(await exportJWK(publicKey)), alg: 'RS256', use: 'sig' }
  const keys = [
    { ...jwk, kid: 'teams', endorsements: ['msteams'] },
    { ...jwk, kid: 'webchat', endorsements: ['webchat'] },
  ]
  let count = 0
  const issued = new Set<string>()

  /** The status and body of an answer. */
  function answer(method: string, path: string, body: string, bearer: string): [number, object?] {
    if (path === '/metadata') return [200, { issuer: 'https://api.botframework.com', jwks_uri: `${base}/keys` }]
    if (path === '/keys') return [200, { keys }]
    if (path === `/login/${TENANT}/oauth2/v2.0/token`) {
      const form = Object.fromEntries(new URLSearchParams(body))
      const right = form.client_id === APP && form.client_secret === SECRET && form.grant_type === 'client_credentials'
      if (!right || form.scope !== 'https://api.botframework.com/.default') return [400, { error: 'invalid_client' }]
      const access_token = `token-${++server.tokens}`
      issued.add(access_token)
      return [200, { token_type: 'Bearer', expires_in: 3_600, access_token }]
    }
    if (!issued.has(bearer)) return [401]
    if (Buffer.byteLength(body) > MESSAGE_BYTES_MAX) return [413]
    if (method === 'POST' && path === '/teams/v3/conversations') {
      const read = newThread.safeParse(JSON.parse(body))
      if (!read.success) return [400]
      const activityId = `${1_700_000_000_000 + ++count}`
      server.cards.set(activityId, cardIn(read.data.activity))
      return [201, { id: `${CHANNEL};messageid=${activityId}`, activityId }]
    }
    const [, conversation = '', kind, last = ''] =
      /^\/teams\/v3\/conversations\/([^/]+)\/(activities|members)(?:\/(.+))?$/.exec(path) ?? []
    const thread = decodeURIComponent(conversation).split(';messageid=')[1] ?? ''
    if (kind === 'members') {
      const member = server.members.get(decodeURIComponent(last))
      return member === undefined ? [404, { error: { code: 'MemberNotFoundInConversation' } }] : [200, member]
    }
    const read = activity.safeParse(JSON.parse(body || 'null'))
    if (!read.success || !server.cards.has(thread)) return [400]
    if (method === 'PUT' && last === thread) server.cards.set(thread, cardIn(read.data))
    else if (method === 'POST' && last === '') server.replies.push({ thread, text: textOf(cardIn(read.data)) })
    else return [405]
    return [200, { id: thread }]
  }

  const http = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', chunk => chunks.push(chunk))
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      const bearer = headers.authorization?.replace('Bearer ', '') ?? ''
      const [status, body] = answer(method, url, Buffer.concat(chunks).toString(), bearer)
      response.writeHead(status, { 'content-type': 'application/json' }).end(body && JSON.stringify(body))
    })
  })
  await new Promise<void>(resolve => http.listen(0, '127.0.0.1', resolve))
  const base = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  const settings: TeamsBotSettings = {
    appId: APP,
    tenant: TENANT,
    secret: SECRET,
    channel: CHANNEL,
    service: new URL(`${base}/teams/`),
    metadata: new URL(`${base}/metadata`),
    login: new URL(`${base}/login/`),
  }
  const server: BotServer = {
    settings,
    cards: new Map(),
    replies: [],
    members: new Map(),
    tokens: 0,
    revoke: () => issued.clear(),
    authorize: async ({ lasts = '1h', kid = 'teams', key = privateKey, ...claims } = {}) => {
      const said = { serviceurl: settings.service.href, iss: 'https://api.botframework.com', aud: APP, ...claims }
      const token = new SignJWT(said).setProtectedHeader({ alg: 'RS256', kid, typ: 'JWT' }).setNotBefore('-1m')
      return `Bearer ${await token.setExpirationTime(lasts).sign(key)}`
    },
    press: (id, title, over = {}) => {
      const [thread, card] = [...server.cards].at(-1) ?? ['', undefined]
      const action = card?.actions?.find(one => one.type === 'Action.Execute' && one.title === title)
      const pressed = action?.type === 'Action.Execute' ? action : { verb: 'none', data: {} }
      return {
        type: 'invoke',
        name: 'adaptiveCard/action',
        id: `f:${++count}`,
        channelId: 'msteams',
        serviceUrl: settings.service.href,
        from: { id, name: 'whatever they say', aadObjectId: server.members.get(id)?.objectId },
        conversation: {
          id: `${CHANNEL};messageid=${thread}`,
          isGroup: true,
          conversationType: 'channel',
          tenantId: TENANT,
        },
        channelData: { tenant: { id: TENANT }, source: { name: 'message' } },
        value: {
          action: { type: 'Action.Execute', title, verb: pressed.verb, data: { ...pressed.data, reason: 'go on' } },
          trigger: 'manual',
        },
        ...over,
      }
    },
    text: () => [...server.cards.values()].map(textOf).join('\n'),
    stop: () =>
      new Promise(resolve => {
        http.closeAllConnections()
        http.close(() => resolve())
      }),
  }
  return server
}

function cardIn({ attachments: [first] }: z.infer<typeof activity>): Card {
  if (first === undefined) throw new Error('an activity without a card')
  return first.content
}
