import type { Sql } from 'postgres'
import type { Log } from '../../audit/emit.ts'
import { type Channel, ChannelError } from './channel.ts'
import {
  type ClaimedDelivery,
  claimDeliveries,
  claimDigest,
  deliveriesDone,
  deliveriesFailed,
  deliveryDead,
} from './outbox.ts'

/** At once on one channel. Of one thread there is never more than one under way. */
const SENDING_MAX = 8
const SEND_MILLISECONDS_MAX = 15_000
/** Longer than a send may take: whoever still has no answer by then is taken for dead. */
const LEASE_MILLISECONDS = 60_000
const PAUSE_MILLISECONDS_MIN = 1_000
const PAUSE_MILLISECONDS_MAX = 60_000
const RETRY_MILLISECONDS_MIN = 5_000
const RETRY_MILLISECONDS_MAX = 3_600_000
/** In one digest; what is more goes into another. */
const DIGEST_NOTICES_MAX = 500
/** So long after its moment a digest is gathered: what happened just before is written down by then. */
const DIGEST_GRACE_MILLISECONDS = 10_000
const FAULT_CHARACTERS_MAX = 500

export interface Sender {
  /** Sends what is due, until nothing more is, or the channel does not take it. Never throws for a channel's sake. */
  round(): Promise<void>
  /** When the channel will be tried again after it failed; milliseconds since the epoch. */
  pausedUntil(): number
}

/**
 * Carries one channel's deliveries. A channel that fails is left alone for a growing while and then tried with one delivery; a
 * single delivery that fails waits longer each time without holding up those of other threads.
 *
 * @param options.giveUp milliseconds after which a delivery is dead
 */
export function createSender(options: {
  readonly sql: Sql
  readonly channel: Channel
  readonly giveUp: number
  readonly clock: () => number
  readonly random?: () => number
  readonly log: Log
  readonly signal: AbortSignal
}): Sender {
  const { sql, channel, giveUp, clock, log, signal } = options
  const random = options.random ?? Math.random
  let failures = 0
  let paused = 0

  /** Between half and all of it, so that several gates do not come back at one moment. */
  const growing = (least: number, most: number, times: number) =>
    Math.min(most, least * 2 ** Math.min(times, 20)) * (0.5 + random() / 2)

  async function sendOne(delivery: ClaimedDelivery): Promise<void> {
    const { id, thread, content, recipient, person, first, attempts } = delivery
    await attempt([delivery], async limit => {
      const known = { ...(person !== null && { person }), ...(first !== null && { first }) }
      return await channel.send({ id, thread, content, recipient, ...known, attempt: attempts }, limit)
    })
  }

  async function sendDigest(gathered: readonly ClaimedDelivery[]): Promise<void> {
    const [oldest] = gathered
    if (oldest === undefined || channel.digest === undefined) return
    const { id, recipient } = oldest
    const contents = gathered.map(({ content }) => content)
    await attempt(gathered, async limit => {
      await channel.digest?.({ id, recipient, contents }, limit)
      return undefined
    })
  }

  /** Deliveries that go out as one: together they arrive, or wait. */
  async function attempt(
    deliveries: readonly ClaimedDelivery[],
    send: (limit: AbortSignal) => Promise<string | undefined>,
  ): Promise<void> {
    try {
      const reference = await send(AbortSignal.any([signal, AbortSignal.timeout(SEND_MILLISECONDS_MAX)]))
      const ids = deliveries.map(({ id }) => id)
      await deliveriesDone(sql, ids, reference, clock())
      if (failures > 0) log.info({ channel: channel.name }, 'the channel takes notices again')
      failures = 0
    } catch (error) {
      if (signal.aborted) return
      await failed(deliveries, error)
    }
  }

  async function failed(deliveries: readonly ClaimedDelivery[], error: unknown): Promise<void> {
    const now = clock()
    const fault = (error instanceof Error ? error.message : String(error)).slice(0, FAULT_CHARACTERS_MAX)
    const { lasting = false, pause } = error instanceof ChannelError ? error : {}
    const isOver = ({ since }: ClaimedDelivery) => lasting || now - since.getTime() >= giveUp
    for (const { id } of deliveries.filter(isOver)) {
      log.error(
        { channel: channel.name, delivery: id, fault },
        'a notice could not be delivered; see drawbridge notify list',
      )
      await deliveryDead(sql, id, fault, now)
    }
    const waiting = deliveries.filter(delivery => !isOver(delivery))
    const [oldest] = waiting
    if (oldest === undefined) return
    const wait = Math.max(pause ?? 0, growing(RETRY_MILLISECONDS_MIN, RETRY_MILLISECONDS_MAX, oldest.attempts - 1))
    // Not beyond the moment at which it is given up, so that the last attempt is made.
    const due = Math.max(now, Math.min(now + wait, oldest.since.getTime() + giveUp))
    const ids = waiting.map(({ id }) => id)
    await deliveriesFailed(sql, ids, fault, due)
    if (failures === 0) log.warn({ channel: channel.name, fault }, 'the channel does not take notices; they wait')
    failures++
    paused = now + Math.max(pause ?? 0, growing(PAUSE_MILLISECONDS_MIN, PAUSE_MILLISECONDS_MAX, failures - 1))
  }

  return {
    pausedUntil: () => paused,
    round: async () => {
      while (!signal.aborted && clock() >= paused) {
        const now = clock()
        const limit = failures > 0 ? 1 : SENDING_MAX
        const lease = now + LEASE_MILLISECONDS
        const claimed = await claimDeliveries(sql, { channel: channel.name, now, lease, limit })
        const settled = now - DIGEST_GRACE_MILLISECONDS
        const gathered = channel.digest
          ? await claimDigest(sql, { channel: channel.name, now: settled, lease, limit: DIGEST_NOTICES_MAX })
          : []
        if (claimed.length + gathered.length === 0) return
        await Promise.all([...claimed.map(sendOne), sendDigest(gathered)])
      }
    },
  }
}
