import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import postgres from 'postgres'
import type { Registry } from 'prom-client'
import { cleaner } from '../audit/clean.ts'
import type { Forwarding } from '../audit/forward/forwarder.ts'
import { HEADS_FILE, startLedger } from '../audit/main.ts'
import { requirePatchedPostgres } from '../audit/patched.ts'
import { startRetention } from '../audit/retain.ts'
import { authorityClient } from '../ca/client.ts'
import {
  issueToken,
  loadOrCreateTokenKey,
  publicKeySet,
  SESSION_AUDIENCE,
  SESSION_ISSUER,
  type TokenKey,
  verifyToken,
} from '../ca/token.ts'
import { FIXED, type Fixed, place, requireSame, settingsVersion } from '../config/reload.ts'
import { secretsOf } from '../config/secrets.ts'
import type { Settings } from '../config/settings.ts'
import { createAuthorityBoard } from '../grant/authority.ts'
import { createObservedBoard } from '../grant/observe.ts'
import { connectRedis, untilReady } from '../grant/redis.ts'
import { createStore } from '../grant/store.ts'
import type { Control } from './api/control.ts'
import { controlChecks } from './api/health.ts'
import { followAuthority } from './authority.ts'
import { startEnact } from './enact.ts'
import { endForbidden } from './forbid.ts'
import { forwardLedger } from './forward.ts'
import { headPublishers } from './heads.ts'
import { listen } from './listen.ts'
import { createProvider } from './login/provider.ts'
import { startRecheck } from './login/recheck.ts'
import { createSeal } from './login/seal.ts'
import { remoteKeys } from './login/workload.ts'
import { controlMetrics } from './metrics.ts'
import { announce } from './notify/announce.ts'
import { loadOrCreateLinkKey } from './notify/link.ts'
import type { Notify } from './notify/notify.ts'
import { openNotify } from './notify/open.ts'
import { createRefuse } from './notify/refusals.ts'
import { withSchedules } from './oncall.ts'
import { createPolicyInForce } from './policy.ts'
import { followPolicy, policyPass } from './policyrepository.ts'
import { createAct } from './register/act.ts'
import { startSchedules } from './schedules.ts'

const READY_MILLISECONDS_MAX = 30_000
const CONNECTIONS_MAX = 6

/** Below the state folder: the key tokens are signed with, and the ledger's heads. */
const TOKEN_FOLDER = 'tokens'
const LEDGER_FOLDER = 'ledger'
/** The copy of a policy that is kept in a repository. */
const POLICY_FOLDER = 'policy.git'
/** And the key of one-time links. */
const LINK_FOLDER = 'links'
/** Below the ledger's: what retention exports, unless the settings name another place. */
const ARCHIVE_FOLDER = 'archive'

/** Read once, when the role starts. */
const FIXED_HERE: Fixed = {
  ...FIXED,
  'listen.admin': ({ listen }) => place(listen.admin),
  login: ({ login }) => login,
  'ledger.retention': ({ ledger }) => ledger.retention,
  'ledger.archive': ({ ledger }) => ledger.archive,
  'ledger.heads': ({ ledger }) => ledger.heads,
  'ledger.forward': ({ ledger }) => ledger.forward,
  workloads: ({ workloads }) => workloads,
  ca: ({ ca }) => ca,
  policy: ({ policy }) => (typeof policy === 'object' ? policy : undefined),
}

/** A role as `drawbridge serve` runs it. */
export interface Role {
  readonly ready: Promise<void>
  readonly urls: Readonly<Record<string, string>>
  /** Takes over what can change while running; throws and changes nothing when it cannot. */
  reload(settings: Settings): Promise<void>
  /** Puts on record that settings were not taken over. */
  refused(reason: string): Promise<void>
  /** What is watched of it. */
  readonly observed: { readonly metrics: Registry; checks(): Promise<Readonly<Record<string, string>>> }
  close(): Promise<void>
}

/**
 * The control plane: constructs everything, and listens. The database has been migrated; `settings` names Redis and Postgres by
 * their URLs.
 */
export async function main(settings: Settings, { log }: { log: Logger }): Promise<Role> {
  requirePatchedPostgres()
  const boot = randomUUID()
  const redis = connectRedis(settings.redis, error => log.warn({ err: error }, 'redis'))
  await untilReady(redis, READY_MILLISECONDS_MAX)
  const store = createStore({ redis })

  const embedded = await isEmbedded(settings.postgres)
  const connect = (max: number, more = {}) =>
    postgres(settings.postgres, { max, connect_timeout: 5, onnotice: () => {}, ...more })
  const sql = connect(embedded ? 1 : CONNECTIONS_MAX)
  const lock = embedded ? undefined : connect(1, { idle_timeout: 0, max_lifetime: null })

  const ledgerFolder = join(settings.state, LEDGER_FOLDER)
  await mkdir(ledgerFolder, { recursive: true, mode: 0o700 })
  let forwarding: Forwarding | undefined
  const notifyForwarders = () => forwarding?.wake()
  const ledger = await startLedger({
    ...{ sql, state: ledgerFolder, boot, log, notify: notifyForwarders },
    publishers: settings.ledger.heads ? headPublishers(settings.ledger.heads, redis) : [],
    ...(lock && { lock }),
  })
  const isWriter = () => ledger.writer.state().role === 'writer'

  let wakeEnact = () => {}
  let notify: Notify | undefined
  let clean = cleaner(secretsOf(settings))
  const act = createAct({
    sql,
    clean: record => clean(record),
    announce: async (transaction, records) => {
      if (notify !== undefined) await announce(transaction, records, Date.now())
    },
    committed: () => {
      ledger.wake()
      wakeEnact()
      notify?.wake()
    },
  })
  forwarding = forwardLedger(settings, { sql, redis, act, isWriter, log })
  const tokenKey = await loadOrCreateTokenKey(join(settings.state, TOKEN_FOLDER))
  const tokenKeys = publicKeySet(tokenKey)
  const board = createAuthorityBoard({ redis })
  const authority = settings.ca.configured ? authorityClient(settings.ca.socket) : undefined
  const trust = authority && followAuthority({ client: authority, board, log })
  let schedules = startSchedules(settings.onCall ?? [], { log })
  const policy = withSchedules(createPolicyInForce(act, log), () => schedules.now())
  const { policy: kept } = settings
  if (typeof kept !== 'object') await policy.load(kept)
  const enact = startEnact({
    sql,
    store,
    act,
    tokenKeys: JSON.stringify(tokenKeys),
    // Without an authority, what one left there earlier must not be believed.
    restoreAuthority: () => trust?.restore() ?? board.clear(),
    observed: { board: createObservedBoard({ redis }), now: policy.observed },
    log,
  })
  wakeEnact = enact.wake

  await endForbidden(sql, act, policy.standing(), Date.now())
  const followed =
    typeof kept === 'object'
      ? await followPolicy({
          source: kept,
          folder: join(settings.state, POLICY_FOLDER),
          policy,
          changed: async () => void (await endForbidden(sql, act, policy.standing(), await store.now())),
          pass: policyPass({ source: kept, act, enact, store, issueToken: tokensBy(tokenKey).issueToken }),
          log,
        })
      : undefined
  const linkKey = await loadOrCreateLinkKey(join(settings.state, LINK_FOLDER))
  let hooks = settings.hooks ?? []
  const refuse = createRefuse({ act, log })
  const opening = { sql, act, policy, now: () => store.now(), linkKey, refuse, log }
  notify = openNotify(settings, opening)

  const { retention: keep, archive } = settings.ledger
  const retention =
    keep === undefined
      ? undefined
      : startRetention({
          ...{ sql, keep, act, log, key: ledger.key },
          folder: archive ?? join(ledgerFolder, ARCHIVE_FOLDER),
          isWriter,
        })

  const { login } = settings
  const people = login && { settings: login, provider: createProvider(login), seal: createSeal(linkKey) }
  const every = login?.recheck
  const recheck = people && every !== undefined ? startRecheck({ sql, act, log, every, ...people }) : undefined

  const control: Omit<Control, 'places'> = {
    sql,
    redis,
    store,
    act,
    enact,
    policy,
    tail: ledger.tail,
    ...(retention && { retention }),
    ledgerFault: () => ledger.writer.state().fault?.message,
    heads: { file: join(ledgerFolder, HEADS_FILE), keys: [ledger.key.publicKey] },
    metrics: controlMetrics({
      sql,
      store,
      enact,
      ledgerSeq: () => ledger.writer.state().seq,
      head: () => ledger.writer.state().head,
      readers: () => forwarding?.state().map(({ name }) => name) ?? [],
      ...(trust && { authorityFault: () => trust.fault() }),
    }),
    ...(people && { people }),
    ...(settings.workloads && { workloads: { settings: settings.workloads, keysOf: remoteKeys() } }),
    ...(authority && { authority }),
    ...(trust && { trust }),
    notify: () => notify,
    links: { linkKey, refuse },
    hooks: { hooks: () => hooks, refuse, standing: () => policy.standing(), now: () => store.now() },
    ...tokensBy(tokenKey),
  }

  const listening = await listen(settings, control, { authority, log })
  // The proxies may only be starting.
  void followed?.sync()
  await act(async change => change.record({ kind: 'role.started', by: 'drawbridge', role: 'admin' }))

  return {
    ready: enact.settle(READY_MILLISECONDS_MAX).then(done => {
      if (!done) log.warn({}, 'Redis has not been told everything yet; nothing is allowed until it has')
    }),
    observed: { metrics: control.metrics, checks: () => controlChecks(control) },
    urls: listening.urls,
    reload: async next => {
      requireSame(settings, next, FIXED_HERE)
      await listening.reload(next)
      if (typeof next.policy !== 'object') await policy.load(next.policy)
      await followed?.sync()
      await endForbidden(sql, act, policy.standing(), Date.now())
      hooks = next.hooks ?? []
      schedules.close()
      schedules = startSchedules(next.onCall ?? [], { log })
      const before = notify
      notify = openNotify(next, opening)
      await before?.close()
      // Nothing is lost in between: each goes on behind what it has sent.
      await forwarding?.close()
      forwarding = forwardLedger(next, { sql, redis, act, isWriter, log })
      // The old ones too: what they opened may not have been changed yet.
      clean = cleaner([settings, next].flatMap(secretsOf))
      const version = settingsVersion(next.file)
      const recorded = act(async change => change.record({ kind: 'config.loaded', by: 'drawbridge', version }))
      // They are in use: that this could not be recorded does not take them back.
      await recorded.catch(error => log.error({ err: error }, 'the reload could not be recorded'))
    },
    refused: reason =>
      act(async change => {
        const version = settingsVersion(settings.file)
        change.record({ kind: 'config.refused', by: 'drawbridge', version, reason })
      }),
    close: async () => {
      schedules.close()
      await followed?.close()
      await recheck?.close()
      await listening.close()
      const stopped = act(async change => change.record({ kind: 'role.stopped', by: 'drawbridge', role: 'admin' }))
      await stopped.catch(error => log.warn({ err: error }, 'the stop could not be recorded'))
      await trust?.close()
      await retention?.close()
      await forwarding?.close()
      await notify?.close()
      await enact.close()
      await ledger.close()
      await Promise.all([sql.end({ timeout: 2 }), lock?.end({ timeout: 2 })])
      redis.disconnect()
    },
  }
}

function tokensBy(key: TokenKey): Pick<Control, 'verifyToken' | 'issueToken'> {
  const keys = publicKeySet(key)
  const ours = { audience: SESSION_AUDIENCE, issuer: SESSION_ISSUER }
  return {
    verifyToken: async token => {
      const result = await verifyToken(token, { keys, ...ours, now: Date.now() })
      if (!result.ok) return { refused: result.reason }
      const { principal, roles, id, expires, signin, request } = result.claims
      const bound = { ...(signin !== undefined && { signin }), ...(request !== undefined && { request }) }
      return { principal, roles, token: { id, expires, ...bound } }
    },
    issueToken: content => issueToken(key, { ...content, ...ours, now: Date.now() }),
  }
}

/** PGlite has one connection for everything, and no advisory locks worth the name. */
async function isEmbedded(url: string): Promise<boolean> {
  const sql = postgres(url, { max: 1, connect_timeout: 5, onnotice: () => {} })
  try {
    const [row] = await sql<{ version: string }[]>`select version()`
    return /emscripten|emcc|wasm/i.test(row?.version ?? '')
  } finally {
    await sql.end()
  }
}
