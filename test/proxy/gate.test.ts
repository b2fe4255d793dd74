import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Record } from '../../audit/record.ts'
import type { Answer, Ask } from '../../grant/grant.ts'
import type { Gate } from '../../proxy/gate.ts'
import { Session } from '../../proxy/session.ts'
import type { Wanted } from '../../proxy/wanted.ts'
import { client, gateOf, granted, live, wanted } from './attempt.ts'

async function opened(gate: Gate, change: Partial<Wanted> = {}, whose = client()): Promise<Session> {
  const session = await gate.open(whose, wanted(change))
  if (!(session instanceof Session)) throw new Error(`refused: ${session.sentence}`)
  return session
}

describe('an operation', () => {
  test('begins when its start is on record, and no sooner', async () => {
    const durable = Promise.withResolvers<void>()
    const emitted: Record[] = []
    const { gate } = gateOf({
      emit: record => {
        emitted.push(record)
        return durable.promise
      },
    })
    let begun = false
    const opening = opened(gate).then(session => {
      begun = true
      return session
    })
    await turn()
    expect(emitted).toMatchObject([{ kind: 'operation.start', grants: ['g-1'] }])
    expect(begun).toBe(false)
    durable.resolve()
    expect((await opening).operation).toBe((emitted[0] as { operation: string }).operation)
  })

  test('has on record which of its grants answer a request, who approved that, and by which policy', async () => {
    const approved = { request: 'r-1', approvers: ['mona', 'raj'], policy: 'v1' }
    const grants = [live(approved), live({ id: 'g-2' }), live({ id: 'g-3', request: 'r-3' })]
    const { gate, records } = gateOf({ ask: async () => granted(...grants) })
    await opened(gate)
    expect(records).toMatchObject([{ grants: ['g-1', 'g-2', 'g-3'] }])
    // The third is older than what is known of the others, so that nothing is made up for it.
    expect(records[0]).toHaveProperty('under', [
      { grant: 'g-1', ...approved },
      { grant: 'g-3', request: 'r-3' },
    ])
    const alone = gateOf()
    await opened(alone.gate)
    expect(alone.records[0]).not.toHaveProperty('under')
  })

  test('whose start cannot be written does not begin, and leaves nothing running', async () => {
    const ended: Session[] = []
    const { gate } = gateOf({ emit: () => Promise.reject(new Error('disk full')), onEnd: each => ended.push(each) })
    expect(await gate.open(client(), wanted())).toMatchObject({ kind: 'refusal', code: 'ledger-unreachable' })
    expect(gate.running).toBe(0)
    expect(ended).toEqual([])
  })

  test('is cut by a revocation that comes while its start is being written', async () => {
    const durable = Promise.withResolvers<void>()
    let answer = granted(live())
    const { gate } = gateOf({ ask: async () => answer, emit: () => durable.promise })
    const opening = opened(gate)
    await turn()
    answer = granted()
    gate.onCut({ principal: 'alice', reason: 'over' })
    await turn()
    durable.resolve()
    const session = await opening
    expect(session.signal.aborted).toBe(true)
    expect(session.cutBy).toMatchObject({ code: 'cut', sentence: 'your window was closed: over' })
  })

  test('has its end written once, whoever ends it', async () => {
    const { gate, records } = gateOf()
    const session = await opened(gate)
    await Promise.all([session.end({ result: 'ok' }), session.end({ result: 'failed', reason: 'late' })])
    gate.onCut({ principal: 'alice', operation: session.operation, reason: 'too late' })
    expect(records.map(({ kind }) => kind)).toEqual(['operation.start', 'operation.end'])
    expect(records[1]).toMatchObject({ result: 'ok' })
    expect(gate.running).toBe(0)
  })

  test('whose end cannot be written is over all the same', async () => {
    let away = false
    const { gate } = gateOf({ emit: async () => (away ? Promise.reject(new Error('away')) : undefined) })
    const session = await opened(gate)
    away = true
    await session.end({ result: 'ok' })
    expect(gate.running).toBe(0)
  })
})

test('from a network that is locked out nothing begins, and what runs is cut', async () => {
  let why: string | undefined
  const { gate, records } = gateOf({ lockedOut: () => why })
  const session = await opened(gate)
  why = 'nothing is let in from 203.0.113.0/24: malware'
  gate.recheck()
  await vi.waitFor(() => expect(session.signal.aborted).toBe(true))
  expect(session.cutBy?.sentence).toContain('203.0.113.0/24: malware')
  expect(await gate.open(client(), wanted())).toMatchObject({ code: 'locked', sentence: expect.stringContaining(why) })
  expect(records.at(-1)).toMatchObject({ kind: 'operation.refused', code: 'locked' })
})

describe('a refusal', () => {
  const answers: [Answer | Error, string, RegExp][] = [
    [granted(), 'no-grant', /^no open window for you on acme\/app$/],
    [{ kind: 'locked', now: 0, reason: 'key lost' }, 'locked', /key lost/],
    [{ kind: 'barred', now: 0, credential: 'token:t-1' }, 'barred', /revoked/],
    [{ kind: 'spent', now: 0, grants: [] }, 'spent', /used up/],
    [{ kind: 'unconfirmed', now: 0 }, 'unconfirmed', /checking its revocations/],
    [new Error('timeout'), 'redis-unreachable', /cannot reach its grants/],
  ]
  test.each(answers)('by %j is recorded once, before it is told', async (answer, code, sentence) => {
    const { gate, records } = gateOf({
      ask: async () => {
        if (answer instanceof Error) throw answer
        return answer
      },
    })
    const attempt = wanted()
    expect(await gate.open(client(), attempt)).toMatchObject({ kind: 'refusal', code, operation: attempt.operation })
    expect(records).toMatchObject([{ kind: 'operation.refused', code, reason: expect.stringMatching(sentence) }])
    expect(gate.running).toBe(0)
  })

  test('names the ref where grants are open and do not cover it', async () => {
    const { gate } = gateOf()
    const refused = await gate.open(client(), wanted({ covers: () => undefined, explain: () => 'refs/heads/x: no' }))
    expect(refused).toMatchObject({ code: 'ref-refused', sentence: 'refs/heads/x: no' })
  })

  test('stands though the ledger does not take it', async () => {
    const { gate } = gateOf({ ask: async () => granted(), emit: () => Promise.reject(new Error('away')) })
    expect(await gate.open(client(), wanted())).toMatchObject({ code: 'no-grant' })
  })

  // Whoever has waited for the ledger once, in vain, would otherwise wait a second time to be told so.
  test('for want of the ledger does not wait for the ledger', async () => {
    let calls = 0
    const { gate } = gateOf({ emit: () => (calls++ === 0 ? Promise.reject(new Error('away')) : new Promise(() => {})) })
    expect(await gate.open(client(), wanted())).toMatchObject({ code: 'ledger-unreachable' })
    expect(calls).toBe(2)
  })
})

describe('asking again', () => {
  test('takes the grants as they are now', async () => {
    let answer = granted(live())
    const { gate } = gateOf({ ask: async () => answer })
    const session = await opened(gate)
    answer = granted(live({ id: 'g-2' }))
    expect(await gate.again(session)).toBeUndefined()
    expect(session.grants.map(({ id }) => id)).toEqual(['g-2'])
    answer = granted()
    expect(await gate.again(session)).toMatchObject({ code: 'no-grant' })
  })

  test('after a cut gives the cut, and asks nobody', async () => {
    let asked = 0
    const { gate } = gateOf({
      ask: async () => {
        asked++
        return granted(live())
      },
    })
    const session = await opened(gate)
    gate.cut(session.operation, 'too large')
    expect(await gate.again(session)).toMatchObject({ code: 'cut', sentence: 'too large' })
    expect(asked).toBe(1)
  })

  test('after its end, or its client left, is refused', async () => {
    const { gate } = gateOf()
    const over = await opened(gate)
    await over.end({ result: 'ok' })
    expect(await gate.again(over)).toMatchObject({ code: 'cut' })
    const whose = client()
    const left = await opened(gate, {}, whose)
    whose.leave()
    expect(await gate.again(left)).toMatchObject({ code: 'cut' })
  })

  const once = live({ id: 'once', uses: 1, left: 1, ends: 5_000 })
  const twice = live({ id: 'twice', uses: 2, left: 2, ends: 9_000 })
  const free = live({ id: 'free' })
  const both = (...ids: string[]) => ({
    covers: (grants: readonly { id: string }[]) =>
      ids.every(id => grants.some(grant => grant.id === id)) ? grants : undefined,
  })
  test.each([
    ['nothing where an uncounted grant covers it too', [once, free], {}, undefined],
    ['a use of the one that ends first, where either would do', [twice, once], {}, ['once']],
    ['a use of each that is needed', [once, twice], both('once', 'twice'), ['once', 'twice']],
    [
      'a use of the counted one alone, where an uncounted one covers the rest',
      [twice, free],
      both('free', 'twice'),
      ['twice'],
    ],
  ])('counts %s', async (_what, grants, change, spent) => {
    const asks: Ask[] = []
    const { gate } = gateOf({
      ask: async ask => {
        asks.push(ask)
        return granted(...grants)
      },
    })
    const session = await opened(gate, change as Partial<Wanted>)
    await gate.again(session)
    await gate.again(session, { consume: true })
    expect(asks.map(({ consume }) => consume?.grants)).toEqual([undefined, undefined, spent])
    if (spent) expect(asks[2]!.consume!.operation).toBe(session.operation)
  })
})

describe('a notice', () => {
  test('is about one principal: the others are not even asked about', async () => {
    const asks: Ask[] = []
    const { gate } = gateOf({
      ask: async ask => {
        asks.push(ask)
        return granted(live())
      },
    })
    const bob = client({ caller: { ...client().caller, principal: 'bob' } })
    const [hers, his] = [await opened(gate), await opened(gate, {}, bob)]
    asks.length = 0
    gate.onCut({ principal: 'alice', reason: 'over' })
    await turn()
    expect(asks.map(({ principal }) => principal)).toEqual(['alice'])
    expect([hers.signal.aborted, his.signal.aborted]).toEqual([false, false])
  })

  test('about one operation ends it, whatever its grants say', async () => {
    const { gate } = gateOf()
    const [one, other] = [await opened(gate), await opened(gate)]
    gate.onCut({ principal: 'alice', operation: one.operation, reason: 'too large' })
    expect(one.cutBy).toMatchObject({ sentence: 'it was ended by an administrator: too large' })
    expect(other.signal.aborted).toBe(false)
    expect(gate.cut('op-none', 'x')).toBe(false)
  })

  test('while Redis is silent cuts nothing by itself: how long it is silent is for the sweep to judge', async () => {
    let away = false
    const { gate } = gateOf({
      ask: async () => {
        if (away) throw new Error('timeout')
        return granted(live())
      },
    })
    const session = await opened(gate)
    away = true
    gate.onCut({ principal: 'alice', reason: 'over' })
    await turn()
    expect(session.signal.aborted).toBe(false)
  })

  test('comes to a push that is settled too late to hide what became of it', async () => {
    vi.useFakeTimers()
    let answer = granted(live())
    const { gate } = gateOf({ ask: async () => answer })
    const session = await opened(gate)
    expect(session.settle()).toBe(true)
    answer = granted()
    gate.onCut({ principal: 'alice', reason: 'over' })
    await vi.advanceTimersByTimeAsync(9_000)
    expect(session.signal.aborted).toBe(false)
    await vi.advanceTimersByTimeAsync(2_000)
    expect(session.signal.aborted).toBe(true)
    vi.useRealTimers()
  })
})

describe('time', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  test('is asked about when the first grant ends, by the clock of Redis', async () => {
    // Redis's clock is days away from ours.
    const now = 900_000_000
    let answer: Answer = {
      kind: 'live',
      now,
      grants: [live({ ends: now + 5_000 }), live({ id: 'g-2', ends: now + 9_000 })],
    }
    const { gate } = gateOf({ ask: async () => answer, sweepEvery: 3_600_000 })
    const session = await opened(gate)
    expect(session.window.grant).toBe('g-2')
    answer = { kind: 'live', now: now + 5_000, grants: [live({ id: 'g-2', ends: now + 9_000 })] }
    await vi.advanceTimersByTimeAsync(5_100)
    expect(session.signal.aborted).toBe(false)
    answer = { kind: 'live', now: now + 9_000, grants: [] }
    await vi.advanceTimersByTimeAsync(4_100)
    expect(session.cutBy).toMatchObject({ sentence: 'your window has ended' })
  })

  test('of a grant that ends in a year does not overflow a timer', async () => {
    let asked = 0
    const { gate } = gateOf({
      ask: async () => {
        asked++
        return granted(live({ ends: 365 * 86_400_000 }))
      },
      sweepEvery: 3_600_000,
    })
    await opened(gate)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(asked).toBe(1)
  })

  test('a sweep catches what no notice told of', async () => {
    let answer = granted(live())
    const { gate } = gateOf({ ask: async () => answer })
    const session = await opened(gate)
    answer = granted()
    await vi.advanceTimersByTimeAsync(1_000)
    expect(session.cutBy).toMatchObject({ sentence: 'your window has ended' })
  })

  test('of silence is borne to its bound and no longer, and a word from Redis sets it back', async () => {
    let away = false
    const { gate } = gateOf({
      ask: async () => {
        if (away) throw new Error('timeout')
        return granted(live({ ends: 3_600_000 }))
      },
    })
    const session = await opened(gate)
    for (let n = 0; n < 3; n++) {
      away = true
      await vi.advanceTimersByTimeAsync(2_000)
      away = false
      await vi.advanceTimersByTimeAsync(2_000)
    }
    expect(session.signal.aborted).toBe(false)
    away = true
    await vi.advanceTimersByTimeAsync(5_100)
    expect(session.cutBy).toMatchObject({ sentence: 'the gate can no longer see whether your window is open' })
  })

  test('with nothing running is no silence: whoever comes next is not cut for it', async () => {
    const { gate } = gateOf({ ask: async () => granted(live({ ends: 3_600_000 })) })
    await vi.advanceTimersByTimeAsync(600_000)
    const session = await opened(gate)
    await vi.advanceTimersByTimeAsync(2_000)
    expect(session.signal.aborted).toBe(false)
  })
})

describe('closing', () => {
  test('lets nobody new in, and whoever was being served finishes what they began', async () => {
    const { gate } = gateOf()
    const inside = client()
    const go = Promise.withResolvers<void>()
    const served = gate.attend(inside, async () => {
      await go.promise
      const session = await opened(gate, {}, inside)
      await session.end({ result: 'ok' })
    })
    let closed = false
    const closing = gate.close(60_000).then(() => {
      closed = true
    })
    expect(await gate.open(client(), wanted())).toMatchObject({ code: 'draining' })
    expect(closed).toBe(false)
    go.resolve()
    await served
    await closing
  })

  test('cuts what does not come to its end in time, and waits for its record', async () => {
    const { gate, records } = gateOf()
    const session = await opened(gate)
    session.signal.addEventListener('abort', () => void session.end({ result: 'cut', reason: session.cutBy!.sentence }))
    await gate.close(20)
    expect(records).toMatchObject([
      { kind: 'operation.start' },
      { result: 'cut', reason: 'this gate is being stopped' },
    ])
    expect(await gate.open(client(), wanted())).toMatchObject({ code: 'draining' })
  })

  test('with nothing running takes no time', async () => {
    await gateOf().gate.close(3_600_000)
  })
})
