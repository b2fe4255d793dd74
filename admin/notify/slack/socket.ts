import { setTimeout as sleep } from 'node:timers/promises'
import { LogLevel, SocketModeClient } from '@slack/socket-mode'
import { z } from 'zod'
import type { Log } from '../../../audit/emit.ts'
import type { SlackReply } from './interactions.ts'

/**
 * Slack's Socket Mode: the gate opens the connection, so that nothing of it has to be reachable from outside. Slack closes every
 * one after a while and says so before; a message is sent again, perhaps on the next, until it is acknowledged.
 * https://docs.slack.dev/apis/events-api/using-socket-mode
 */

const CALL_MILLISECONDS_MAX = 10_000
/** From opening to Slack's `hello`. */
const HELLO_MILLISECONDS_MAX = 20_000
const MESSAGE_CHARACTERS_MAX = 256 << 10
/** Beyond these a message is left unacknowledged, and comes again. */
const UNDER_WAY_MAX = 50
/** A connection that lasted so long was a good one, and the next is opened at once. */
const STEADY_MILLISECONDS = 10_000
const PAUSE_MILLISECONDS_MIN = 250
const PAUSE_MILLISECONDS_MAX = 60_000
const CLOSE_MILLISECONDS_MAX = 100

/** Something a person did, as Slack wraps it for the socket. */
export interface Envelope {
  /** The same each time it is sent. */
  readonly id: string
  readonly type: string
  readonly body: unknown
}

export interface SlackSocket {
  close(): Promise<void>
}

const enveloped = z.object({
  type: z.string().max(50),
  envelope_id: z.string().max(100),
  body: z.unknown(),
  ack: z.custom<(reply?: object) => Promise<void>>(value => typeof value === 'function'),
})

/** Of these the library reads the members; a message of another shape would be a rejection of its own that nobody handles. */
const message = z.union([
  z.object({ type: z.literal('events_api'), payload: z.object({ event: z.object({ type: z.string() }) }) }),
  z.object({ type: z.string().refine(type => type !== 'events_api') }),
])

/**
 * Keeps one connection open until it is closed.
 *
 * @param options.take resolves to what Slack is answered; what it rejects with is not acknowledged
 */
export function openSocket(options: {
  readonly appToken: string
  readonly api: URL | undefined
  readonly take: (envelope: Envelope) => Promise<SlackReply>
  readonly log: Log
}): SlackSocket {
  const { appToken, api, take, log } = options
  const closing = new AbortController()
  const { signal } = closing
  const held = new Set<SocketModeClient>()
  let underWay = 0
  let told = false

  async function keepOpen(): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      const began = performance.now()
      const over = Promise.withResolvers<void>()
      const client = newClient(over.resolve)
      held.add(client)
      try {
        await opened(client)
        if (told) log.info({}, 'Slack is connected again')
        told = false
        // The one before is let go only now, so that nothing that is pressed meanwhile meets no connection.
        for (const earlier of held) if (earlier !== client) void release(earlier)
        await over.promise
      } catch (error) {
        if (!signal.aborted && !told) log.warn({ err: error }, 'Slack cannot be connected to; trying again')
        told = true
        await release(client)
      }
      failures = performance.now() - began > STEADY_MILLISECONDS ? 0 : failures + 1
      if (failures > 0) await sleep(pauseAfter(failures), undefined, { signal }).catch(() => {})
    }
  }

  function newClient(over: () => void): SocketModeClient {
    const client = new SocketModeClient({
      appToken,
      clientOptions: {
        ...(api && { slackApiUrl: api.href }),
        timeout: CALL_MILLISECONDS_MAX,
        retryConfig: { retries: 0 },
        rejectRateLimitedCalls: true,
        allowAbsoluteUrls: false,
      },
      // Its own way of coming back ends in a rejection nobody handles when Slack answers 500.
      autoReconnectEnabled: false,
      logger: silent,
    })
    const [read] = client.listeners('ws_message')
    client.removeAllListeners('ws_message')
    client.on('ws_message', (data: unknown, isBinary: unknown) => {
      const type = messageType(data)
      if (type === undefined) log.warn({}, 'Slack sent what is no message of Socket Mode; it is passed over')
      // Slack leaves the old connection open after it said so, and the library would wait for its end.
      else if (type === 'disconnect') over()
      else read?.(data, isBinary)
    })
    client.once('disconnected', over)
    client.on('slack_event', (event: unknown) => void answer(event))
    return client
  }

  async function release(client: SocketModeClient): Promise<void> {
    held.delete(client)
    await disconnect(client)
  }

  async function answer(event: unknown): Promise<void> {
    const read = enveloped.safeParse(event)
    if (!read.success || underWay >= UNDER_WAY_MAX) return
    const { type, envelope_id: id, body, ack } = read.data
    underWay++
    try {
      await ack(await take({ id, type, body }))
    } catch (error) {
      log.warn({ err: error }, 'what came from Slack was not acknowledged; it will come again')
    } finally {
      underWay--
    }
  }

  async function opened(client: SocketModeClient): Promise<void> {
    const late = AbortSignal.any([signal, AbortSignal.timeout(HELLO_MILLISECONDS_MAX)])
    await new Promise<void>((resolve, reject) => {
      late.addEventListener('abort', () => reject(late.reason), { once: true })
      client.start().then(
        () => {
          // It was given up while it was still asking where to connect to, which the library does not break off.
          if (late.aborted) void disconnect(client)
          resolve()
        },
        error => reject(error ?? new Error('the connection was closed before it began')),
      )
    })
  }

  const done = keepOpen()
  return {
    close: async () => {
      closing.abort()
      await Promise.all([...held].map(release))
      await done
    },
  }
}

/** Asks for the end, and then does not wait for Slack to agree to it. */
async function disconnect(client: SocketModeClient): Promise<void> {
  const agreed = client.disconnect().then(() => true)
  const late = sleep(CLOSE_MILLISECONDS_MAX, false, { ref: false })
  if (!(await Promise.race([agreed, late]))) await client.disconnect()
}

function messageType(data: unknown): string | undefined {
  if (typeof data !== 'string' || data.length > MESSAGE_CHARACTERS_MAX) return undefined
  try {
    return message.parse(JSON.parse(data)).type
  } catch {
    return undefined
  }
}

/** Between half and all of it, so that several gates do not come back at one moment. */
const pauseAfter = (failures: number) =>
  Math.min(PAUSE_MILLISECONDS_MAX, PAUSE_MILLISECONDS_MIN * 2 ** Math.min(failures, 20)) * (0.5 + Math.random() / 2)

/** What it logs has the token's URL in it; what matters is logged here. */
const silent = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  setLevel: () => {},
  getLevel: () => LogLevel.ERROR,
  setName: () => {},
}
