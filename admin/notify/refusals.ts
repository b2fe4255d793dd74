import type { Log } from '../../audit/emit.ts'
import type { Act } from '../register/act.ts'

/**
 * What comes in by a channel and cannot be believed: the sender gets the same neutral answer whatever was wrong, and the reason is a
 * record. Strangers must not be able to fill the ledger, so a minute has room for so many records, and the rest is one number.
 */

const PER_MINUTE_MAX = 60
const MINUTE = 60_000

export interface ChannelRefusal {
  readonly channel: string
  /** A stable word: `signature`, `stale`, `replayed`, … */
  readonly code: string
  readonly reason: string
  readonly address: string | undefined
  /** What it said of itself; unproved. */
  readonly claimed?: string
}

export type Refuse = (refusal: ChannelRefusal) => Promise<void>

export function createRefuse(options: { readonly act: Act; readonly log: Log; readonly clock?: () => number }): Refuse {
  const { act, log } = options
  const clock = options.clock ?? Date.now
  let began = Number.NEGATIVE_INFINITY
  let count = 0

  const record = async ({ address, ...refusal }: ChannelRefusal) => {
    const from = address === undefined ? {} : { address }
    await act(async change => change.record({ kind: 'channel.refused', by: 'drawbridge', ...refusal, ...from }))
  }
  return async refusal => {
    const now = clock()
    if (now - began >= MINUTE) {
      const passed = count - PER_MINUTE_MAX
      began = now
      count = 0
      if (passed > 0) {
        const reason = `${passed} more were refused within a minute`
        await record({ channel: refusal.channel, code: 'many', reason, address: undefined })
      }
    }
    count++
    if (count > PER_MINUTE_MAX) return
    await record(refusal).catch(error => log.error({ err: error, ...refusal }, 'a refusal could not be recorded'))
  }
}
