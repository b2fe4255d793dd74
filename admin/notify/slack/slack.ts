import { LogLevel, WebClient } from '@slack/web-api'
import { ZodError, z } from 'zod'
import type { Log } from '../../../audit/emit.ts'
import type { SlackSettings } from '../../../config/notify.ts'
import { type Channel, ChannelError, type Delivery, type Incoming, type Reply, RINGS } from '../channel.ts'
import { forgetMark, isFirst } from '../once.ts'
import type { Refuse } from '../refusals.ts'
import type { Deciding } from '../vote.ts'
import { commentBlocks, fallback, messageBlocks } from './blocks.ts'
import { type SlackReply, slackInteractions } from './interactions.ts'
import { SIGNATURE_MILLISECONDS, signatureFault } from './signature.ts'
import { type Envelope, openSocket } from './socket.ts'

const CALL_MILLISECONDS_MAX = 10_000
const LOOKED_BACK_MAX = 100
const FALLBACK_PAUSE_SECONDS = 30

/**
 * Requests in a Slack channel: one message each, edited as decisions come, with buttons while it is open. Whoever presses them is
 * a person the gate knows, and decides by the same rules as everywhere.
 */
export function slackChannel(
  settings: SlackSettings,
  options: {
    readonly people: ReadonlyMap<string, { readonly slack?: string | undefined }>
    readonly deciding: Deciding
    readonly refuse: Refuse
    readonly log: Log
    readonly clock?: () => number
    /** How long Slack is let wait for an answer; milliseconds. */
    readonly patience?: number
  },
): Channel {
  const { name, channel, signingSecret } = settings
  const { deciding, refuse, people, log, patience } = options
  const clock = options.clock ?? Date.now
  const web = new WebClient(settings.token, {
    ...(settings.api && { slackApiUrl: settings.api.href }),
    timeout: CALL_MILLISECONDS_MAX,
    // The outbox knows when to try again, and who else waits.
    retryConfig: { retries: 0 },
    rejectRateLimitedCalls: true,
    allowAbsoluteUrls: false,
    logLevel: LogLevel.ERROR,
  })
  const interactions = slackInteractions({
    ...{ settings, people, web, deciding, refuse, log },
    ...(patience !== undefined && { patience }),
  })
  const { appToken, api } = settings
  const socket = appToken === undefined ? undefined : openSocket({ appToken, api, take, log })

  async function send({ content, first, id, attempt }: Delivery): Promise<string> {
    const shown = { text: fallback(content), blocks: messageBlocks(content) }
    const metadata = { event_type: 'drawbridge_notice', event_payload: { id } }
    const [place, ts] = first?.split(' ') ?? []
    if (place !== undefined && ts !== undefined) {
      const isComment = content.type === 'request.comment'
      if (!isComment) await web.chat.update({ channel: place, ts, ...shown })
      if ((isComment || RINGS.has(content.type)) && (attempt === 1 || (await postedAs(id, ts)) === undefined)) {
        const below = { text: shown.text, ...(isComment && { blocks: commentBlocks(content) }), metadata }
        await web.chat.postMessage({ channel: place, thread_ts: ts, reply_broadcast: !isComment, ...below })
      }
      return `${place} ${ts}`
    }
    const earlier = attempt > 1 ? await postedAs(id) : undefined
    if (earlier !== undefined) return `${channel} ${earlier}`
    const posted = await web.chat.postMessage({ channel, ...shown, metadata, unfurl_links: false, unfurl_media: false })
    return `${posted.channel} ${posted.ts}`
  }

  /** An answer can get lost after the message was taken, and Slack knows no ids of ours: so it is looked for before it is sent again. */
  async function postedAs(id: string, thread?: string): Promise<string | undefined> {
    const where = { channel, limit: LOOKED_BACK_MAX, include_all_metadata: true }
    const { messages = [] } =
      thread === undefined
        ? await web.conversations.history(where)
        : await web.conversations.replies({ ...where, ts: thread })
    return messages.find(({ metadata }) => Reflect.get(Object(metadata?.event_payload), 'id') === id)?.ts
  }

  async function receive({ raw, header, address }: Incoming): Promise<Reply> {
    const headers = { signature: header('x-slack-signature'), timestamp: header('x-slack-request-timestamp') }
    const fault = signatureFault(signingSecret ?? '', headers, raw, clock())
    if (fault !== undefined || signingSecret === undefined) {
      return await unbelieved(fault ?? 'signature', 'it is not signed as Slack signs', address)
    }
    const mark = `slack:${headers.signature}`
    if (!(await isNew(mark))) return await unbelieved('replayed', 'it has come before', address)
    try {
      const body = await answerTo(raw.toString('utf8'), header('content-type') ?? '', address)
      return { status: 200, ...(body && { body }) }
    } catch (error) {
      if (isMalformed(error)) return await unbelieved('malformed', `signed, and not understood: ${error.name}`, address)
      // Slack sends an event again, and then it is to be done.
      await forgetMark(deciding.sql, mark)
      throw error
    }
  }

  /** Events come as JSON, what people do as a form. */
  async function answerTo(text: string, type: string, address: string | undefined): Promise<object | undefined> {
    if (type.startsWith('application/json')) {
      const event: unknown = JSON.parse(text)
      const asked = challenge.safeParse(event)
      return asked.success ? { challenge: asked.data.challenge } : await interactions.event(event, address)
    }
    const fields = new URLSearchParams(text)
    const payload = fields.get('payload')
    return payload === null
      ? await interactions.command(Object.fromEntries(fields), address)
      : await interactions.interact(JSON.parse(payload), address)
  }

  /** What comes by the socket needs no signature: the connection is one that we opened. One that comes again does nothing. */
  async function take({ id, type, body }: Envelope): Promise<SlackReply> {
    const mark = `slack:envelope:${id}`
    if (!(await isNew(mark))) return undefined
    try {
      if (type === 'slash_commands') return await interactions.command(body, undefined)
      if (type === 'events_api') return await interactions.event(body, undefined)
      return await interactions.interact(body, undefined)
    } catch (error) {
      if (isMalformed(error)) {
        await unbelieved('malformed', `by the socket, and not understood: ${error.name}`, undefined)
        return undefined
      }
      // Slack sends it again, and then it is to be done.
      await forgetMark(deciding.sql, mark)
      throw error
    }
  }

  const isNew = (mark: string) => isFirst(deciding.sql, mark, clock() + SIGNATURE_MILLISECONDS)

  async function unbelieved(code: string, reason: string, address: string | undefined): Promise<Reply> {
    await refuse({ channel: name, code, reason, address })
    return { status: 404 }
  }

  return {
    name,
    // What somebody wrote in the thread stands there already.
    recipients: async ({ data }) => (data.comment?.channel === name ? [] : [{ address: '' }]),
    send: async delivery => await send(delivery).catch(refused),
    receive,
    close: async () => await socket?.close(),
  }
}

/** How Slack asks whether the address is ours: https://docs.slack.dev/reference/events/url_verification */
const challenge = z.object({ type: z.literal('url_verification'), challenge: z.string().max(200) })

const isMalformed = (error: unknown): error is Error => error instanceof ZodError || error instanceof SyntaxError

function refused(cause: unknown): never {
  const error: unknown = Reflect.get(Object(Reflect.get(Object(cause), 'data')), 'error')
  const retryAfter: unknown = Reflect.get(Object(cause), 'retryAfter')
  const limited = Reflect.get(Object(cause), 'code') === 'slack_webapi_rate_limited_error'
  const pause = limited ? (typeof retryAfter === 'number' ? retryAfter : FALLBACK_PAUSE_SECONDS) * 1_000 : undefined
  const said = limited ? 'says to wait' : typeof error === 'string' ? `answers ${error}` : 'does not answer'
  throw new ChannelError(`Slack ${said}`, { lasting: LASTING.has(String(error)), pause, cause })
}

/** What no other attempt will change. */
const LASTING: ReadonlySet<string> = new Set([
  'invalid_blocks',
  'invalid_blocks_format',
  'msg_too_long',
  'message_not_found',
  'cant_update_message',
  'edit_window_closed',
])
