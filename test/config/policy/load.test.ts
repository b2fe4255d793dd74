import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { loadPolicy, readPolicy } from '../../../config/policy/load.ts'
import { PolicyError } from '../../../config/policy/problems.ts'
import { standsInFor } from '../../../config/policy.ts'

const policy = (text: string) => loadPolicy([{ file: 'policy.yaml', text }])

function refusal(text: string): string {
  try {
    policy(text)
  } catch (error) {
    expect(error).toBeInstanceOf(PolicyError)
    return (error as PolicyError).message
  }
  throw new Error('the policy loaded')
}

describe('a policy in the shape of the blog posts', () => {
  const text = `version: 1
requests:
  - trigger: push
    approvers: [team-leads]
    timeout: "2 hours"
    revoke_on_idle: true
`

  test('works as written', () => {
    const [rule] = policy(text).rules
    expect([...rule!.actions]).toEqual(['create', 'update', 'tag', 'lfs-upload'])
    expect(rule).toMatchObject({ repositories: ['**'], refs: [], timeout: 7_200_000, idle: 1_800_000 })
    expect(rule!.approval).toEqual({ steps: [{ slots: [[{ kind: 'group', name: 'team-leads' }]] }] })
  })

  test('is JSON as well', () => {
    const json = {
      version: 1,
      requests: [{ trigger: 'push', approvers: ['team-leads'], timeout: '2 hours', revoke_on_idle: true }],
    }
    expect(policy(JSON.stringify(json)).rules[0]).toMatchObject({ timeout: 7_200_000, idle: 1_800_000 })
  })

  test('has a version that follows what it says and not how it is written', () => {
    const same = text.replace('"2 hours"', '2 hours # as ever').replace('    timeout', '\n    timeout')
    expect(policy(same).version).toBe(policy(text).version)
    const turned =
      'requests:\n  - revoke_on_idle: true\n    approvers: [team-leads]\n    timeout: 2 hours\n    trigger: push\nversion: 1\n'
    expect(policy(turned.replace('2 hours', '"2 hours"')).version).toBe(policy(text).version)
    expect(policy(text.replace('2 hours', '3 hours')).version).not.toBe(policy(text).version)
    expect(policy(text).version).toMatch(/^p-[0-9a-f]{12}$/)
  })
})

describe('faults', () => {
  test('are all told at once, each with its line, its column and what is accepted', () => {
    const message = refusal(`version: 1
people:
  mona: [mona@acme.example]
  raj: [MONA@acme.example]
classes: { critical: { approvals: 2 } }
repositories:
  - { match: acme/vault, class: critcal }
requests:
  - name: a
    trigger: pusch
    repos: acme/api
    timeout: 2 parsecs
    window: { longest: 4 hours, defalt: 1h }
    networks: 10.0.0.0/33
    hours: { days: mon-fry, from: "09:00", to: "18:00" }
    approvers: x
  - trigger: push
`)
    expect(message.split('\n').map(line => line.replace(/(: .*?: .{20}).*/, '$1'))).toEqual([
      expect.stringMatching(/^policy.yaml:4:8: people.raj/),
      expect.stringMatching(/^policy.yaml:7:33: repositories\[0\].class: there is no class/),
      expect.stringMatching(/^policy.yaml:10:14: requests\[0\].trigger: "pusch" names no/),
      expect.stringMatching(/^policy.yaml:11:5: requests\[0\].repos: unknown key/),
      expect.stringMatching(/^policy.yaml:12:14: requests\[0\].timeout/),
      expect.stringMatching(/^policy.yaml:13:33: requests\[0\].window.defalt: unknown key/),
      expect.stringMatching(/^policy.yaml:14:15: requests\[0\].networks/),
      expect.stringMatching(/^policy.yaml:15:20: requests\[0\].hours.days/),
      expect.stringMatching(/^policy.yaml:17:5: requests\[1\]: nobody is named/),
    ])
    expect(message).toContain('did you mean push?')
    expect(message).toContain('did you mean repositories?')
    expect(message).toContain('did you mean default?')
    expect(message).toContain('2h, 1h30m or 7 days')
  })

  test.each([
    ['no approver anywhere', 'requests: [{ trigger: push }]', 'nobody is named to approve'],
    [
      'a rule that forbids and approves',
      'requests: [{ trigger: push, forbid: never, approvers: x }]',
      'either forbids or says who approves',
    ],
    ['glass that nobody reviews', 'requests: [{ trigger: push, break_glass: true }]', 'nobody is named to review'],
    [
      'a default longer than the longest',
      'requests: [{ trigger: push, approvers: x, window: { longest: 1h, default: 2h } }]',
      'longer than the longest',
    ],
    ['a window of a year', 'requests: [{ trigger: push, approvers: x, window: 300 days }]', 'standing permission'],
    [
      'two rules of one name',
      'requests: [{ name: a, trigger: push, approvers: x }, { name: a, trigger: clone, approvers: x }]',
      'the name "a" is taken',
    ],
    ['a group with a person’s name', 'people: { mona: m@x }\ngroups: { mona: [raj] }', 'also the name of a person'],
    ['a ref said twice', 'requests: [{ trigger: push to main, refs: dev, approvers: x }]', 'already names a ref'],
    ['an unknown class', 'requests: [{ trigger: push, class: secret, approvers: x }]', 'there is no class "secret"'],
    ['a delegate of oneself', 'delegates: [{ from: a, to: A, until: 2026-12-24 }]', 'nobody stands in for themselves'],
    ['a day that is not in the calendar', 'delegates: [{ from: a, to: b, until: 2026-02-30 }]', 'is not a date'],
    [
      'hours by two clocks',
      'requests: [{ trigger: push, approvers: x, hours: [{ days: mon, from: "9:00", to: "10:00", zone: UTC }, { days: tue, from: "9:00", to: "10:00", zone: Asia/Tokyo }] }]',
      'one clock for all of them, not UTC and Asia/Tokyo',
    ],
    [
      'recurring hours that never come within the rule’s own',
      'requests: [{ trigger: push, approvers: x, hours: { days: mon, from: "9:00", to: "10:00" }, recurring: { hours: { days: tue, from: "9:00", to: "10:00" }, longest: 4 weeks } }]',
      'never within the hours of this rule (Mon 09:00–10:00 UTC)',
    ],
    ['a zone that is none', 'time_zone: Mars/Olympus', 'is not an IANA time zone'],
    ['another version of the language', 'x: 1', 'unknown key'],
  ])('of the second kind: %s', (_, body, message) => {
    expect(refusal(`version: 1\n${body}\n`)).toContain(message)
  })

  test('an empty file is no policy', () => {
    expect(refusal('')).toContain('version')
  })
})

describe('a policy made to hurt (threat 57)', () => {
  test('ten aliases of ten aliases are not expanded', () => {
    const bomb = `version: 1\na: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefgh'
      .split('')
      .map((letter, i) => `${letter}: &${letter} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(',')}]`)
      .join('\n')}\n`
    expect(refusal(bomb)).toContain('aliases (*name) are not accepted')
  })

  test('a merge key brings no keys in', () => {
    expect(refusal('version: 1\nrequests:\n  - <<: { trigger: push }\n    approvers: x\n')).toContain(
      'merge keys are not accepted',
    )
  })

  test('a key given twice is refused: readers see the first, parsers take the last', () => {
    expect(
      refusal('version: 1\nrequests:\n  - trigger: push\n    approvers: leads\n    approvers: everybody\n'),
    ).toMatch(/:5:5: .*given twice/)
  })

  test.each(['acme/[a-z]+', 'acme/**x', '../acme', 'acme//api', 'acme/{a,b}', '!acme/api'])('the glob %s', glob => {
    expect(refusal(`version: 1\nrequests: [{ trigger: push, repositories: '${glob}', approvers: x }]\n`)).toContain(
      'requests[0].repositories',
    )
  })

  test.each(['refs/heads/../main', 'release/', '-x..y//z', 'main.lock', 'a b', 'v1^'])('the ref pattern %s', ref => {
    expect(refusal(`version: 1\nrequests: [{ trigger: push, refs: '${ref}', approvers: x }]\n`)).toContain(
      'requests[0].refs',
    )
  })

  test.each(['(?=x)y', '(a)\\1', '[', 'a{5000}', '((a{100}){100}){100}'])('the pattern %s', pattern => {
    expect(refusal(`version: 1\nrequests: [{ trigger: push, ticket: '${pattern}', approvers: x }]\n`)).toContain(
      'requests[0].ticket',
    )
  })

  test('__proto__ names no group', () => {
    expect(refusal('version: 1\ngroups: { __proto__: [mona] }\n')).toContain('__proto__')
  })
})

describe('who is meant by a name', () => {
  const approversOf = (approvers: string) => {
    const text = `version: 1\npeople: { mona: [mona@acme.example, 'github:mona'] }\ngroups: { leads: [mona] }\nrequests: [{ trigger: push, approvers: ${approvers} }]\n`
    return policy(text).rules[0]!.approval!.steps[0]!.slots[0]!.map(({ kind, name }) => `${kind}:${name}`)
  }

  test('declared people are people, by any of their identities, in any case', () => {
    expect(approversOf('[mona, Mona@Acme.example, "github:mona"]')).toEqual([
      'person:mona',
      'person:mona',
      'person:mona',
    ])
  })

  test('an address is a person, and every other bare name a group: nobody approves by choosing a user name', () => {
    expect(approversOf('[raj@acme.example, leads, security]')).toEqual([
      'person:raj@acme.example',
      'group:leads',
      'group:security',
    ])
  })

  test('a prefix says it outright', () => {
    expect(approversOf('["person:security", "group:a@b", "on-call:payments"]')).toEqual([
      'person:security',
      'group:a@b',
      'on-call:payments',
    ])
  })
})

test('delegates stand in until the end of the last day, and hand nothing on', () => {
  const away = policy(
    'version: 1\npeople: { mona: [m@x] }\ndelegates:\n  - { from: M@X, to: raj, since: 2026-12-20, until: 2026-12-24 }\n  - { from: raj, to: ana, until: 2026-12-31T12:00:00+01:00 }\n',
  )
  const at = (person: string, time: string) => standsInFor(away, person, Date.parse(time))
  expect(at('raj', '2026-12-19T23:59:59Z')).toEqual([])
  expect(at('raj', '2026-12-24T23:59:59Z')).toEqual(['mona'])
  expect(at('raj', '2026-12-25T00:00:00Z')).toEqual([])
  expect(at('ana', '2026-12-22T00:00:00Z')).toEqual(['raj'])
  expect(at('ana', '2026-12-31T11:00:00Z')).toEqual([])
})

describe('approvers', () => {
  const stepsOf = (approvers: string) => {
    const plan = policy(`version: 1\nrequests: [{ trigger: push, approvers: ${approvers} }]\n`).rules[0]!.approval!
    return plan.steps.map(step => step.slots.map(slot => slot.map(({ name }) => name).join('|')))
  }

  test.each([
    ['a list: any one of them', '[a, b]', [['a|b']]],
    ['any of', '{ any_of: [a, b] }', [['a|b']]],
    ['all of: one person of each', '{ all_of: [a, b] }', [['a', 'b']]],
    ['n of', '{ n: 2, of: [a, b] }', [['a|b', 'a|b']]],
    ['steps', '[{ any_of: [a] }, { n: 2, of: [b] }]', [['a'], ['b', 'b']]],
    ['named steps', '{ steps: [a, { all_of: [b, c] }] }', [['a'], ['b', 'c']]],
  ])('%s', (_, text, steps) => {
    expect(stepsOf(text)).toEqual(steps)
  })
})

describe('a folder', () => {
  let folder = ''
  const write = (files: Record<string, string>) => {
    folder = mkdtempSync(join(tmpdir(), 'policy-'))
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
    return folder
  }
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  test('is read in the order of its names, tests left out', () => {
    const path = write({
      '20-rest.yaml': 'version: 1\nrequests: [{ name: rest, trigger: push, approvers: leads }]\n',
      '10-first.yaml':
        'version: 1\ngroups: { leads: [mona] }\nrequests: [{ name: first, trigger: clone, automatic: true }]\n',
      'x.test.yaml': 'tests: nonsense\n',
      'notes.txt': 'no yaml',
    })
    expect(readPolicy(path).rules.map(rule => rule.name)).toEqual(['first', 'rest'])
  })

  test('tells the file and line of each fault, also where two files clash', () => {
    const path = write({
      'a.yaml': 'version: 1\ngroups: { leads: [mona] }\nrequests: [{ name: one, trigger: push, approvers: x }]\n',
      'b.yaml': 'version: 1\ngroups: { leads: [raj] }\nrequests:\n  - { name: one, trigger: push, approvers: x }\n',
    })
    expect(() => readPolicy(path)).toThrow(
      /b\.yaml:2:11: groups\.leads: "leads" is in an earlier file already\n.*b\.yaml:4:13: requests\[0\]\.name: the name "one" is taken/,
    )
  })

  test('faults of merged lists lead back to the file they stand in', () => {
    const path = write({
      'a.yaml': 'version: 1\nclasses: { critical: {} }\nrepositories: [{ match: acme/a, class: critical }]\n',
      'b.yaml': 'version: 1\nrepositories:\n  - { match: acme/b, class: nope }\n',
    })
    expect(() => readPolicy(path)).toThrow(/b\.yaml:3:29: repositories\[0\]\.class/)
  })

  test('without a policy in it, or not there at all, opens nothing', () => {
    const path = write({})
    expect(() => readPolicy(path)).toThrow('no .yaml file')
    expect(() => readPolicy(join(path, 'gone'))).toThrow('cannot be read')
  })
})
