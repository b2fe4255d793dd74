import { PassThrough, type Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import pino from 'pino'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import type { DoneUpdate, Record } from '../../audit/record.ts'
import { connectRedis } from '../../grant/redis.ts'
import { createTipBoard, type TipBoard } from '../../grant/tips.ts'
import { watchBypasses } from '../../proxy/bypass.ts'
import { FLUSH, line } from '../../proxy/git/pktline.ts'
import { relay } from '../../proxy/relay.ts'
import type { Result } from '../../proxy/session.ts'
import { until } from '../support/program.ts'
import { type ConnectedRedis, startConnectedRedis } from '../support/redis.ts'
import { openSession } from './attempt.ts'
import { splitAt, trickle } from './git/split.ts'

const MAIN = 'refs/heads/main'
const id = (digit: number | string, length = 40) => String(digit).repeat(length)
const log = pino({ level: 'silent' })

let server: ConnectedRedis
let redis: Redis
let board: TipBoard
let records: Record[]
let fails: boolean

beforeAll(async () => {
  server = await startConnectedRedis()
  redis = server.client
  board = createTipBoard({ redis })
})
afterAll(() => server?.stop())
beforeEach(async () => {
  await redis.flushall()
  records = []
  fails = false
})

/** A proxy that misses a ref at once, or as soon as it is said. */
function proxy(settled = -10_000) {
  const emit = async (record: Record) => {
    if (fails) throw new Error('the ledger is away')
    records.push(record)
  }
  const bypasses = watchBypasses({ board, emit, log, settled })
  return {
    /** A push as far as its last bytes; what it gives ends it. */
    begin: async (ref: string, to: string) => {
      const update = { ref, old: id(0, to.length), new: to, action: 'update-or-force' } as const
      const session = openSession(new PassThrough(), {}, { action: 'push', updates: [update] })
      await bypasses.pushing(session)
      return async (result: Result, said?: DoneUpdate['result'], letGo = true) => {
        if (letGo) session.settle()
        await session.end({ result, ...(said && { updates: [{ ...update, result: said }] }) })
        // What this says goes before what is asked next, on the same connection.
        bypasses.ended(session)
      }
    },
    list: async (answer: Readable, result: Result = 'ok') => {
      const session = openSession(new PassThrough().resume(), {}, { action: 'list' })
      const listing = bypasses.listing(session)
      await relay(answer, session.client.response, session, { framed: true, ...listing })
      await session.end({ result })
      bypasses.ended(session)
    },
  }
}

async function pushed(ref = MAIN, to = id(1)) {
  const end = await proxy().begin(ref, to)
  await end('ok', 'ok')
}
/** Whoever lists is done when Redis has answered everything that was asked; a few turns, as it asks more than once. */
const looked = async () => {
  for (let i = 0; i < 4; i++) await redis.ping()
  await sleep(1)
}
const listed = (...lines: string[]) => Buffer.concat([...lines.map(line), FLUSH])
const found = () => records.map(each => each.kind === 'bypass.suspected' && [each.ref, each.left, each.found])

test.each([
  ['protocol 0', [`${id(2)} ${MAIN}\0report-status ${'x'.repeat(600)}`, `${id(3)} refs/heads/other`]],
  ['protocol 1', ['version 1', `${id(2)} HEAD\0symref=HEAD:${MAIN}`, `${id(2)} ${MAIN}`]],
  ['ls-refs', [`${id(2)} HEAD symref-target:${MAIN}`, `${id(2)} ${MAIN}`, `${id(3)} refs/tags/v1 peeled:${id(2)}`]],
])('%s: a ref listed where no push left it is told of once, wherever the bytes are split', async (_, lines) => {
  const bytes = listed(...lines)
  for (let at = 0; at < bytes.length; at += 97) {
    await pushed()
    await proxy().list(splitAt(bytes, at))
    await until(() => records.length > 0, 'the alarm')
    await proxy().list(trickle(bytes))
    await looked()
    expect(found()).toEqual([[MAIN, id(1), id(2)]])
    expect(records[0]).toMatchObject({ repository: 'acme/app', principal: 'alice', by: 'drawbridge' })
    records = []
  }
})

test('also where ids are of SHA-256', async () => {
  await pushed(MAIN, id(1, 64))
  await proxy().list(splitAt(listed(`${id(2, 64)} ${MAIN}`), 1))
  await until(() => records.length > 0, 'the alarm')
  expect(found()).toEqual([[MAIN, id(1, 64), id(2, 64)]])
})

test.each<[string, string[]]>([
  ['where it was left, in capitals too', [`${id('a').toUpperCase()} ${MAIN}`]],
  ['by another name', [`${id(2)} ${MAIN} symref-target:refs/heads/trunk`]],
  ['as what a tag points to', [`${id(2)} ${MAIN}^{}`]],
  ['not at all', [`${id(2)} refs/heads/other`, 'shallow '.padEnd(48, '2'), `${id(2)} .have`]],
  ['behind twenty thousand others', [...Array<string>(20_000).fill(`${id(2)} refs/heads/x`), `${id(2)} ${MAIN}`]],
])('nothing is told of a ref that is listed %s', async (_, lines) => {
  await pushed(MAIN, id('a'))
  await proxy().list(splitAt(listed(...lines), 7))
  await looked()
  expect(records).toEqual([])
})

test('a push under way, one whose end nobody saw, one that ended since the listing was asked for and one just before raise none', async () => {
  const bytes = listed(`${id(2)} ${MAIN}`)
  const list = async (settled?: number) => {
    await proxy(settled).list(splitAt(bytes, 3))
    await looked()
    expect(records).toEqual([])
  }
  await pushed()
  // Through another proxy; it has landed, or not.
  const end = await proxy().begin(MAIN, id(2))
  await list()
  await end('failed', 'unknown')
  await list()
  await pushed()
  await list(30_000)
  // The listing is from before a push that turns out to have landed, and takes longer than a ref has to stand. (Redis counts whole
  // milliseconds, so a push of the very moment may seem one older than it is.)
  const late = new PassThrough()
  const listing = proxy(5).list(late)
  await pushed(MAIN, id(3))
  await sleep(20)
  late.end(bytes)
  await listing
  await looked()
  expect(records).toEqual([])
})

test('a push that was held back, or turned away by the host, leaves everything as it was', async () => {
  await pushed()
  await (await proxy().begin(MAIN, id(2)))('cut', undefined, false)
  await (await proxy().begin(MAIN, id(3)))('failed', 'rejected')
  await proxy().list(splitAt(listed(`${id(2)} ${MAIN}`), 3))
  await until(() => records.length > 0, 'the alarm')
  expect(found()).toEqual([[MAIN, id(1), id(2)]])
})

test('what could not be recorded is told by the next listing; one that broke off tells nothing', async () => {
  await pushed()
  const bytes = listed(`${id(2)} ${MAIN}`)
  await proxy().list(splitAt(bytes, 3), 'failed')
  await looked()
  fails = true
  await proxy().list(splitAt(bytes, 3))
  await looked()
  fails = false
  expect(records).toEqual([])
  await proxy().list(splitAt(bytes, 3))
  await until(() => records.length > 0, 'the alarm')
})

test('the same listing is not compared again for a while, except where Redis could not be asked', async () => {
  const { list } = proxy(60_000)
  const standing = vi.spyOn(board, 'standing').mockRejectedValueOnce(new Error('Redis is away'))
  for (const ref of [MAIN, MAIN, MAIN, 'refs/heads/other', 'refs/heads/other', MAIN]) {
    // As protocol 2 goes; the first names no ref, and nothing is asked for it.
    await list(splitAt(listed('version 2', 'ls-refs=unborn'), 3))
    await list(splitAt(listed(`${id(1)} ${ref}`), 3))
    await looked()
  }
  expect(standing).toHaveBeenCalledTimes(4)
  standing.mockRestore()
})

test('without Redis listings and pushes go by', async () => {
  const away = connectRedis('redis://127.0.0.1:1', () => {})
  const bypasses = watchBypasses({ board: createTipBoard({ redis: away }), emit: async () => {}, log })
  const update = { ref: MAIN, old: id(1), new: id(2), action: 'update' } as const
  const session = openSession(new PassThrough(), {}, { action: 'push', updates: [update] })
  await bypasses.pushing(session)
  bypasses.listing(session)
  await session.end({ result: 'ok' })
  bypasses.ended(session)
  await sleep(1)
  away.disconnect()
})
