import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import postgres from 'postgres'
import { newId } from '../audit/id.ts'
import { issueToken, loadOrCreateTokenKey, publicKeySet, SESSION_AUDIENCE, SESSION_ISSUER } from '../ca/token.ts'
import type { Listener, Settings, UpstreamSettings } from '../config/settings.ts'
import { migrate } from '../deploy/migrate.ts'
import { PROXY_FLAGS } from '../deploy/vm.ts'
import { ACTIONS, type Grant } from '../grant/grant.ts'
import { createStore, type Store } from '../grant/store.ts'
import { type Key, makeKey } from '../test/support/keys.ts'
import { startPostgres } from '../test/support/postgres.ts'
import { temporaryFolder } from '../test/support/program.ts'
import { startRedis } from '../test/support/redis.ts'
import { plainSettings } from '../test/support/settings.ts'
import type { Wire } from './proxy.ts'

export interface ProxyProcess {
  readonly pid: number
  readonly http: string
  /** `ssh://git@host:port` */
  readonly ssh: string
}

/** Drawbridge with every check and record on: real Redis, real Postgres with fsync, proxies in processes of their own. */
export interface BenchGate {
  readonly proxies: readonly ProxyProcess[]
  readonly store: Store
  /** Where the records are. */
  readonly postgres: string
  readonly token: string
  /** alice's registered key. */
  readonly key: Key
  grant(repository: string): Promise<Grant>
  revoke(grant: Grant): Promise<void>
  stop(): Promise<void>
}

/** What a proxy listens with for HTTP. */
export type Front = Listener & Pick<Wire, 'unrecorded'>

/** One proxy for each of `fronts`. `change`: settings that are not the usual ones. */
export async function startGate(
  upstreams: readonly UpstreamSettings[],
  fronts: readonly Front[],
  change: Partial<Settings> = {},
): Promise<BenchGate> {
  const state = temporaryFolder('bench-state')
  const [redis, pg, hostKey, key] = await Promise.all([
    startRedis(),
    startPostgres(),
    makeKey('gate-host'),
    makeKey('alice'),
  ])
  const sql = postgres(pg.url, { max: 1, onnotice: () => {} })
  await migrate(sql, new URL('../deploy/migrations', import.meta.url).pathname)
  await sql.end()
  const client = new Redis(redis.url)
  const store = createStore({ redis: client })
  await store.confirm(await store.doubt())
  const tokenKey = await loadOrCreateTokenKey(join(state, 'token'))
  await store.putTokenKeys(JSON.stringify(publicKeySet(tokenKey)))
  await store.putKey({ fingerprint: key.fingerprint, principal: 'alice', expires: Date.now() + 7_200_000 })
  const now = Date.now()
  const token = await issueToken(tokenKey, {
    id: newId('t'),
    principal: 'alice',
    roles: ['developer'],
    audience: SESSION_AUDIENCE,
    issuer: SESSION_ISSUER,
    expires: now + 7_200_000,
    now,
  })

  const children: ChildProcess[] = []
  const proxies: ProxyProcess[] = []
  for (const [i, { unrecorded = false, ...http }] of fronts.entries()) {
    const settings = plainSettings({
      name: `bench-${i + 1}`,
      listen: { http, ssh: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
      redis: redis.url,
      postgres: pg.url,
      state,
      ssh: { hostKeys: [hostKey.path], trustedUserCAKeys: [] },
      ...change,
    })
    const wire: Wire = { ...settings, unrecorded, upstreams: upstreams.map(each => ({ ...each, url: each.url.href })) }
    await mkdir(join(state, wire.name), { recursive: true })
    const child = spawn(process.execPath, [...PROXY_FLAGS, new URL('proxy.ts', import.meta.url).pathname], {
      stdio: ['pipe', 'pipe', 'inherit', 'ipc'],
    })
    children.push(child)
    child.stdin?.write(`${JSON.stringify(wire)}\n`)
    const [line] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
    const urls = JSON.parse(line.toString()) as { http: string; ssh: string }
    proxies.push({ pid: child.pid as number, ...urls })
  }

  return {
    proxies,
    store,
    postgres: pg.url,
    token,
    key,
    grant: async repository => {
      const at = await store.now()
      const grant: Grant = {
        id: newId('g'),
        principal: 'alice',
        repository,
        actions: ACTIONS,
        refs: [],
        starts: at,
        expires: at + 7_200_000,
        reason: 'bench',
      }
      await store.put(grant)
      return grant
    },
    revoke: grant => store.revoke({ principal: grant.principal, grant: grant.id, reason: 'bench' }),
    stop: async () => {
      for (const child of children) child.kill('SIGKILL')
      client.disconnect()
      await Promise.all([redis.stop(), pg.stop()])
    },
  }
}
