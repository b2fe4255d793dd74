import type { Redis } from 'ioredis'
import { pino } from 'pino'
import postgres, { type Sql } from 'postgres'
import { type Enact, type EnactOptions, startEnact } from '../../admin/enact.ts'
import { type Act, createAct } from '../../admin/register/act.ts'
import { cleaner } from '../../audit/clean.ts'
import { newId } from '../../audit/id.ts'
import { migrate } from '../../deploy/migrate.ts'
import type { Grant } from '../../grant/grant.ts'
import { createStore, type Store } from '../../grant/store.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { type ConnectedRedis, startConnectedRedis } from '../support/redis.ts'

export const HOUR = 3_600_000

/** A control plane's engines for one test file. */
export interface Engines {
  readonly server: ConnectedRedis
  readonly database: Postgres
  readonly redis: Redis
  readonly store: Store
  readonly sql: Sql
  readonly act: Act
  /** Starts the enactment; ended by `stop` at the latest. */
  enact(options?: Partial<Pick<EnactOptions, 'tokenKeys' | 'clocks' | 'observed'>>): Enact
  records(kind?: string): Promise<{ kind: string; [name: string]: unknown }[]>
  grant(over?: Partial<Grant>): Promise<Grant>
  /** Everything forgotten, in both. */
  reset(): Promise<void>
  stop(): Promise<void>
}

export async function startEngines(redisArgs: readonly string[] = []): Promise<Engines> {
  const [server, database] = await Promise.all([startConnectedRedis({ args: redisArgs }), startPostgres()])
  const redis = server.client
  const sql = postgres(database.url, { max: 4, onnotice: () => {} })
  await migrate(sql, new URL('../../deploy/migrations', import.meta.url).pathname)
  const store = createStore({ redis })
  const enacts: Enact[] = []
  const act = createAct({ sql, clean: cleaner(), committed: () => {} })
  return {
    server,
    database,
    redis,
    store,
    sql,
    act,
    enact: (options = {}) => {
      const enact = startEnact({
        sql,
        store,
        act,
        tokenKeys: '{"keys":[]}',
        log: pino({ level: 'silent' }),
        roundEvery: 50,
        sweepEvery: 50,
        ...options,
      })
      enacts.push(enact)
      return enact
    },
    records: async kind => {
      const rows = await sql<{ body: string }[]>`
        select body from audit.inbox ${kind === undefined ? sql`` : sql`where kind = ${kind}`} order by arrival`
      return rows.map(row => JSON.parse(row.body))
    },
    grant: async (over = {}) => {
      const now = await store.now()
      return {
        id: newId('g'),
        principal: 'alice',
        repository: 'acme/api',
        actions: ['fetch'],
        refs: [],
        starts: now - 1,
        expires: now + HOUR,
        reason: 'PAY-231',
        ...over,
      }
    },
    reset: async () => {
      for (const enact of enacts.splice(0)) await enact.close()
      await redis.flushall()
      await sql`truncate control.request, control.comment, control.grant, control.lock, control.token, control.key, control.bar, control.outbox, audit.inbox cascade`
      await sql`update control.record_number set last = 0`
    },
    stop: async () => {
      for (const enact of enacts.splice(0)) await enact.close()
      await sql.end()
      await Promise.all([server.stop(), database.stop()])
    },
  }
}
