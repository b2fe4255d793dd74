import { fileURLToPath } from 'node:url'
import type { Redis } from 'ioredis'
import postgres, { type Sql } from 'postgres'
import type { Settings } from '../../config/settings.ts'
import { createObservedBoard, describeObserved, readObserved } from '../../grant/observe.ts'
import { connectRedis, untilReady } from '../../grant/redis.ts'
import { createStore } from '../../grant/store.ts'
import { pendingMigrations } from '../migrate.ts'
import { examine, type Finding, failed, ok, warning } from './finding.ts'
import { forwarderFindings } from './forwarders.ts'

const REACH_MILLISECONDS = 3_000
const REDIS_MAJOR_MIN = 7
const POSTGRES_MAJOR_MIN = 15
/** No grant may live longer than this past its end, whatever the clocks say. */
const SKEW_MILLISECONDS_MAX = 2_000
const MIGRATIONS = fileURLToPath(new URL('../migrations', import.meta.url))

/** A clock that was asked: how far it is ahead of ours, give or take half the time the answer took. */
export interface Clock {
  readonly of: string
  readonly ahead: number
  readonly uncertain: number
}

/** Redis, PostgreSQL, and whether their clocks and ours agree. Changes nothing in either. */
export async function engineFindings(settings: Settings): Promise<readonly Finding[]> {
  const clocks: Clock[] = []
  const findings = await Promise.all([redisFindings(settings, clocks), postgresFindings(settings, clocks)])
  return [...findings.flat(), ...clocks.map(clockFinding)]
}

function redisFindings({ redis: url }: Settings, clocks: Clock[]): Promise<readonly Finding[]> {
  return examine('redis.reach', 'start Redis, or set `redis` right; no operation is allowed without it', async () => {
    let last: Error | undefined
    const redis = connectRedis(url, error => {
      last = error
    })
    try {
      await untilReady(redis, REACH_MILLISECONDS).catch(error => {
        throw last ?? error
      })
      clocks.push(await ask('Redis', async () => createStore({ redis, believes: () => true }).now()))
      return await redisState(redis)
    } finally {
      redis.disconnect()
    }
  })
}

async function redisState(redis: Redis): Promise<Finding[]> {
  const info = await redis.info()
  const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? ''
  const version = field('redis_version')
  const store = createStore({ redis, believes: () => true })
  return [
    Number.parseInt(version, 10) >= REDIS_MAJOR_MIN
      ? ok('redis.reach', `Redis ${version} answers`)
      : failed('redis.reach', `this is Redis ${version}`, `use version ${REDIS_MAJOR_MIN} or later`),
    field('role') === 'master'
      ? ok('redis.role', 'it takes writes')
      : failed('redis.role', `it is a ${field('role')}`, 'point `redis` at the primary, or at the sentinels'),
    (await store.evicts())
      ? failed(
          'redis.policy',
          `maxmemory-policy is ${field('maxmemory_policy')}: it may throw revocations away, and the gate stays shut`,
          'set maxmemory-policy noeviction',
        )
      : ok('redis.policy', 'it throws nothing away'),
    field('aof_enabled') === '1'
      ? ok('redis.persistence', 'appendonly is on')
      : warning(
          'redis.persistence',
          'appendonly is off: after a restart nothing is allowed until everything was put back',
          'set appendonly yes',
        ),
    (await store.confirmed())
      ? ok('redis.confirmed', 'it knows every revocation')
      : warning(
          'redis.confirmed',
          'it has not been told every revocation, and until then nothing is allowed',
          'start the admin role; its log says what keeps it from telling',
        ),
    await observedState(redis),
  ]
}

async function observedState(redis: Redis): Promise<Finding> {
  const patterns = describeObserved(readObserved(await createObservedBoard({ redis }).get()))
  return patterns.length === 0
    ? ok('policy.mode', 'every repository is enforced')
    : warning(
        'policy.mode',
        `only observed, so that nothing is refused there: ${patterns.join(', ')}`,
        'when the pilot is over, take `mode: observe` out of the policy',
      )
}

function postgresFindings(settings: Settings, clocks: Clock[]): Promise<readonly Finding[]> {
  const advice = 'start PostgreSQL, or set `postgres` right; records cannot be written without it'
  return examine('postgres.reach', advice, async () => {
    const sql = postgres(settings.postgres, { max: 1, connect_timeout: REACH_MILLISECONDS / 1_000, onnotice: () => {} })
    try {
      clocks.push(
        await ask('PostgreSQL', async () => {
          const [row] = await sql<{ now: Date }[]>`select clock_timestamp() as now`
          return row?.now.getTime() ?? Number.NaN
        }),
      )
      return await postgresState(sql, settings)
    } finally {
      await sql.end({ timeout: 1 })
    }
  })
}

async function postgresState(sql: Sql, settings: Settings): Promise<Finding[]> {
  const [row] = await sql<{ version: string; fsync: string; commit: string; standby: boolean }[]>`
    select current_setting('server_version_num') as version, current_setting('fsync') as fsync,
      current_setting('synchronous_commit') as commit, pg_is_in_recovery() as standby`
  const { version = '0', fsync, commit, standby } = row ?? {}
  const major = Math.floor(Number(version) / 10_000)
  const durable = fsync === 'on' && commit !== 'off'
  const schema = await schemaFinding(sql)
  return [
    major >= POSTGRES_MAJOR_MIN
      ? ok('postgres.reach', `PostgreSQL ${major} answers`)
      : failed('postgres.reach', `this is PostgreSQL ${major}`, `use version ${POSTGRES_MAJOR_MIN} or later`),
    standby === true
      ? failed('postgres.role', 'it is a standby', 'point `postgres` at the primary')
      : ok('postgres.role', 'it takes writes'),
    durable
      ? ok('postgres.durable', 'what it has taken is on disk')
      : failed(
          'postgres.durable',
          `fsync is ${fsync}, synchronous_commit ${commit}: records it has taken can be lost`,
          'set both to on',
        ),
    schema,
    ...(schema.state === 'ok' ? await forwarderFindings(sql, settings) : []),
  ]
}

async function schemaFinding(sql: Sql): Promise<Finding> {
  try {
    const pending = await pendingMigrations(sql, MIGRATIONS)
    if (pending.length === 0) return ok('postgres.schema', 'the schema is of this version')
    const found = `the schema lacks ${pending.join(', ')}`
    return warning(
      'postgres.schema',
      found,
      'start a role of this version: it brings the schema up to date; take a backup before',
    )
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause)
    return failed(
      'postgres.schema',
      found,
      'run the version the database belongs to, or give this one a database of its own',
    )
  }
}

async function ask(of: string, now: () => Promise<number>): Promise<Clock> {
  // Once before, so that connecting is not counted.
  await now()
  const sent = Date.now()
  const theirs = await now()
  const took = Date.now() - sent
  return { of, ahead: theirs - (sent + took / 2), uncertain: took / 2 }
}

/** Whether a clock and ours agree, as far as can be told. */
export function clockFinding({ of, ahead, uncertain }: Clock): Finding {
  const check = `clock.${of.toLowerCase()}`
  const off = Math.round(ahead)
  if (Math.abs(ahead) - uncertain <= SKEW_MILLISECONDS_MAX) return ok(check, `${of}'s clock and this machine's agree`)
  const found = `${of}'s clock is ${Math.abs(off) / 1_000} s ${off > 0 ? 'ahead of' : 'behind'} this machine's`
  return failed(check, found, 'run chrony or systemd-timesyncd on both; windows end by the clock of Redis')
}
