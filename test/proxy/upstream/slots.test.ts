import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Slots } from '../../../proxy/upstream/slots.ts'

const never = new AbortController().signal

/** Whether a promise is settled by now. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false
  void promise.then(
    () => {
      done = true
    },
    () => {
      done = true
    },
  )
  await new Promise(resolve => setImmediate(resolve))
  return done
}

test('pushes that stream leave a slot for the questions about them', async () => {
  const slots = new Slots(2, 5_000)
  const push = await slots.take(true, never)
  const second = slots.take(true, never)
  expect(await settled(second)).toBe(false)
  const question = await slots.take(false, never)
  question()
  expect(await settled(second)).toBe(false)
  push()
  expect(await settled(second)).toBe(true)
})

test('a host with one connection can be pushed to', async () => {
  const slots = new Slots(1, 5_000)
  const leave = await slots.take(true, never)
  const next = slots.take(false, never)
  leave()
  leave()
  ;(await next)()
  expect(await settled(slots.take(true, never))).toBe(true)
})

test('nobody waits for ever, and who is cut waits no longer', async () => {
  const slots = new Slots(1, 50)
  await slots.take(false, never)
  await expect(slots.take(false, never)).rejects.toMatchObject({ code: 'timeout' })
  const cut = new AbortController()
  const waiting = slots.take(false, cut.signal)
  cut.abort(new Error('cut'))
  await expect(waiting).rejects.toThrow('cut')
  expect(() => slots.take(false, cut.signal)).toThrow('cut')
})

test('whatever comes and goes, never more than allowed are in, and nobody is forgotten', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.array(fc.record({ streams: fc.boolean(), first: fc.boolean() }), { maxLength: 30 }),
      async (count, steps) => {
        const slots = new Slots(count, 60_000)
        const inside: (() => void)[] = []
        let most = 0
        const all = steps.map(async ({ streams }) => {
          inside.push(await slots.take(streams, never))
          most = Math.max(most, inside.length)
        })
        for (const { first } of steps) {
          await Promise.resolve()
          ;(first ? inside.shift() : inside.pop())?.()
          await Promise.resolve()
        }
        for (let round = 0; round < steps.length * 2; round++) {
          inside.shift()?.()
          await new Promise(resolve => setImmediate(resolve))
        }
        await Promise.all(all)
        expect(most).toBeLessThanOrEqual(count)
      },
    ),
    { numRuns: 50 },
  )
})
