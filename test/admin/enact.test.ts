import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { endGrant, extendGrant, findGrant, issueGrant } from '../../admin/register/grants.ts'
import { registerKey, revokeKey } from '../../admin/register/keys.ts'
import { bar, lockPrincipal, unlockPrincipal } from '../../admin/register/locks.ts'
import type { Ask } from '../../grant/grant.ts'
import { createObservedBoard, NOTHING_OBSERVED, type Observed, readObserved } from '../../grant/observe.ts'
import { untilReady } from '../../grant/redis.ts'
import { until } from '../support/program.ts'
import { type Engines, HOUR, startEngines } from './control.ts'

let engines: Engines

beforeAll(async () => {
  engines = await startEngines()
})
afterEach(() => engines.reset())
afterAll(() => engines?.stop())

const ask = (over: Partial<Ask> = {}) =>
  engines.store.ask({ principal: 'alice', credentials: [], repository: 'acme/api', actions: ['fetch'], ...over })

const granted = async (over: Partial<Ask> = {}) => {
  const answer = await ask(over).catch(error => ({ kind: error.code as string }))
  return 'grants' in answer && answer.kind === 'live' ? answer.grants.map(g => g.id) : answer.kind
}

const open = () => until(() => engines.store.confirmed().catch(() => false), 'the fence to open')

const revoke = (id: string) => endGrant(engines.act, { id, how: 'revoked', by: 'root', reason: 'enough' })

describe('an act', () => {
  test('is one commit with its record and its order', async () => {
    const grant = await engines.grant()
    await issueGrant(engines.act, grant, 'root')
    expect(await engines.records()).toMatchObject([{ kind: 'grant.issued', by: 'root', grant: grant.id }])
    const [order] = await engines.sql`select kind, subject from control.outbox`
    expect(order).toMatchObject({ kind: 'grant', subject: [grant.id] })
  })

  test('does not happen when its record cannot be written, and leaves no gap in the numbers', async () => {
    const grant = await engines.grant()
    await engines.sql`alter table audit.inbox add constraint no check (kind <> 'grant.issued')`
    await expect(issueGrant(engines.act, grant, 'root')).rejects.toThrow()
    await engines.sql`alter table audit.inbox drop constraint no`
    expect(await findGrant(engines.sql, grant.id)).toBeUndefined()
    expect(await engines.sql`select from control.outbox`).toHaveLength(0)
    await issueGrant(engines.act, grant, 'root')
    expect(await engines.sql`select n::int from audit.inbox`).toMatchObject([{ n: 1 }])
  })

  test('made by many at once is numbered without a gap, in the order the numbers became visible', async () => {
    const grants = await Promise.all(Array.from({ length: 40 }, () => engines.grant()))
    await Promise.all(grants.map(grant => issueGrant(engines.act, grant, 'root')))
    const rows = await engines.sql<{ n: number }[]>`select n::int from audit.inbox order by arrival`
    expect(rows.map(row => row.n)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1))
  })
})

describe('the enactment', () => {
  test('makes Redis say what Postgres says', async () => {
    const enact = engines.enact()
    await open()
    const grant = await engines.grant()
    await issueGrant(engines.act, grant, 'root')
    expect(await enact.settle(5_000)).toBe(true)
    expect(await granted()).toEqual([grant.id])
    await extendGrant(
      engines.act,
      { id: grant.id, expires: grant.expires + HOUR, by: 'root', reason: 'more' },
      Date.now(),
    )
    await enact.settle(5_000)
    expect(await engines.store.live('alice')).toMatchObject([{ expires: grant.expires + HOUR }])
    expect(await revoke(grant.id)).toBe('done')
    expect(await revoke(grant.id)).toBe('ended')
    await enact.settle(5_000)
    expect(await granted()).toEqual([])
    expect(await engines.store.tokenKeys()).toBe('{"keys":[]}')
    expect((await engines.records('grant.ended')).length).toBe(1)
  })

  test('tells Redis what is only observed: when that changes, and before the fence opens again', async () => {
    const board = createObservedBoard({ redis: engines.redis })
    const pilot: Observed = { repositories: [{ match: ['acme/*'], observe: true }] }
    let observed = pilot
    const enact = engines.enact({ observed: { board, now: () => observed } })
    await open()
    expect(readObserved(await board.get())).toEqual(pilot)
    await engines.redis.flushall()
    await enact.settle(5_000)
    await open()
    expect(readObserved(await board.get())).toEqual(pilot)
    observed = NOTHING_OBSERVED
    await enact.settle(5_000)
    expect(readObserved(await board.get())).toEqual(NOTHING_OBSERVED)
  })

  test('loses none of 1,000 acknowledged revocations when Redis is flushed', async () => {
    const enact = engines.enact()
    await open()
    await revokeThousand(enact.settle)
    await engines.redis.flushall()
    await nothingComesBack()
  })

  test('loses none of 1,000 acknowledged revocations when Redis comes back from before them', async () => {
    const enact = engines.enact()
    await open()
    await revokeThousand(enact.settle, async () => {
      await engines.redis.save()
      await copyFile(join(engines.server.folder, 'dump.rdb'), join(engines.server.folder, 'before.rdb'))
    })
    await copyFile(join(engines.server.folder, 'before.rdb'), join(engines.server.folder, 'dump.rdb'))
    await engines.server.restart()
    await untilReady(engines.redis, 10_000)
    await nothingComesBack()
  })

  // 1,000 principals with two windows each, one of which is revoked.
  async function revokeThousand(settle: (ms: number) => Promise<boolean>, before?: () => Promise<void>) {
    const { starts, expires } = await engines.grant()
    await engines.sql`
      insert into control.grant (id, principal, repository, actions, refs, starts, expires, reason, issued_by)
      select kind || n, 'p-' || n, 'acme/api', '{fetch}', '{}', ${new Date(starts)}, ${new Date(expires)}, 'test', 'root'
      from generate_series(1, 1000) as n, (values ('keep-'), ('take-')) as kinds (kind)`
    await engines.sql`insert into control.outbox (kind, subject) select 'grant', array[id] from control.grant`
    expect(await settle(30_000)).toBe(true)
    expect(await engines.store.live()).toHaveLength(2_000)
    await before?.()
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => revoke(`take-${i + 1}`)))
    expect(await settle(30_000)).toBe(true)
    expect(await engines.store.live()).toHaveLength(1_000)
  }

  /** Asks for all of them until the gate is open again, and then once more: only refusals, and never a revoked grant. */
  async function nothingComesBack() {
    const seen = new Map<string, number>()
    const look = async () => {
      const answers = await Promise.all(Array.from({ length: 1_000 }, (_, i) => granted({ principal: `p-${i + 1}` })))
      for (const answer of answers.flat()) seen.set(answer, (seen.get(answer) ?? 0) + 1)
      return answers
    }
    await until(async () => (await look()).every(answer => Array.isArray(answer)), 'all windows to be back')
    const last = await look()
    expect([...seen.keys()].filter(id => id.startsWith('take-'))).toEqual([])
    expect(last.flat().filter(id => id.startsWith('keep-'))).toHaveLength(1_000)
  }

  test('a revocation while Redis is away is durable, and is there before anything is let through', async () => {
    const enact = engines.enact()
    await open()
    const grant = await engines.grant()
    await issueGrant(engines.act, grant, 'root')
    await enact.settle(5_000)
    await engines.redis.save()
    await engines.server.kill()
    expect(await revoke(grant.id)).toBe('done')
    expect(await enact.settle(1_000)).toBe(false)
    await engines.server.restart()
    const seen = new Set<unknown>()
    await until(async () => {
      const answer = await granted()
      seen.add(String(answer))
      return Array.isArray(answer)
    })
    expect([...seen]).not.toContain(grant.id)
    expect(await granted()).toEqual([])
  })

  test('puts locks of people and networks, bars and keys back before the gate opens', async () => {
    const grant = await engines.grant()
    await issueGrant(engines.act, grant, 'root')
    await issueGrant(engines.act, await engines.grant({ principal: 'bob' }), 'root')
    await issueGrant(engines.act, await engines.grant({ id: 'g-carol', principal: 'carol' }), 'root')
    await lockPrincipal(engines.act, { principal: 'alice', by: 'root', reason: 'stolen' })
    await lockPrincipal(engines.act, { principal: 'carol', by: 'root', reason: 'stolen' })
    await unlockPrincipal(engines.act, { principal: 'carol', by: 'root', reason: 'found' })
    await lockPrincipal(engines.act, { principal: 'network:10.0.0.0/8', by: 'siem', reason: 'malware' })
    await engines.act(async change => {
      await bar(change, { principal: 'bob', credential: 'token:t-1', reason: 'revoked', expires: null })
    })
    const expires = new Date(Date.now() + HOUR)
    const key = { algorithm: 'ssh-ed25519', publicKey: 'ssh-ed25519 AAAA', title: '', expires }
    await registerKey(engines.act, { ...key, fingerprint: 'SHA256:good', principal: 'alice' }, 'alice')
    await registerKey(engines.act, { ...key, fingerprint: 'SHA256:bad', principal: 'alice' }, 'alice')
    await revokeKey(engines.act, 'SHA256:bad', 'root')
    engines.enact()
    for (let i = 0; i < 2; i++) {
      await open()
      expect(await granted()).toBe('locked')
      expect(await granted({ principal: 'bob', credentials: ['token:t-1'] })).toBe('barred')
      expect(await granted({ principal: 'carol' })).toEqual(['g-carol'])
      expect(await engines.store.findKey('SHA256:good')).toMatchObject({ principal: 'alice' })
      expect(await engines.store.findKey('SHA256:bad')).toBeUndefined()
      expect(await engines.store.lockedNetworks()).toEqual([{ network: '10.0.0.0/8', reason: 'malware' }])
      await engines.redis.flushall()
    }
    expect(await registerKey(engines.act, { ...key, fingerprint: 'SHA256:bad', principal: 'alice' }, 'a')).toBe(
      'revoked',
    )
    expect(await registerKey(engines.act, { ...key, fingerprint: 'SHA256:good', principal: 'eve' }, 'e')).toBe('taken')
  })

  test('a single use that was used is not given back with the rest', async () => {
    const enact = engines.enact()
    await open()
    const grant = await engines.grant({ uses: 1 })
    await issueGrant(engines.act, grant, 'root')
    await enact.settle(5_000)
    await enact.close()
    // The proxy records the operation before it lets it through; the sweep has not seen it when Redis goes.
    const { principal, repository } = grant
    await engines.act(async change => {
      change.record({
        kind: 'operation.start',
        operation: 'op-1',
        principal,
        repository,
        service: 'upload-pack',
        action: 'fetch',
        identity: { kind: 'token', id: 't-1' },
        origin: { transport: 'http', address: '::1', connection: 'x-1', agent: 'git' },
        protocol: 2,
        grants: [grant.id],
      })
    })
    await engines.redis.flushall()
    engines.enact()
    await open()
    expect(await granted()).toEqual([])
  })

  test('ends what is over by itself, each with one record however many sweep', async () => {
    for (let i = 0; i < 3; i++) engines.enact()
    await open()
    const now = await engines.store.now()
    const expired = await engines.grant({ expires: now + 400 })
    const idle = await engines.grant({ idle: 400 })
    const once = await engines.grant({ uses: 1 })
    const plain = await engines.grant()
    for (const grant of [expired, idle, once, plain]) await issueGrant(engines.act, grant, 'root')
    await until(async () => (await granted()).length === 4)
    await ask({ consume: { operation: 'op-1', grants: [once.id] } })
    await until(async () => (await engines.records('grant.ended')).length === 3)
    // The operation that used it up goes on.
    expect(await granted({ consume: { operation: 'op-1', grants: [once.id] } })).toContain(once.id)
    await new Promise(resolve => setTimeout(resolve, 300))
    const ended = await engines.records('grant.ended')
    expect(new Map(ended.map(record => [record.grant, record.how]))).toEqual(
      new Map([
        [expired.id, 'expired'],
        [idle.id, 'idle'],
        [once.id, 'used'],
      ]),
    )
    expect(ended).toHaveLength(3)
    expect((await findGrant(engines.sql, plain.id))?.ended).toBeUndefined()
  })

  test('an order is carried out in time though a round fails meanwhile, as one does on a connection to an engine that is starting', async () => {
    let faults = 0
    const enact = engines.enact({
      clocks: async () => {
        if (faults-- > 0) throw new Error('the database system is not yet accepting connections')
        return [Date.now()]
      },
    })
    await open()
    const grant = await engines.grant()
    await issueGrant(engines.act, grant, 'root')
    faults = 2
    expect(await enact.settle(5_000)).toBe(true)
    expect(await granted()).toContain(grant.id)
  })

  test('closes the gate while the other clocks agree that Redis is behind', async () => {
    let [first, second] = [0, 0]
    const enact = engines.enact({ clocks: async () => [Date.now() + first, Date.now() + second] })
    await open()
    // One clock that disagrees is that clock's fault.
    first = HOUR
    expect(await enact.settle(5_000)).toBe(true)
    expect(await engines.store.confirmed()).toBe(true)
    second = HOUR
    expect(await enact.settle(1_000)).toBe(false)
    expect(await granted()).toBe('unconfirmed')
    expect(enact.state().fault).toContain("Redis's clock is")
    second = 0
    await open()
  })

  test('does not open the gate on a Redis that may throw revocations away', async () => {
    await engines.redis.config('SET', 'maxmemory', '100mb', 'maxmemory-policy', 'allkeys-lru')
    const enact = engines.enact()
    expect(await enact.settle(1_000)).toBe(false)
    expect(enact.state().fault).toContain('noeviction')
    expect(await granted()).toBe('unconfirmed')
    await engines.redis.config('SET', 'maxmemory-policy', 'noeviction')
    await open()
    await engines.redis.config('SET', 'maxmemory', '0')
  })

  test('extended and revoked at the same moment, a thousand times: it is revoked', async () => {
    const enact = engines.enact()
    await open()
    const outcomes: string[] = []
    for (let i = 0; i < 1_000; i += 50) {
      await Promise.all(
        Array.from({ length: 50 }, async (_, k) => {
          const grant = await engines.grant({ principal: `p-${i + k}` })
          await issueGrant(engines.act, grant, 'root')
          const extension = { id: grant.id, expires: grant.expires + HOUR, by: 'root', reason: 'more' }
          const both = [() => extendGrant(engines.act, extension, Date.now()), () => revoke(grant.id)]
          const [extended] = await Promise.all(
            k % 2
              ? both.map(f => f())
              : both
                  .reverse()
                  .map(f => f())
                  .reverse(),
          )
          outcomes.push(extended!)
        }),
      )
    }
    expect(await enact.settle(30_000)).toBe(true)
    expect(outcomes.filter(o => o === 'done' || o === 'ended')).toHaveLength(1_000)
    expect(await engines.store.live()).toEqual([])
  })
})
