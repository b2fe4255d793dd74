import { expect, test } from 'vitest'
import type { Ask, LiveGrant } from '../../grant/grant.ts'
import type { GateOptions } from '../../proxy/gate.ts'
import { Session } from '../../proxy/session.ts'
import { client, gateOf, granted, live, wanted } from './attempt.ts'

const budget = (over: Partial<LiveGrant> = {}) => live({ bounds: { bytes: 1_000 }, ...over })

async function opened(answer: () => Promise<ReturnType<typeof granted>>, change: Partial<GateOptions> = {}) {
  const asks: Ask[] = []
  const { gate } = gateOf({
    ask: async ask => {
      asks.push(ask)
      return await answer()
    },
    ...change,
  })
  const session = await gate.open(client(), wanted())
  if (!(session instanceof Session)) throw new Error(session.sentence)
  return { gate, session, told: () => asks.map(({ carried }) => carried?.bytes) }
}

test('an operation is cut with the byte that is too many, in whichever direction it went', async () => {
  const { session } = await opened(async () => granted(budget({ carried: 600 })))
  session.carry('in', 100)
  session.carry('out', 300)
  expect(session.signal.aborted).toBe(false)
  session.carry('out', 1)
  expect(session.cutBy).toMatchObject({ code: 'cut', sentence: 'the 1,000 bytes of your window are used up' })
})

test('what went by is told at each question once, and the rest of it at the end', async () => {
  const { gate, session, told } = await opened(async () => granted(budget()))
  session.carry('out', 300)
  await gate.again(session)
  await gate.again(session)
  session.carry('in', 20)
  await session.end({ result: 'ok' })
  expect(told()).toEqual([undefined, 300, undefined, 20])
})

test('what Redis did not hear is told again, rather twice than never', async () => {
  let away = false
  const { gate, session, told } = await opened(async () => {
    if (away) throw new Error('away')
    return granted(budget())
  })
  session.carry('out', 300)
  away = true
  expect(await gate.again(session)).toMatchObject({ code: 'redis-unreachable' })
  away = false
  session.carry('out', 5)
  await gate.again(session)
  expect(told()).toEqual([undefined, 300, 305])
})

test('others have used some of it meanwhile: what is left is what Redis says', async () => {
  let carried = 0
  const { gate, session } = await opened(async () => granted(budget({ carried })))
  session.carry('out', 500)
  carried = 900
  await gate.again(session)
  session.carry('out', 100)
  expect(session.signal.aborted).toBe(false)
  session.carry('out', 1)
  expect(session.signal.aborted).toBe(true)
})

test('a window that counts no bytes and covers the same is used first', async () => {
  const { gate, session, told } = await opened(async () => granted(budget(), live({ id: 'free' })))
  session.carry('out', 5_000)
  await gate.again(session)
  expect(session.signal.aborted).toBe(false)
  expect(told()).toEqual([undefined, undefined])
})

test('where a repository is only observed nobody is cut by it, and the end says so', async () => {
  const { session } = await opened(async () => granted(budget()), { observes: () => true })
  session.carry('out', 5_000)
  expect(session.signal.aborted).toBe(false)
  expect(session.instead).toMatchObject({ code: 'spent' })
})
