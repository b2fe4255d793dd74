import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { asking } from '../../../config/policy/asking.ts'
import { type HostEvent, meetsEvent, readEvent } from '../../../config/policy/events.ts'
import { loadPolicy } from '../../../config/policy/load.ts'
import { PolicyError } from '../../../config/policy/problems.ts'

const NOW = Date.parse('2026-01-07T12:00:00Z')
const policyOf = (text: string) => loadPolicy([{ file: 'policy.yaml', text: `version: 1\n${text}` }])
const asker = { principal: 'mona', kind: 'person', groups: [] } as const
const main: HostEvent = { kind: 'merge', ref: 'refs/heads/main' }

test.each([
  ['pull request merged into main', { kind: 'merge', ref: 'main' }],
  ['merge request merged to release/*', { kind: 'merge', ref: 'release/*' }],
  ['Merge into main', { kind: 'merge', ref: 'main' }],
  ['deployment', { kind: 'deployment' }],
  ['deployment to production', { kind: 'deployment', name: 'production' }],
  ['deployment to production on main started', { kind: 'deployment', name: 'production', ref: 'main' }],
  ['pipeline started', { kind: 'pipeline' }],
  ['pipeline on main', { kind: 'pipeline', ref: 'main' }],
  [
    'pipeline Unit Tests (Python) on refs/tags/v*',
    { kind: 'pipeline', name: 'Unit Tests (Python)', ref: 'refs/tags/v*' },
  ],
  ['job deploy', { kind: 'job', name: 'deploy' }],
  ['job on main', { kind: 'job', ref: 'main' }],
])('"%s" is read', (text, read) => {
  expect(readEvent(text)).toEqual(read)
})

test.each(['push', 'pull', 'git pull', 'force push', 'push to main'])('"%s" is about what people ask for', text => {
  expect(readEvent(text)).toBeUndefined()
})

test.each([
  'pull request',
  'pull request merged',
  'merge into',
  'merged main',
  'pipeline on ../x',
  `job ${'x'.repeat(300)}`,
])('"%s" is refused in a sentence', text => {
  expect(readEvent(text)).toEqual(expect.stringMatching(/./))
})

test('whatever is written is read or refused, and quickly', () => {
  fc.assert(
    fc.property(fc.constantFrom('pipeline ', 'job on ', 'merge into ', ''), fc.string({ maxLength: 5_000 }), (a, b) => {
      readEvent(a + b)
    }),
  )
})

test('an event is met by its kind, its name letter by letter, and its ref by pattern', () => {
  const trigger = { kind: 'pipeline', name: 'deploy', ref: 'release/*' } as const
  const event: HostEvent = { kind: 'pipeline', name: 'deploy', ref: 'refs/heads/release/1' }
  expect(meetsEvent(trigger, event)).toBe(true)
  for (const other of [
    { ...event, kind: 'job' },
    { ...event, name: 'Deploy' },
    { ...event, ref: 'refs/heads/releaseX' },
    { ...event, ref: 'refs/tags/release/1' },
    { kind: 'pipeline', name: 'deploy' },
    { kind: 'pipeline', ref: event.ref },
  ] as HostEvent[]) {
    expect(meetsEvent(trigger, other), JSON.stringify(other)).toBe(false)
  }
})

describe('a rule that a host triggers', () => {
  const policy = policyOf(`
requests:
  - { name: frozen, trigger: push to frozen, forbid: not now }
  - { name: merged, trigger: pull request merged into *, opens: push, automatic: true, window: 30m, networks: 10.0.0.0/8 }
  - { name: people, trigger: everything, approvers: leads }`)
  const push = (ref: string) => [{ repository: 'acme/api', actions: ['update' as const], refs: [ref] }]
  const ask = (event: HostEvent | undefined, ref = 'main') =>
    asking(policy, { asker, targets: push(ref), ...(event && { event }) }, {}, NOW)

  test('governs what the host says began, and what people ask for is governed by theirs', () => {
    expect(ask(main)).toMatchObject({ kind: 'governed', terms: { rules: ['merged'], immediate: 'automatic' } })
    expect(ask(undefined)).toMatchObject({ kind: 'governed', terms: { rules: ['people'] } })
  })

  test('is the only kind that does: an event that no trigger names opens nothing by a rule for people', () => {
    expect(ask({ kind: 'pipeline', ref: 'refs/heads/main' })).toMatchObject({ kind: 'refused', code: 'no-rule' })
    expect(ask({ kind: 'merge', ref: 'refs/heads/release/1' })).toMatchObject({ kind: 'refused', code: 'no-rule' })
  })

  test('does not open what is forbidden', () => {
    expect(ask(main, 'frozen')).toMatchObject({ kind: 'refused', code: 'forbidden' })
  })

  test('takes its networks along with the window, and does not ask the host to be in them', () => {
    expect(ask(main)).toMatchObject({ terms: { networks: [{ written: ['10.0.0.0/8'] }] } })
  })
})

test.each([
  ['trigger: [push, pipeline on main], automatic: true', 'write two rules'],
  ['trigger: pipeline on main, automatic: true', 'add what it opens'],
  ['trigger: push, opens: clone, automatic: true', 'opens is for what a host says'],
  ['trigger: job deploy, opens: clone, until: deploy, automatic: true', 'only what a merge opened'],
  ['trigger: pipeline, opens: clone, forbid: never', 'forbid what people ask for'],
  ['trigger: pipeline, opens: clone, break_glass: { review: leads }', 'only people break glass'],
  ['trigger: pipeline, opens: clone', 'nobody is named to approve'],
  ['trigger: pipeline, opens: everythin, automatic: true', 'is not an action such as'],
  ['trigger: merge into, opens: clone, automatic: true', 'names no event'],
])('{ %s } does not load: %s', (rule, why) => {
  expect(() => policyOf(`requests: [{ ${rule} }]`)).toThrow(PolicyError)
  expect(() => policyOf(`requests: [{ ${rule} }]`)).toThrow(why)
})
