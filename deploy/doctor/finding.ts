/** What was looked at, and what is to be done about it. */
export interface Finding {
  /** Stable, for programs: `redis.policy`, `upstream.acme`. */
  readonly check: string
  /** `warning`: it works, and will not for ever, or not under stress. */
  readonly state: 'ok' | 'warning' | 'failed'
  /** What was found. Holds no secret. */
  readonly found: string
  /** What to do; with everything that is not ok. */
  readonly advice?: string
}

export const ok = (check: string, found: string): Finding => ({ check, state: 'ok', found })
export const warning = (check: string, found: string, advice: string): Finding => ({
  check,
  state: 'warning',
  found,
  advice,
})
export const failed = (check: string, found: string, advice: string): Finding => ({
  check,
  state: 'failed',
  found,
  advice,
})

const CHECK_MILLISECONDS_MAX = 10_000

/** Runs a check for a bounded time; what it throws is a finding as well. */
export async function examine(
  check: string,
  advice: string,
  look: (signal: AbortSignal) => Promise<Finding | readonly Finding[]>,
): Promise<readonly Finding[]> {
  const signal = AbortSignal.timeout(CHECK_MILLISECONDS_MAX)
  const late = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(new Error('it does not answer')), { once: true })
  })
  try {
    return [await Promise.race([look(signal), late])].flat()
  } catch (cause) {
    return [failed(check, messageOf(cause), advice)]
  }
}

export function messageOf(cause: unknown): string {
  // A connection that was tried at several addresses gives an error without a text, holding one for each.
  if (cause instanceof AggregateError && cause.errors.length > 0) return messageOf(cause.errors[0])
  return cause instanceof Error ? cause.message : String(cause)
}
