import fc from 'fast-check'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { createTipBoard, type Landed, TIPS_MAX, type TipBoard } from '../../grant/tips.ts'
import { type ConnectedRedis, startConnectedRedis } from '../support/redis.ts'

const REPOSITORY = 'acme/app'
const MAIN = 'refs/heads/main'

let server: ConnectedRedis
let redis: Redis
let board: TipBoard

beforeAll(async () => {
  server = await startConnectedRedis()
  redis = server.client
  board = createTipBoard({ redis })
})
afterAll(() => server?.stop())
beforeEach(() => redis.flushall())

const tip = async (ref = MAIN) => (await board.standing(REPOSITORY)).get(ref)?.id
const begins = (operation: string, ...refs: string[]) =>
  board.pushing(REPOSITORY, operation, refs.length > 0 ? refs : [MAIN])
const ends = (operation: string, ...landed: Landed[]) => board.pushed(REPOSITORY, operation, landed)
const at = (id: string): Landed => ({ ref: MAIN, id })
const kept: Landed = { ref: MAIN, was: 'kept' }

test('a ref is remembered where a push left it, for thirty days, and forgotten when it is deleted', async () => {
  await begins('a')
  expect(await tip()).toBe(undefined)
  await ends('a', at('1'))
  expect((await board.standing(REPOSITORY)).get(MAIN)).toEqual({ id: '1', age: expect.any(Number) })
  expect(await redis.pttl(`db:tips:${REPOSITORY}`)).toBeGreaterThan(29 * 24 * 3_600_000)
  expect((await board.standing('acme/other')).size).toBe(0)
  await begins('b')
  await ends('b', kept)
  expect(await tip()).toBe('1')
  await begins('c')
  await ends('c', { ref: MAIN, was: 'gone' })
  expect(await redis.exists(`db:tips:${REPOSITORY}`)).toBe(0)
})

test('whatever pushes do at once, and whatever is never known of them, a ref is never remembered where it does not stand', async () => {
  interface Push {
    readonly operation: string
    readonly old: string
    readonly id: string
    done: 'begun' | 'marked' | 'taken' | 'turned away'
  }
  const what = fc.constantFrom(...(['begin', 'go on', 'go on', 'go on', 'lose'] as const))
  const step = fc.tuple(what, fc.nat(2))
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async steps => {
      await redis.flushall()
      await begins('first')
      await ends('first', at('0'))
      let host = '0'
      const running: Push[] = []
      for (const [i, [what, which]] of steps.entries()) {
        // A client names what the host told it at the beginning, and a host takes the push only if that is still so.
        if (what === 'begin') running.push({ operation: `op-${i}`, old: host, id: `${i + 1}`, done: 'begun' })
        const push = running[which % Math.max(1, running.length)]
        if (what === 'begin' || !push) continue
        if (what === 'go on' && push.done === 'begun') {
          await begins(push.operation)
          push.done = 'marked'
        } else if (what === 'go on' && push.done === 'marked') {
          push.done = push.old === host ? 'taken' : 'turned away'
          if (push.done === 'taken') host = push.id
        } else {
          running.splice(running.indexOf(push), 1)
          if (what === 'go on') await ends(push.operation, push.done === 'taken' ? at(push.id) : kept)
        }
        expect([undefined, host]).toContain(await tip())
      }
    }),
    { numRuns: 200 },
  )
})

test('of many who find a ref elsewhere one is told, and none while a push is under way', async () => {
  await begins('a')
  await ends('a', at('1'))
  const find = (left: string, found: string) => board.moved(REPOSITORY, MAIN, left, found)
  const told = await Promise.all(Array.from({ length: 8 }, () => find('1', 'f')))
  expect(told.filter(Boolean)).toHaveLength(1)
  expect(await tip()).toBe('f')
  await begins('b')
  expect(await find('f', '2')).toBe(false)
  await ends('b', at('2'))
  expect(await find('f', '2')).toBe(false)
})

test('so many refs are remembered, and after a push of more none', async () => {
  const refs = Array.from({ length: TIPS_MAX + 5 }, (_, i) => `refs/heads/${i}`)
  const push = async (operation: string, some: string[]) => {
    await begins(operation, ...some)
    await ends(operation, ...some.map(ref => ({ ref, id: '1' })))
  }
  await push('a', refs.slice(0, TIPS_MAX))
  await push('b', refs.slice(TIPS_MAX))
  expect((await board.standing(REPOSITORY)).size).toBe(TIPS_MAX)
  expect(await tip(refs.at(-1))).toBe('1')
  await push('c', refs)
  expect((await board.standing(REPOSITORY)).size).toBe(0)
})
