import { describe, expect, test } from 'vitest'
import { type ReplayOperation, replay } from '../../../config/policy/replay.ts'
import { NOW, policy } from './support.ts'

const pushed: ReplayOperation = {
  id: 'op-1',
  at: NOW,
  principal: 'dana',
  kind: 'person',
  groups: [],
  address: '10.0.0.1',
  action: 'update',
  repository: 'acme/api',
  refs: ['refs/heads/main'],
  result: 'allowed',
}
const leads = policy('requests: [{ trigger: push, approvers: leads }]')

describe('replay', () => {
  test('finds nothing where everything allowed can still be had, and everything refused still cannot', () => {
    expect(replay(leads, [pushed, { ...pushed, id: 'op-2', action: 'force', result: 'refused' }])).toEqual([])
  })

  test('finds what could no longer be had: no rule, another network, outside the hours', () => {
    const narrow = policy('requests: [{ trigger: push, repositories: acme/web, approvers: leads }]')
    expect(replay(narrow, [pushed])).toMatchObject([
      { direction: 'narrower', was: 'allowed', becomes: expect.stringContaining('no rule lets dana ask for') },
    ])
    const inside = policy('requests: [{ trigger: push, approvers: leads, networks: 192.0.2.0/24 }]')
    expect(replay(inside, [pushed])).toMatchObject([
      { direction: 'narrower', becomes: expect.stringContaining('only from 192.0.2.0/24') },
    ])
    const later = policy(
      'requests: [{ trigger: push, approvers: leads, hours: { days: sun, from: "00:00", to: "24:00" } }]',
    )
    expect(replay(later, [pushed])).toMatchObject([{ direction: 'narrower' }])
  })

  test('finds what could be had from now on', () => {
    expect(replay(leads, [{ ...pushed, result: 'refused' }])).toMatchObject([
      { direction: 'wider', becomes: 'to be approved by one of leads within 1d' },
    ])
  })

  test('compares two policies where both are given, other approvers included', () => {
    const two = policy('requests: [{ trigger: push, approvers: { n: 2, of: [leads] } }]')
    expect(replay(two, [pushed], leads)).toMatchObject([
      {
        direction: 'other',
        was: 'to be approved by one of leads within 1d',
        becomes: 'to be approved by 2 of leads within 1d',
      },
    ])
    expect(replay(leads, [pushed], leads)).toEqual([])
  })
})
