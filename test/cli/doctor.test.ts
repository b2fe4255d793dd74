import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Redis as Client } from 'ioredis'
import postgres, { type Sql } from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Settings, UpstreamSettings } from '../../config/settings.ts'
import { clockFinding } from '../../deploy/doctor/engines.ts'
import type { Finding } from '../../deploy/doctor/finding.ts'
import { diagnose } from '../../deploy/doctor/main.ts'
import { migrate } from '../../deploy/migrate.ts'
import { createObservedBoard } from '../../grant/observe.ts'
import { createStore } from '../../grant/store.ts'
import { makeKey } from '../support/keys.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { freePort, temporaryFolder } from '../support/program.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { plainSettings } from '../support/settings.ts'
import { type Sshd, startSshd } from '../support/sshd.ts'
import { makeTls } from '../support/tls.ts'

const DAY = 24 * 3_600_000

let redis: Redis
let client: Client
let database: Postgres
let sql: Sql
let sshd: Sshd
let settings: Settings
const folder = temporaryFolder('doctor')

beforeAll(async () => {
  ;[redis, database, sshd] = await Promise.all([startRedis(), startPostgres(), startSshd()])
  sql = postgres(database.url, { max: 1, onnotice: () => {} })
  await migrate(sql, fileURLToPath(new URL('../../deploy/migrations', import.meta.url)))
  client = new Client(redis.url)
  const store = createStore({ redis: client })
  await store.confirm(await store.doubt())
  settings = plainSettings({ redis: redis.url, postgres: database.url, state: folder, upstreams: upstreams() })
})

afterAll(async () => {
  client?.disconnect()
  await sql?.end({ timeout: 1 })
  await Promise.all([redis?.stop(), database?.stop(), sshd?.stop()])
})

function upstreams(
  hostKeys = [sshd.hostKey.publicKey],
  more: Readonly<Record<string, string>> = {},
): Settings['upstreams'] {
  const common = { connectTimeout: 3_000, idleTimeout: 5_000, connections: 4, hostKeys: [] as string[] }
  const plain = Object.entries({ local: `file://${folder}/`, ...more }).map(
    ([name, url]) => [name, { ...common, name, url: new URL(url), credential: { type: 'none' } }] as const,
  )
  const credential = { type: 'ssh-key', username: 'git', privateKey: '' } as const
  const host = { ...common, name: 'host', url: new URL(`ssh://git@127.0.0.1:${sshd.port}/`), credential, hostKeys }
  return new Map<string, UpstreamSettings>([...plain, ['host', host]])
}

const wrong = (findings: readonly Finding[]) => findings.filter(({ state }) => state === 'failed')
const found = (findings: readonly Finding[], check: string) => findings.find(finding => finding.check === check)

test('a gate that has all it needs fails nothing, and the host never sees a login', async () => {
  const findings = await diagnose(settings)
  expect(wrong(findings)).toEqual([])
  for (const check of [
    'redis.policy',
    'postgres.schema',
    'clock.redis',
    'clock.postgresql',
    'upstream.host',
    'files.mode',
  ])
    expect(found(findings, check)).toMatchObject({ state: 'ok' })
  expect(sshd.log()).not.toMatch(/Accepted|userauth_pubkey|Failed/)
  for (const { state, advice } of findings) expect(state === 'ok' || advice !== undefined).toBe(true)
})

test('a Redis that may throw revocations away, and one that was told nothing, are named', async () => {
  await client.config('SET', 'maxmemory', '100mb')
  await client.config('SET', 'maxmemory-policy', 'allkeys-lru')
  const evicting = await diagnose(settings)
  expect(found(evicting, 'redis.policy')).toMatchObject({ state: 'failed', advice: 'set maxmemory-policy noeviction' })
  await client.config('SET', 'maxmemory-policy', 'noeviction')
  const store = createStore({ redis: client })
  const ticket = await store.doubt()
  expect(found(await diagnose(settings), 'redis.confirmed')).toMatchObject({ state: 'warning' })
  await store.confirm(ticket)
})

test('a pilot that nobody has ended is named', async () => {
  const board = createObservedBoard({ redis: client })
  expect(found(await diagnose(settings), 'policy.mode')).toMatchObject({ state: 'ok' })
  await board.put({ repositories: [{ match: ['acme/*'], observe: true }] })
  expect(found(await diagnose(settings), 'policy.mode')).toMatchObject({
    state: 'warning',
    found: 'only observed, so that nothing is refused there: acme/*',
  })
  await board.put({ repositories: [] })
})

test('a forwarder that stands is named with its reason, and one that nobody runs; those of old settings are nobody’s business', async () => {
  const forward = [{ type: 'redis', name: 'siem', stream: 's', keep: 1_000 }] as const
  const here = { ...settings, ledger: { ...settings.ledger, forward } }
  expect(found(await diagnose(here), 'ledger.forward.siem')).toBeUndefined()
  await sql`
    insert into audit.record (seq, recorded, proxy, boot, n, at, body, hash, kind)
    values (1, now() - interval '1 hour', 'p', 'b', 1, now(), '{}', '', 'k')`
  await sql`
    insert into audit.reader (name, seq, failing, fault)
    values ('forward siem', 0, now() - interval '20 minutes', 'WRONGPASS'), ('anomalies', 0, null, null), ('forward old', 0, now(), 'gone')`
  const findings = await diagnose(here)
  expect(found(findings, 'ledger.forward.siem')).toMatchObject({
    state: 'warning',
    found: 'WRONGPASS; it has stood at record 0 for 20m, and 1 wait',
  })
  expect(found(findings, 'ledger.anomalies')).toMatchObject({
    state: 'warning',
    found: '1 records have waited for it, the oldest 1h',
    advice: expect.stringContaining('start the admin role'),
  })
  expect(found(findings, 'ledger.forward.old')).toBeUndefined()
  await sql`update audit.reader set seq = 1, failing = null, fault = null`
  expect(found(await diagnose(here), 'ledger.forward.siem')).toMatchObject({
    state: 'ok',
    found: 'it has every record',
  })
  await sql`truncate audit.reader, audit.record`
})

test('a database of another version is not taken for a good one, and is left as it is', async () => {
  await sql`insert into migration (name, checksum) values ('999_future.sql', 'of a newer version')`
  expect(found(await diagnose(settings), 'postgres.schema')).toMatchObject({
    state: 'failed',
    found: expect.stringContaining('999_future.sql'),
  })
  await sql`delete from migration where name = '999_future.sql'`
  const [{ last }] = (await sql`select name as last from migration order by name desc limit 1`) as unknown as [
    { last: string },
  ]
  const [row] = await sql`delete from migration where name = ${last} returning *`
  expect(found(await diagnose(settings), 'postgres.schema')).toMatchObject({
    state: 'warning',
    found: expect.stringContaining(last),
  })
  await sql`insert into migration ${sql(row!)}`
})

test('engines and hosts that are away, an impostor, and a host whose certificate nobody vouches for', async () => {
  const other = await makeKey('other')
  const nowhere = await freePort()
  const tls = await makeTls()
  const web = createServer({ cert: readFileSync(tls.certificate), key: readFileSync(tls.key) })
  await new Promise<void>(resolve => web.listen(0, '127.0.0.1', resolve))
  const { port } = web.address() as { port: number }
  const findings = await diagnose({
    ...settings,
    redis: `redis://127.0.0.1:${nowhere}/0`,
    postgres: `postgres://nobody@127.0.0.1:${nowhere}/none`,
    upstreams: upstreams([other.publicKey], {
      gone: `http://127.0.0.1:${nowhere}/`,
      selfsigned: `https://127.0.0.1:${port}/`,
      folder: `file://${folder}/not-there/`,
    }),
    ca: { ...settings.ca, configured: true },
  })
  web.close()
  expect(
    wrong(findings)
      .map(({ check }) => check)
      .sort(),
  ).toEqual([
    'ca.reach',
    'postgres.reach',
    'redis.reach',
    'upstream.folder',
    'upstream.gone',
    'upstream.host',
    'upstream.selfsigned',
  ])
  expect(found(findings, 'upstream.host')).toMatchObject({ advice: expect.stringContaining('ssh-keyscan') })
  expect(found(findings, 'redis.reach')?.found).toContain('ECONNREFUSED')
})

test('a key that others can read, and certificates that run out', async () => {
  const tls = await makeTls()
  const keyed: Settings = { ...settings, listen: { ...settings.listen, http: { host: '127.0.0.1', port: 0, tls } } }
  mkdirSync(join(folder, 'tokens'), { recursive: true })
  const key = join(folder, 'tokens', 'token.jwk')
  writeFileSync(key, '{}')
  chmodSync(key, 0o644)
  chmodSync(tls.key, 0o600)
  const findings = await diagnose(keyed)
  expect(found(findings, 'files.mode')).toMatchObject({
    state: 'failed',
    advice: expect.stringContaining(`chmod 600 ${key}`),
  })
  expect(found(findings, 'tls.http')).toMatchObject({
    state: 'warning',
    found: expect.stringMatching(/runs out in [12] days/),
  })
  chmodSync(key, 0o600)

  expect(found(await diagnose(keyed, Date.now() + 3 * DAY), 'tls.http')).toMatchObject({ state: 'failed' })
  const stranger = await makeTls()
  const mixed = { ...tls, key: stranger.key }
  const listen = { ...settings.listen, http: { host: '127.0.0.1', port: 0, tls: mixed } }
  expect(found(await diagnose({ ...settings, listen }), 'tls.http')).toMatchObject({
    found: expect.stringContaining('is not the key of'),
  })
})

test('a clock is wrong when it is off by more than two seconds, however long the answer took', () => {
  expect(clockFinding({ of: 'Redis', ahead: 1_900, uncertain: 0 }).state).toBe('ok')
  expect(clockFinding({ of: 'Redis', ahead: -2_400, uncertain: 500 }).state).toBe('ok')
  expect(clockFinding({ of: 'Redis', ahead: -3_600_000, uncertain: 500 })).toMatchObject({
    state: 'failed',
    found: "Redis's clock is 3600 s behind this machine's",
  })
})

test('the command says it in words or as JSON, and its status says whether anything failed', () => {
  const file = join(folder, 'drawbridge.yaml')
  const run = (...args: string[]) => {
    const program = fileURLToPath(new URL('../../cli/drawbridge.ts', import.meta.url))
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'doctor', '--config', file, ...args], {
      encoding: 'utf8',
    })
    return { status, stdout, stderr }
  }
  const content = (upstream: string) =>
    `redis: ${redis.url}\npostgres: ${database.url}\nstate: state\nupstreams: { local: { url: "file://${upstream}/" } }\n`
  writeFileSync(file, content(folder))
  const good = run('--json')
  expect(good.status).toBe(0)
  expect((JSON.parse(good.stdout) as Finding[]).length).toBeGreaterThan(10)
  writeFileSync(file, content(`${folder}/not-there`))
  const bad = run()
  expect(bad.status).toBe(1)
  expect(bad.stdout).toMatch(/^FAILED {3}upstream\.local/m)
  expect(bad.stderr).toContain('hint: upstream.local: ')
  writeFileSync(file, 'redis: nowhere\n')
  expect(run().status).toBe(2)
})
