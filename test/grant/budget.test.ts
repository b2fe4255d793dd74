import type { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { Ask, Grant } from '../../grant/grant.ts'
import { createStore, type Store } from '../../grant/store.ts'
import { type ConnectedRedis, startConnectedRedis } from '../support/redis.ts'

let server: ConnectedRedis
let redis: Redis
let store: Store

beforeAll(async () => {
  server = await startConnectedRedis()
  redis = server.client
})
afterAll(() => server?.stop())
beforeEach(async () => {
  await redis.flushall()
  store = createStore({ redis })
  await store.confirm(await store.doubt())
})

async function put(over: Partial<Grant> = {}, since: { carried?: number } = {}): Promise<void> {
  const now = await store.now()
  const grant: Grant = {
    id: 'g-1',
    principal: 'alice',
    repository: 'acme/api',
    actions: ['fetch'],
    refs: [],
    starts: now - 1,
    expires: now + 60_000,
    reason: 'a test',
    bounds: { bytes: 1_000 },
    ...over,
  }
  await store.put(grant, since)
}

const ask = (over: Partial<Ask> = {}) =>
  store.ask({ principal: 'alice', credentials: [], repository: 'acme/api', actions: ['fetch'], ...over })
const carry = async (bytes: number, over: Partial<Ask> = {}) => {
  const answer = await ask({ carried: { bytes, grants: ['g-1'] }, ...over })
  return answer.kind === 'live' ? answer.grants.map(({ carried }) => carried) : answer.kind
}

test('bytes add up, whoever carries them, until the grant is used up', async () => {
  await put()
  expect(await ask()).toMatchObject({ kind: 'live', grants: [{ bounds: { bytes: 1_000 } }] })
  expect(await carry(400)).toEqual([400])
  expect(await carry(599)).toEqual([999])
  expect(await carry(1)).toEqual([])
  expect((await store.standing('alice')).grants).toMatchObject([{ state: 'used' }])
})

test('more bytes than a double holds in 32 bits are counted to the byte', async () => {
  await put({ bounds: { bytes: 2 ** 45 } })
  await carry(2 ** 44)
  expect(await carry(3)).toEqual([2 ** 44 + 3])
})

test('an operation that has counted its use does not go on for nothing beyond the bytes', async () => {
  await put({ uses: 1 })
  const consume = { operation: 'op-1', grants: ['g-1'] }
  expect(await carry(10, { consume })).toEqual([10])
  expect(await carry(10, { consume })).toEqual([20])
  expect(await carry(1_000, { consume })).toBe('spent')
})

test('what went by while the person was locked out has gone by', async () => {
  await put()
  await store.lock('alice', 'key lost', 1)
  expect(await carry(600)).toBe('locked')
  await store.unlock('alice', 2)
  expect(await carry(1)).toEqual([601])
})

test('putting a grant again gives nothing back, and one that is put back begins where it is said to', async () => {
  await put()
  await carry(700)
  await put()
  await put({}, { carried: 300 })
  expect(await carry(1)).toEqual([701])
  await put({ id: 'g-2' }, { carried: 1_000 })
  expect((await store.live('alice')).map(({ id }) => id)).toEqual(['g-1'])
  // One that Redis has never heard of is not made by counting.
  await ask({ carried: { bytes: 5, grants: ['g-9'] } })
  expect((await store.standing('alice')).grants).toHaveLength(2)
})
