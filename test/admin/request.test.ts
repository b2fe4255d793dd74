import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Vote, Voter } from '../../admin/approval.ts'
import { type AskedFor, type Conditions, dedupeKey } from '../../admin/asked.ts'
import {
  type Event,
  givesAccess,
  makeRequest,
  next,
  REQUEST_TABLE,
  type Request,
  sameRequest,
} from '../../admin/request.ts'
import {
  extendWindow,
  isOpen,
  isStanding,
  moveWindow,
  settleWindow,
  useWindow,
  WINDOW_TABLE,
  type Window,
  type WindowEvent,
} from '../../admin/window.ts'
import { NOBODY, type Plan } from '../../config/policy/approvers.ts'
import { weekly } from '../../config/policy/hours.ts'

const HOUR = 3_600_000
const T0 = 1_800_000_000_000
const API = 'acme/api'

const asked: AskedFor = {
  principal: 'dana',
  requester: 'dana',
  targets: [{ repository: API, actions: ['create', 'update'], refs: ['release/*'] }],
  window: 2 * HOUR,
  reason: 'PAY-231',
}
const LEADS = [{ kind: 'group', name: 'leads' }] as const
const twoLeads: Plan = { steps: [{ slots: [LEADS, LEADS] }] }
const oneLead: Plan = { steps: [{ slots: [LEADS] }] }
const conditions: Conditions = { policy: 'p-1', rules: ['r'], plan: oneLead, timeout: 4 * HOUR }

const person = (name: string, groups: string[] = ['leads']): Voter => ({
  principal: name,
  kind: 'person',
  person: name,
  groups,
  onCall: [],
  standsInFor: [],
})
const make = (more: Partial<AskedFor> = {}, terms: Partial<Conditions> = {}, id = 'r-1') =>
  makeRequest(id, { ...asked, ...more }, { ...conditions, ...terms }, ['dana'], T0)
const vote = (request: Request, who: string | Voter, says: 'approve' | 'deny', at = T0 + 1): Event => {
  return {
    kind: 'vote',
    at,
    vote: { voter: typeof who === 'string' ? person(who) : who, says, digest: request.digest, at },
  }
}
const play = (request: Request, ...events: Event[]) => events.reduce((now, event) => next(now, event).request, request)
const approved = (more: Partial<AskedFor> = {}, terms: Partial<Conditions> = {}) => {
  const request = make(more, terms)
  return play(request, vote(request, 'mona', 'approve'))
}

describe('a request', () => {
  test('opens its window at the approval that fills the plan, and the window counts from there', () => {
    const request = make({}, { plan: twoLeads })
    const once = play(request, vote(request, 'mona', 'approve', T0 + HOUR))
    expect(once.state).toBe('requested')
    expect(givesAccess(once, API, T0 + HOUR)).toBe(false)
    const twice = play(once, vote(request, 'raj', 'approve', T0 + 2 * HOUR))
    expect(twice).toMatchObject({
      state: 'approved',
      windows: [{ state: 'live', starts: T0 + 2 * HOUR, expires: T0 + 4 * HOUR }],
    })
    expect(givesAccess(twice, API, T0 + 4 * HOUR - 1)).toBe(true)
    expect(givesAccess(twice, API, T0 + 4 * HOUR)).toBe(false)
  })

  test('a double click is one approval, and no error', () => {
    const request = make({}, { plan: twoLeads })
    const click = vote(request, 'mona', 'approve')
    const result = next(play(request, click), click)
    expect(result).toMatchObject({ request: { state: 'requested', votes: [{}] } })
    expect(result.refused).toBeUndefined()
    const last = approved()
    expect(next(last, vote(last, 'mona', 'approve')).refused).toBeUndefined()
  })

  test('knows whose approvals opened it: not who was one more than it takes, nor whose vote came to count for nothing', () => {
    const security = [{ kind: 'group', name: 'security' }] as const
    const request = make({}, { plan: { steps: [{ slots: [LEADS] }, { slots: [security] }] } })
    expect(request.approvers).toBeUndefined()
    const votes = [person('mona'), person('raj'), person('sam', ['security'])]
    const open = play(request, ...votes.map(voter => vote(request, voter, 'approve')))
    expect(open.approvers).toEqual(['mona', 'sam'])
    // Mona turned out to be behind the request.
    const [first, second, third] = votes.map(voter => vote(request, voter, 'approve'))
    const without = play({ ...play(request, first!, second!), involved: ['dana', 'mona'] }, third!)
    expect(without.approvers).toEqual(['raj', 'sam'])
    expect(play(open, vote(open, 'raj', 'deny', T0 + 2)).approvers).toEqual(['mona', 'sam'])
  })

  test('lapses when nobody answers, also when nobody swept: a late approval finds it lapsed', () => {
    const request = make()
    const late = next(request, vote(request, 'mona', 'approve', T0 + 4 * HOUR))
    expect(late).toMatchObject({ request: { state: 'lapsed' }, refused: 'it is lapsed already' })
  })

  test.each([
    ['denied', (r: Request): Event => vote(r, 'raj', 'deny')],
    ['withdrawn', (): Event => ({ kind: 'withdraw', at: T0 + 1, person: 'dana' })],
    ['lapsed', (): Event => ({ kind: 'tick', at: T0 + 5 * HOUR })],
    ['denied', (): Event => ({ kind: 'lock', at: T0 + 1 })],
  ])('is %s, and no approval afterwards changes that (threat 53)', (state, event) => {
    const request = make()
    const over = play(request, event(request))
    expect(over.state).toBe(state)
    const tried = next(over, vote(request, 'mona', 'approve', T0 + 2))
    expect(tried.refused).toBe(`it is ${state} already`)
    expect(givesAccess(tried.request, API, T0 + 3)).toBe(false)
  })

  test.each<[string, Partial<AskedFor>, Partial<Conditions>, string?]>([
    ['another principal', { principal: 'eve' }, {}],
    ['another repository', { targets: [{ ...asked.targets[0]!, repository: 'acme/vault' }] }, {}],
    ['another ref', { targets: [{ ...asked.targets[0]!, refs: ['main'] }] }, {}],
    ['another action', { targets: [{ ...asked.targets[0]!, actions: ['force'] }] }, {}],
    ['a longer window', { window: 3 * HOUR }, {}],
    ['another reason', { reason: 'other' }, {}],
    ['another start', { starts: T0 + HOUR }, {}],
    ['another plan', {}, { plan: twoLeads }],
    ['another id, the same words', {}, {}, 'r-2'],
  ])('an approval is not good for %s (threat 53)', (_, more, terms, id) => {
    const replayed = vote(make(), 'mona', 'approve')
    const other = make(more, terms, id)
    const result = next(other, replayed)
    expect(result.refused).toContain('for something else')
    expect(result.request.votes).toEqual([])
  })

  test('who asked cannot approve or deny it, by whatever account; nor can a machine or a stranger', () => {
    const request = make()
    expect(next(request, vote(request, { ...person('dana'), principal: 'github:dana' }, 'approve')).refused).toContain(
      'nobody approves',
    )
    expect(next(request, vote(request, { ...person('bot'), kind: 'service' }, 'approve')).refused).toContain('machine')
    expect(next(request, vote(request, person('eve', ['interns']), 'approve')).refused).toContain('not among')
    expect(next(request, vote(request, person('eve', ['interns']), 'deny')).request.state).toBe('requested')
  })

  test('for somebody else is approved by neither of the two', () => {
    const request = makeRequest('r-1', { ...asked, requester: 'raj' }, conditions, ['dana', 'raj'], T0)
    expect(next(request, vote(request, 'raj', 'approve')).refused).toContain('nobody approves')
    expect(play(request, vote(request, 'mona', 'approve')).state).toBe('approved')
  })

  test('that changes starts over: votes, digest and the time to answer', () => {
    const request = make({}, { plan: twoLeads })
    const once = play(request, vote(request, 'mona', 'approve'))
    const changed = play(once, {
      kind: 'change',
      at: T0 + HOUR,
      person: 'dana',
      asked: { ...asked, window: 8 * HOUR },
      conditions: { ...conditions, plan: twoLeads },
    })
    expect(changed).toMatchObject({ id: 'r-1', state: 'requested', votes: [], lapses: T0 + 5 * HOUR })
    expect(changed.digest).not.toBe(request.digest)
    expect(next(changed, vote(request, 'raj', 'approve')).refused).toContain('for something else')
    expect(next(once, { kind: 'change', at: T0, person: 'eve', asked, conditions }).refused).toContain('only who asked')
    expect(
      next(once, { kind: 'change', at: T0, person: 'dana', asked: { ...asked, principal: 'eve' }, conditions }).refused,
    ).toContain('somebody else')
    expect(next(approved(), { kind: 'change', at: T0 + 2, person: 'dana', asked, conditions }).refused).toContain(
      'approved already',
    )
  })

  test('asked again is the same request; other words change it; another ref is another', () => {
    const pending = make()
    expect(sameRequest(pending, { ...asked })).toBe('same')
    expect(sameRequest(pending, { ...asked, reason: 'better words' })).toBe('changed')
    expect(sameRequest(pending, { ...asked, targets: [{ ...asked.targets[0]!, refs: ['main'] }] })).toBe('another')
    expect(sameRequest(approved(), asked)).toBe('another')
    const turned = { ...asked.targets[0]!, actions: ['update', 'create'] as const, refs: ['refs/heads/release/*'] }
    expect(dedupeKey({ ...asked, targets: [turned] })).toBe(dedupeKey(asked))
    expect(dedupeKey({ ...asked, principal: 'raj' })).not.toBe(dedupeKey(asked))
  })

  test('with an asked start opens then, and a late approval shortens it', () => {
    const ahead = approved({ starts: T0 + HOUR })
    expect(ahead.windows).toMatchObject([{ state: 'scheduled', starts: T0 + HOUR, expires: T0 + 3 * HOUR }])
    expect(givesAccess(ahead, API, T0 + HOUR - 1)).toBe(false)
    expect(givesAccess(ahead, API, T0 + HOUR)).toBe(true)
    const request = make({ starts: T0 })
    expect(play(request, vote(request, 'mona', 'approve', T0 + HOUR)).windows).toMatchObject([
      { state: 'live', starts: T0 + HOUR, expires: T0 + 2 * HOUR },
    ])
    expect(next(request, vote(request, 'mona', 'approve', T0 + 2 * HOUR)).request.state).toBe('lapsed')
  })

  test('after silence others may approve as well', () => {
    const request = make({}, { escalation: { after: HOUR, to: [{ kind: 'group', name: 'directors' }] } })
    const director = person('kim', ['directors'])
    expect(next(request, vote(request, director, 'approve', T0 + HOUR - 1)).refused).toContain('not among')
    expect(play(request, vote(request, director, 'approve', T0 + HOUR)).state).toBe('approved')
  })

  test('without a plan and without the policy’s own word never opens', () => {
    const request = make({}, { plan: NOBODY })
    expect(request.state).toBe('requested')
    expect(play(request, vote(request, 'mona', 'approve')).state).toBe('requested')
  })

  test('that the policy approves by itself is open at once, by nobody’s approval', () => {
    expect(make({}, { plan: NOBODY, immediate: 'automatic' })).toMatchObject({
      state: 'approved',
      approvers: [],
      windows: [{ state: 'live', starts: T0 }],
    })
  })

  test('for several repositories opens a window for each, which end each for itself', () => {
    const bundle = approved({
      targets: [API, 'acme/web'].map(repository => ({ repository, actions: ['update'], refs: [] })),
    })
    const one = play(bundle, { kind: 'revoke', at: T0 + 2, repository: API })
    expect(givesAccess(one, API, T0 + 3)).toBe(false)
    expect(givesAccess(one, 'acme/web', T0 + 3)).toBe(true)
    expect(givesAccess(one, 'acme/other', T0 + 3)).toBe(false)
  })

  test('that recurs opens a window for each time that is still ahead', () => {
    // From 02:00 to 04:00 every night, where T0 is 03:00.
    const minute = (Math.floor(T0 / 60_000) % 1440) - 60
    const nightly = weekly('UTC', [{ days: [0, 1, 2, 3, 4, 5, 6], from: minute, to: minute + 120 }])
    const request = make({ recurring: nightly, window: 48 * HOUR, starts: T0 }, { timeout: 40 * HOUR })
    expect(play(request, vote(request, 'mona', 'approve', T0)).windows).toMatchObject([
      { state: 'live', starts: T0, expires: T0 + HOUR },
      { state: 'scheduled', starts: T0 + 23 * HOUR, expires: T0 + 25 * HOUR },
      { state: 'scheduled', starts: T0 + 47 * HOUR, expires: T0 + 48 * HOUR },
    ])
    const late = play(request, vote(request, 'mona', 'approve', T0 + 30 * HOUR))
    expect(late.windows).toMatchObject([{ state: 'scheduled', starts: T0 + 47 * HOUR, expires: T0 + 48 * HOUR }])
  })

  test('that recurs is open at its hours and not between them, and each time ends for itself', () => {
    const minute = Math.floor(T0 / 60_000) % 1440
    const hours = weekly('UTC', [{ days: [0, 1, 2, 3, 4, 5, 6], from: minute, to: minute + 60 }])
    const request = make({ recurring: hours, window: 50 * HOUR, idle: HOUR / 2 })
    const open = play(request, vote(request, 'mona', 'approve', T0))
    const isOpenAt = (hour: number) => givesAccess(open, API, T0 + hour * HOUR)
    expect([0, 0.4, 0.6, 2, 23.9, 24.2, 24.8, 48.2, 72.2].map(isOpenAt)).toEqual([
      ...[true, true, false, false, false, true, false, true, false],
    ])
    const revoked = play(open, { kind: 'revoke', at: T0 + 30 * HOUR })
    expect(revoked.windows.map(({ state }) => state)).toEqual(['idle', 'idle', 'revoked'])
  })

  test('that recurs is the same request however often it is asked, and another than one for a single window', () => {
    const hours = weekly('UTC', [{ days: [0], from: 120, to: 240 }])
    const request = make({ recurring: hours, window: 48 * HOUR })
    expect(sameRequest(request, { ...request.asked })).toBe('same')
    expect(sameRequest(request, { ...request.asked, window: HOUR })).toBe('changed')
    const { recurring: _, ...single } = request.asked
    expect(sameRequest(request, single)).toBe('another')
  })
})

describe('breaking glass', () => {
  const review = { plan: oneLead, within: 24 * HOUR }
  const glass = () => make({ breakGlass: true }, { plan: NOBODY, immediate: 'break-glass', review })
  const look = (request: Request, who: string, says: 'approve' | 'deny', at = T0 + HOUR): Event => ({
    kind: 'review',
    at,
    vote: (vote(request, who, says, at) as { vote: Vote }).vote,
  })

  test('opens at once and stays due for review, long after its window', () => {
    expect(glass()).toMatchObject({ state: 'approved', review: { state: 'due', due: T0 + 24 * HOUR } })
    expect(play(glass(), { kind: 'tick', at: T0 + 25 * HOUR })).toMatchObject({
      review: { state: 'overdue' },
      windows: [{ state: 'expired' }],
    })
    expect(play(glass(), look(glass(), 'mona', 'approve', T0 + 30 * HOUR)).review?.state).toBe('accepted')
  })

  test('is not reviewed by who broke it, nor twice', () => {
    expect(next(glass(), look(glass(), 'dana', 'approve')).refused).toContain('nobody approves')
    expect(next(play(glass(), look(glass(), 'mona', 'approve')), look(glass(), 'raj', 'deny')).refused).toBe(
      'there is nothing to review',
    )
    expect(next(approved(), look(glass(), 'mona', 'approve')).refused).toBe('there is nothing to review')
  })

  test('a reviewer who objects ends what is still open', () => {
    const questioned = play(glass(), look(glass(), 'mona', 'deny'))
    expect(questioned).toMatchObject({ review: { state: 'questioned' }, windows: [{ state: 'revoked' }] })
  })
})

describe('an extension', () => {
  const extension = (more: Partial<AskedFor> = {}) => {
    const request = makeRequest('r-2', { ...asked, extends: 'r-1', window: HOUR, ...more }, conditions, ['dana'], T0)
    return play(request, vote(request, 'mona', 'approve', T0 + 1.5 * HOUR))
  }
  const extend = (of: Request, at = T0 + 1.5 * HOUR): Event => ({ kind: 'extend', at, extension: of })

  test('makes the window end later, counted from its approval, and opens none of its own', () => {
    expect(extension().windows).toEqual([])
    expect(play(approved(), extend(extension())).windows).toMatchObject([{ expires: T0 + 2.5 * HOUR, state: 'live' }])
  })

  test('never makes it shorter', () => {
    expect(play(approved(), extend(extension({ window: 1 }))).windows).toMatchObject([{ expires: T0 + 1 + 2 * HOUR }])
  })

  test.each<[string, Partial<AskedFor>, string]>([
    ['another request', { extends: 'r-9' }, 'for another request'],
    ['another principal', { principal: 'eve' }, 'for another request'],
    [
      'less, which was easier to get',
      { targets: [{ repository: API, actions: ['fetch'], refs: [] }] },
      'asks for other things',
    ],
  ])('for %s is not taken', (_, more, message) => {
    expect(next(approved(), extend(extension(more))).refused).toContain(message)
  })

  test('that nobody approved, or for a window that is over, is not taken', () => {
    const pending = makeRequest('r-2', { ...asked, extends: 'r-1' }, conditions, ['dana'], T0)
    expect(next(approved(), extend(pending)).refused).toBe('the extension is requested')
    expect(next(approved(), extend(extension(), T0 + 2 * HOUR + 1)).refused).toContain('over')
    expect(next(play(approved(), { kind: 'revoke', at: T0 + 2 }), extend(extension())).refused).toContain('over')
  })

  test('against revocation, in any order, a thousand times: denial wins (threat 56)', () => {
    const events = [
      { kind: 'revoke', at: T0 + 1.5 * HOUR } as Event,
      extend(extension()),
      extend(extension()),
      { kind: 'tick', at: T0 + 1.5 * HOUR } as Event,
    ]
    fc.assert(
      fc.property(fc.shuffledSubarray(events, { minLength: 4 }), order => {
        const end = play(approved(), ...order)
        expect(givesAccess(end, API, T0 + 1.5 * HOUR)).toBe(false)
        expect(end.windows).toMatchObject([{ state: 'revoked' }])
      }),
      { numRuns: 1_000 },
    )
  })
})

describe('one outcome for things at one moment', () => {
  test('approve against withdraw, and against deny, in any order, a thousand times: denial wins', () => {
    const request = make({}, { plan: twoLeads })
    const approvals = ['mona', 'raj', 'mona', 'kim'].map(name => vote(request, name, 'approve'))
    const against: Event[] = [
      { kind: 'withdraw', at: T0 + 1, person: 'dana' },
      vote(request, 'ana', 'deny'),
      { kind: 'lock', at: T0 + 1 },
    ]
    fc.assert(
      fc.property(fc.constantFrom(...against), fc.infiniteStream(fc.nat(100)), (no, random) => {
        const order = [...approvals, no]
          .map(event => ({ event, key: random.next().value }))
          .sort((a, b) => a.key - b.key)
        const end = play(request, ...order.map(({ event }) => event))
        expect(end.state).not.toBe('requested')
        expect(end.windows.some(isStanding)).toBe(false)
        expect(givesAccess(end, API, T0 + 2)).toBe(false)
      }),
      { numRuns: 1_500 },
    )
  })

  test('two approvals of one step at one moment open one window', () => {
    const request = make()
    expect(play(request, vote(request, 'mona', 'approve'), vote(request, 'raj', 'approve')).windows).toHaveLength(1)
  })
})

describe('a window', () => {
  const live: Window = { repository: API, state: 'live', starts: T0, expires: T0 + 2 * HOUR, lastUsed: T0 }

  test('ends without use, and use keeps it', () => {
    const idle = { ...live, idle: HOUR }
    expect(isOpen(idle, T0 + HOUR)).toBe(false)
    expect(settleWindow(idle, T0 + HOUR).state).toBe('idle')
    const used = useWindow(idle, T0 + HOUR - 1)
    expect(isOpen(used, T0 + HOUR)).toBe(true)
    expect(settleWindow(useWindow(used, T0 + 1.5 * HOUR), T0 + 2 * HOUR).state).toBe('expired')
  })

  test('of one use ends with it', () => {
    const once = useWindow({ ...live, left: 1 }, T0 + 1)
    expect(once).toMatchObject({ state: 'used', left: 0 })
    expect(isOpen(once, T0 + 1)).toBe(false)
  })

  test('that ended has no way back', () => {
    const events: WindowEvent[] = [
      'start',
      'expire',
      'idle',
      'use-up',
      'release',
      'revoke',
      'lock',
      'deny',
      'withdraw',
      'extend',
    ]
    for (const state of ['expired', 'revoked', 'released', 'idle', 'used', 'locked'] as const) {
      expect(WINDOW_TABLE[state]).toEqual({})
      for (const event of events) expect(moveWindow({ ...live, state }, event)).toMatchObject({ state })
      expect(isOpen({ ...live, state }, T0 + 1)).toBe(false)
      expect(extendWindow({ ...live, state }, T0 + 9 * HOUR)).toMatchObject({ state, expires: live.expires })
    }
  })

  test('is released only by who holds it, and locked with its principal', () => {
    expect(next(approved(), { kind: 'release', at: T0 + 2, person: 'eve' }).refused).toContain('only who')
    expect(play(approved(), { kind: 'release', at: T0 + 2, person: 'dana' }).windows).toMatchObject([
      { state: 'released' },
    ])
    expect(play(approved(), { kind: 'lock', at: T0 + 2 }).windows).toMatchObject([{ state: 'locked' }])
    expect(next(make(), { kind: 'release', at: T0 + 2, person: 'dana' }).refused).toBe('no window of it stands')
  })
})

test('the final states of a request have no way out', () => {
  for (const state of ['approved', 'denied', 'withdrawn', 'lapsed'] as const) expect(REQUEST_TABLE[state]).toEqual({})
})

test('no sequence of events gives access without a live approved window (property)', () => {
  const people = ['dana', 'mona', 'raj', 'eve', 'bot'] as const
  const step = fc.record({
    what: fc.constantFrom(
      'approve',
      'approve',
      'approve',
      'deny',
      'withdraw',
      'change',
      'release',
      'revoke',
      'lock',
      'use',
      'extend',
      'tick',
    ),
    who: fc.constantFrom(...people),
    stale: fc.boolean(),
    wait: fc.nat(HOUR),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), fc.boolean(), (steps, idle) => {
      let request = make(idle ? { idle: HOUR / 2 } : {}, { plan: twoLeads })
      const first = request.digest
      const said = new Set<string>()
      const refusals: number[] = []
      let now = T0
      for (const { what, who, stale, wait } of steps) {
        now += wait
        const voter =
          who === 'eve'
            ? person('eve', ['interns'])
            : who === 'bot'
              ? { ...person('bot'), kind: 'service' as const }
              : person(who)
        const digest = stale ? first : request.digest
        const extension = {
          ...make({ extends: 'r-1' }, {}, 'r-2'),
          state: 'approved' as const,
          votes: [{ voter, says: 'approve' as const, digest, at: now }],
        }
        const changed: AskedFor = { ...request.asked, reason: `${request.asked.reason}!` }
        const events: Record<typeof what, Event> = {
          approve: { kind: 'vote', at: now, vote: { voter, says: 'approve', digest, at: now } },
          deny: { kind: 'vote', at: now, vote: { voter, says: 'deny', digest, at: now } },
          withdraw: { kind: 'withdraw', at: now, person: who },
          change: { kind: 'change', at: now, person: who, asked: changed, conditions: request.conditions },
          release: { kind: 'release', at: now, person: who },
          revoke: { kind: 'revoke', at: now },
          lock: { kind: 'lock', at: now },
          use: { kind: 'use', at: now, repository: API },
          extend: { kind: 'extend', at: now, extension },
          tick: { kind: 'tick', at: now },
        }
        const before = request
        const { request: moved, refused } = next(request, events[what])
        request = moved
        if (what === 'change' && refused === undefined) said.clear()
        if (
          what === 'approve' &&
          (who === 'mona' || who === 'raj') &&
          before.state === 'requested' &&
          refused === undefined
        )
          said.add(who)
        if ((what === 'revoke' || what === 'lock') && request.state !== 'requested' && before.windows.length > 0)
          refusals.push(now)

        // What an auditor would say from the events alone, against what the machine gives.
        const open = givesAccess(request, API, now)
        if (open) {
          expect(request.state).toBe('approved')
          expect(said).toEqual(new Set(['mona', 'raj']))
          expect(refusals).toEqual([])
          expect(request.windows.some(window => window.starts <= now && now < window.expires)).toBe(true)
        }
        if (before.state !== 'requested') expect(request.state).toBe(before.state)
        for (const [index, window] of before.windows.entries()) {
          if (!isStanding(window)) expect(request.windows[index]!.state).toBe(window.state)
        }
      }
    }),
    { numRuns: 3_000 },
  )
})
