import type { Redis } from 'ioredis'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { CutNotice } from '../../grant/grant.ts'
import { connectRedis, untilReady } from '../../grant/redis.ts'
import { createSessionBoard, cutSession, listSessions } from '../../grant/sessions.ts'
import { createStore } from '../../grant/store.ts'
import { type Watch, watchCuts } from '../../grant/watch.ts'
import { until } from '../support/program.ts'
import { type ConnectedRedis, startConnectedRedis } from '../support/redis.ts'

let server: ConnectedRedis
let redis: Redis
let listening: Redis
let watch: Watch | undefined
let heard: { cuts: CutNotice[]; back: number; silence: number; errors: string[] }

beforeEach(async () => {
  server = await startConnectedRedis()
  redis = server.client
  listening = connectRedis(server.url, () => {})
  heard = { cuts: [], back: 0, silence: 0, errors: [] }
})

afterEach(async () => {
  await watch?.close()
  watch = undefined
  listening.disconnect()
  await server.stop()
})

async function listen() {
  watch = watchCuts({
    redis: listening,
    pingEvery: 100,
    onCut: cut => heard.cuts.push(cut),
    onSilence: milliseconds => {
      heard.silence = milliseconds
    },
    onBack: () => heard.back++,
    onError: error => heard.errors.push(error.message),
  })
  await until(() => heard.back === 1, 'the watch to listen')
}

test('every loss of standing is published: revocation, lock, bar, and a cut of one operation', async () => {
  await listen()
  const store = createStore({ redis })
  await store.revoke({ principal: 'alice', grant: 'g-1', reason: 'enough' })
  await store.lock('bob', 'stolen', 1)
  await store.bar('carol', 'token:t-1', { reason: 'token revoked' })
  await cutSession(redis, { operation: 'op-1', principal: 'dave', reason: 'too large' })
  await store.unlock('bob', 2)
  await until(() => heard.cuts.length >= 4)
  expect(heard.cuts).toEqual([
    { principal: 'alice', grant: 'g-1', reason: 'enough' },
    { principal: 'bob', reason: 'stolen' },
    { principal: 'carol', reason: 'token revoked' },
    { operation: 'op-1', principal: 'dave', reason: 'too large' },
  ])
})

test('what is no notice is told and ends nothing', async () => {
  await listen()
  for (const text of ['', 'null', '{}', '{"principal":1,"reason":""}', 'x'.repeat(20_000)]) {
    await redis.publish('db:cut', text)
  }
  await until(() => heard.errors.length === 5)
  expect(heard.cuts).toEqual([])
})

test('a server that hangs is noticed, and so is its coming back', async () => {
  await listen()
  server.pause()
  await until(() => heard.silence > 300)
  server.resume()
  await until(() => heard.back >= 2)
  const store = createStore({ redis })
  await until(() =>
    store.revoke({ principal: 'alice', grant: 'g-1', reason: 'enough' }).then(
      () => true,
      () => false,
    ),
  )
  await until(() => heard.cuts.length > 0)
})

test('after a restart it listens again without being told', async () => {
  await listen()
  await server.kill()
  await until(() => heard.silence > 300)
  await server.restart()
  await until(() => heard.back >= 2)
  await untilReady(redis, 5_000)
  await redis.publish('db:cut', '{"principal":"alice","reason":"enough"}')
  await until(() => heard.cuts.length > 0)
})

test('running operations are listed for all proxies, and a proxy that died takes its own along', async () => {
  const session = (operation: string, started: number) => ({
    operation,
    principal: 'alice',
    repository: 'acme/api',
    service: 'upload-pack',
    action: 'fetch',
    grants: ['g-1'],
    transport: 'http',
    address: '127.0.0.1',
    started,
  })
  const one = createSessionBoard({ redis, proxy: 'one' })
  const two = createSessionBoard({ redis, proxy: 'two' })
  one.open(session('op-2', 2))
  one.open(session('op-3', 3))
  two.open(session('op-1', 1))
  await until(async () => (await listSessions(redis)).length === 3)
  expect((await listSessions(redis)).map(s => [s.operation, s.proxy])).toEqual([
    ['op-1', 'two'],
    ['op-2', 'one'],
    ['op-3', 'one'],
  ])
  one.close('op-2')
  await until(async () => (await listSessions(redis)).length === 2)

  // Lost with Redis's data, written again.
  await redis.flushall()
  one.open(session('op-4', 4))
  await until(async () => (await listSessions(redis)).some(s => s.operation === 'op-3'))

  await two.stop()
  await redis.pexpire('db:sessions:one', 1)
  await until(async () => (await listSessions(redis)).length === 0)
  await one.stop()
})

test('an operation that ends at once is never written', async () => {
  const board = createSessionBoard({ redis, proxy: 'one' })
  await until(async () => (await redis.exists('db:sessions')) === 1)
  const before = (await redis.info('commandstats')).match(/cmdstat_hset:calls=(\d+)/)?.[1]
  board.open({
    operation: 'op-1',
    principal: 'a',
    repository: 'r',
    service: 's',
    action: 'fetch',
    grants: [],
    transport: 'ssh',
    address: '',
    started: 1,
  })
  board.close('op-1')
  await new Promise(resolve => setTimeout(resolve, 600))
  expect((await redis.info('commandstats')).match(/cmdstat_hset:calls=(\d+)/)?.[1]).toBe(before)
  await board.stop()
})
