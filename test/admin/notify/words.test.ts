import { expect, test } from 'vitest'
import { sampleNotice } from '../../../admin/notify/sample.ts'
import { details, headline } from '../../../admin/notify/words.ts'

const NOW = Date.UTC(2026, 0, 5, 12)
const MINUTE = 60_000
const HOUR = 60 * MINUTE

/** An approval of a window with these times, in milliseconds from now. */
function approval(expires: number, idle?: number, starts = 0) {
  const iso = (at: number) => new Date(NOW + at).toISOString()
  const { data } = sampleNotice(NOW)
  const votes = [{ by: 'mona', says: 'approve' as const, at: iso(0) }]
  const window = { grant: 'g-1', principal: 'somebody', repository: 'example/test', actions: [], refs: [] }
  const windows = [{ ...window, starts_at: iso(starts), expires_at: iso(expires), ...(idle !== undefined && { idle }) }]
  const request = data.request && { ...data.request, state: 'approved' as const, votes, windows }
  return {
    type: 'request.approved' as const,
    timestamp: iso(0),
    data: { ...data, by: 'mona', ...(request && { request }) },
  }
}
const said = (...times: Parameters<typeof approval>) => headline(approval(...times)).split(' somebody:')[0]

test('an approval says who and until when, as one would', () => {
  expect(said(30 * MINUTE, 10 * MINUTE)).toBe('Approved by mona. Ends in 30 minutes, or when idle for 10.')
  expect(said(2 * HOUR, 10 * MINUTE)).toBe('Approved by mona. Ends in 2 hours, or when idle for 10 minutes.')
  expect(said(90 * MINUTE - 40)).toBe('Approved by mona. Ends in 90 minutes.')
  expect(said(HOUR)).toBe('Approved by mona. Ends in 1 hour.')
  expect(said(48 * HOUR)).toBe('Approved by mona. Ends in 2 days.')
  const later = 'Approved by mona. Opens at 2026-01-06T12:00:00.000Z, ends at 2026-01-06T13:00:00.000Z.'
  expect(said(25 * HOUR, undefined, 24 * HOUR)).toBe(later)
  // The moment stands there too: what was said once grows old.
  expect(details(approval(30 * MINUTE))).toContainEqual(['Ends', '2026-01-05T12:30:00.000Z'])
})

test('a question says what the one who asks did last', () => {
  expect(details(sampleNotice(NOW))).toContainEqual(['Did last', 'push to example/test, ok, 2026-01-04T12:00:00.000Z'])
})
