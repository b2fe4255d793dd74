import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bypassesOf } from '../../../audit/anomaly/bypass.ts'
import { type Fact, networkOf, type Span, unusual } from '../../../audit/anomaly/detect.ts'
import type { Linked } from '../../../audit/chain.ts'
import type { DoneUpdate, Record } from '../../../audit/record.ts'
import { end, start } from '../records.ts'

const MINUTE = 60_000
const begun = (over: object = {}): Fact => ({
  kind: 'start',
  ...{ at: 1_000 * MINUTE, action: 'fetch', repository: 'acme/app', address: '192.0.2.7', grants: ['g-1'] },
  ...over,
})
const fetched = (bytes: number): Fact => ({ kind: 'fetched', at: 0, repository: 'acme/app', bytes })
const refused = (at: number): Fact => ({ kind: 'refused', at })
const none = () => undefined
const of = (fact: Fact, history: readonly Fact[], span: (grant: string) => Span | undefined = none) =>
  unusual(fact, history, span).map(({ anomaly }) => anomaly)

describe('what is unusual', () => {
  test('a fetch far above the habit is; the same without a habit, or a small one, is not', () => {
    const habit = Array.from({ length: 10 }, () => fetched(10 << 20))
    expect(of(fetched(400 << 20), habit)).toEqual(['volume'])
    expect(of(fetched(400 << 20), habit.slice(1))).toEqual([])
    expect(of(fetched(190 << 20), habit)).toEqual([])
    expect(
      of(
        fetched(90 << 20),
        Array.from({ length: 10 }, () => fetched(1)),
      ),
    ).toEqual([])
  })

  test('a fetch far above what anybody ever had from the repository is, though the person has no habit', () => {
    const told = (bytes: number, there: readonly number[]) => unusual(fetched(bytes), [], none, there)
    const clones = Array.from({ length: 10 }, (_, i) => (i + 1) * (10 << 20))
    expect(told(310 << 20, clones)).toMatchObject([
      { anomaly: 'volume', reason: expect.stringContaining('nobody had') },
    ])
    expect(told(290 << 20, clones)).toEqual([])
    expect(told(310 << 20, clones.slice(1))).toEqual([])
    expect(
      told(
        90 << 20,
        clones.map(() => 1),
      ),
    ).toEqual([])
  })

  test('nobody is told of for doing what they do every day', () => {
    const size = fc.integer({ min: 1 << 20, max: 2 ** 33 })
    fc.assert(
      fc.property(
        size,
        fc.array(fc.integer({ min: 50, max: 200 }), { minLength: 10, maxLength: 60 }),
        (usual, percent) => {
          const habit = percent.map(p => fetched(Math.floor((usual * p) / 100)))
          for (const fact of habit) expect(of(fact, habit)).toEqual([])
        },
      ),
    )
  })

  test('the twentieth repository of one window is, once; the same repository again is not', () => {
    const reached = (n: number) => Array.from({ length: n }, (_, i) => begun({ repository: `acme/${i}` }))
    expect(of(begun({ repository: 'acme/19' }), reached(19))).toEqual(['spread'])
    expect(of(begun({ repository: 'acme/3' }), reached(19))).toEqual([])
    expect(of(begun({ repository: 'acme/20' }), reached(20))).toEqual([])
    expect(of(begun({ repository: 'acme/19', grants: ['g-2'] }), reached(19))).toEqual([])
  })

  test('however the repositories come, a window is told of at most once', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 150 }), numbers => {
        const history: Fact[] = []
        let told = 0
        for (const n of numbers) {
          const fact = begun({ repository: `acme/${n}` })
          told += of(fact, history).length
          history.push(fact)
        }
        expect(told).toBe(new Set(numbers).size >= 20 ? 1 : 0)
      }),
    )
  })

  test('a network they never came from is, once there is a habit; a neighbour is not', () => {
    const habit = Array.from({ length: 10 }, () => begun())
    expect(of(begun({ address: '198.51.100.1' }), habit)).toEqual(['network'])
    expect(of(begun({ address: '192.0.2.200' }), habit)).toEqual([])
    expect(of(begun({ address: '198.51.100.1' }), habit.slice(1))).toEqual([])
    expect(of(begun({ address: '198.51.100.1' }), [...habit, begun({ address: '198.51.100.9' })])).toEqual([])
  })

  test('networks are told by their first bits, whatever the spelling', () => {
    expect(networkOf('::ffff:192.0.2.7')).toBe('192.0.2.0/24')
    expect(networkOf('2001:db8:0:1::7')).toBe(networkOf('2001:0db8:0000:ffff:1:2:3:4'))
    expect(networkOf('::1')).toBe('0:0:0::/48')
    fc.assert(fc.property(fc.ipV6(), address => void expect(networkOf(address)).toMatch(/\/(48|24)$/)))
  })

  test('a use in the last seconds of a long window is; of a short one, or earlier, or a listing, is not', () => {
    const at = 1_000 * MINUTE
    const window = (left: number, long: number) => () => ({ starts: at + left - long, expires: at + left })
    expect(of(begun(), [], window(20_000, 60 * MINUTE))).toEqual(['last-moment'])
    expect(of(begun(), [], window(20_000, MINUTE))).toEqual([])
    expect(of(begun(), [], window(31_000, 60 * MINUTE))).toEqual([])
    expect(of(begun(), [], window(-1, 60 * MINUTE))).toEqual([])
    expect(of(begun({ action: 'list' }), [], window(20_000, 60 * MINUTE))).toEqual([])
  })

  test('the tenth refusal in ten minutes is; the eleventh is not told again, and spread over a day none is', () => {
    const close = (n: number) => Array.from({ length: n }, (_, i) => refused(i * 1_000))
    expect(of(refused(20_000), close(9))).toEqual(['refusals'])
    expect(of(refused(20_000), close(10))).toEqual([])
    const far = Array.from({ length: 9 }, (_, i) => refused(i * 60 * MINUTE))
    expect(of(refused(600 * MINUTE), far)).toEqual([])
  })
})

describe('a ref that was moved past the gate', () => {
  const id = (n: number) => n.toString(16).padStart(40, '0')
  const entry = (record: Record): Linked => ({
    ...{ seq: 1, recorded: '', at: '', proxy: 'p', boot: 'b', n: 1, hash: '' },
    record,
  })
  const update = (from: number, to: number, result: DoneUpdate['result'] = 'ok') =>
    ({ ref: 'refs/heads/main', old: id(from), new: id(to), action: 'update', result }) as const
  const begins = (op: string, from: number, to: number) => entry(start(op, { updates: [update(from, to)] }))
  const ends = (op: string, from: number, to: number, more: Parameters<typeof end>[1] = {}) =>
    entry(end(op, { updates: [update(from, to)], ...more }))
  const push = (op: string, from: number, to: number) => [begins(op, from, to), ends(op, from, to)]

  test('is told by the push that found it', () => {
    const before = [...push('a', 1, 2), begins('b', 7, 8)]
    expect(bypassesOf(ends('b', 7, 8), before)).toMatchObject([{ ref: 'refs/heads/main', left: id(2), found: id(7) }])
  })

  test('also when it was put back to where a push had left it before', () => {
    const before = [...push('a', 1, 2), ...push('b', 2, 3), begins('c', 2, 4)]
    expect(bypassesOf(ends('c', 2, 4), before)).toHaveLength(1)
  })

  test('pushes through the gate alone raise no alarm, whatever became of some of them and in whichever order their ends are recorded', () => {
    const step = fc.record({ fate: fc.constantFrom('ok', 'rejected', 'lost', 'broke'), late: fc.boolean() })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), steps => {
        const log: Linked[] = []
        let tip = 0
        let held: Linked | undefined
        for (const [i, { fate, late }] of steps.entries()) {
          const [from, to, op] = [tip, i + 1, `op-${i}`]
          log.push(begins(op, from, to))
          // Of a push whose proxy died nobody knows whether it landed; here it did.
          const done =
            fate === 'ok'
              ? ends(op, from, to)
              : fate === 'rejected'
                ? ends(op, from, to, { updates: [update(from, to, 'rejected')] })
                : fate === 'broke'
                  ? ends(op, from, to, { result: 'failed', updates: [update(from, to, 'unknown')] })
                  : entry(end(op, { result: 'interrupted' }))
          if (fate !== 'rejected') tip = to
          for (const each of late && !held ? [] : [done]) {
            expect(bypassesOf(each, log)).toEqual([])
            log.push(each)
          }
          if (held) {
            expect(bypassesOf(held, log)).toEqual([])
            log.push(held)
            held = undefined
          } else if (late) held = done
        }
      }),
    )
  })

  test('the first push the record knows of, and pushes to other refs, raise none', () => {
    expect(bypassesOf(ends('a', 5, 6), [begins('a', 5, 6)])).toEqual([])
    const other = entry(end('x', { updates: [{ ...update(1, 9), ref: 'refs/heads/topic' }] }))
    expect(bypassesOf(ends('a', 5, 6), [other, begins('a', 5, 6)])).toEqual([])
  })
})
