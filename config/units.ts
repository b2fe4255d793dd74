/** Durations and sizes as people write them. */

const DURATION_UNITS: readonly (readonly [number, readonly string[]])[] = [
  [1, ['ms', 'millisecond', 'milliseconds']],
  [1_000, ['s', 'sec', 'secs', 'second', 'seconds']],
  [60_000, ['m', 'min', 'mins', 'minute', 'minutes']],
  [3_600_000, ['h', 'hr', 'hrs', 'hour', 'hours']],
  [86_400_000, ['d', 'day', 'days']],
  [604_800_000, ['w', 'week', 'weeks']],
]

const SIZE_UNITS: readonly (readonly [number, readonly string[]])[] = [
  [1, ['b', 'byte', 'bytes']],
  [1_000, ['kb']],
  [1_000_000, ['mb']],
  [1_000_000_000, ['gb']],
  [1_000_000_000_000, ['tb']],
  [1 << 10, ['kib', 'k']],
  [1 << 20, ['mib', 'm']],
  [1 << 30, ['gib', 'g']],
  [2 ** 40, ['tib', 't']],
]

/** What `readDuration` takes, for messages. */
export const DURATION_FORM = 'a duration with its unit, such as 90s, 20m, 20 minutes, 2h, 1h30m or 7 days'
export const SIZE_FORM = 'a size with its unit, such as 512KiB, 32MiB, 1GiB or 500MB'

/** `20m`, `20 minutes`, `1h30m`, `1 hour 30 minutes` in whole milliseconds; undefined when it is not a duration. */
export function readDuration(text: string): number | undefined {
  return sum(text, DURATION_UNITS, true)
}

/** `32MiB`, `32 MiB`, `500MB` in whole bytes; K, M, G, T alone are powers of 1024. Undefined when it is not a size. */
export function readSize(text: string): number | undefined {
  return sum(text, SIZE_UNITS, false)
}

/** The shortest way of writing a duration that reads back as the same: `1h30m`. */
export function writeDuration(milliseconds: number): string {
  let rest = milliseconds
  let text = ''
  for (const [factor, [unit]] of DURATION_UNITS.toReversed()) {
    if (factor === 604_800_000) continue
    const count = Math.floor(rest / factor)
    if (count > 0) text += `${count}${unit}`
    rest -= count * factor
  }
  return text || '0s'
}

const TEXT_CHARACTERS_MAX = 64
const TERM = /(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]+)\s*(?:,|and(?=\s))?\s*/iy

function sum(text: string, units: typeof DURATION_UNITS, several: boolean): number | undefined {
  const written = text.trim()
  if (written === '' || written.length > TEXT_CHARACTERS_MAX) return undefined
  let total = 0
  let above = Number.POSITIVE_INFINITY
  TERM.lastIndex = 0
  while (TERM.lastIndex < written.length) {
    if (!several && TERM.lastIndex > 0) return undefined
    const term = TERM.exec(written)
    if (!term) return undefined
    const unit = term[2]!.toLowerCase()
    const factor = units.find(([, names]) => names.includes(unit))?.[0]
    // "30m 1h" and "1h 1h" are slips rather than sums: units go from large to small, each once.
    if (factor === undefined || factor >= above) return undefined
    above = factor
    total += Number(term[1]) * factor
  }
  const whole = Math.round(total)
  return Number.isSafeInteger(whole) ? whole : undefined
}
