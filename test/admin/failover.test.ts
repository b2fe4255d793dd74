import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import postgres from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Enact, startEnact } from '../../admin/enact.ts'
import { createAct } from '../../admin/register/act.ts'
import { endGrant, issueGrant } from '../../admin/register/grants.ts'
import { cleaner } from '../../audit/clean.ts'
import { migrate } from '../../deploy/migrate.ts'
import { connectRedis, untilReady } from '../../grant/redis.ts'
import { createStore } from '../../grant/store.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { freePort, type Program, startProgram, temporaryFolder, until, untilAccepting } from '../support/program.ts'
import { type Redis, startRedis } from '../support/redis.ts'

// A primary, a replica and a real Sentinel that promotes it.
let primary: Redis
let replica: Redis
let sentinel: Program
let sentinelPort: number
let database: Postgres
let enact: Enact | undefined

beforeAll(async () => {
  ;[primary, database] = await Promise.all([startRedis(), startPostgres()])
  replica = await startRedis({ args: ['--replicaof', '127.0.0.1', String(primary.port)] })
  sentinelPort = await freePort()
  const file = join(temporaryFolder('sentinel'), 'sentinel.conf')
  writeFileSync(
    file,
    [
      'bind 127.0.0.1',
      `port ${sentinelPort}`,
      `sentinel monitor gate 127.0.0.1 ${primary.port} 1`,
      'sentinel down-after-milliseconds gate 600',
      'sentinel failover-timeout gate 3000',
    ].join('\n'),
  )
  sentinel = await startProgram('redis-server', [file, '--sentinel'])
  await untilAccepting(sentinel, { port: sentinelPort })
})

afterAll(async () => {
  await enact?.close()
  await sentinel?.stop()
  await Promise.all([primary?.stop(), replica?.stop(), database?.stop()])
})

// The attack: have access, be revoked, and make Redis fail over to a replica that had not yet heard of it.
test('a failover to a replica that lagged brings no revoked grant back', async () => {
  const redis = connectRedis(`sentinel://127.0.0.1:${sentinelPort}/gate/0`, () => {})
  await untilReady(redis, 10_000)
  const store = createStore({ redis })
  const sql = postgres(database.url, { max: 3, onnotice: () => {} })
  await migrate(sql, new URL('../../deploy/migrations', import.meta.url).pathname)
  const act = createAct({ sql, clean: cleaner(), committed: () => {} })
  enact = startEnact({ sql, store, act, tokenKeys: '{}', log: pino({ level: 'silent' }), roundEvery: 50 })
  await until(() => store.confirmed().catch(() => false))

  const now = await store.now()
  const grants = Array.from({ length: 60 }, (_, i) => ({
    id: i < 30 ? `g-keep${i}` : `g-take${i}`,
    principal: `p-${i}`,
    repository: 'acme/api',
    actions: ['fetch' as const],
    refs: [],
    starts: now - 1,
    expires: now + 3_600_000,
    reason: 'test',
  }))
  await Promise.all(grants.map(grant => issueGrant(act, grant, 'root')))
  expect(await enact.settle(10_000)).toBe(true)
  // Let the replica have everything so far, and nothing of what follows.
  const offset = async () => /master_repl_offset:(\d+)/.exec(await redis.info('replication'))?.[1]
  const behind = connectRedis(replica.url, () => {})
  await untilReady(behind, 5_000)
  await until(async () => (await behind.info('replication')).includes(`slave_repl_offset:${await offset()}`))
  await until(async () => (await sentinelSays()).includes('slaves=1'))
  // Stopping it would not do: what is on the way waits in its socket.
  await behind.replicaof('127.0.0.1', String(await freePort()))
  await Promise.all(
    grants.slice(30).map(({ id }) => endGrant(act, { id, how: 'revoked', by: 'root', reason: 'enough' })),
  )
  expect(await enact.settle(10_000)).toBe(true)
  // With the control plane away nobody corrects what the replica says.
  await enact.close()
  await primary.kill()

  const seen = new Set<string>()
  const look = async () => {
    const answers = await Promise.all(
      grants.map(({ principal }) =>
        store
          .ask({ principal, credentials: [], repository: 'acme/api', actions: ['fetch'] })
          .then(answer => ('grants' in answer ? answer.grants.map(grant => grant.id) : []))
          .catch(() => []),
      ),
    )
    for (const id of answers.flat()) seen.add(id)
    return answers.flat().length
  }
  const ask = { principal: 'p-0', credentials: [], repository: 'acme/api', actions: ['fetch' as const] }
  await until(
    async () => (await store.ask(ask).catch(() => undefined))?.kind === 'unconfirmed',
    'the replica to take over',
  )
  // It had not heard of anything, and would let everybody in.
  expect(await store.live()).toHaveLength(60)
  expect(await look()).toBe(0)

  enact = startEnact({ sql, store, act, tokenKeys: '{}', log: pino({ level: 'silent' }), roundEvery: 50 })
  await until(async () => (await look()) === 30, 'the windows that are still good to be back')
  expect([...seen].filter(id => id.startsWith('g-take'))).toEqual([])
  expect(await redis.info('server')).toContain(`tcp_port:${replica.port}`)
  redis.disconnect()
  behind.disconnect()
  await enact.close()
  await sql.end()

  async function sentinelSays(): Promise<string> {
    const asking = connectRedis(`redis://127.0.0.1:${sentinelPort}/0`, () => {})
    // A sentinel knows no SELECT, so this connection is only for INFO.
    await untilReady(asking, 5_000)
    const said = await asking.info('sentinel')
    asking.disconnect()
    return said
  }
})
