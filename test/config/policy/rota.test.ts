import { describe, expect, test } from 'vitest'
import { prospectOf, type Wish } from '../../../admin/file.ts'
import { voterOf } from '../../../admin/voter.ts'
import { PolicyError } from '../../../config/policy/problems.ts'
import { onCallAt } from '../../../config/policy/rota.ts'
import { unenforced } from '../../../config/policy/unenforced.ts'
import { policy } from './support.ts'

const BODY = `time_zone: Europe/Berlin
people: { mona: [mona@acme.example] }
on_call:
  week:
    turns: { since: 2026-01-05T09:00:00+01:00, people: [mona@acme.example, raj, lea] }
    overrides:
      - { from: 2026-02-01T00:00:00Z, until: 2026-02-05T00:00:00Z, people: [lea] }
      - { from: 2026-02-03T00:00:00Z, until: 2026-02-04T00:00:00Z, people: [Raj] }
  night:
    zone: UTC
    shifts:
      - { days: mon-sun, from: "22:00", to: "06:00", people: [raj, lea] }
      - { days: sat, from: "20:00", to: "23:00", people: [raj, mona] }
requests:
  - trigger: push
    automatic: { on_call: week }
    approvers: [on-call:night]
`
const rules = policy(BODY)
const onCall = (schedule: string, at: string) => onCallAt(rules.rotas.get(schedule)!, Date.parse(at))

describe('turns', () => {
  test.each([
    ['before the first', '2026-01-05T07:59:59Z', []],
    ['the first week, under the name the policy has for the person', '2026-01-05T08:00:00Z', ['mona']],
    ['to its last moment', '2026-01-12T07:59:59Z', ['mona']],
    ['the second', '2026-01-12T08:00:00Z', ['raj']],
    ['the fourth is the first again', '2026-01-26T08:00:00Z', ['mona']],
    // Twelve weeks later the clocks have gone forward: nine o'clock is an hour earlier.
    ['at nine in summer, not before', '2026-03-30T06:59:59Z', ['lea']],
    ['at nine in summer', '2026-03-30T07:00:00Z', ['mona']],
  ])('%s', (_, at, people) => {
    expect(onCall('week', at)).toEqual(people)
  })
})

test('an override replaces everybody while it lasts, and of two the later one counts', () => {
  expect(onCall('week', '2026-01-31T23:59:59Z')).toEqual(['mona'])
  expect(onCall('week', '2026-02-01T00:00:00Z')).toEqual(['lea'])
  expect(onCall('week', '2026-02-03T12:00:00Z')).toEqual(['raj'])
  expect(onCall('week', '2026-02-04T00:00:00Z')).toEqual(['lea'])
  expect(onCall('week', '2026-02-05T00:00:00Z')).toEqual(['raj'])
})

test('shifts are hours of the week, past midnight too; everybody of those that overlap is on call once', () => {
  expect(onCall('night', '2026-01-07T21:59:00Z')).toEqual([])
  expect(onCall('night', '2026-01-07T22:00:00Z')).toEqual(['raj', 'lea'])
  expect(onCall('night', '2026-01-12T05:59:00Z')).toEqual(['raj', 'lea'])
  expect(onCall('night', '2026-01-10T22:30:00Z')).toEqual(['raj', 'lea', 'mona'])
})

describe('a request', () => {
  const standing = { kind: 'policy', policy: rules } as const
  const wish: Wish = { repository: 'acme/api', actions: ['update'], refs: ['main'] }
  const ask = (principal: string, at: string) =>
    prospectOf(
      { standing, caller: { principal, roles: [] }, address: undefined },
      wish,
      { automatic: [] },
      Date.parse(at),
    )

  test('of who is on call is approved by itself, of everybody else it is not', () => {
    expect(ask('mona@acme.example', '2026-01-07T23:00:00Z')).toMatchObject({ conditions: { immediate: 'automatic' } })
    for (const [who, at] of [
      ['mona@acme.example', '2026-01-14T23:00:00Z'],
      ['raj', '2026-01-07T23:00:00Z'],
      ['service:mona', '2026-01-07T23:00:00Z'],
    ] as const) {
      expect(ask(who, at), who).not.toMatchObject({ conditions: { immediate: 'automatic' } })
    }
  })

  test('is approved by who is on call at the moment of the vote, and by no machine', () => {
    const votes = (principal: string, at: string) => voterOf(standing, { principal, roles: [] }, Date.parse(at)).onCall
    expect(votes('raj', '2026-01-07T23:00:00Z')).toEqual(['night'])
    expect(votes('raj', '2026-01-07T12:00:00Z')).toEqual([])
    expect(votes('service:raj', '2026-01-07T23:00:00Z')).toEqual([])
  })
})

test('a schedule that nobody wrote down is told when the policy is checked', () => {
  expect(unenforced(rules)).toEqual([])
  const sentences = unenforced(policy('requests: [{ trigger: push, who: on-call:nowhere, approvers: leads }]'))
  expect(sentences).toMatchObject([{ sentence: expect.stringContaining('on_call does not name its schedule') }])
})

test.each([
  ['{}', 'nobody is ever on call by this'],
  [
    '{ overrides: [{ from: 2026-02-02T00:00:00Z, until: 2026-02-01T00:00:00Z, people: raj }] }',
    'until comes before from',
  ],
  ['{ turns: { since: 2026-02-02, people: [raj] } }', 'is not a moment such as'],
  ['{ turns: { since: 2026-02-02T00:00:00Z, people: [] } }', '1'],
  ['{ zone: Mars, shifts: [] }', 'is not an IANA time zone'],
])('%s does not load: %s', (said, why) => {
  const load = () => policy(`on_call: { week: ${said} }`)
  expect(load).toThrow(PolicyError)
  expect(load).toThrow(why)
})
