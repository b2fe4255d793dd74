import { describe, expect, test } from 'vitest'
import { evaluate, explain, type Question, type UseFacts } from '../../config/evaluate.ts'
import type { Grant } from '../../grant/grant.ts'
import { dana, facts, HOUR, NOW, policy } from './policy/support.ts'

const push: Question = { ...dana, action: 'update', repository: 'acme/api', refs: ['refs/heads/main'] }
const grant = (more: Partial<Grant> & { rule?: string } = {}) => ({
  id: 'g-1',
  principal: 'dana',
  repository: 'acme/*',
  actions: ['create', 'update'] as Grant['actions'],
  refs: ['main', 'release/*'],
  starts: NOW - HOUR,
  expires: NOW + HOUR,
  reason: 'x',
  ...more,
})
const holding = (...grants: ReturnType<typeof grant>[]): UseFacts => ({ ...facts, grants })
const open = policy('requests: [{ name: r, trigger: write, approvers: { n: 2, of: [leads] }, timeout: 2h }]')

describe('an operation', () => {
  test('without a grant is told what would be needed', () => {
    expect(evaluate(open, push, holding(), NOW)).toMatchObject({
      kind: 'needed',
      policy: open.version,
      rule: 'r',
      needed: {
        request: 'git access request acme/api --push --ref main --for 1h',
        way: 'to be approved by 2 of leads within 2h',
        longest: 8 * HOUR,
      },
    })
  })

  test('under a live grant that covers it is allowed', () => {
    expect(evaluate(open, push, holding(grant()), NOW)).toMatchObject({ kind: 'allowed', grants: ['g-1'], rule: 'r' })
  })

  test.each([
    ['of another principal', { principal: 'raj' }, {}],
    ['not begun', { starts: NOW + 1 }, {}],
    ['over', { expires: NOW }, {}],
    ['for another repository', { repository: 'globex/*' }, {}],
    ['for another action', { actions: ['fetch'] as Grant['actions'] }, {}],
    ['for another ref', { refs: ['dev'] }, {}],
    ['for branches, where a tag is pushed', {}, { refs: ['refs/tags/main'], action: 'create' as const }],
    ['for release/*, where releaseX is pushed', {}, { refs: ['refs/heads/releaseX'] }],
    ['for one of two refs', {}, { refs: ['refs/heads/main', 'refs/heads/dev'] }],
    ['to update, where it is forced', {}, { action: 'force' as const }],
  ])('is not allowed by a grant %s', (_, held, asked) => {
    expect(evaluate(open, { ...push, ...asked }, holding(grant(held)), NOW).kind).toBe('needed')
  })

  test('of several refs may run under several grants, and names them', () => {
    const both = holding(grant(), grant({ id: 'g-2', refs: ['dev'] }))
    expect(evaluate(open, { ...push, refs: ['refs/heads/main', 'refs/heads/dev'] }, both, NOW)).toMatchObject({
      grants: ['g-1', 'g-2'],
    })
  })

  test('that moves a tag needs tag and force', () => {
    const tags = { refs: ['refs/tags/*'] }
    const question: Question = { ...push, action: 'update', refs: ['refs/tags/v1'] }
    expect(evaluate(open, question, holding(grant({ ...tags, actions: ['tag', 'update'] })), NOW).kind).toBe('needed')
    expect(evaluate(open, question, holding(grant({ ...tags, actions: ['tag', 'force'] })), NOW).kind).toBe('allowed')
  })

  test('that no rule speaks of is refused, unless an administrator granted it', () => {
    const narrow = policy('requests: [{ trigger: push, repositories: globex/*, approvers: leads }]')
    expect(evaluate(narrow, push, holding(), NOW)).toMatchObject({ kind: 'refused', code: 'no-rule' })
    expect(evaluate(narrow, push, holding(grant()), NOW)).toMatchObject({ kind: 'allowed' })
  })

  test.each([
    ['refs/heads/main~1'],
    ['refs/heads/../main'],
    ['refs/heads/a..b//'],
    ['refs/heads/x.lock'],
    ['refs/heads/a@{1}'],
    ['refs/heads/\u0007'],
    ['main'],
    ['refs/heads/*'],
    [`refs/heads/${'x'.repeat(4_100)}`],
  ])('on the ref %j is refused, also where everything is only observed (threat 19)', ref => {
    const observed = policy('mode: observe')
    expect(evaluate(observed, { ...push, refs: [ref] }, holding(grant({ refs: [] })), NOW)).toMatchObject({
      kind: 'refused',
      code: 'bad-question',
    })
  })

  test('one letter in another Unicode form is another ref (threat 19)', () => {
    const accents = holding(grant({ refs: ['caf\u00e9'] }))
    expect(evaluate(open, { ...push, refs: ['refs/heads/caf\u00e9'] }, accents, NOW).kind).toBe('allowed')
    expect(evaluate(open, { ...push, refs: ['refs/heads/cafe\u0301'] }, accents, NOW).kind).toBe('needed')
  })

  test('before its refs are known is told of a rule that speaks of some', () => {
    const main = policy('requests: [{ name: m, trigger: push to main, approvers: leads }]')
    expect(evaluate(main, { ...push, refs: [] }, holding(), NOW)).toMatchObject({
      kind: 'needed',
      needed: { request: 'git access request acme/api --push --ref main --for 1h' },
    })
  })

  test('is told whether the request may file itself', () => {
    const auto = policy('requests: [{ trigger: push, approvers: leads, auto_request: { wait: 5m } }]')
    expect(evaluate(auto, push, holding(), NOW)).toMatchObject({ needed: { autoRequest: { wait: 300_000 } } })
    expect(evaluate(open, push, holding(), NOW)).not.toHaveProperty('needed.autoRequest')
  })
})

describe('what holds at every operation under a window', () => {
  const strict = policy(`requests:
  - name: r
    trigger: push
    approvers: leads
    networks: 10.0.0.0/8
    hours: { days: mon-fri, from: "09:00", to: "18:00", zone: UTC }
    paths: { only: [docs/**, '*.md'], never: ['docs/secret/**', '.github/**'] }`)

  test('the source network', () => {
    expect(evaluate(strict, push, holding(grant()), NOW).kind).toBe('allowed')
    expect(evaluate(strict, { ...push, address: '192.0.2.1' }, holding(grant()), NOW)).toMatchObject({
      kind: 'refused',
      code: 'network',
      rule: 'r',
    })
  })

  test('the hours', () => {
    const evening = Date.parse('2026-11-18T20:00:00Z')
    expect(evaluate(strict, push, holding(grant({ expires: evening + 1 })), evening)).toMatchObject({ code: 'hours' })
  })

  test.each([
    ['docs/a/b.txt', true],
    ['README.md', true],
    ['src/README.md', false],
    ['docs/secret/key', false],
    ['docs/SECRET/key', false],
    ['.GitHub/workflows/x.md', false],
    ['docs/../src/x', false],
    ['docs//x', false],
    ['', false],
    [`docs/${'x'.repeat(5_000)}`, false],
  ])('the path %j: %s', (path, allowed) => {
    expect(evaluate(strict, { ...push, paths: ['README.md', path] }, holding(grant()), NOW).kind).toBe(
      allowed ? 'allowed' : 'refused',
    )
  })

  test('paths that are only forbidden leave the rest open', () => {
    const never = policy('requests: [{ name: r, trigger: push, approvers: leads, paths: "!.github/**" }]')
    const kind = (path: string) => evaluate(never, { ...push, paths: [path] }, holding(grant()), NOW).kind
    expect(kind('src/x')).toBe('allowed')
    for (const path of ['.github/x', '.github/../x', './.github/x', 'a//b', '']) expect(kind(path)).toBe('refused')
  })

  test('the limits on paths that a window was given with, whatever the rules say', () => {
    const own = grant({ bounds: { paths: [['docs/**']] } })
    const asked = (change: Partial<Question>) => evaluate(open, { ...push, ...change }, holding(own), NOW)
    expect(asked({}).kind).toBe('allowed')
    expect(asked({ paths: ['docs/a'] }).kind).toBe('allowed')
    expect(asked({ paths: ['docs/a', 'src/a'] })).toMatchObject({
      kind: 'needed',
      needed: { request: expect.stringContaining('--path docs/a --path src/a') },
    })
    const { trace } = explain(open, push, holding(own), NOW)
    expect(trace).toContainEqual(expect.stringMatching(/changes only docs\/\*\*/))
  })

  test('is said by the rule that gave the window, where that is known', () => {
    const two = policy(
      'requests:\n  - { name: near, trigger: push, approvers: leads, networks: 10.0.0.0/8 }\n  - { name: glass, trigger: push, break_glass: { review: security } }',
    )
    const away = { ...push, address: '192.0.2.1' }
    expect(evaluate(two, away, holding(grant({ rule: 'glass' })), NOW)).toMatchObject({
      kind: 'allowed',
      rule: 'glass',
    })
    expect(evaluate(two, away, holding(grant({ rule: 'near' })), NOW)).toMatchObject({ kind: 'refused' })
    expect(evaluate(two, away, holding(grant()), NOW)).toMatchObject({ kind: 'refused' })
  })

  test('a freeze stops windows that were given before it', () => {
    const freeze = policy(
      'requests:\n  - { name: freeze, trigger: write, forbid: "code freeze" }\n  - { name: r, trigger: push, approvers: leads }',
    )
    expect(evaluate(freeze, push, holding(grant({ rule: 'r' })), NOW)).toMatchObject({
      kind: 'refused',
      code: 'forbidden',
      reason: 'code freeze',
    })
  })
})

describe('observing', () => {
  test('lets through what would have been refused, and says what that would have been', () => {
    expect(
      evaluate(policy('mode: observe\nrequests: [{ name: r, trigger: push, approvers: leads }]'), push, holding(), NOW),
    ).toMatchObject({
      kind: 'observed',
      rule: 'r',
      instead: { kind: 'needed', needed: { way: 'to be approved by one of leads within 1d' } },
    })
  })

  test('is said for some repositories, and by one rule', () => {
    const some = policy('mode: observe\nrepositories: [{ match: acme/api, mode: enforce }]')
    expect(evaluate(some, push, holding(), NOW).kind).toBe('refused')
    expect(evaluate(some, { ...push, repository: 'acme/other' }, holding(), NOW).kind).toBe('observed')
    const pilot = policy('repositories: [{ match: acme/api, mode: observe }]')
    expect(evaluate(pilot, push, holding(), NOW).kind).toBe('observed')
    expect(evaluate(pilot, { ...push, repository: 'acme/other' }, holding(), NOW).kind).toBe('refused')
    const trial = policy('requests: [{ name: new, trigger: push, approvers: leads, mode: observe }]')
    expect(evaluate(trial, push, holding(), NOW).kind).toBe('observed')
  })

  test('what a grant covers is simply allowed', () => {
    expect(
      evaluate(policy('mode: observe\nrequests: [{ trigger: push, approvers: leads }]'), push, holding(grant()), NOW)
        .kind,
    ).toBe('allowed')
  })
})

test('explain gives the same decision, and the way to it in sentences', () => {
  const { decision, trace } = explain(open, push, holding(), NOW)
  expect(decision).toEqual(evaluate(open, push, holding(), NOW))
  expect(trace).toEqual([
    'rule "r" (policy.yaml:2) speaks of update on refs/heads/main of acme/api for dana',
    'dana holds no live grant for it',
    'needs 2 of leads',
    'gets a window of 1h, of 8h at most (rule "r")',
    'not yet (rule "r"): no grant for update on acme/api refs/heads/main; to be approved by 2 of leads within 2h; ask with: git access request acme/api --push --ref main --for 1h',
  ])
})

test('explained is everything that would be needed, and what it would get, the classes of the repository included', () => {
  const strict = policy(`classes: { critical: { approvals: 2, longest: 1h, mfa: 15m } }
repositories: [{ match: acme/api, class: critical }]
requests:
  - name: r
    trigger: push
    approvers: leads
    escalate: { after: 20m, to: [directors] }
    reason: { pattern: ".{10,}", example: why not tomorrow }
    ticket: "PAY-[0-9]+"
    networks: 10.0.0.0/8
    hours: { days: mon-sun, from: "00:00", to: "24:00" }
    window: { longest: 4h, default: 30m }
    revoke_on_idle: 10m
    budget: { uses: 3, bytes: 2KB }
    recurring: { hours: { days: mon, from: "02:00", to: "02:30" }, longest: 4 weeks }`)
  const { trace } = explain(strict, push, holding(), NOW)
  expect(trace.filter(sentence => /^(needs|gets|only|which|after)/.test(sentence))).toEqual([
    'needs 2 of leads',
    'after 20m without an answer group:directors may approve as well',
    'needs a second factor shown within 15m: git access login --mfa',
    'needs a reason that matches .{10,}, for example: why not tomorrow',
    'needs a ticket that matches PAY-[0-9]+',
    'only from 10.0.0.0/8',
    'only Mon–Sun 00:00–24:00 UTC',
    'gets a window of 30m, of 1h at most (class critical)',
    'which ends after 10m without use',
    'which is good for 3 pushes and packs',
    'which is good for 2000 bytes',
    'gets one each Mon 02:00–02:30 UTC for 28d ahead at most, where it says --recurring',
  ])
})
