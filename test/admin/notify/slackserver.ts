import { createHmac } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { z } from 'zod'
import { acceptWebSocket, type Socket } from './websocket.ts'

/**
 * Slack as its documentation describes it, as far as the gate uses it: the Web API's methods, their answers and their limits
 * (docs.slack.dev/reference/block-kit and /reference/methods, /reference/views). What Slack would refuse is refused.
 */

const text = (most: number) =>
  z.strictObject({ type: z.literal('plain_text'), text: z.string().min(1).max(most), emoji: z.boolean().optional() })
const button = z.strictObject({
  type: z.literal('button'),
  text: text(75),
  action_id: z.string().max(255),
  value: z.string().max(2_000).optional(),
  style: z.enum(['primary', 'danger']).optional(),
})
const input = z.strictObject({
  type: z.literal('input'),
  block_id: z.string().max(255).optional(),
  optional: z.boolean().optional(),
  label: text(2_000),
  element: z.strictObject({
    type: z.literal('plain_text_input'),
    action_id: z.string().max(255),
    multiline: z.boolean().optional(),
    max_length: z.int().min(1).max(3_000).optional(),
  }),
})
const block = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('header'), text: text(150) }),
  z
    .strictObject({
      type: z.literal('section'),
      text: text(3_000).optional(),
      fields: z.array(text(2_000)).min(1).max(10).optional(),
    })
    .refine(section => section.text !== undefined || section.fields !== undefined),
  z.strictObject({ type: z.literal('actions'), elements: z.array(button).min(1).max(25) }),
  input,
])
const message = z.object({ text: z.string().min(1).max(40_000), blocks: z.array(block).min(1).max(50) })
const view = z.strictObject({
  type: z.literal('modal'),
  callback_id: z.string().max(255).optional(),
  private_metadata: z.string().max(3_000).optional(),
  title: text(24),
  submit: text(24).optional(),
  close: text(24).optional(),
  blocks: z.array(block).max(100),
})
const TRIGGER_MILLISECONDS = 3_000
/** What an app may answer to: https://docs.slack.dev/apis/events-api/using-socket-mode */
const acknowledgement = z.strictObject({
  envelope_id: z.string(),
  payload: z.record(z.string(), z.unknown()).optional(),
})

export interface Member {
  readonly id: string
  readonly team_id: string
  readonly deleted?: boolean
  readonly is_bot?: boolean
  readonly is_email_confirmed?: boolean
  readonly profile: { readonly email?: string }
}

export interface SlackServer {
  readonly url: URL
  readonly signingSecret: string
  readonly token: string
  readonly messages: Map<string, z.infer<typeof message>>
  readonly replies: { thread: string; text: string; blocks?: unknown; broadcast: boolean; metadata: unknown }[]
  readonly whispers: { user: string; text: string; thread?: string }[]
  readonly views: z.infer<typeof view>[]
  readonly members: Map<string, Member>
  /** Every call, by method. */
  readonly calls: string[]
  /** The connections of Socket Mode, the newest last. */
  readonly sockets: Socket[]
  /** How many of them there were at least, since the first. */
  fewest: number
  /** What was acknowledged, with what, in the order in which it came. */
  readonly acknowledged: z.infer<typeof acknowledgement>[]
  readonly appToken: string
  /** Sends something a person did over the newest connection; with an id of its own unless one is given. */
  envelope(type: string, payload: object, id?: string): string
  /** Holds back the answer to `users.info`. */
  hold: Promise<void> | undefined
  /** Answers 429 until it is told otherwise. */
  busy: boolean
  /** Takes a message and does not say so. */
  deaf: boolean
  /** A trigger as a button press brings it; good for three seconds and one view. */
  trigger(): string
  /** What Slack sends when a member presses a button, below the last message or the one that tells of `about`. */
  press(member: string, title?: string, about?: string): Record<string, unknown>
  /** What it sends with the form that was opened last. */
  submit(member: string, reason?: string | null): Record<string, unknown>
  /** The headers of a body that Slack sends. */
  sign(body: string, at?: number, type?: string): Record<string, string>
  /** Whether this is a view Slack would show in answer to a form. */
  takesView(candidate: unknown): boolean
  stop(): Promise<void>
}

export async function startSlack(): Promise<SlackServer> {
  const metadata = new Map<string, object>()
  const triggers = new Map<string, number>()
  let count = 0
  const parsed = (value: string | null) => (value === null ? undefined : JSON.parse(value))
  const tickets = new Set<string>()
  const methods: Record<string, (fields: URLSearchParams) => object | Promise<object>> = {
    '/api/apps.connections.open': () => {
      const ticket = `${++count}`
      tickets.add(ticket)
      return { ok: true, url: `${server.url.href.replace('http', 'ws').replace('api/', 'link/')}?ticket=${ticket}` }
    },
    '/api/auth.test': () => ({ ok: true, team_id: 'T1', user_id: 'UBOT' }),
    '/api/chat.postMessage': fields => {
      const thread = fields.get('thread_ts')
      if (thread !== null) {
        if (!server.messages.has(thread)) return { ok: false, error: 'thread_not_found' }
        if (!fields.get('text')) return { ok: false, error: 'no_text' }
        const blocks = z
          .array(block)
          .max(50)
          .optional()
          .safeParse(parsed(fields.get('blocks')) ?? undefined)
        if (!blocks.success) return { ok: false, error: 'invalid_blocks' }
        const broadcast = fields.get('reply_broadcast') === 'true'
        server.replies.push({
          thread,
          text: fields.get('text') ?? '',
          ...(blocks.data && { blocks: blocks.data }),
          broadcast,
          metadata: parsed(fields.get('metadata')),
        })
        return server.deaf
          ? { ok: false, error: 'internal_error' }
          : { ok: true, channel: 'C1', ts: `${count++}.000200` }
      }
      const read = message.safeParse({ text: fields.get('text'), blocks: parsed(fields.get('blocks')) })
      if (fields.get('channel') !== 'C1') return { ok: false, error: 'channel_not_found' }
      if (!read.success) return { ok: false, error: 'invalid_blocks' }
      const ts = `${1_700_000_000 + count++}.000100`
      server.messages.set(ts, read.data)
      metadata.set(ts, parsed(fields.get('metadata')))
      if (server.deaf) return { ok: false, error: 'internal_error' }
      return { ok: true, channel: 'C1', ts }
    },
    '/api/conversations.history': () => ({
      ok: true,
      messages: [...server.messages].map(([ts, { text }]) => ({ ts, text, metadata: metadata.get(ts) })),
    }),
    '/api/conversations.replies': fields => ({
      ok: true,
      messages: server.replies
        .filter(({ thread }) => thread === fields.get('ts'))
        .map((reply, at) => ({ ts: `${at}`, ...reply })),
    }),
    '/api/chat.update': fields => {
      const ts = fields.get('ts') ?? ''
      const read = message.safeParse({ text: fields.get('text'), blocks: parsed(fields.get('blocks')) })
      if (!server.messages.has(ts)) return { ok: false, error: 'message_not_found' }
      if (!read.success) return { ok: false, error: 'invalid_blocks' }
      server.messages.set(ts, read.data)
      return { ok: true, channel: 'C1', ts }
    },
    '/api/chat.postEphemeral': fields => {
      const thread = fields.get('thread_ts')
      const whisper = { user: fields.get('user') ?? '', text: fields.get('text') ?? '' }
      server.whispers.push({ ...whisper, ...(thread !== null && { thread }) })
      return { ok: true }
    },
    '/api/views.open': fields => {
      const made = triggers.get(fields.get('trigger_id') ?? '')
      if (made === undefined) return { ok: false, error: 'invalid_trigger_id' }
      triggers.delete(fields.get('trigger_id') ?? '')
      if (Date.now() - made > TRIGGER_MILLISECONDS) return { ok: false, error: 'expired_trigger_id' }
      const read = view.safeParse(parsed(fields.get('view')))
      if (!read.success) return { ok: false, error: 'invalid_arguments' }
      server.views.push(read.data)
      return { ok: true, view: { id: `V${server.views.length}` } }
    },
    '/api/users.info': async fields => {
      await server.hold
      const user = server.members.get(fields.get('user') ?? '')
      return user === undefined ? { ok: false, error: 'user_not_found' } : { ok: true, user }
    },
  }
  const http = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', chunk => chunks.push(chunk))
    request.on('end', () => {
      const path = request.url ?? ''
      server.calls.push(path.replace('/api/', ''))
      const json = (status: number, body: object, headers = {}) =>
        response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
      if (server.busy) return json(429, { ok: false, error: 'ratelimited' }, { 'retry-after': '30' })
      // Only the app's own token opens a connection, and it does nothing else.
      const token = path === '/api/apps.connections.open' ? server.appToken : server.token
      if (request.headers.authorization !== `Bearer ${token}`) return json(200, { ok: false, error: 'invalid_auth' })
      const method = methods[path]
      if (method === undefined) return json(200, { ok: false, error: 'unknown_method' })
      const fields = new URLSearchParams(Buffer.concat(chunks).toString())
      return void Promise.resolve(method(fields)).then(answer => json(200, answer))
    })
  })
  http.on('upgrade', (request, stream) => {
    // An address is good for one connection.
    if (!tickets.delete(new URL(request.url ?? '', server.url).searchParams.get('ticket') ?? '')) {
      stream.destroy()
      return
    }
    const onText = (text: string) => {
      server.acknowledged.push(acknowledgement.parse(JSON.parse(text)))
    }
    const socket = acceptWebSocket(request, stream, onText, () => {
      const at = server.sockets.indexOf(socket)
      if (at !== -1) server.sockets.splice(at, 1)
      server.fewest = Math.min(server.fewest, server.sockets.length)
    })
    server.sockets.push(socket)
    socket.send(JSON.stringify({ type: 'hello', num_connections: 1, connection_info: { app_id: 'A1' } }))
  })
  await new Promise<void>(resolve => http.listen(0, '127.0.0.1', resolve))
  const server: SlackServer = {
    url: new URL(`http://127.0.0.1:${(http.address() as AddressInfo).port}/api/`),
    signingSecret: '0123456789abcdef0123456789abcdef',
    token: 'xoxb-1234-5678-test',
    messages: new Map(),
    replies: [],
    whispers: [],
    views: [],
    members: new Map(),
    calls: [],
    sockets: [],
    fewest: 1,
    acknowledged: [],
    appToken: 'xapp-1-A1-test-0123456789',
    envelope: (type, payload, id = `e-${++count}`) => {
      const accepts_response_payload = type !== 'events_api'
      const sent = { envelope_id: id, type, payload, accepts_response_payload }
      server.sockets.at(-1)?.send(JSON.stringify(sent))
      return id
    },
    hold: undefined,
    busy: false,
    deaf: false,
    trigger: () => {
      const id = `${++count}.trigger`
      triggers.set(id, Date.now())
      return id
    },
    press: (member, title = 'Approve', about = '') => {
      const told = [...server.messages.values()].findLast(one => JSON.stringify(one).includes(about))
      const buttons = told?.blocks.flatMap(one => (one.type === 'actions' ? one.elements : [])) ?? []
      const pressed = buttons.find(one => one.text.text === title)
      if (pressed === undefined) throw new Error(`no message ${about} with a button ${title}`)
      const { action_id, value } = pressed
      return {
        type: 'block_actions',
        user: { id: member },
        team: { id: 'T1' },
        trigger_id: server.trigger(),
        channel: { id: 'C1' },
        actions: [{ action_id, value }],
      }
    },
    submit: (member, reason = 'go on') => {
      const { callback_id, private_metadata } = server.views.at(-1) ?? {}
      const state = { values: { reason: { text: { value: reason } } } }
      const filled = { callback_id, private_metadata, state }
      return { type: 'view_submission', user: { id: member }, team: { id: 'T1' }, view: filled }
    },
    sign: (body, at = Date.now(), type = 'application/x-www-form-urlencoded') => {
      const timestamp = String(Math.floor(at / 1_000))
      const signature = `v0=${createHmac('sha256', server.signingSecret).update(`v0:${timestamp}:${body}`).digest('hex')}`
      return {
        'content-type': type,
        'x-slack-request-timestamp': timestamp,
        'x-slack-signature': signature,
      }
    },
    takesView: candidate => view.safeParse(candidate).success,
    stop: () =>
      new Promise(resolve => {
        http.closeAllConnections()
        http.close(() => resolve())
      }),
  }
  return server
}
