import type { Sql } from 'postgres'
import type { Log } from '../../audit/emit.ts'
import { type Channel, ChannelError } from './channel.ts'
import { type ClaimedDelivery, claimDeliveries, deliveryDead, deliveryDone, deliveryFailed } from './outbox.ts'

/** At once on one channel. Of one thread there is never more than one under way. */
const SENDING_MAX = 8
const SEND_MILLISECONDS_MAX = 15_000
/** Longer than a send may take: whoever still has no answer by then is taken for dead. */
const LEASE_MILLISECONDS = 60_000
const PAUSE_MILLISECONDS_MIN = 1_000
const PAUSE_MILLISECONDS_MAX = 60_000
const RETRY_MILLISECONDS_MIN = 5_000
const RETRY_MILLISECONDS_MAX = 3_600_000
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
    try {
      const reference = await channel.send(
        {
          id,
          thread,
          content,
          recipient,
          ...(person !== null && { person }),
          ...(first !== null && { first }),
          attempt: attempts,
        },
        AbortSignal.any([signal, AbortSignal.timeout(SEND_MILLISECONDS_MAX)]),
      )
      await deliveryDone(sql, id, reference, clock())
      if (failures > 0) log.info({ channel: channel.name }, 'the channel takes notices again')
      failures = 0
    } catch (error) {
      if (signal.aborted) return
      await failed(delivery, error)
    }
  }

  async function failed({ id, attempts, since }: ClaimedDelivery, error: unknown): Promise<void> {
    const now = clock()
    const fault = (error instanceof Error ? error.message : String(error)).slice(0, FAULT_CHARACTERS_MAX)
    const { lasting = false, pause } = error instanceof ChannelError ? error : {}
    if (lasting || now - since.getTime() >= giveUp) {
      log.error(
        { channel: channel.name, delivery: id, fault },
        'a notice could not be delivered; see drawbridge notify list',
      )
      await deliveryDead(sql, id, fault, now)
      return
    }
    const wait = Math.max(pause ?? 0, growing(RETRY_MILLISECONDS_MIN, RETRY_MILLISECONDS_MAX, attempts - 1))
    // Not beyond the moment at which it is given up, so that the last attempt is made.
    await deliveryFailed(sql, id, fault, Math.max(now, Math.min(now + wait, since.getTime() + giveUp)))
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
        if (claimed.length === 0) return
        await Promise.all(claimed.map(sendOne))
      }
    },
  }
}
