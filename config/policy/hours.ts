/**
 * Hours of the week on a place's own clock: `Monday to Friday, 09:00 to 18:00, Europe/Berlin`.
 *
 * Daylight saving: between two changes of the clock a zone is a fixed offset from UTC, so every question is answered on
 * stretches of one offset. An hour that the clock skips does not open; one that it repeats opens both times.
 */

export interface Weekly {
  /** An IANA time zone. */
  readonly zone: string
  /** Minutes since Monday 00:00, `from <= m < to`, sorted, inside one week. */
  readonly spans: readonly { readonly from: number; readonly to: number }[]
}

export interface Span {
  readonly starts: number
  readonly expires: number
}

const MINUTE = 60_000
const DAY = 1440 * MINUTE
const WEEK_MINUTES = 7 * 1440
const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const
const DAY_NAMES = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'] as const
/** How far ahead an opening is looked for; hours that do not open in a fortnight never do. */
const SEARCH_DAYS = 15

/** As many times as the same hours can be given at once. */
export const RECURRENCES_MAX = 100

export const DAYS_FORM = 'days such as mon, mon-fri or [mon, wed, fri]'
export const CLOCK_FORM = 'a time of day such as "09:00" or "17:30", in quotes; "24:00" ends the day'

/** Day numbers (Monday 0) of `mon`, `Monday`, `mon-fri`, `sat-mon`; undefined when it is none of these. */
export function readDays(text: string): readonly number[] | undefined {
  const [first, last, more] = text.toLowerCase().split('-')
  const from = dayNumber(first)
  const to = last === undefined ? from : dayNumber(last)
  if (from === undefined || to === undefined || more !== undefined) return undefined
  const days: number[] = []
  for (let day = from; ; day = (day + 1) % 7) {
    days.push(day)
    if (day === to) return days
  }
}

function dayNumber(word: string | undefined): number | undefined {
  const name = word?.trim() ?? ''
  if (!/^(mon|tues?|wed(nes)?|thu(rs)?|fri|satur|sat|sun)(day)?$/.test(name)) return undefined
  return DAYS.indexOf(name.slice(0, 3) as (typeof DAYS)[number])
}

/** Minutes of the day, 0 to 1440. */
export function readClock(text: string): number | undefined {
  const part = /^(\d{1,2}):(\d{2})$/.exec(text.trim())
  if (!part) return undefined
  const minutes = Number(part[1]) * 60 + Number(part[2])
  return Number(part[2]) < 60 && minutes <= 1440 ? minutes : undefined
}

export function isZone(zone: string): boolean {
  try {
    clockOf(zone)
    return true
  } catch {
    return false
  }
}

/** `to` at or before `from` runs past midnight into the next day. */
export function weekly(
  zone: string,
  parts: readonly { readonly days: readonly number[]; readonly from: number; readonly to: number }[],
): Weekly {
  const spans = parts.flatMap(({ days, from, to }) =>
    days.flatMap(day => {
      const start = day * 1440 + from
      const end = day * 1440 + (to <= from ? to + 1440 : to)
      return end <= WEEK_MINUTES
        ? [{ from: start, to: end }]
        : [
            { from: start, to: WEEK_MINUTES },
            { from: 0, to: end - WEEK_MINUTES },
          ]
    }),
  )
  return { zone, spans: spans.filter(span => span.from < span.to).sort((a, b) => a.from - b.from) }
}

export function isWithin(hours: Weekly, now: number): boolean {
  const minute = minuteOfWeek(now + offsetAt(hours.zone, now))
  return hours.spans.some(span => span.from <= minute && minute < span.to)
}

/** Whether there is no moment in both. Of two zones that is not known, and said to be false. */
export function neverBoth(a: Weekly, b: Weekly): boolean {
  if (a.zone !== b.zone) return false
  return !a.spans.some(one => b.spans.some(other => one.from < other.to && other.from < one.to))
}

/** When the hours open next after `now`; undefined when they never do. */
export function nextOpening(hours: Weekly, now: number): number | undefined {
  return occurrences(hours, now, now + SEARCH_DAYS * DAY, 2).find(span => span.starts > now)?.starts
}

/** The open spans between two instants, clipped to them, in order, joined where they touch; at most `max`. */
export function occurrences(hours: Weekly, from: number, until: number, max: number): readonly Span[] {
  const found: { starts: number; expires: number }[] = []
  for (const stretch of stretches(hours.zone, from, until)) {
    const weekStart = Math.floor((stretch.from + stretch.offset - MONDAY) / (7 * DAY)) * 7 * DAY + MONDAY
    for (let week = weekStart; week - stretch.offset < stretch.until; week += 7 * DAY) {
      for (const span of hours.spans) {
        const starts = Math.max(week + span.from * MINUTE - stretch.offset, stretch.from)
        const expires = Math.min(week + span.to * MINUTE - stretch.offset, stretch.until)
        if (starts >= expires) continue
        const last = found.at(-1)
        if (last && last.expires === starts) last.expires = expires
        else if (found.length === max) return found
        else found.push({ starts, expires })
      }
    }
  }
  return found
}

/** `Mon–Fri 09:00–18:00 Europe/Berlin`. */
export function describeHours(hours: Weekly): string {
  const byClock = new Map<string, number[]>()
  for (const span of hours.spans) {
    const clock = `${clockText(span.from % 1440)}–${clockText(span.to % 1440 || 1440)}`
    const days = byClock.get(clock) ?? []
    days.push(Math.floor(span.from / 1440))
    byClock.set(clock, days)
  }
  const parts = [...byClock].map(([clock, days]) => `${daysText(days)} ${clock}`)
  return `${parts.join(', ')} ${hours.zone}`
}

function daysText(days: readonly number[]): string {
  const consecutive = days.every((day, i) => i === 0 || day === days[i - 1]! + 1)
  if (consecutive && days.length > 2) return `${DAY_NAMES[days[0]!]}–${DAY_NAMES[days.at(-1)!]}`
  return days.map(day => DAY_NAMES[day]).join(', ')
}

const clockText = (minutes: number) =>
  `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`

// 5 January 1970 was a Monday.
const MONDAY = 4 * DAY
const minuteOfWeek = (local: number) => {
  const minute = Math.floor((local - MONDAY) / MINUTE) % WEEK_MINUTES
  return minute < 0 ? minute + WEEK_MINUTES : minute
}

/** Cuts a time into stretches in which the zone keeps one offset. No zone changes its clock twice in a day. */
function* stretches(
  zone: string,
  from: number,
  until: number,
): Generator<{ from: number; until: number; offset: number }> {
  let start = from
  let offset = offsetAt(zone, from)
  for (let day = from; day < until; day += DAY) {
    const end = Math.min(day + DAY, until)
    const next = offsetAt(zone, end)
    if (next === offset) continue
    let before = day
    let after = end
    while (after - before > 1) {
      const middle = Math.floor((before + after) / 2)
      if (offsetAt(zone, middle) === offset) before = middle
      else after = middle
    }
    yield { from: start, until: after, offset }
    start = after
    offset = next
  }
  if (start < until) yield { from: start, until, offset }
}

const clocks = new Map<string, Intl.DateTimeFormat>()

// Making a formatter takes some fifty times as long as using it.
function clockOf(zone: string): Intl.DateTimeFormat {
  let clock = clocks.get(zone)
  if (!clock) {
    const options = {
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    } as const
    clock = new Intl.DateTimeFormat('en-US', { ...options, timeZone: zone, hourCycle: 'h23' })
    clocks.set(zone, clock)
  }
  return clock
}

/** The zone's wall clock at an instant, as milliseconds that count its own days and hours. */
export const localAt = (zone: string, instant: number): number => instant + offsetAt(zone, instant)

/** Milliseconds to add to UTC for the zone's wall clock at an instant. */
function offsetAt(zone: string, instant: number): number {
  const part: Record<string, number> = {}
  for (const { type, value } of clockOf(zone).formatToParts(instant)) part[type] = Number(value)
  const wall = Date.UTC(part.year!, part.month! - 1, part.day, part.hour, part.minute, part.second)
  return wall - Math.floor(instant / 1000) * 1000
}
