/** How far a clock may be off before it is doubted: no grant lives longer than this past its end. */
export const CLOCK_MILLISECONDS_MAX = 2_000
/** How fast two honest clocks may drift apart: the most that NTP slews one by. */
const DRIFT = 0.0005

/**
 * Watches a clock we live by but do not own. Set back, it would keep every window open by as much, so it is doubted when
 * it falls behind where it should be by now; set forward, windows end early and nothing is lost.
 *
 * It is believed again when it agrees with where it was before, or with this machine's own clock: then it was the
 * earlier time that was wrong.
 *
 * @param elapsed milliseconds that never go back
 * @param own this machine's idea of the time
 * @returns whether to believe `now`
 */
export function watchClock(
  elapsed: () => number = () => performance.now(),
  own: () => number = () => Date.now(),
): (now: number) => boolean {
  let start: number | undefined
  let last = 0
  return now => {
    const at = elapsed()
    const before = now - at
    const behind = start !== undefined && before < start - CLOCK_MILLISECONDS_MAX
    if (behind && Math.abs(now - own()) > CLOCK_MILLISECONDS_MAX) return false
    // Followed no faster than clocks drift: many small steps back would otherwise add up to a large one unseen.
    start = start === undefined || behind ? before : Math.max(before, start - (at - last) * DRIFT)
    last = at
    return true
  }
}
