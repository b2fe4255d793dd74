import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import type { LiveGrant } from '../../grant/grant.ts'
import { notice } from '../../proxy/notice.ts'
import { live, openSession } from './attempt.ts'

const MINUTE = 60_000

/** What is said under a grant that has so long to go, now being 0 on Redis's clock. */
function said(change: Partial<LiveGrant>, session = openSession(new PassThrough())): string {
  const grant = live(change)
  session.grants = [live({ id: 'g-shorter', expires: MINUTE, ends: MINUTE }), grant]
  session.window = { grant: grant.id, until: performance.now() + grant.ends + 500 }
  return notice(session)
}

test('who is let through sees by what, and for how long', () => {
  const hour = { expires: 60 * MINUTE, ends: 60 * MINUTE }
  expect(said(hour)).toBe('drawbridge: let through by g-1, open for 60 min more')
})

test('who pushes sees by which id the receipt of it is had', () => {
  const pushing = openSession(new PassThrough(), { service: 'receive-pack' }, { action: 'push' })
  const hour = { expires: 60 * MINUTE, ends: 60 * MINUTE }
  expect(said(hour, pushing)).toBe(`drawbridge: let through by g-1, open for 60 min more; receipt ${pushing.operation}`)
})

test('in its last ten minutes the window warns, and says how to get more', () => {
  const few = { expires: 9 * MINUTE, ends: 9 * MINUTE }
  expect(said({ ...few, request: 'r-1' }).split('\n')).toEqual([
    'drawbridge: let through by g-1, open for 9 min more',
    'drawbridge: WARNING: this window closes soon and cuts what still runs; for more time: git access extend r-1 --for 1h',
  ])
  expect(said(few)).toContain('for more time: ask whoever gave it to you')
})

test('an idle end that is near warns nobody: this use has put it off', () => {
  expect(said({ expires: 60 * MINUTE, ends: 5 * MINUTE, idle: 5 * MINUTE })).toBe(
    'drawbridge: let through by g-1, open for 5 min more',
  )
})
