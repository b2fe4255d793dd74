import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Redis } from 'ioredis'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Ask, Grant } from '../../grant/grant.ts'
import { untilReady } from '../../grant/redis.ts'
import { createStore, type Store } from '../../grant/store.ts'
import { type ConnectedRedis, startConnectedRedis } from '../support/redis.ts'

let server: ConnectedRedis
let redis: Redis
let store: Store

beforeEach(async () => {
  server = await startConnectedRedis()
  redis = server.client
  store = createStore({ redis })
})

afterEach(() => server?.stop())

const ask: Ask = { principal: 'alice', credentials: [], repository: 'acme/api', actions: ['fetch'] }

const grant = async (id: string): Promise<Grant> => {
  const now = await store.now()
  return {
    id,
    principal: 'alice',
    repository: 'acme/api',
    actions: ['fetch'],
    refs: [],
    starts: now,
    expires: now + 3_600_000,
    reason: 'test',
  }
}

const confirm = async () => store.confirm(await store.doubt())

/** Ends the server and starts it from the snapshot given, as a replica that lagged would have it. */
async function restartFrom(snapshot: string): Promise<void> {
  await copyFile(snapshot, join(server.folder, 'dump.rdb'))
  await server.restart()
  await untilReady(redis, 10_000)
}

test('a server nobody has confirmed answers unconfirmed, whatever it holds', async () => {
  await store.put(await grant('g-1'))
  expect(await store.ask(ask)).toMatchObject({ kind: 'unconfirmed' })
  expect(await confirm()).toBe(true)
  expect(await store.ask(ask)).toMatchObject({ kind: 'live', grants: [{ id: 'g-1' }] })
})

test('a flush closes the fence, and putting grants back does not open it', async () => {
  await confirm()
  await store.put(await grant('g-1'))
  await redis.flushall()
  await store.put(await grant('g-1'))
  expect(await store.ask(ask)).toMatchObject({ kind: 'unconfirmed' })
  expect(await store.confirmed()).toBe(false)
})

// The attack: revoke, then make Redis fail over to a replica that had not heard of it, fence and all.
test('a server that comes back from a past in which it was confirmed is not', async () => {
  await confirm()
  await store.put(await grant('g-1'))
  await redis.save()
  const snapshot = join(server.folder, 'before.rdb')
  await copyFile(join(server.folder, 'dump.rdb'), snapshot)

  await store.revoke({ principal: 'alice', grant: 'g-1', reason: 'enough' })
  expect(await store.ask(ask)).toMatchObject({ kind: 'live', grants: [] })
  await restartFrom(snapshot)
  // The grant is there again, with nothing to say that it was revoked.
  expect((await store.standing('alice')).grants.map(g => g.id)).toEqual(['g-1'])
  expect(await store.ask(ask)).toMatchObject({ kind: 'unconfirmed' })

  const ticket = await store.doubt()
  await store.revoke({ principal: 'alice', grant: 'g-1', reason: 'enough' })
  expect(await store.confirm(ticket)).toBe(true)
  expect(await store.ask(ask)).toMatchObject({ kind: 'live', grants: [] })
})

test('what was put back before a second loss confirms nothing after it', async () => {
  const flushed = await store.doubt()
  await redis.flushall()
  expect(await store.confirm(flushed)).toBe(false)

  const restarted = await store.doubt()
  await redis.save()
  await server.restart()
  await untilReady(redis, 10_000)
  expect(await store.confirm(restarted)).toBe(false)

  const overtaken = await store.doubt()
  await store.doubt()
  expect(await store.confirm(overtaken)).toBe(false)
  expect(await store.ask(ask)).toMatchObject({ kind: 'unconfirmed' })
})

test('a Redis that is gone or hangs is an error within a second, and is asked again when it is back', async () => {
  await confirm()
  server.pause()
  await expect(store.ask(ask)).rejects.toMatchObject({ name: 'StoreError', code: 'timeout' })
  server.resume()
  await expect
    .poll(() =>
      store.ask(ask).then(
        a => a.kind,
        () => 'error',
      ),
    )
    .toBe('live')
  await server.kill()
  await expect
    .poll(() =>
      store.ask(ask).then(
        () => '',
        e => e.code,
      ),
    )
    .toBe('unreachable')
  await server.restart()
  await expect
    .poll(
      () =>
        store.ask(ask).then(
          a => a.kind,
          () => 'error',
        ),
      { timeout: 10_000 },
    )
    .toBe('unconfirmed')
})

test('a primary cut off from its replicas refuses instead of answering from the past', async () => {
  await confirm()
  await store.put(await grant('g-1'))
  await redis.config('SET', 'min-replicas-to-write', '1')
  await expect(store.ask(ask)).rejects.toMatchObject({ code: 'failed', message: expect.stringContaining('NOREPLICAS') })
})

test('a clock that goes back is an error, not a longer window', async () => {
  let believed = true
  const doubting = createStore({ redis, believes: () => believed })
  await confirm()
  believed = false
  await expect(doubting.ask(ask)).rejects.toMatchObject({ code: 'clock' })
  await expect(doubting.now()).rejects.toMatchObject({ code: 'clock' })
})
