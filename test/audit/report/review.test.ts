import { expect, test } from 'vitest'
import type { Record } from '../../../audit/record.ts'
import { followUse, type ReviewedWindow } from '../../../audit/report/review.ts'
import { start } from '../records.ts'

// Which windows were not needed as they were, told from the ledger alone.

const OPENED = '2026-01-31T12:00:00.000Z'
const MUCH_LATER = new Date('2026-02-10T00:00:00.000Z')

const issued = (more: object = {}): Record =>
  ({
    kind: 'grant.issued',
    by: 'mona',
    grant: 'g-1',
    principal: 'alice',
    repository: 'acme/app',
    actions: ['create', 'update'],
    refs: ['refs/heads/main'],
    starts: OPENED,
    expires: '2026-01-31T14:00:00.000Z',
    reason: 'PAY-231',
    ...more,
  }) as Record

const pushed = (ref: string, action = 'update', repository = 'acme/app'): Record =>
  start('op-1', {
    action: 'push',
    service: 'receive-pack',
    repository,
    grants: ['g-1'],
    updates: [{ ref, old: 'b'.repeat(40), new: 'a'.repeat(40), action: action as 'update' }],
  })

/** What is found of a window by which these operations went, an hour and a half after it opened. */
function reviewed(window: Record, work: readonly Record[], now = MUCH_LATER): ReviewedWindow | undefined {
  const review = followUse()
  review.add(window, OPENED)
  for (const record of work) review.add(record, '2026-01-31T13:30:00.000Z')
  const { windows, found } = review.finish(now)
  expect(windows).toBe(1)
  return found[0]
}

test('a window that was used for what it was given for is not mentioned', () => {
  expect(reviewed(issued(), [pushed('refs/heads/main')])).toBeUndefined()
})

test('a window nobody used is told, but not while it has only just opened', () => {
  expect(reviewed(issued(), [])).toMatchObject({ findings: ['unused'], used: { operations: 0 } })
  expect(reviewed(issued(), [], new Date('2026-01-31T12:30:00.000Z'))).toBeUndefined()
})

test('a window that ended within its first hour is not called unused', () => {
  const review = followUse()
  review.add(issued(), OPENED)
  const ended = { kind: 'grant.ended', by: 'alice', grant: 'g-1', principal: 'alice', how: 'released', reason: '' }
  review.add(ended as Record, '2026-01-31T12:20:00.000Z')
  expect(review.finish(MUCH_LATER).found).toEqual([])
})

test('every branch of every repository, for one push to one: what would have been enough is said', () => {
  const wide = issued({ repository: 'acme/*', refs: [], actions: ['create', 'update', 'force', 'delete'] })
  expect(reviewed(wide, [pushed('refs/heads/fix', 'create')])).toMatchObject({
    findings: ['actions', 'refs', 'repositories'],
    used: { repositories: ['acme/app'], actions: ['create'], refs: ['refs/heads/fix'] },
    enough: ['git access request acme/app --push --ref fix'],
  })
})

test('a push that may have been by force counts as one: nobody is told to do without what they used', () => {
  const force = issued({ actions: ['update', 'force'] })
  expect(reviewed(force, [pushed('refs/heads/main', 'update-or-force')])).toBeUndefined()
})

test('a reading window through which nobody pushed is told where it could push', () => {
  const both = issued({ actions: ['fetch', 'create', 'update'] })
  const fetched = start('op-1', { action: 'fetch', repository: 'acme/app', grants: ['g-1'], updates: [] })
  expect(reviewed(both, [fetched])).toMatchObject({
    findings: ['actions'],
    enough: ['git access request acme/app --fetch'],
  })
})

test('a week for an afternoon’s work is too long, once it is over', () => {
  const week = issued({ expires: '2026-02-07T12:00:00.000Z' })
  const work = [pushed('refs/heads/main')]
  expect(reviewed(week, work)).toMatchObject({ findings: ['length'] })
  expect(reviewed(week, work, new Date('2026-02-01T00:00:00.000Z'))).toBeUndefined()
})

test('windows that were over before the time that is looked at are left out', () => {
  const review = followUse()
  review.add(issued(), OPENED)
  review.dropClosed('2026-02-01T00:00:00.000Z')
  expect(review.finish(MUCH_LATER)).toEqual({ windows: 0, found: [] })
})

test('the names kept of one window are bounded, and many are never called few', () => {
  const work = Array.from({ length: 500 }, (_, i) => pushed(`refs/heads/b${i}`, 'create', `acme/r${i}`))
  const found = reviewed(issued({ repository: '**', refs: [] }), work)
  expect(found).toBeUndefined()
})
