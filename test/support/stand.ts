import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Redis as Client } from 'ioredis'
import { type Logger, pino } from 'pino'
import postgres, { type Sql } from 'postgres'
import { newId } from '../../audit/id.ts'
import type { Record } from '../../audit/record.ts'
import { issueToken, loadOrCreateTokenKey, publicKeySet, SESSION_AUDIENCE, SESSION_ISSUER } from '../../ca/token.ts'
import type { Settings, UpstreamSettings } from '../../config/settings.ts'
import { migrate } from '../../deploy/migrate.ts'
import { ACTIONS, type Grant } from '../../grant/grant.ts'
import { createStore, type Store } from '../../grant/store.ts'
import { main, type Role } from '../../proxy/main.ts'
import { type Key, makeKey } from './keys.ts'
import { type Nginx, startNginx } from './nginx.ts'
import { type Postgres, startPostgres } from './postgres.ts'
import { temporaryFolder } from './program.ts'
import { type Redis, startRedis } from './redis.ts'
import { plainSettings } from './settings.ts'
import { type Sshd, sshCommand, startSshd } from './sshd.ts'

/** A whole gate for a story: real Redis, Postgres, hosts of all three kinds over one folder of repositories, and proxies. */
export interface Stand {
  readonly redis: Redis
  readonly postgres: Postgres
  readonly store: Store
  readonly sql: Sql
  /** Put repositories here: `<folder>/acme/app.git` is `web/acme/app`, `ssh1/acme/app` and `local/acme/app`. */
  readonly folder: string
  readonly nginx: Nginx
  readonly sshd: Sshd
  /** alice's registered SSH key. */
  readonly key: Key
  readonly proxies: readonly StartedProxy[]
  /** What the proxies were started with, but for their names. */
  readonly settings: Settings
  startProxy(change?: Partial<Settings>): Promise<StartedProxy>
  /** Opens a window for alice, or whoever is named; ten minutes unless said otherwise. */
  grant(grant: Partial<Grant> & { repository: string }): Promise<Grant>
  revoke(grant: Grant, reason?: string): Promise<void>
  token(principal: string): Promise<string>
  /**
   * Every record so far, in the order they were written by each proxy. Waits a moment for the ends of what has just ended,
   * unless told that some of it is still under way.
   */
  records(options?: { readonly underway: boolean }): Promise<Record[]>
  /** What git needs to reach `repository` through a proxy as alice. */
  remote(
    transport: 'http' | 'ssh',
    repository: string,
    proxy?: Pick<StartedProxy, 'urls'>,
  ): Promise<{ url: string; env: { [name: string]: string } }>
  close(): Promise<void>
}

export interface StartedProxy extends Role {
  readonly settings: Settings
}

export const UPSTREAM_SECRET = 'upstream-secret-9b1c'

export const quiet: Logger = pino({ level: process.env.STAND_LOG ?? 'silent' })

export async function startStand(
  options: { readonly proxies?: number; readonly change?: Partial<Settings> } = {},
): Promise<Stand> {
  const folder = temporaryFolder('repositories')
  const state = temporaryFolder('state')
  const upstreamKey = await makeKey('upstream')
  const hostKey = await makeKey('gate-host')
  const key = await makeKey('alice')
  const basic = { username: 'bot', password: UPSTREAM_SECRET }
  const [redis, pg, nginx, sshd] = await Promise.all([
    startRedis(),
    startPostgres(),
    startNginx({ folder, basic }),
    startSshd({ folder, authorizedKeys: [upstreamKey.publicKey], config: ['AcceptEnv GIT_PROTOCOL'] }),
  ])
  const sql = postgres(pg.url, { max: 2, onnotice: () => {} })
  await migrate(sql, new URL('../../deploy/migrations', import.meta.url).pathname)
  const client = new Client(redis.url, { maxRetriesPerRequest: 0, enableOfflineQueue: true })
  client.on('error', () => {})
  const store = createStore({ redis: client })
  await store.confirm(await store.doubt())
  const tokenKey = await loadOrCreateTokenKey(join(state, 'token'))
  await store.putTokenKeys(JSON.stringify(publicKeySet(tokenKey)))
  await store.putKey({ fingerprint: key.fingerprint, principal: 'alice', expires: Date.now() + 3_600_000 })

  const common = { connectTimeout: 5_000, idleTimeout: 300_000, connections: 16, hostKeys: [] as string[] }
  const upstreams = new Map<string, UpstreamSettings>([
    ['web', { ...common, name: 'web', url: new URL(nginx.url), credential: { type: 'basic', ...basic } }],
    [
      'ssh1',
      {
        ...common,
        name: 'ssh1',
        url: new URL(`${sshd.url}${folder}/`),
        credential: { type: 'ssh-key', username: sshd.user, privateKey: readFileSync(upstreamKey.path, 'utf8') },
        hostKeys: [sshd.hostKey.publicKey],
      },
    ],
    ['local', { ...common, name: 'local', url: new URL(`file://${folder}/`), credential: { type: 'none' } }],
  ])
  const settings = plainSettings({
    redis: redis.url,
    postgres: pg.url,
    state,
    upstreams,
    ssh: { hostKeys: [hostKey.path], trustedUserCAKeys: [] },
    ...options.change,
  })

  const proxies: StartedProxy[] = []
  const startProxy = async (change: Partial<Settings> = {}): Promise<StartedProxy> => {
    const own = { ...settings, name: `proxy-${proxies.length + 1}`, ...change }
    await mkdir(join(own.state, own.name), { recursive: true })
    const proxy = { ...(await main(own, { log: quiet })), settings: own }
    proxies.push(proxy)
    return proxy
  }
  for (let i = 0; i < (options.proxies ?? 1); i++) await startProxy()

  const token = (principal: string) =>
    issueToken(tokenKey, {
      id: newId('t'),
      principal,
      roles: ['developer'],
      audience: SESSION_AUDIENCE,
      issuer: SESSION_ISSUER,
      expires: Date.now() + 3_600_000,
      now: Date.now(),
    })

  return {
    redis,
    postgres: pg,
    store,
    sql,
    folder,
    nginx,
    sshd,
    key,
    proxies,
    settings,
    startProxy,
    token,
    grant: async grant => {
      const now = await store.now()
      const whole: Grant = {
        id: newId('g'),
        principal: 'alice',
        actions: ACTIONS,
        refs: [],
        starts: now,
        expires: now + 600_000,
        reason: 'a story',
        ...grant,
      }
      await store.put(whole)
      return whole
    },
    revoke: ({ principal, id }, reason = 'the story says so') => store.revoke({ principal, grant: id, reason }),
    records: async ({ underway } = { underway: false }) => {
      const read = async () => {
        const rows = await sql<
          { body: Record }[]
        >`select body::json as body from (select proxy, boot, n, body from audit.inbox union all select proxy, boot, n, body from audit.record) as records order by proxy, boot, n`
        return rows.map(row => row.body)
      }
      // An end is written behind the answer's last byte: what has just ended may need a moment to be on record.
      let records = await read()
      for (let tries = 0; !underway && tries < 20 && unended(records) > 0; tries++) {
        await new Promise(resolve => setTimeout(resolve, 50))
        records = await read()
      }
      return records
    },
    remote: async (transport, repository, proxy: Pick<StartedProxy, 'urls'> = proxies[0]!) => {
      if (transport !== 'ssh') {
        const url = new URL(`${proxy.urls.http}/${repository}.git`)
        url.username = 'alice'
        url.password = await token('alice')
        return { url: url.href, env: {} }
      }
      return { url: `${proxy.urls.ssh}/${repository}.git`, env: { GIT_SSH_COMMAND: sshCommand({ key: key.path }) } }
    },
    close: async () => {
      await Promise.all(proxies.map(proxy => proxy.close()))
      client.disconnect()
      await sql.end({ timeout: 1 })
      await Promise.all([redis.stop(), pg.stop(), nginx.stop(), sshd.stop()])
    },
  }
}

function unended(records: readonly Record[]): number {
  const count = (kind: Record['kind']) => records.filter(record => record.kind === kind).length
  return count('operation.start') - count('operation.end')
}
