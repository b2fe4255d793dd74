import { describe, expect, test } from 'vitest'
import { describePlan } from '../../../config/policy/approvers.ts'
import { type Asked, asking } from '../../../config/policy/asking.ts'
import type { Facts } from '../../../config/policy/govern.ts'
import { occurrences } from '../../../config/policy/hours.ts'
import type { Policy } from '../../../config/policy.ts'
import type { Action } from '../../../grant/grant.ts'
import { dana, facts, HOUR, NOW, policy } from './support.ts'

const PUSH: readonly Action[] = ['create', 'update']

function ask(by: Policy, repository: string, refs: readonly string[], more: Partial<Asked> = {}, known: Facts = facts) {
  return asking(by, { asker: dana, targets: [{ repository, actions: PUSH, refs }], ...more }, known, NOW)
}

const sayPlan = (answer: ReturnType<typeof asking>) =>
  answer.kind === 'governed' ? describePlan(answer.terms.plan) : `refused: ${answer.reason}`

describe('which rule governs', () => {
  const layered = policy(`requests:
  - { name: vault, trigger: push, repositories: acme/vault, approvers: { n: 2, of: [security] } }
  - { name: main, trigger: push to main, repositories: acme/*, approvers: leads }
  - { name: rest, trigger: push, repositories: acme/**, automatic: true }`)

  test('the first that names repository, ref, action and asker', () => {
    expect(sayPlan(ask(layered, 'acme/vault', ['main']))).toBe('2 of security')
    expect(sayPlan(ask(layered, 'acme/api', ['main']))).toBe('one of leads')
    expect(sayPlan(ask(layered, 'acme/api', ['dev']))).toBe('nobody')
  })

  test('a pattern is no way around the rule for one repository in it', () => {
    expect(sayPlan(ask(layered, 'acme/*', ['dev']))).toBe('2 of security')
    expect(sayPlan(ask(layered, 'acme/v*', ['main']))).toBe('2 of security, then one of leads')
    expect(sayPlan(ask(layered, 'acme/w*', ['dev']))).toBe('nobody')
  })

  test('any branch is no way around the rule for main, nor is a pattern of branches', () => {
    expect(sayPlan(ask(layered, 'acme/api', []))).toBe('one of leads')
    expect(sayPlan(ask(layered, 'acme/api', ['m*']))).toBe('one of leads')
    expect(sayPlan(ask(layered, 'acme/api', ['refs/heads/main']))).toBe('one of leads')
    expect(sayPlan(ask(layered, 'acme/api', ['dev', 'main']))).toBe('one of leads')
  })

  test('of the rules that limit paths those that speak of the paths asked for', () => {
    const byPath = policy(`requests:
  - { name: docs, trigger: [push, clone], paths: ["docs/**", "*.md", "!docs/legal"], automatic: true }
  - { name: infra, trigger: push, paths: infra/**, approvers: security }
  - { name: rest, trigger: push, paths: "!infra/**", approvers: leads }
  - { name: all, trigger: push, approvers: { n: 2, of: [leads] } }`)
    const plan = (...paths: string[]) => sayPlan(ask(byPath, 'acme/api', ['main'], { paths }))
    // Who names none is given what the first rule gives.
    expect(plan()).toBe('nobody')
    expect(plan('docs/guide/**', 'README.md')).toBe('nobody')
    expect(plan('infra/dns')).toBe('one of security')
    expect(plan('src/**')).toBe('one of leads')
    expect(plan('docs/legal/x')).toBe('one of leads')
    // Asking wide is no way around the rule for some.
    expect(plan('docs/a', 'src/**')).toContain('rule "docs" speaks of some of these paths alone')
    expect(plan('**')).toContain('docs/**, *.md and not docs/legal: ask for them apart')
    expect(plan('**', '!docs/**', '!*.md')).toContain('rule "infra" speaks of some')
    expect(plan('**', '!docs/**', '!*.md', '!infra/**')).toBe('one of leads')
    expect(plan('/etc')).toContain('refused: path /etc: a path begins at the top')
    expect(ask(byPath, 'acme/api', ['main'], { paths: ['src/**'] })).toMatchObject({
      terms: { paths: [['!infra/**']] },
    })
    // Reading has no paths.
    const read = asking(
      byPath,
      { asker: dana, targets: [{ repository: 'acme/api', actions: ['fetch'], refs: [] }], paths: ['src/**'] },
      facts,
      NOW,
    )
    expect(sayPlan(read)).toBe('nobody')
  })

  test('a bundle needs what each of its repositories needs', () => {
    const targets = ['acme/vault', 'acme/api'].map(repository => ({ repository, actions: PUSH, refs: ['main'] }))
    expect(sayPlan(asking(layered, { asker: dana, targets }, facts, NOW))).toBe('2 of security, then one of leads')
  })

  test('asking for more than any rule speaks of is refused, and says what the rule speaks of', () => {
    const narrow = policy(
      'requests: [{ name: r, trigger: push, repositories: acme/api, refs: release/*, approvers: leads }]',
    )
    expect(sayPlan(ask(narrow, 'acme/api', ['release/1.2']))).toBe('one of leads')
    expect(sayPlan(ask(narrow, 'acme/api', []))).toContain('speaks of release/* of acme/api')
    expect(sayPlan(ask(narrow, 'acme/*', ['release/1.2']))).toContain('refused: no rule covers all')
    expect(sayPlan(ask(narrow, 'globex/api', ['main']))).toContain('refused: no rule lets dana ask for')
  })

  test('actions that no rule gives are refused, however many are', () => {
    const answer = ask(layered, 'acme/api', ['dev'], {
      targets: [{ repository: 'acme/api', actions: ['update', 'force'], refs: ['dev'] }],
    })
    expect(sayPlan(answer)).toContain('no rule lets dana ask for force')
  })

  test.each([
    [['releaseX'], false],
    [['release/../main'], false],
    [['release/'], false],
    [['refs/tags/release/1'], false],
    [['refs/for/main'], false],
    [['refs/replace/0123'], false],
    [['Release/1'], false],
    [['release/1.lock'], false],
    [['release//1'], false],
    [['release/@{1}'], false],
    [['release/1\u0000'], false],
    [['-release/1'], false],
    [[`release/${'x'.repeat(5_000)}`], false],
    [['release/1'], true],
  ])('release/* and a request for %j: %s (threats 19 to 23)', (refs, governed) => {
    const releases = policy('requests: [{ trigger: push, refs: release/*, approvers: leads }]')
    expect(ask(releases, 'acme/api', refs).kind).toBe(governed ? 'governed' : 'refused')
  })

  test('a rule for any ref is for branches and tags, and for no other namespace (threat 22)', () => {
    const any = policy('requests: [{ trigger: push, approvers: leads }]')
    for (const name of [
      'for/main',
      'pull/1/head',
      'merge-requests/1/head',
      'changes/01/1/1',
      'notes/x',
      'replace/0',
      'meta/config',
      'keep-around/0',
    ]) {
      expect(ask(any, 'acme/api', [`refs/${name}`]).kind).toBe('refused')
    }
    const named = policy('requests: [{ trigger: push, refs: refs/for/*, approvers: leads }]')
    expect(ask(named, 'acme/api', ['refs/for/main']).kind).toBe('governed')
  })
})

describe('who may ask', () => {
  const by = (who: string) =>
    policy(
      `people: { dana: [dana@acme.example] }\ngroups: { crew: [dana] }\nrequests: [{ trigger: push, who: ${who}, approvers: leads }]`,
    )
  const kindOf = (who: string, asker = dana, known = facts) =>
    asking(by(who), { asker, targets: [{ repository: 'acme/api', actions: PUSH, refs: ['main'] }] }, known, NOW).kind

  test.each(['dana', 'dana@acme.example', 'payments', 'crew', '[nobody, payments]', 'anyone'])(
    '%s names dana of payments',
    who => {
      expect(kindOf(who)).toBe('governed')
    },
  )

  test.each(['raj', 'security', '"ci:dana"', '"on-call:payments"'])('%s does not', who => {
    expect(kindOf(who)).toBe('refused')
  })

  test('on call now', () => {
    expect(kindOf('"on-call:payments"', dana, { onCall: new Map([['payments', ['dana']]]) })).toBe('governed')
  })

  test('without who: people and no machines', () => {
    const open = policy('requests: [{ trigger: push, approvers: leads }]')
    const asker = { principal: 'ci:github:acme/api', kind: 'ci', groups: [] } as const
    expect(ask(open, 'acme/api', ['main']).kind).toBe('governed')
    expect(ask(open, 'acme/api', ['main'], { asker }).kind).toBe('refused')
  })

  test('a star in a CI identity stays between two separators', () => {
    const asker = (principal: string) => ({ principal, kind: 'ci', groups: [] }) as const
    expect(kindOf('"ci:github:acme/*:main"', asker('ci:github:acme/api:main'))).toBe('governed')
    expect(kindOf('"ci:github:acme/*:main"', asker('ci:github:acme/api:evil:main'))).toBe('refused')
    expect(kindOf('"ci:github:acme/*:main"', asker('ci:github:acme/x/y:main'))).toBe('refused')
  })

  test('a machine does not get what its owner gets', () => {
    const owned = policy(
      'people: { dana: [d@x] }\nservices: { bot: { owner: dana } }\ngroups: { crew: [dana] }\nrequests: [{ trigger: push, who: [dana, crew], approvers: leads }]',
    )
    expect(ask(owned, 'acme/api', ['main']).kind).toBe('governed')
    expect(ask(owned, 'acme/api', ['main'], { asker: { principal: 'bot', kind: 'service', groups: [] } }).kind).toBe(
      'refused',
    )
  })

  test('nor are its owner’s groups its own, in a condition either', () => {
    const owned = policy(`people: { dana: [d@x] }
services: { bot: { owner: dana } }
groups: { crew: [dana] }
requests: [{ trigger: push, who: ["service:bot", dana], when: '"crew" in groups', approvers: leads }]`)
    expect(ask(owned, 'acme/api', ['main']).kind).toBe('governed')
    expect(ask(owned, 'acme/api', ['main'], { asker: { principal: 'bot', kind: 'service', groups: [] } }).kind).toBe(
      'refused',
    )
  })

  test('is found the same way among a thousand rules as among few', () => {
    const crowd = Array.from(
      { length: 1_000 },
      (_, i) => `  - { trigger: push, repositories: acme/**, who: team-${i}, approvers: lead-${i} }`,
    ).join('\n')
    const many = policy(`groups: { crew: [raj] }\nrequests:\n${crowd}
  - { name: shut, trigger: push, repositories: acme/vault, who: security, final: true, approvers: security }
  - { trigger: push, repositories: acme/crew, who: crew, approvers: c }
  - { trigger: push, repositories: acme/bots, who: "service:*", approvers: b }
  - { trigger: push, repositories: acme/raj, who: raj@acme.example, approvers: r }
  - { trigger: push, repositories: acme/open, approvers: o }
  - { trigger: push, repositories: acme/vault, automatic: true }`)
    const by = (principal: string, kind: 'person' | 'service', groups: string[]) => (repository: string) =>
      sayPlan(ask(many, repository, ['main'], { asker: { principal, kind, groups } }))
    expect(by('dana', 'person', ['x', 'team-7', 'team-3'])('acme/api')).toBe('one of lead-3')
    expect(by('dana', 'person', ['x'])('acme/api')).toContain('no rule lets dana')
    expect(by('dana', 'person', ['x'])('acme/vault')).toContain('last word')
    expect(by('dana', 'person', ['x'])('acme/*')).toContain('last word')
    expect(by('dana', 'person', [])('acme/open')).toBe('one of o')
    expect(by('raj', 'person', [])('acme/crew')).toBe('one of c')
    expect(by('raj@acme.example', 'person', [])('acme/raj')).toBe('one of r')
    expect(by('bot', 'service', [])('acme/bots')).toBe('one of b')
  })

  test('a rule that is final keeps others from the rules below it', () => {
    const rules = (final: boolean) =>
      policy(
        `requests:\n  - { name: pay, trigger: push, repositories: acme/pay, who: security, final: ${final}, approvers: leads }\n  - { trigger: push, automatic: true }`,
      )
    expect(sayPlan(ask(rules(false), 'acme/pay', ['main']))).toBe('nobody')
    expect(sayPlan(ask(rules(true), 'acme/pay', ['main']))).toContain('has the last word here')
    expect(sayPlan(ask(rules(true), 'acme/p*', ['main']))).toContain('has the last word here')
  })

  test('for another person the rules have to name that person', () => {
    const rule = by('payments')
    const raj = { principal: 'raj', kind: 'person', groups: [] } as const
    expect(ask(rule, 'acme/api', ['main'], { asker: raj, beneficiary: dana }).kind).toBe('governed')
    expect(ask(rule, 'acme/api', ['main'], { asker: dana, beneficiary: raj }).kind).toBe('refused')
  })
})

describe('what a request has to meet', () => {
  const one = (rest: string) => policy(`requests: [{ name: r, trigger: push, approvers: leads, ${rest} }]`)
  const code = (by: Policy, more: Partial<Asked> = {}, known = facts) => {
    const answer = ask(by, 'acme/api', ['main'], more, known)
    return answer.kind === 'governed' ? 'governed' : answer.code
  }

  test('a window beyond the longest is refused with the bound said, or clipped where the rule says so', () => {
    expect(ask(one('window: { longest: 2h }'), 'acme/api', ['main'], { window: 3 * HOUR })).toMatchObject({
      kind: 'refused',
      code: 'window',
      reason: 'rule "r" gives at most 2h, and 3h was asked for; ask with --for 2h',
    })
    expect(ask(one('window: { longest: 2h, beyond: clip }'), 'acme/api', ['main'], { window: 3 * HOUR })).toMatchObject(
      { window: 2 * HOUR, clipped: 'rule "r" gives at most 2h' },
    )
    expect(ask(one('window: { longest: 2h, default: 30m }'), 'acme/api', ['main'])).toMatchObject({ window: HOUR / 2 })
    expect(code(one('window: 2h'), { window: 0 })).toBe('window')
    expect(code(one('window: 2h'), { window: Number.NaN })).toBe('window')
  })

  test('a fresh second factor; one from the future is none', () => {
    const rule = one('mfa: 15m')
    expect(code(rule)).toBe('mfa')
    expect(code(rule, { asker: { ...dana, mfa: NOW - 16 * 60_000 } })).toBe('mfa')
    expect(code(rule, { asker: { ...dana, mfa: NOW + HOUR } })).toBe('mfa')
    expect(code(rule, { asker: { ...dana, mfa: NOW - 14 * 60_000 } })).toBe('governed')
  })

  test('a source network; an unknown address is in none', () => {
    const rule = one('networks: [10.0.0.0/8, "2001:db8::/32"]')
    expect(code(rule)).toBe('governed')
    expect(code(rule, { asker: { ...dana, address: '::ffff:10.9.9.9' } })).toBe('governed')
    expect(code(rule, { asker: { ...dana, address: '2001:db8::1' } })).toBe('governed')
    expect(code(rule, { asker: { ...dana, address: '192.0.2.1' } })).toBe('network')
    expect(code(rule, { asker: { ...dana, address: 'nonsense' } })).toBe('network')
    expect(code(rule, { asker: { principal: 'dana', kind: 'person', groups: [] } })).toBe('network')
  })

  test('hours, at the moment the window is to begin', () => {
    const rule = one('hours: { days: mon-fri, from: "09:00", to: "10:30", zone: Europe/Berlin }')
    expect(ask(rule, 'acme/api', ['main'])).toMatchObject({
      code: 'hours',
      reason: 'only Mon–Fri 09:00–10:30 Europe/Berlin; next from 2026-11-19T08:00:00.000Z',
    })
    expect(code(rule, { starts: Date.parse('2026-11-19T08:30:00Z') })).toBe('governed')
  })

  test('a reason and a ticket, which may stand in the reason', () => {
    const rule = one("reason: '.{10,}', ticket: { pattern: 'PAY-[0-9]+', example: PAY-231 }")
    expect(code(rule)).toBe('reason')
    expect(code(rule, { reason: 'short' })).toBe('reason')
    expect(code(rule, { reason: 'a long enough reason' })).toBe('ticket')
    expect(code(rule, { reason: 'fix the rounding (PAY-231).' })).toBe('governed')
    expect(code(rule, { reason: 'fix the rounding', ticket: 'PAY-231' })).toBe('governed')
    expect(code(rule, { reason: 'fix the rounding', ticket: 'PAY-231; drop' })).toBe('ticket')
  })

  test('a start that lies ahead, and not too far', () => {
    expect(code(one('window: 1h'), { starts: NOW - HOUR })).toBe('start')
    expect(code(one('window: 1h'), { starts: NOW + 200 * 24 * HOUR })).toBe('start')
    expect(code(one('window: 1h'), { starts: NOW + HOUR })).toBe('governed')
  })

  test('a condition, which may speak of the request; without an answer it is no', () => {
    expect(code(one('when: \'window <= 3600 && re2(reason, "PAY")\''), { window: HOUR, reason: 'PAY-1' })).toBe(
      'governed',
    )
    expect(code(one("when: 'window <= 3600'"), { window: 2 * HOUR })).toBe('no-rule')
    expect(ask(one('when: \'claims.actor != "x"\''), 'acme/api', ['main'])).toMatchObject({
      kind: 'refused',
      rule: 'r',
    })
  })

  test('a condition without an answer does not fall through to an easier rule', () => {
    const two = policy(
      'requests:\n  - { name: a, trigger: push, when: \'claims.x == "y"\', approvers: leads }\n  - { trigger: push, automatic: true }',
    )
    expect(ask(two, 'acme/api', ['main'])).toMatchObject({ kind: 'refused', rule: 'a' })
  })

  test('what is forbidden stays so, whatever stands below', () => {
    const freeze = policy(
      'requests:\n  - { name: freeze, trigger: write, repositories: acme/*, forbid: "code freeze until Monday" }\n  - { trigger: push, automatic: true }\n  - { trigger: push, break_glass: { review: sec } }',
    )
    expect(ask(freeze, 'acme/api', ['main'])).toMatchObject({
      code: 'forbidden',
      reason: 'code freeze until Monday (rule "freeze")',
    })
    expect(ask(freeze, 'acme/api', ['main'], { breakGlass: true })).toMatchObject({ code: 'forbidden' })
    expect(ask(freeze, '**', ['main'])).toMatchObject({ code: 'forbidden' })
  })
})

describe('approved by the policy itself', () => {
  const rule = policy(
    'requests: [{ name: oncall, trigger: push, automatic: { on_call: payments, quota: 2 per day }, approvers: leads }]',
  )
  const onCall = new Map([['payments', ['dana']]])
  const way = (known: Facts, by = rule) => {
    const answer = ask(by, 'acme/api', ['main'], {}, known)
    return answer.kind === 'governed' ? (answer.terms.immediate ?? describePlan(answer.terms.plan)) : answer.reason
  }

  test('for who is on call, so many times, and by people otherwise', () => {
    expect(way({ onCall, automatic: [] })).toBe('automatic')
    expect(way({ onCall: new Map(), automatic: [] })).toBe('one of leads')
    const used = [1, 2].map(hours => ({ rule: 'oncall', at: NOW - hours * HOUR }))
    expect(way({ onCall, automatic: used })).toBe('one of leads')
    expect(
      way({ onCall, automatic: [used[0]!, { rule: 'oncall', at: NOW - 25 * HOUR }, { rule: 'other', at: NOW }] }),
    ).toBe('automatic')
  })

  test('not where it is unknown who is on call or what was used up', () => {
    expect(way({ automatic: [] })).toBe('one of leads')
    expect(way({ onCall })).toBe('one of leads')
  })

  test('without approvers to fall back on, the answer is no', () => {
    expect(
      way(
        { onCall: new Map(), automatic: [] },
        policy('requests: [{ trigger: push, automatic: { on_call: payments } }]'),
      ),
    ).toContain('not known to be on call')
  })
})

describe('classes', () => {
  const critical = policy(`classes: { critical: { approvals: 2, longest: 2h, mfa: 10m, reason: true } }
repositories: [{ match: [acme/vault, acme/pay*], class: critical }]
requests:
  - { name: auto, trigger: push, repositories: acme/*, automatic: true, approvers: leads, window: 8h }
  - { name: glass, trigger: push, break_glass: { review: security, within: 4h } }`)
  const strong = { asker: { ...dana, mfa: NOW }, reason: 'x' }

  test('bind every rule: people, length, second factor and reason', () => {
    const answer = ask(critical, 'acme/vault', ['main'], strong)
    expect(answer).toMatchObject({
      kind: 'governed',
      terms: { longest: 2 * HOUR, longestBy: 'class critical', mfa: 600_000 },
    })
    expect(sayPlan(answer)).toBe('2 of leads')
    expect(ask(critical, 'acme/vault', ['main'])).toMatchObject({ code: 'mfa' })
    expect(ask(critical, 'acme/vault', ['main'], { asker: strong.asker })).toMatchObject({ code: 'reason' })
    expect(ask(critical, 'acme/vault', ['main'], { ...strong, window: 3 * HOUR })).toMatchObject({ code: 'window' })
  })

  test('bind a request by pattern that could meet one of them', () => {
    expect(sayPlan(ask(critical, 'acme/*', ['main'], strong))).toBe('2 of leads')
    expect(ask(critical, 'acme/api', ['main'])).toMatchObject({ terms: { immediate: 'automatic' } })
  })

  test('breaking glass opens at once all the same, and two people review it', () => {
    const answer = ask(critical, 'acme/vault', ['main'], { ...strong, breakGlass: true })
    expect(answer).toMatchObject({
      kind: 'governed',
      terms: { immediate: 'break-glass', review: { within: 4 * HOUR } },
    })
    expect(answer.kind === 'governed' && describePlan(answer.terms.review!.plan)).toBe('2 of security')
  })

  test('breaking glass keeps no office hours, unless its own rule says so', () => {
    const hours = 'hours: { days: sun, from: "00:00", to: "24:00" }'
    const by = (own: string) =>
      policy(`defaults: { ${hours} }\nrequests: [{ trigger: push, break_glass: { review: security }${own} }]`)
    expect(ask(by(''), 'acme/api', ['main'], { breakGlass: true })).toMatchObject({ kind: 'governed' })
    expect(ask(by(`, ${hours}`), 'acme/api', ['main'], { breakGlass: true })).toMatchObject({ code: 'hours' })
  })

  test('glass is broken only by who says so', () => {
    const only = policy('requests: [{ trigger: push, break_glass: { review: security } }]')
    expect(ask(only, 'acme/api', ['main'])).toMatchObject({ kind: 'refused' })
    expect(ask(only, 'acme/api', ['main'], { breakGlass: true })).toMatchObject({ kind: 'governed' })
  })
})

describe('recurring windows', () => {
  const rule = policy(
    'requests: [{ name: r, trigger: push, approvers: leads, window: 4h, recurring: { hours: { days: tue, from: "22:00", to: "01:00" }, longest: 4 weeks } }]',
  )

  test('are all known when they are approved', () => {
    const answer = ask(rule, 'acme/api', ['main'], { recurring: true, window: 14 * 24 * HOUR })
    expect(
      answer.kind === 'governed' &&
        occurrences(answer.recurring!, NOW, NOW + answer.window, 10).map(({ starts, expires }) => [
          new Date(starts).toISOString(),
          (expires - starts) / HOUR,
        ]),
    ).toEqual([
      ['2026-11-24T22:00:00.000Z', 3],
      ['2026-12-01T22:00:00.000Z', 3],
    ])
  })

  test('not more than a hundred, which are never cut short in silence, and none longer than the rule gives', () => {
    const hourly = [0, 2, 4, 6].map(hour => `{ days: mon-sun, from: "0${hour}:00", to: "0${hour + 1}:00" }`).join(', ')
    const often = policy(
      `requests: [{ trigger: push, approvers: leads, recurring: { hours: [${hourly}], longest: 90d } }, { trigger: delete, approvers: leads, window: 30m, recurring: { hours: [${hourly}], longest: 1d } }]`,
    )
    expect(ask(often, 'acme/api', ['main'], { recurring: true })).toMatchObject({
      reason: 'more than 100 windows; ask for less time ahead: --for',
    })
    expect(ask(often, 'acme/api', ['main'], { recurring: true, window: 25 * 24 * HOUR })).toMatchObject({
      kind: 'governed',
    })
    const targets = [{ repository: 'acme/api', actions: ['delete'] as const, refs: ['main'] }]
    expect(ask(often, '', [], { recurring: true, targets })).toMatchObject({
      reason: expect.stringContaining('at most 30m at a time'),
    })
  })

  test('not further ahead than the rule says, and not by a rule that has none', () => {
    expect(ask(rule, 'acme/api', ['main'], { recurring: true, window: 40 * 24 * HOUR })).toMatchObject({
      code: 'window',
    })
    expect(
      ask(policy('requests: [{ trigger: push, approvers: leads }]'), 'acme/api', ['main'], { recurring: true }),
    ).toMatchObject({ code: 'window' })
  })
})

test('a request names one to twenty repositories', () => {
  const by = policy('requests: [{ trigger: push, automatic: true }]')
  const targets = Array.from({ length: 21 }, (_, i) => ({ repository: `acme/r${i}`, actions: PUSH, refs: [] }))
  expect(asking(by, { asker: dana, targets }, facts, NOW)).toMatchObject({ code: 'bad-request' })
  expect(asking(by, { asker: dana, targets: [] }, facts, NOW)).toMatchObject({ code: 'bad-request' })
  expect(
    asking(by, { asker: dana, targets: [{ repository: 'acme/../x', actions: PUSH, refs: [] }] }, facts, NOW),
  ).toMatchObject({ code: 'bad-request' })
  expect(
    asking(by, { asker: dana, targets: [{ repository: 'acme/x', actions: [], refs: [] }] }, facts, NOW),
  ).toMatchObject({ code: 'bad-request' })
})
