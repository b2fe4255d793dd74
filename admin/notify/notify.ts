import type { Sql, TransactionSql } from 'postgres'
import type { Log } from '../../audit/emit.ts'
import { newId } from '../../audit/id.ts'
import { type ChannelSettings, type NotifySettings, URGENT } from '../../config/notify.ts'
import { isWithin, nextOpening, type Weekly } from '../../config/policy/hours.ts'
import { matchesRepository } from '../../grant/pattern.ts'
import type { PolicyInForce } from '../policy.ts'
import { audienceOf } from './audience.ts'
import type { Channel } from './channel.ts'
import { gatheredAt } from './digest.ts'
import { forgetNotices, spreadNotices, type UnspreadNotice, writeDelivery } from './outbox.ts'
import type { Payload } from './payload.ts'
import { createSender } from './sender.ts'
import { announceEndings } from './watch.ts'

const ROUND_MILLISECONDS = 1_000
const WATCH_MILLISECONDS = 5_000
const FORGET_MILLISECONDS = 3_600_000
const SPREAD_AT_ONCE_MAX = 200
/** As many as two sets of hours open within a week. */
const OPENINGS_MAX = 28
const CLOSE_MILLISECONDS_MAX = 2_000

export interface Notify {
  /** There may be something new. */
  wake(): void
  /** Puts everything that is due on its way now; for tests, and before a stop. */
  round(): Promise<void>
  channel(name: string): Channel | undefined
  close(): Promise<void>
}

/** What it takes to tell people. */
export interface NotifyOptions {
  readonly sql: Sql
  readonly settings: NotifySettings
  readonly channels: readonly Channel[]
  readonly policy: Pick<PolicyInForce, 'standing'>
  /** Redis's, by which windows end. */
  readonly now: () => Promise<number>
  readonly clock?: () => number
  readonly log: Log
}

/**
 * Tells people: spreads notices over the channels, and lets each channel carry its own, so that one that is down holds up no other.
 * Nothing here is waited for by anybody who asks, decides or runs git.
 */
export function startNotify(options: NotifyOptions): Notify {
  const { sql, settings, channels, policy, log } = options
  const clock = options.clock ?? Date.now
  const stopping = new AbortController()
  const senders = channels.map(channel => {
    return createSender({ sql, channel, giveUp: settings.giveUp, clock, log, signal: stopping.signal })
  })
  const rulesOf = new Map(settings.channels.map(rules => [rules.name, rules]))

  async function spread(): Promise<void> {
    while (!stopping.signal.aborted) {
      const count = await spreadNotices(sql, SPREAD_AT_ONCE_MAX, spreadOne, (notice, error) => {
        log.error({ err: error, notice: notice.id }, 'a notice cannot be spread over the channels')
      })
      if (count < SPREAD_AT_ONCE_MAX) return
    }
  }

  async function spreadOne(transaction: TransactionSql, notice: UnspreadNotice): Promise<void> {
    const now = clock()
    const audience = await audienceOf(transaction, policy.standing(), settings.people, notice.content, now)
    for (const channel of channels) {
      const rules = rulesOf.get(channel.name)
      if (rules !== undefined && !concerns(rules, notice.content)) continue
      for (const { address, person, hours, edited } of await channel.recipients(notice.content, audience)) {
        const { type } = notice.content
        const opens = URGENT.has(type) ? now : openFrom([rules?.hours, hours], now)
        const settings = !edited && rules !== undefined && 'digest' in rules ? rules.digest : undefined
        const gathered = gatheredAt(settings, { type, asks: person !== undefined, opens }, now)
        const due = gathered === undefined ? opens : openFrom([rules?.hours, hours], gathered)
        const to = { notice, channel: channel.name, recipient: address, person, due, digest: gathered !== undefined }
        await writeDelivery(transaction, { id: newId('n'), ...to })
      }
    }
  }

  const running = new Map<string, Promise<void>>()
  /** One at a time of each; what fails is tried again at the next round. */
  function run(name: string, work: () => Promise<void>): Promise<void> {
    const already = running.get(name)
    if (already !== undefined) return already
    const done = work()
      .catch(error => {
        if (!stopping.signal.aborted) log.warn({ err: error, part: name }, 'notices wait; trying again')
      })
      .finally(() => running.delete(name))
    running.set(name, done)
    return done
  }
  const send = () => Promise.all(senders.map((sender, at) => run(`channel ${channels[at]!.name}`, sender.round)))
  const round = async () => {
    await run('spread', spread)
    await send()
  }
  const watch = async () => await announceEndings(sql, settings.ending, await options.now())

  const timers =
    channels.length === 0
      ? []
      : [
          setInterval(() => void round(), ROUND_MILLISECONDS),
          setInterval(() => void run('watch', watch), WATCH_MILLISECONDS),
          setInterval(() => void run('forget', () => forgetNotices(sql, clock())), FORGET_MILLISECONDS),
        ]

  return {
    wake: () => {
      if (channels.length > 0 && !stopping.signal.aborted) void round()
    },
    round: async () => {
      // What is under way may have looked before the newest notice was there.
      await Promise.all(running.values())
      await round()
    },
    channel: name => channels.find(channel => channel.name === name),
    close: async () => {
      for (const timer of timers) clearInterval(timer)
      stopping.abort()
      const ended = Promise.all([...running.values()])
      await Promise.race([ended, new Promise(resolve => setTimeout(resolve, CLOSE_MILLISECONDS_MAX).unref())])
      await Promise.all(channels.map(channel => channel.close?.()))
    },
  }
}

function concerns({ events, repositories }: ChannelSettings, { type, data }: Payload): boolean {
  if (events !== undefined && !events.includes(type)) return false
  if (repositories === undefined) return true
  const targets = data.request?.targets.map(({ repository }) => repository) ?? []
  const about = [...targets, data.window?.repository, data.finding?.repository]
  const named = about.filter(one => one !== undefined)
  // A lock is about no repository, and so about each.
  return (
    named.length === 0 ||
    named.some(one => repositories.some(pattern => one === pattern || matchesRepository(pattern, one)))
  )
}

/** The first moment that is within all of these hours. */
function openFrom(given: readonly (Weekly | undefined)[], now: number): number {
  const all = given.filter(one => one !== undefined)
  let at = now
  for (let tries = 0; tries < OPENINGS_MAX; tries++) {
    const closed = all.find(one => !isWithin(one, at))
    if (closed === undefined) return at
    at = nextOpening(closed, at) ?? at
  }
  // They never meet: a notice is told at a bad moment rather than never.
  return now
}
