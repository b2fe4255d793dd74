import type { DigestSettings, Event } from '../../config/notify.ts'
import { URGENT } from '../../config/notify.ts'
import { nextOpening } from '../../config/policy/hours.ts'
import type { Payload } from './payload.ts'
import { headline } from './words.ts'

/** What needs nobody at once is told together: once an hour or a day, one message for each recipient. */

const HOUR = 3_600_000
/** More are counted and not listed. */
const LISTED_MAX = 200

/** Unless the settings list others. Of these nobody has to do anything. */
const QUIET: ReadonlySet<Event> = new Set([
  'request.vote',
  'request.comment',
  'window.issued',
  'window.extended',
  'window.ended',
  'principal.unlocked',
])

/**
 * When a notice is gathered into a digest, and not told by itself; undefined where it is.
 * @param notice.asks whether the recipient is asked to decide: such a question waits for no digest unless the settings name its event
 * @param notice.opens when the recipient's hours let it be told; later than now where they hold it back
 */
export function gatheredAt(
  settings: DigestSettings | undefined,
  notice: { readonly type: Event; readonly asks: boolean; readonly opens: number },
  now: number,
): number | undefined {
  if (settings === undefined) return undefined
  const { type, asks, opens } = notice
  const isQuiet = settings.events === undefined ? QUIET.has(type) && !asks : settings.events.includes(type)
  if (isQuiet) return settings.every === 'hour' ? Math.floor(now / HOUR + 1) * HOUR : nextOpening(settings.at, now)
  return opens > now && !asks && !URGENT.has(type) ? opens : undefined
}

/** One line each, in the order in which it happened. */
export function digestLines(contents: readonly Payload[]): {
  readonly title: string
  readonly lines: readonly string[]
} {
  const lines = contents.slice(0, LISTED_MAX).map(content => `${content.timestamp.slice(0, 16)}Z  ${headline(content)}`)
  const left = contents.length - lines.length
  const [first = ''] = lines
  return {
    title: contents.length === 1 ? first : `${contents.length} notices of the gate`,
    lines: left === 0 ? lines : [...lines, `And ${left} more: drawbridge audit list`],
  }
}
