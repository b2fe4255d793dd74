import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { APPROVERS_MAX, type Ask, type Grant } from '../../grant/grant.ts'
import { connectRedis, untilReady } from '../../grant/redis.ts'
import { createStore, GRANTS_PER_PRINCIPAL_MAX, type Store } from '../../grant/store.ts'
import { type ConnectedRedis, startConnectedRedis } from '../support/redis.ts'

const HOUR = 3_600_000

let server: ConnectedRedis
let redis: Redis
let store: Store
let now: number

beforeAll(async () => {
  server = await startConnectedRedis()
  redis = server.client
})

afterAll(() => server?.stop())

beforeEach(async () => {
  await redis.flushall()
  store = createStore({ redis })
  await store.confirm(await store.doubt())
  now = await store.now()
})

const grant = (over: Partial<Grant> = {}): Grant => ({
  id: 'g-1',
  principal: 'alice',
  repository: 'acme/**',
  actions: ['fetch', 'update'],
  refs: [],
  starts: now - 1,
  expires: now + HOUR,
  reason: 'PAY-231',
  ...over,
})

const ask = (over: Partial<Ask> = {}): Ask => ({
  principal: 'alice',
  credentials: [],
  repository: 'acme/api',
  actions: ['fetch'],
  ...over,
})

const granted = async (over: Partial<Ask> = {}) => {
  const answer = await store.ask(ask(over))
  return answer.kind === 'live' ? answer.grants.map(g => g.id) : answer.kind
}

describe('asking', () => {
  test('gives the live grants that match the repository and hold one of the actions', async () => {
    await store.put(grant({ id: 'g-1', repository: 'acme/api' }))
    await store.put(grant({ id: 'g-2', repository: 'acme/*', actions: ['archive', 'fetch'] }))
    await store.put(grant({ id: 'g-3', repository: 'acme/web' }))
    await store.put(grant({ id: 'g-4', actions: ['delete'] }))
    await store.put(grant({ id: 'g-5', principal: 'bob' }))
    expect(await granted()).toEqual(['g-1', 'g-2'])
    expect(await granted({ actions: ['delete', 'fetch'] })).toEqual(['g-1', 'g-2', 'g-4'])
    expect(await granted({ repository: 'acme/web' })).toEqual(['g-2', 'g-3'])
    expect(await granted({ repository: 'other/api' })).toEqual([])
    expect(await granted({ principal: 'carol' })).toEqual([])
  })

  test('gives a grant back as it was put, with its end', async () => {
    const approval = { request: 'r-1', approvers: ['mona', 'raj'], policy: 'v1' }
    const put = grant({ refs: ['release/*'], idle: 60_000, uses: 3, ...approval })
    await store.put(put)
    const answer = await store.ask(ask())
    expect(answer).toEqual({
      kind: 'live',
      now: expect.any(Number),
      grants: [{ ...put, left: 3, ends: answer.now + 60_000 }],
    })
  })

  test('a grant that says who approved it in words nobody of ours wrote is not believed', async () => {
    const most = Array.from({ length: APPROVERS_MAX }, () => 'mona')
    await store.put(grant({ request: 'r-1', approvers: most, policy: 'v1' }))
    expect(await granted()).toEqual(['g-1'])
    const wrong: object[] = [
      { approvers: [...most, 'raj'] },
      { approvers: ['x'.repeat(1_001)] },
      { approvers: [{ name: 'mona' }] },
      { approvers: 'mona' },
      { approvers: null },
      { policy: 1 },
      { policy: 'x'.repeat(1_001) },
    ]
    for (const [index, members] of wrong.entries()) {
      const principal = `alice-${index}`
      await store.put({ ...grant({ id: `g-${index}`, principal, request: 'r-1' }), ...members })
      await expect(store.ask(ask({ principal }))).rejects.toThrow(`grant g-${index} says in no form of ours`)
    }
  })

  test('a window begins at its start and is over at its end, by comparison at each use', async () => {
    await store.put(grant({ id: 'g-later', starts: now + HOUR, expires: now + 2 * HOUR }))
    await store.put(grant({ id: 'g-short', expires: now + 300 }))
    expect(await granted()).toEqual(['g-short'])
    await sleep(310)
    expect(await granted()).toEqual([])
    // Nothing has been cleaned up: the key is still there and says nothing.
    expect((await store.standing('alice')).grants.map(g => [g.id, g.state])).toEqual([
      ['g-later', 'scheduled'],
      ['g-short', 'expired'],
    ])
    expect(await store.put(grant({ id: 'g-late', expires: now }))).toBe('over')
  })

  test('every use sets the idle clock back, and an idle window does not come back', async () => {
    await store.put(grant({ idle: 400 }))
    for (let i = 0; i < 4; i++) {
      await sleep(150)
      expect(await granted()).toEqual(['g-1'])
    }
    await sleep(410)
    expect(await granted()).toEqual([])
    await store.put(grant({ idle: 400 }))
    expect(await granted()).toEqual([])
    expect(await store.extend({ principal: 'alice', grant: 'g-1', expires: now + 2 * HOUR })).toBe('ended')
  })

  test('asking about one repository does not keep a grant for another alive', async () => {
    await store.put(grant({ repository: 'acme/web', idle: 200 }))
    await sleep(120)
    await granted()
    await sleep(120)
    expect(await granted({ repository: 'acme/web' })).toEqual([])
  })

  test('a pattern, name or principal made to escape its place stays a name', async () => {
    const principal = '}{x}:standing:bob'
    await store.put(grant({ principal, repository: 'acme/a%-[]' }))
    await store.put(grant({ id: 'g-2', principal, repository: 'acme/.*' }))
    expect(await granted({ principal })).toEqual([])
    expect(await granted({ principal: 'bob' })).toEqual([])
    expect(await granted({ principal, repository: 'acme/.x' })).toEqual(['g-2'])
    expect(await granted({ principal, repository: 'acme/a%-[]' })).toEqual(['g-1'])
  })
})

describe('counted uses', () => {
  test('are used up once for each operation, however often it asks', async () => {
    await store.put(grant({ uses: 2 }))
    const consume = (operation: string) => granted({ consume: { operation, grants: ['g-1'] } })
    expect(await consume('op-1')).toEqual(['g-1'])
    expect(await consume('op-1')).toEqual(['g-1'])
    expect(await granted()).toEqual(['g-1'])
    expect(await consume('op-2')).toEqual(['g-1'])
    expect(await granted()).toEqual([])
    expect(await consume('op-3')).toBe('spent')
    // Those that have counted run on.
    expect(await consume('op-2')).toEqual(['g-1'])
  })

  test('are counted for all grants named or for none', async () => {
    await store.put(grant({ id: 'g-1', uses: 1 }))
    await store.put(grant({ id: 'g-2', uses: 1 }))
    expect(await granted({ consume: { operation: 'op-1', grants: ['g-1', 'g-gone'] } })).toBe('spent')
    expect(await granted({ consume: { operation: 'op-2', grants: ['g-2'] } })).toEqual(['g-1', 'g-2'])
    expect(await granted({ consume: { operation: 'op-3', grants: ['g-1', 'g-2'] } })).toBe('spent')
    expect(await granted()).toEqual(['g-1'])
  })

  test('a single use cannot be had twice by asking at the same moment', async () => {
    await store.put(grant({ uses: 1 }))
    const tries = Array.from({ length: 50 }, (_, i) => granted({ consume: { operation: `op-${i}`, grants: ['g-1'] } }))
    expect((await Promise.all(tries)).filter(kind => kind !== 'spent')).toEqual([['g-1']])
  })

  test('putting the grant again gives no use back', async () => {
    await store.put(grant({ uses: 1 }))
    await granted({ consume: { operation: 'op-1', grants: ['g-1'] } })
    await store.put(grant({ uses: 1 }))
    expect(await granted()).toEqual([])
  })

  test('a revoked grant is gone for the operation that counted it too', async () => {
    await store.put(grant({ uses: 1 }))
    await granted({ consume: { operation: 'op-1', grants: ['g-1'] } })
    await store.revoke({ principal: 'alice', grant: 'g-1', reason: 'enough' })
    expect(await granted({ consume: { operation: 'op-1', grants: ['g-1'] } })).toBe('spent')
  })
})

describe('a network', () => {
  test('that is locked out is known until it is let in, in whatever order this is heard', async () => {
    await store.lockNetwork('203.0.113.0/24', '5 machines are infected', 3)
    await store.lockNetwork('2001:db8::/32', 'unknown', 1)
    // An unlock and a lock from before, late.
    await store.lockNetwork('203.0.113.0/24', undefined, 2)
    await store.lockNetwork('2001:db8::/32', undefined, 2)
    await store.lockNetwork('2001:db8::/32', 'unknown', 1)
    expect(await store.lockedNetworks()).toEqual([{ network: '203.0.113.0/24', reason: '5 machines are infected' }])
    await store.lockNetwork('203.0.113.0/24', undefined, 4)
    expect(await store.lockedNetworks()).toEqual([])
  })
})

describe('the end', () => {
  test('a revoked grant cannot be put, extended or asked for again', async () => {
    await store.put(grant())
    await store.revoke({ principal: 'alice', grant: 'g-1', reason: 'enough' })
    expect(await granted()).toEqual([])
    expect(await store.put(grant())).toBe('ended')
    expect(await store.extend({ principal: 'alice', grant: 'g-1', expires: now + 2 * HOUR })).toBe('ended')
    expect(await granted()).toEqual([])
  })

  test('a revocation that overtakes its grant wins', async () => {
    await store.revoke({ principal: 'alice', grant: 'g-1', reason: 'enough', expires: now + HOUR })
    expect(await store.put(grant())).toBe('ended')
    expect(await granted()).toEqual([])
  })

  test('extended and revoked at the same moment, a thousand times: it is revoked', async () => {
    const other = connectRedis(server.url, () => {})
    await untilReady(other, 5_000)
    const second = createStore({ redis: other })
    const ends = { extended: 0, ended: 0, missing: 0 }
    for (let i = 0; i < 1_000; i += 100) {
      await Promise.all(
        Array.from({ length: 100 }, async (_, k) => {
          const id = `g-${i + k}`
          const principal = `p-${i + k}`
          await store.put(grant({ id, principal }))
          const extend = () => second.extend({ principal, grant: id, expires: now + 3 * HOUR })
          const revoke = () => store.revoke({ principal, grant: id, reason: 'enough' })
          const [extended] = await Promise.all(k % 2 ? [extend(), revoke()] : [revoke().then(extend), undefined])
          ends[extended]++
          expect(await granted({ principal })).toEqual([])
        }),
      )
    }
    expect(ends.extended + ends.ended).toBe(1_000)
    expect(ends.ended).toBeGreaterThanOrEqual(500)
    other.disconnect()
  })

  test('an extension moves the end further and never nearer', async () => {
    await store.put(grant())
    expect(await store.extend({ principal: 'alice', grant: 'g-1', expires: now + 2 * HOUR })).toBe('extended')
    await store.put(grant())
    await store.extend({ principal: 'alice', grant: 'g-1', expires: now + 1 })
    expect((await store.live('alice')).map(g => g.expires)).toEqual([now + 2 * HOUR])
    expect(await store.extend({ principal: 'alice', grant: 'g-2', expires: now + 1 })).toBe('missing')
  })

  test('a locked principal has nothing, until unlocked', async () => {
    await store.put(grant())
    await store.lock('alice', 'laptop stolen', 1)
    expect(await store.ask(ask())).toEqual({ kind: 'locked', now: expect.any(Number), reason: 'laptop stolen' })
    expect(await store.live()).toEqual([])
    await store.unlock('alice', 2)
    expect(await granted()).toEqual(['g-1'])
  })

  test('an unlock that comes after a later lock does nothing', async () => {
    await store.put(grant())
    await store.lock('alice', 'again', 3)
    await store.unlock('alice', 2)
    expect(await granted()).toBe('locked')
  })

  test('a barred credential is refused, another of the same principal is not', async () => {
    await store.put(grant())
    await store.bar('alice', 'token:t-1', { reason: 'token revoked' })
    await store.bar('alice', 'token:t-2', { reason: 'token revoked', expires: now + 200 })
    expect(await granted({ credentials: ['token:t-3'] })).toEqual(['g-1'])
    expect(await store.ask(ask({ credentials: ['serial:7', 'token:t-1'] }))).toMatchObject({
      kind: 'barred',
      credential: 'token:t-1',
    })
    expect(await granted({ credentials: ['token:t-2'] })).toBe('barred')
  })

  test('a credential that is to be barred is good until then, and a later moment puts nothing off', async () => {
    await store.put(grant())
    const with4 = () => granted({ credentials: ['token:t-4'] })
    await store.bar('alice', 'token:t-4', { reason: 'rotated', expires: now + HOUR, begins: now + HOUR })
    expect(await with4()).toEqual(['g-1'])
    await store.bar('alice', 'token:t-4', { reason: 'rotated', expires: now + HOUR, begins: now - 1 })
    expect(await with4()).toBe('barred')
    await store.bar('alice', 'token:t-4', { reason: 'rotated', expires: now + HOUR, begins: now + HOUR })
    expect(await with4()).toBe('barred')

    await store.bar('alice', 'token:t-5', { reason: 'rotated', begins: now + HOUR })
    await store.bar('alice', 'token:t-5', { reason: 'revoked' })
    expect(await granted({ credentials: ['token:t-5'] })).toBe('barred')
    await store.bar('alice', 'token:t-5', { reason: 'rotated', begins: now + HOUR })
    expect(await granted({ credentials: ['token:t-5'] })).toBe('barred')
  })

  test('nothing that still matters is ever cleaned away, and everything else is', async () => {
    await store.put(grant())
    const [key] = await redis.keys('*standing:alice')
    const kept = await redis.pexpiretime(key!)
    expect(kept).toBeGreaterThan(now + HOUR)
    await store.extend({ principal: 'alice', grant: 'g-1', expires: now + 100 * HOUR })
    expect(await redis.pexpiretime(key!)).toBeGreaterThan(now + 100 * HOUR)
    await store.revoke({ principal: 'alice', grant: 'g-1', reason: 'enough' })
    expect(await redis.pexpiretime(key!)).toBeGreaterThan(now + 100 * HOUR)
    await store.lock('alice', 'stolen', 1)
    expect(await redis.pexpiretime(key!)).toBe(-1)
    await store.unlock('alice', 2)
    expect(await redis.pexpiretime(key!)).toBeGreaterThan(now + 100 * HOUR)
    await store.bar('alice', 'token:t-1', { reason: 'revoked' })
    expect(await redis.pexpiretime(key!)).toBe(-1)
  })

  test('a principal holds a bounded number of windows', async () => {
    for (let i = 0; i < GRANTS_PER_PRINCIPAL_MAX; i++) await store.put(grant({ id: `g-${i}` }))
    expect(await store.put(grant({ id: 'g-more' }))).toBe('full')
    expect(await store.put(grant({ id: 'g-0' }))).toBe('put')
    await store.revoke({ principal: 'alice', grant: 'g-0', reason: 'enough' })
    expect(await store.put(grant({ id: 'g-more' }))).toBe('put')
  })
})

describe('registered keys', () => {
  test('are found until they expire or are dropped, and do not come back', async () => {
    const key = { fingerprint: 'SHA256:abc', principal: 'alice', expires: now + 400 }
    await store.putKey(key)
    expect(await store.findKey('SHA256:abc')).toEqual({ principal: 'alice', expires: now + 400 })
    expect(await store.findKey('SHA256:other')).toBeUndefined()
    await sleep(410)
    expect(await store.findKey('SHA256:abc')).toBeUndefined()
    await store.putKey({ ...key, expires: now + HOUR })
    await store.dropKey('SHA256:abc', now + HOUR)
    expect(await store.findKey('SHA256:abc')).toBeUndefined()
    await store.putKey({ ...key, expires: now + HOUR })
    expect(await store.findKey('SHA256:abc')).toBeUndefined()
  })
})

test('every live grant is listed, whoever holds it', async () => {
  for (const principal of ['alice', 'bob', 'carol']) await store.put(grant({ id: `g-${principal}`, principal }))
  expect((await store.live()).map(g => g.id).sort()).toEqual(['g-alice', 'g-bob', 'g-carol'])
  expect((await store.live('bob')).map(g => g.id)).toEqual(['g-bob'])
})

test('token keys are kept', async () => {
  expect(await store.tokenKeys()).toBeUndefined()
  await store.putTokenKeys('{"keys":[]}')
  expect(await store.tokenKeys()).toBe('{"keys":[]}')
})
