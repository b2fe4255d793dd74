import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Ballot, tally, type Vote, type Voter, whyNoVote } from '../../admin/approval.ts'
import { type Approver, mergePlans, type Plan, raisePlan } from '../../config/policy/approvers.ts'
import { personOf } from '../../config/policy.ts'
import { policy } from '../config/policy/support.ts'

const group = (name: string): Approver => ({ kind: 'group', name })
const plan = (...steps: Approver[][][]): Plan => ({ steps: steps.map(slots => ({ slots })) })
const voter = (person: string, groups: string[] = [], more: Partial<Voter> = {}): Voter => ({
  principal: person,
  kind: 'person',
  person,
  groups,
  onCall: [],
  standsInFor: [],
  ...more,
})
const yes = (who: Voter): Vote => ({ voter: who, says: 'approve', digest: 'd', at: 0 })
const ballot = (of: Plan, involved: string[] = ['dana']): Ballot => ({ plan: of, involved })
const satisfied = (on: Ballot, ...voters: Voter[]) => tally(on, voters.map(yes)).satisfied

const LEADS = [group('leads')]
const SECURITY = [group('security')]

describe('a quorum', () => {
  test('counts people: one person twice at the same moment is one (threat 54)', () => {
    const two = ballot(plan([LEADS, LEADS]))
    const mona = voter('mona', ['leads'])
    expect(satisfied(two, mona, mona)).toBe(false)
    expect(satisfied(two, mona, { ...mona, principal: 'github:mona' })).toBe(false)
    expect(satisfied(two, mona, voter('raj', ['leads']))).toBe(true)
  })

  test('two groups are two people, also where one person is in both', () => {
    const both = ballot(plan([LEADS, SECURITY]))
    expect(satisfied(both, voter('mona', ['leads', 'security']))).toBe(false)
    expect(satisfied(both, voter('mona', ['leads', 'security']), voter('raj', ['leads']))).toBe(true)
    expect(satisfied(both, voter('raj', ['leads']), voter('mona', ['leads', 'security']))).toBe(true)
    expect(satisfied(both, voter('raj', ['leads']), voter('ana', ['leads']))).toBe(false)
  })

  test('a later step wants somebody else than an earlier one', () => {
    const steps = ballot(plan([LEADS], [[...LEADS, ...SECURITY]]))
    expect(satisfied(steps, voter('mona', ['leads']))).toBe(false)
    expect(satisfied(steps, voter('mona', ['leads']), voter('sam', ['security']))).toBe(true)
  })

  test('says how far it is and who is asked now', () => {
    const steps = ballot(plan([LEADS, LEADS], [SECURITY]))
    expect(tally(steps, [yes(voter('mona', ['leads']))])).toEqual({
      satisfied: false,
      counted: 1,
      needed: 3,
      waitingFor: [LEADS],
    })
    expect(
      tally(
        steps,
        ['mona', 'raj'].map(name => yes(voter(name, ['leads']))),
      ),
    ).toMatchObject({ counted: 2, waitingFor: [SECURITY] })
  })

  test('of nobody is never reached: an empty plan approves nothing', () => {
    expect(satisfied(ballot({ steps: [] }), voter('mona', ['leads']))).toBe(false)
  })

  test('a person and who is on call count as named', () => {
    const named = ballot(plan([[{ kind: 'person', name: 'mona' }], [{ kind: 'on-call', name: 'payments' }]]))
    expect(satisfied(named, voter('mona'), voter('raj', [], { onCall: ['payments'] }))).toBe(true)
    expect(satisfied(named, voter('raj'), voter('ana', [], { onCall: ['other'] }))).toBe(false)
  })
})

describe('oneself (threat 52)', () => {
  const leads = ballot(plan([LEADS]))

  test('is never an approver, administrators included', () => {
    expect(whyNoVote(leads, voter('dana', ['leads', 'admin']))).toContain('nobody approves or denies')
    expect(satisfied(leads, voter('dana', ['leads', 'admin']))).toBe(false)
  })

  test('not by a second identity, whatever its spelling', () => {
    const who = policy(
      "people: { dana: [dana@acme.example, 'github:dana-x'] }\nservices: { deploy-bot: { owner: dana } }",
    )
    for (const principal of [
      'dana',
      'DANA@acme.example',
      'github:dana-x',
      'github:DANA-X',
      'deploy-bot',
      '\uff44ana',
    ]) {
      expect(personOf(who, principal)).toBe('dana')
      expect(satisfied(leads, voter(personOf(who, principal), ['leads']))).toBe(false)
    }
    expect(personOf(who, 'raj')).toBe('raj')
  })

  test('not by a bot or the token of a machine', () => {
    expect(whyNoVote(leads, voter('robot', ['leads'], { kind: 'service' }))).toContain('machine')
    expect(whyNoVote(leads, voter('job', ['leads'], { kind: 'ci' }))).toContain('machine')
    expect(satisfied(leads, voter('robot', ['leads'], { kind: 'service' }))).toBe(false)
  })

  test('not for somebody else, when one asked for them', () => {
    expect(satisfied(ballot(plan([LEADS]), ['dana', 'raj']), voter('raj', ['leads']))).toBe(false)
  })

  test('not by a group one made oneself a member of: other people still count, oneself never does', () => {
    const two = ballot(plan([LEADS, LEADS]))
    expect(satisfied(two, voter('dana', ['leads']), voter('mona', ['leads']))).toBe(false)
  })
})

describe('delegates', () => {
  const lend = (person: string, groups: string[] = []) => ({ person, groups, onCall: [] })
  const two = ballot(plan([LEADS, LEADS]))

  test('vote in the place of who lent them the right', () => {
    expect(satisfied(ballot(plan([LEADS])), voter('raj', [], { standsInFor: [lend('mona', ['leads'])] }))).toBe(true)
  })

  test('a right that is lent counts once, not for the lender and the delegate both', () => {
    const raj = voter('raj', [], { standsInFor: [lend('mona', ['leads'])] })
    const ana = voter('ana', [], { standsInFor: [lend('mona', ['leads'])] })
    expect(satisfied(two, voter('mona', ['leads']), raj)).toBe(false)
    expect(satisfied(two, raj, voter('mona', ['leads']))).toBe(false)
    expect(satisfied(two, raj, ana)).toBe(false)
    expect(satisfied(two, raj, voter('kim', ['leads']))).toBe(true)
  })

  test('nobody’s place is taken for what they asked for themselves', () => {
    expect(satisfied(ballot(plan([LEADS])), voter('raj', [], { standsInFor: [lend('dana', ['leads'])] }))).toBe(false)
  })
})

describe('plans', () => {
  test('of a bundle: a step two repositories share is asked once, others follow', () => {
    expect(mergePlans([plan([LEADS]), plan([SECURITY]), plan([LEADS])])).toEqual(plan([LEADS], [SECURITY]))
    expect(mergePlans([plan([LEADS]), plan([LEADS, LEADS])])).toEqual(plan([LEADS, LEADS]))
    expect(mergePlans([plan([LEADS, LEADS]), plan([LEADS], [SECURITY])])).toEqual(plan([LEADS, LEADS], [SECURITY]))
    // Steps that read the same are two people all the same.
    expect(mergePlans([plan([LEADS], [LEADS])])).toEqual(plan([LEADS], [LEADS]))
    expect(mergePlans([plan([LEADS], [LEADS]), plan([LEADS])])).toEqual(plan([LEADS], [LEADS]))
  })

  test('are raised to the number of people a class wants', () => {
    expect(raisePlan(plan([LEADS], [SECURITY]), 3)).toEqual(plan([LEADS], [SECURITY, SECURITY]))
    expect(raisePlan(plan([LEADS, LEADS]), 2)).toEqual(plan([LEADS, LEADS]))
  })
})

test('a plan is never filled by fewer people than it has slots, nor by anybody involved (property)', () => {
  const names = fc.constantFrom('dana', 'mona', 'raj', 'ana', 'kim')
  const groups = fc.subarray(['leads', 'security', 'platform'])
  const anyVoter = fc
    .record({ person: names, groups, lender: fc.option(names, { nil: undefined }) })
    .map(({ person, groups, lender }) =>
      voter(person, groups, lender === undefined ? {} : { standsInFor: [{ person: lender, groups, onCall: [] }] }),
    )
  const slot = fc
    .uniqueArray(fc.constantFrom('leads', 'security', 'platform'), { minLength: 1, maxLength: 2 })
    .map(list => list.map(group))
  const anyPlan = fc
    .array(fc.array(slot, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 })
    .map(steps => plan(...steps))
  fc.assert(
    fc.property(anyPlan, fc.array(anyVoter, { maxLength: 8 }), (of, voters) => {
      const result = tally(ballot(of), voters.map(yes))
      const others = new Set(voters.map(({ person }) => person).filter(person => person !== 'dana'))
      expect(result.counted).toBeLessThanOrEqual(others.size)
      expect(result.satisfied).toBe(result.counted === of.steps.flatMap(step => step.slots).length)
      expect(result.satisfied).toBe(result.waitingFor.length === 0)
    }),
    { numRuns: 2_000 },
  )
})

test('whoever fills the one plan of several rules fills the plan of each (property)', () => {
  const slot = fc.constantFrom<Approver[]>(LEADS, SECURITY, [...LEADS, ...SECURITY])
  const steps = fc.array(fc.array(slot, { minLength: 1, maxLength: 2 }), { minLength: 1, maxLength: 3 })
  const groups = fc.subarray(['leads', 'security'], { minLength: 1 })
  fc.assert(
    fc.property(
      fc.array(steps, { minLength: 1, maxLength: 3 }),
      fc.array(groups, { maxLength: 6 }),
      (plans, people) => {
        const voters = people.map((held, index) => voter(`p${index}`, held))
        const each = plans.map(one => plan(...one))
        if (!satisfied(ballot(mergePlans(each)), ...voters)) return
        for (const one of each) expect(satisfied(ballot(one), ...voters)).toBe(true)
      },
    ),
    { numRuns: 2_000 },
  )
})
