import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import { measureEmit } from '../audit/metrics.ts'
import { requirePatchedPostgres } from '../audit/patched.ts'
import type { Record as AuditRecord, OperationRefused } from '../audit/record.ts'
import { authorityClient } from '../ca/client.ts'
import { requireSame, settingsVersion } from '../config/reload.ts'
import { secretsOf } from '../config/secrets.ts'
import type { Settings, UpstreamSettings } from '../config/settings.ts'
import { createAuthorityBoard } from '../grant/authority.ts'
import { networkOf } from '../grant/network.ts'
import { createObservedBoard } from '../grant/observe.ts'
import { connectRedis, untilReady } from '../grant/redis.ts'
import { createSessionBoard } from '../grant/sessions.ts'
import { createStore } from '../grant/store.ts'
import { createTipBoard } from '../grant/tips.ts'
import { watchCuts } from '../grant/watch.ts'
import { archive } from './archive.ts'
import { followAuthority } from './authority.ts'
import { autoRequests } from './autorequest.ts'
import { watchBypasses } from './bypass.ts'
import type { Serve } from './client.ts'
import { controlPlane } from './control.ts'
import { fetch } from './fetch.ts'
import { type Fronts, startFronts } from './fronts.ts'
import { Gate } from './gate.ts'
import { hostIn } from './hosts.ts'
import { openLedger } from './ledger.ts'
import { proxyMetrics } from './metrics.ts'
import { followNetworks } from './networks.ts'
import { followObserved } from './observing.ts'
import { push } from './push.ts'
import { measureReuse } from './reuse/metrics.ts'
import { Reuse } from './reuse/reuse.ts'
import type { Siblings } from './siblings.ts'
import { ssh2State } from './ssh/patched.ts'
import { FIXED_HERE, take } from './taken.ts'
import { traceUpstream } from './trace.ts'
import type { SshUpstreamExtras } from './upstream/ssh.ts'
import { upstreamLogin } from './upstreamlogin.ts'

const READY_MILLISECONDS_MAX = 30_000
const SWEEP_MILLISECONDS = 1_000
/** How long connections outlive the grace for what runs on them, so that whoever is cut is also told. */
const FAREWELL_MILLISECONDS = 3_000
/** The largest pack read to tell a force push: what a throwaway repository may take of the disk. */
const PROOF_BYTES_MAX = 2 ** 30

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
  /**
   * Takes no new connections, lets those that are open come to what they came for, and ends when none is left. After
   * `limits.drain` what still runs is cut.
   */
  retire(): Promise<void>
  close(): Promise<void>
}

/**
 * The data plane: constructs everything, and listens. Redis must be there; Postgres need not: until it is, operations are
 * spooled or refused.
 */
export async function main(
  given: Settings,
  { log, siblings }: { readonly log: Logger; readonly siblings?: Siblings },
): Promise<Role> {
  requirePatchedPostgres()
  const signer = given.ca.configured ? authorityClient(given.ca.socket) : undefined
  const loginsTo = (settings: UpstreamSettings): SshUpstreamExtras =>
    signer ? { certificate: target => upstreamLogin(signer, settings, target) } : {}
  let taken = take(given, loginsTo)
  // One object for everybody who reads a limit, so that a reload reaches them all.
  const limits = { ...given.limits }

  // Let go of in the opposite order, at the end or when the start fails half-way.
  await using owned = new AsyncDisposableStack()
  const connect = () => {
    const redis = connectRedis(given.redis, error => log.warn({ err: error }, 'redis'))
    owned.defer(() => redis.disconnect())
    return redis
  }
  const redis = connect()
  const listening = connect()
  await untilReady(redis, READY_MILLISECONDS_MAX)
  const store = createStore({ redis })
  const board = createSessionBoard({ redis, proxy: given.name })
  owned.defer(() => board.stop())

  const state = join(given.state, given.name)
  const proofs = join(state, 'proofs')
  await rm(proofs, { recursive: true, force: true })
  await mkdir(proofs, { recursive: true, mode: 0o700 })

  const ledger = await openLedger(given, state, log)
  owned.defer(() => ledger.close())
  const { emitter } = ledger

  const authority =
    signer &&
    followAuthority({
      board: createAuthorityBoard({ redis }),
      // What runs by a certificate that was revoked is cut; our own host certificate may have to be another.
      onChange: () => {
        gate.recheck()
        fronts?.recheck()
      },
      log,
    })
  owned.defer(() => authority?.stop())
  let fronts: Fronts | undefined

  const control = controlPlane(
    () => taken.settings.control,
    error => log.warn({ err: error }, 'the control plane could not be asked'),
  )
  let silence = 0
  const metrics = proxyMetrics({
    running: () => gate.running,
    sshConnections: () => fronts?.sshConnections() ?? 0,
    silence: () => silence,
    ssh2: ssh2State(),
    observing: () => observing.patterns().length,
  })
  const observing = await followObserved({
    board: createObservedBoard({ redis }),
    // Whoever was let through by it and no more is cut.
    onChange: () => gate.recheck(),
    log,
  })
  owned.defer(() => observing.stop())
  const lockedNetworks = await followNetworks({ store, onChange: () => gate.recheck(), log })
  owned.defer(() => lockedNetworks.stop())
  const emit = measureEmit(metrics.registry, emitter)
  // Loaded where it is wanted and nowhere else.
  const tracing = given.traces && (await import('./otlp.ts')).otlpTracing(given.traces, { name: given.name, log })
  owned.defer(() => tracing?.close())
  const bypasses = watchBypasses({ board: createTipBoard({ redis }), emit, log })
  const gate = new Gate({
    ask: metrics.ask(ask => store.ask(ask)),
    emit,
    get redisSilence() {
      return limits.redisSilence
    },
    sweepEvery: SWEEP_MILLISECONDS,
    tracing,
    observes: observing.observes,
    lockedOut: lockedNetworks.why,
    onStart: ({ start }) => {
      const { operation, principal, repository, service, action, grants, origin } = start
      const { transport, address } = origin
      board.open({ operation, principal, repository, service, action, grants, transport, address, started: Date.now() })
    },
    onEnd: session => {
      board.close(session.operation)
      bypasses.ended(session)
      metrics.onEnd(session)
      const { operation, principal, repository, action } = session.start
      const { bytesIn, bytesOut, reuse, outcome } = session
      log.info({ operation, principal, repository, action, bytesIn, bytesOut, reuse, ...outcome }, 'operation')
    },
    onRefused: logRefused,
    ...(given.control && { afterRefusal: autoRequests(control) }),
  })
  function logRefused({ operation, principal, repository, service, action, code, reason }: OperationRefused): void {
    metrics.onRefused({ service, code })
    log.info({ operation, principal, repository, action, code, reason }, 'refused')
  }
  const watch = watchCuts({
    redis: listening,
    onCut: notice => {
      if (networkOf(notice.principal) === undefined) gate.onCut(notice)
      else void lockedNetworks.look()
    },
    onSilence: milliseconds => {
      silence = milliseconds
      log.warn({ milliseconds }, 'redis is silent')
    },
    onBack: () => {
      silence = 0
      gate.recheck()
    },
    onError: error => log.warn({ err: error }, 'a cut notice was not understood'),
  })
  owned.defer(() => watch.close())

  const hostOf = (repository: string) => {
    const name = repository.slice(0, repository.indexOf('/'))
    const connect = hostIn(taken.hosts, repository)
    // Whoever makes up names of hosts makes no metrics.
    if (!taken.hosts.has(name)) return connect
    const measured = metrics.upstream(name, connect)
    return tracing ? traceUpstream(name, measured) : measured
  }
  const reuse = given.reuse.enabled
    ? await Reuse.open({
        ...given.reuse,
        folder: given.reuse.folder ?? join(state, 'reuse'),
        hostOf,
        upstreamOf: repository => taken.settings.upstreams.get(repository.slice(0, repository.indexOf('/'))),
      })
    : undefined
  owned.defer(() => reuse?.close())
  if (reuse) measureReuse(metrics.registry, reuse)

  const serving = {
    gate,
    bypasses,
    hostOf,
    reuse,
    state: proofs,
    proofBytes: PROOF_BYTES_MAX,
    get commands() {
      return limits.commands
    },
  }
  const serve: Serve = client =>
    gate.attend(client, () => {
      if (client.service === 'receive-pack') return push(client, serving)
      if (client.service === 'upload-archive') return archive(client, serving)
      return fetch(client, serving)
    })

  /** What operations need. */
  async function checks(): Promise<Record<string, string>> {
    const unsaid = 'not confirmed: the admin role has yet to tell it what was revoked'
    const redisSays = store.confirmed().then(yes => (yes ? 'ok' : unsaid), messageOf)
    const ledgerSays = ledger.check().then(() => 'ok', messageOf)
    return { redis: await redisSays, ledger: await ledgerSays }
  }

  /** Of what nobody waits for: there was no access to put on record first. */
  function record(fact: AuditRecord): void {
    emit(fact).catch(error => log.error({ err: error, kind: fact.kind }, 'a fact could not be recorded'))
  }
  const opened = await startFronts({
    settings: given,
    limits,
    taken: () => taken,
    serve,
    store,
    control,
    signer,
    authority,
    siblings,
    onRefused: refused => {
      logRefused(refused)
      record(refused)
    },
    onSigninRefused: refused => {
      metrics.onSigninRefused(refused)
      log.info({ ...refused.origin, code: refused.code, reason: refused.reason }, 'sign-in refused')
      record(refused)
    },
    log,
  })
  fronts = opened
  owned.defer(() => opened.stop())

  await ledger.recovered()
  const rest = owned.move()

  async function end(grace: number): Promise<void> {
    // The gate first: it lets nothing new in and gives what runs its time; then there is nothing left to break off.
    const farewell = grace + FAREWELL_MILLISECONDS
    const closed = opened.close(farewell)
    await gate.close(grace)
    await closed
    await rest.disposeAsync()
  }

  return {
    ready: Promise.resolve(),
    observed: { metrics: metrics.registry, checks },
    urls: opened.urls,
    reload: async next => {
      requireSame(taken.settings, next, FIXED_HERE)
      const fresh = take(next, loginsTo, taken)
      await opened.reload(next)
      // From here on nothing can fail. The secrets first: a record must not hold one that has just come into use.
      emitter.conceal(secretsOf(next))
      Object.assign(limits, next.limits)
      taken = fresh
      record({ kind: 'config.loaded', by: 'drawbridge', version: settingsVersion(next.file) })
    },
    refused: async reason => {
      record({ kind: 'config.refused', by: 'drawbridge', version: settingsVersion(given.file), reason })
    },
    retire: async () => {
      await Promise.race([opened.retire(), sleep(limits.drain, undefined, { ref: false })])
      await end(0)
    },
    close: () => end(limits.drain),
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
