import type { Sql } from 'postgres'
import { createAlarm } from './alarm.ts'
import type { Linked } from './chain.ts'
import type { Log } from './emit.ts'
import { type Filters, lastSeq, list, matches, PAGE_RECORDS_MAX } from './read.ts'

/** The newest records kept at hand for all followers together; who is further behind reads from the database. */
const RECENT_RECORDS_MAX = 4_000
/** The longest a new record goes unnoticed when nobody wakes the tail. */
const POLL_MILLISECONDS = 200

export interface TailOptions {
  readonly sql: Sql
  readonly log: Log
  readonly pollMilliseconds?: number
}

/** Reading the ledger as it grows. */
export interface Tail {
  /**
   * Every record after `after` that passes the filters, in order, without gap or repeat, until the signal aborts (which ends the
   * iteration, it does not throw). Takes no more from the database than it is asked for: a slow reader costs nothing.
   */
  follow(after: number, filters: Filters, signal: AbortSignal): AsyncGenerator<Linked>
  /** There are new records: what the ledger's notice calls. */
  wake(): void
  /** Ends every follower. */
  close(): Promise<void>
}

/**
 * One poller serves all followers of this process: each new record is fetched once, however many follow. It rests while nobody
 * follows. Sequence numbers become visible in their order, since one writer commits them, so a follower needs only to remember its
 * last one.
 */
export function createTail({ sql, log, pollMilliseconds = POLL_MILLISECONDS }: TailOptions): Tail {
  const closed = new AbortController()
  const alarm = createAlarm()
  /** Consecutive, ending with record `seen`. */
  let recent: Linked[] = []
  let seen = 0
  let followers = 0
  let polling: Promise<void> | undefined
  const waiting = new Set<() => void>()

  async function poll(): Promise<void> {
    let begun = false
    while (followers > 0 && !closed.signal.aborted) {
      try {
        if (!begun) {
          recent = []
          seen = await lastSeq(sql)
          begun = true
          tell()
        }
        await fetchNew()
      } catch (cause) {
        log.warn({ err: cause }, 'tail of the ledger: the database did not answer')
      }
      await alarm.sleep(pollMilliseconds)
    }
    polling = undefined
  }

  async function fetchNew(): Promise<void> {
    for (;;) {
      const found = await list(sql, {}, { after: seen }, PAGE_RECORDS_MAX)
      const last = found.at(-1)
      if (!last) return
      recent = [...recent, ...found].slice(-RECENT_RECORDS_MAX)
      seen = last.seq
      tell()
    }
  }

  function tell(): void {
    for (const release of waiting) release()
    waiting.clear()
  }

  async function* follow(after: number, filters: Filters, signal: AbortSignal): AsyncGenerator<Linked> {
    const stop = AbortSignal.any([signal, closed.signal])
    let release = () => {}
    stop.addEventListener('abort', () => release(), { once: true })
    followers++
    polling ??= poll()
    try {
      let at = after
      while (!stop.aborted) {
        const upTo = seen
        if (at >= upTo) {
          await new Promise<void>(resolve => {
            release = resolve
            waiting.add(resolve)
          })
          waiting.delete(release)
          continue
        }
        const { entries, end } = await between(at, upTo, filters)
        for (const entry of entries) {
          if (stop.aborted) return
          yield entry
        }
        at = end
      }
    } finally {
      followers--
      if (followers === 0) alarm.ring()
    }
  }

  /** What lies after `at` up to `upTo` at the most, and how far that reaches. */
  async function between(at: number, upTo: number, filters: Filters): Promise<{ entries: Linked[]; end: number }> {
    const first = recent[0]
    if (first && first.seq <= at + 1) {
      const entries = recent.slice(at + 1 - first.seq, upTo + 1 - first.seq)
      return { entries: entries.filter(entry => matches(entry, filters)), end: upTo }
    }
    const entries = await list(sql, filters, { after: at, to: upTo }, PAGE_RECORDS_MAX)
    return { entries, end: entries.length < PAGE_RECORDS_MAX ? upTo : entries.at(-1)!.seq }
  }

  return {
    follow,
    wake: () => alarm.ring(),
    async close() {
      closed.abort()
      alarm.ring()
      await polling
    },
  }
}
