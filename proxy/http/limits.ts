import type { Settings } from '../../config/settings.ts'

/** Milliseconds: for a request's head; for its next byte, or for its answer to be taken; for a request in all. Then counts. */
export type HttpLimits = Pick<
  Settings['limits'],
  'headers' | 'bodyIdle' | 'total' | 'connections' | 'connectionsPerSource'
>

/** The operator's log, as far as the front writes to it. */
export interface Log {
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
  error(facts: object, message: string): void
}
