import type { Logger } from 'pino'
import { describeObserved, isObserved, NOTHING_OBSERVED, type ObservedBoard, readObserved } from '../grant/observe.ts'
import { follow } from './follow.ts'
import type { RefusalCode } from './refusal.ts'

/** So that nobody forgets it. */
const REMIND_MILLISECONDS = 10 * 60_000

/**
 * What the policy decides, and so may only observe. Who somebody is, that they are locked out, what cannot be known or
 * written down and bytes that are not understood are refused everywhere.
 */
const POLICYS_OWN: ReadonlySet<RefusalCode> = new Set(['no-grant', 'not-here', 'spent', 'ref-refused', 'unproved'])

export interface Observing {
  /** Whether a refusal for this reason is let through in this repository, and only put on record. */
  observes(repository: string, code: RefusalCode): boolean
  /** The patterns of what is observed. */
  patterns(): readonly string[]
  stop(): void
}

/** Follows what the policy says is only observed. What Redis does not say, or says unreadably, is enforced. */
export async function followObserved(options: {
  readonly board: Pick<ObservedBoard, 'get'>
  onChange(): void
  readonly log: Pick<Logger, 'warn' | 'error'>
  readonly lookEvery?: number
}): Promise<Observing> {
  const { board, log, ...rest } = options
  let observed = NOTHING_OBSERVED

  function remind(): void {
    const patterns = describeObserved(observed)
    if (patterns.length > 0) log.warn({ patterns }, 'mode: observe: what would be refused here is let through')
  }

  const follower = await follow({
    ask: () => board.get(),
    take: text => {
      try {
        observed = readObserved(text)
      } catch (error) {
        observed = NOTHING_OBSERVED
        log.error({ err: error }, 'what is only observed is not understood; everything is enforced')
      }
      remind()
    },
    ...rest,
  })
  const reminder = setInterval(remind, REMIND_MILLISECONDS)
  reminder.unref()
  return {
    observes: (repository, code) => POLICYS_OWN.has(code) && isObserved(observed, repository),
    patterns: () => describeObserved(observed),
    stop: () => {
      follower.stop()
      clearInterval(reminder)
    },
  }
}
