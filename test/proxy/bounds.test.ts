import { describe, expect, test } from 'vitest'
import type { Bounds, Grant } from '../../grant/grant.ts'
import { isFor, whyNotHere } from '../../proxy/bounds.ts'

// Monday 5 January 2026, 10:00 in UTC and 11:00 in Berlin.
const MONDAY_TEN = Date.UTC(2026, 0, 5, 10)
const OFFICE = { zone: 'Europe/Berlin', spans: [{ from: 9 * 60, to: 18 * 60 }] }

const grant = (bounds?: Bounds): Grant => ({
  id: 'g-1',
  principal: 'dana',
  repository: 'acme/api',
  actions: ['fetch'],
  refs: [],
  starts: 0,
  expires: Number.MAX_SAFE_INTEGER,
  reason: 'PAY-231',
  ...(bounds && { bounds }),
})
const why = (bounds: Bounds | undefined, address = '10.1.2.3', now = MONDAY_TEN) =>
  whyNotHere(grant(bounds), address, now)

test('a grant without bounds holds everywhere and always', () => {
  expect(why(undefined)).toBeUndefined()
  expect(why({})).toBeUndefined()
})

describe('a window and a credential', () => {
  const job = { credentials: ['token:t-1'], request: 'r-1' }
  test('fit where neither asks for more', () => {
    expect(isFor(grant(), { credentials: [] })).toBe(true)
    expect(isFor(grant({ token: 't-1' }), { credentials: ['token:t-1'] })).toBe(true)
    expect(isFor({ ...grant({ token: 't-1' }), request: 'r-1' }, job)).toBe(true)
  })

  test('of two jobs do not fit', () => {
    expect(isFor(grant({ token: 't-2' }), { credentials: ['token:t-1', 'token:t-22'] })).toBe(false)
  })

  test('do not fit where the credential is for another request, or the window answers none', () => {
    expect(isFor({ ...grant(), request: 'r-2' }, job)).toBe(false)
    expect(isFor(grant(), job)).toBe(false)
  })
})

describe('networks', () => {
  const company = ['10.0.0.0/8', '2001:db8::/32']

  test.each(['10.1.2.3', '::ffff:10.1.2.3', '2001:db8::7'])('hold from %s', address => {
    expect(why({ networks: [company] }, address)).toBeUndefined()
  })

  test.each(['11.0.0.1', '2001:db9::1', '::ffff:11.0.0.1', '', 'unknown', '10.1.2.3, 11.0.0.1'])(
    'do not hold from %j, and say from where',
    address => {
      expect(why({ networks: [company] }, address)).toContain('only from 10.0.0.0/8, 2001:db8::/32')
    },
  )

  test('of several rules hold in all of them', () => {
    expect(why({ networks: [company, ['10.1.0.0/16']] })).toBeUndefined()
    expect(why({ networks: [company, ['10.2.0.0/16']] })).toContain('only from 10.2.0.0/16')
  })

  test('of nothing hold nowhere', () => {
    expect(why({ networks: [[]] })).toBeDefined()
  })
})

describe('hours', () => {
  test('are those of the place’s own clock', () => {
    expect(why({ hours: [OFFICE] })).toBeUndefined()
    // 17:30 in UTC is after six in Berlin.
    expect(why({ hours: [OFFICE] }, '10.1.2.3', MONDAY_TEN + 7.5 * 3_600_000)).toBe(
      'your window does not hold at this hour',
    )
  })

  test('of several rules hold in all of them', () => {
    const evening = { zone: 'Europe/Berlin', spans: [{ from: 17 * 60, to: 22 * 60 }] }
    expect(why({ hours: [OFFICE, evening] })).toBeDefined()
    expect(why({ hours: [OFFICE, evening] }, '10.1.2.3', MONDAY_TEN + 6.5 * 3_600_000)).toBeUndefined()
  })
})
