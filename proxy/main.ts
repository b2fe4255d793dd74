import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import postgres from 'postgres'
import { createEmitter } from '../audit/emit.ts'
import { requirePatchedPostgres } from '../audit/patched.ts'
import type { SigninRefused } from '../audit/record.ts'
import { parsePublicKeyLine } from '../ca/key.ts'
import type { Settings } from '../config/settings.ts'
import { connectRedis, untilReady } from '../grant/redis.ts'
import { createSessionBoard } from '../grant/sessions.ts'
import { createStore } from '../grant/store.ts'
import { watchCuts } from '../grant/watch.ts'
import { archive } from './archive.ts'
import type { Serve } from './client.ts'
import { fetch } from './fetch.ts'
import { Gate } from './gate.ts'
import { hosts } from './hosts.ts'
import { startHttpFront } from './http/front.ts'
import { identifier } from './identify.ts'
import { push } from './push.ts'
import { repositoryName } from './repository.ts'
import { loadBalancers, readSource } from './source.ts'
import { startSshFront } from './ssh/front.ts'
import { createThrottle } from './throttle.ts'
import { words } from './words.ts'

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
  close(): Promise<void>
}

/** The data plane: constructs everything, and listens. */
export async function main(settings: Settings, { log }: { log: Logger }): Promise<Role> {
  requirePatchedPostgres()
  const onRedisError = (error: Error) => log.warn({ err: error }, 'redis')
  const redis = connectRedis(settings.redis, onRedisError)
  const listening = connectRedis(settings.redis, onRedisError)
  await untilReady(redis, READY_MILLISECONDS_MAX)
  const store = createStore({ redis })
  const board = createSessionBoard({ redis, proxy: settings.name })

  const state = join(settings.state, settings.name)
  const proofs = join(state, 'proofs')
  await rm(proofs, { recursive: true, force: true })
  await mkdir(proofs, { recursive: true, mode: 0o700 })

  const sql = postgres(settings.postgres, { max: 2, connect_timeout: 5, onnotice: () => {} })
  const emitter = await createEmitter({
    sql,
    proxy: settings.name,
    boot: randomUUID(),
    spool: {
      file: join(state, 'spool'),
      bytes: settings.ledger.whenAway === 'spool' ? settings.ledger.spoolBytes : 0,
    },
    secrets: secretsOf(settings),
    reconnect: () => postgres(settings.postgres, { max: 2, connect_timeout: 5, onnotice: () => {} }),
    log,
  })
  const recovered = await emitter.recover()
  if (recovered > 0) log.warn({ operations: recovered }, 'operations of an earlier run were closed as interrupted')

  const gate = new Gate({
    ask: ask => store.ask(ask),
    emit: emitter.emit,
    redisSilence: settings.limits.redisSilence,
    sweepEvery: SWEEP_MILLISECONDS,
    onStart: ({ start }) => {
      const { operation, principal, repository, service, action, grants, origin } = start
      const { transport, address } = origin
      board.open({ operation, principal, repository, service, action, grants, transport, address, started: Date.now() })
    },
    onEnd: session => {
      board.close(session.operation)
      const { operation, principal, repository, action } = session.start
      const { bytesIn, bytesOut, outcome } = session
      log.info({ operation, principal, repository, action, bytesIn, bytesOut, ...outcome }, 'operation')
    },
    onRefused: ({ operation, principal, repository, action, code, reason }) =>
      log.info({ operation, principal, repository, action, code, reason }, 'refused'),
  })
  const watch = watchCuts({
    redis: listening,
    onCut: notice => gate.onCut(notice),
    onSilence: milliseconds => log.warn({ milliseconds }, 'redis is silent'),
    onBack: () => gate.recheck(),
    onError: error => log.warn({ err: error }, 'a cut notice was not understood'),
  })

  const hostOf = hosts(settings.upstreams)
  const pushing = { gate, hostOf, state: proofs, proofBytes: PROOF_BYTES_MAX, commands: settings.limits.commands }
  const serve: Serve = client =>
    gate.attend(client, () => {
      if (client.service === 'receive-pack') return push(client, pushing)
      if (client.service === 'upload-archive') return archive(client, pushing)
      return fetch(client, pushing)
    })

  const onSigninRefused = (record: SigninRefused) => {
    log.info({ ...record.origin, code: record.code, reason: record.reason }, 'sign-in refused')
    emitter.emit(record).catch(error => log.error({ err: error }, 'a refused sign-in could not be recorded'))
  }
  const identify = identifier({ tokenKeys: () => store.tokenKeys(), now: Date.now })
  const isLoadBalancer = loadBalancers(settings.proxyProtocol)
  const { listen, limits, ssh } = settings

  const http =
    listen.http &&
    (await startHttpFront({
      listen: listen.http,
      limits,
      isLoadBalancer,
      serve,
      identify: ({ token }, origin) => identify(token, origin),
      resolveRepository: repositoryName,
      onSigninRefused,
      log,
    }))
  const authorities = new Set(ssh.trustedUserCAKeys.map(line => parsePublicKeyLine(line).blob.toString('base64')))
  const sshd =
    listen.ssh &&
    (await startSshFront({
      listen: listen.ssh,
      hostKeys: await Promise.all(ssh.hostKeys.map(file => readFile(file))),
      serve,
      login: {
        findKey: fingerprint => store.findKey(fingerprint),
        isAuthority: blob => authorities.has(blob.toString('base64')),
        // A revoked serial is barred in Redis, and asked for with the grants at every use.
        isRevoked: () => false,
        now: Date.now,
      },
      resolveRepository: repositoryName,
      commands: words({ store }),
      limits,
      readSource: socket => readSource(socket, isLoadBalancer, limits.headers),
      throttle: createThrottle({ now: () => performance.now() }),
      onRefused: onSigninRefused,
      log: (message, facts) => log.info(facts ?? {}, message),
    }))

  return {
    ready: Promise.resolve(),
    urls: {
      ...(http && { http: `${listen.http?.tls ? 'https' : 'http'}://${http.address.host}:${http.address.port}` }),
      ...(sshd && { ssh: `ssh://git@${sshd.address.address}:${sshd.address.port}` }),
    },
    reload: async () => {
      await http?.reload()
    },
    close: async () => {
      // The gate first: it lets nothing new in and gives what runs its time; then there is nothing left to break off.
      const farewell = limits.drain + FAREWELL_MILLISECONDS
      const fronts = [http?.close(farewell), sshd?.close(farewell)]
      await gate.close(limits.drain)
      await Promise.all(fronts)
      await watch.close()
      await board.stop()
      await emitter.close()
      await sql.end({ timeout: 2 })
      redis.disconnect()
      listening.disconnect()
    },
  }
}

/** What must never stand in a record. */
function secretsOf(settings: Settings): string[] {
  return [...settings.upstreams.values()].flatMap(({ credential }) => {
    if (credential.type === 'basic') return [credential.password]
    if (credential.type === 'bearer') return [credential.token]
    return []
  })
}
