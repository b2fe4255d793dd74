import type { Redis } from 'ioredis'
import type { CutNotice } from './grant.ts'
import { cutChannel } from './store.ts'

const PING_MILLISECONDS = 1_000
const NOTICE_CHARACTERS_MAX = 16_384

export interface Watch {
  /** Stops listening; the connection stays the caller's. */
  close(): Promise<void>
}

/**
 * Listens for cuts, and for the silence in which a cut could be missed.
 *
 * A notice is a hint to look again, not the truth: what was published while nobody listened is lost. So whoever runs
 * operations asks the store again for each of them on a notice, on `onBack`, and now and then anyway.
 */
export function watchCuts(options: {
  /** A connection of its own: once it listens it can ask nothing else. */
  readonly redis: Redis
  readonly prefix?: string
  readonly onCut: (notice: CutNotice) => void
  /** Called about once a second while Redis does not answer, with how long it has not, in milliseconds. */
  readonly onSilence: (milliseconds: number) => void
  /** Listening again, or for the first time; anything may have been missed before. */
  readonly onBack: () => void
  /** Hears of notices that are none. */
  readonly onError?: (error: Error) => void
  readonly pingEvery?: number
}): Watch {
  const { redis, onCut, onSilence, onBack, onError = () => {}, pingEvery = PING_MILLISECONDS } = options
  const channel = cutChannel(options.prefix ?? 'db')
  let heard = performance.now()
  let listening = false
  let closed = false

  const onMessage = (from: string, text: string) => {
    if (from !== channel) return
    heard = performance.now()
    const notice = readNotice(text)
    if (notice instanceof Error) onError(notice)
    else onCut(notice)
  }

  const lost = () => {
    listening = false
  }

  // Asked for at each round until it holds, so that no order of disconnects and answers can leave us deaf.
  const listen = async () => {
    if (!listening) {
      await redis.subscribe(channel)
      if (redis.status !== 'ready' || closed) return
      listening = true
      onBack()
    }
    await redis.ping()
    heard = performance.now()
  }

  let asking = false
  const round = async () => {
    const silent = performance.now() - heard
    if (silent > 2 * pingEvery) {
      // Anything can be missed while a server hangs with its connections open, so being heard again counts as being back.
      listening = false
      onSilence(silent)
    }
    if (asking) return
    asking = true
    try {
      await listen()
    } catch {
      // Unreachable is what `silent` measures.
    } finally {
      asking = false
    }
  }

  const soon = () => void round()
  redis.on('message', onMessage)
  redis.on('close', lost)
  redis.on('ready', soon)
  const timer = setInterval(soon, pingEvery)
  if (redis.status === 'ready') soon()

  return {
    close: async () => {
      closed = true
      clearInterval(timer)
      redis.off('message', onMessage)
      redis.off('close', lost)
      redis.off('ready', soon)
      await redis.unsubscribe(channel).catch(() => {})
    },
  }
}

function readNotice(text: string): CutNotice | Error {
  if (text.length > NOTICE_CHARACTERS_MAX) return new Error(`a cut notice of ${text.length} characters was ignored`)
  try {
    const value = JSON.parse(text) as Partial<CutNotice> | null
    if (typeof value?.principal === 'string' && typeof value.reason === 'string') return value as CutNotice
  } catch {
    // Said below, with the text.
  }
  return new Error(`not a cut notice: ${JSON.stringify(text.slice(0, 200))}`)
}
