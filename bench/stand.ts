import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { UpstreamSettings } from '../config/settings.ts'
import { type Key, makeKey } from '../test/support/keys.ts'
import { type Nginx, startNginx } from '../test/support/nginx.ts'
import { temporaryFolder } from '../test/support/program.ts'
import { type Sshd, sshCommand, startSshd } from '../test/support/sshd.ts'
import { makeTls } from '../test/support/tls.ts'
import { type BenchGate, type ProxyProcess, startGate } from './gate.ts'

export type Environment = Record<string, string>

/** A way to reach the host's repositories: what comes before `name.git`, and what git needs for it. */
export interface Place {
  readonly url: string
  readonly env: Environment
  readonly pid?: number
}

/** Everything that is measured, and what it is measured against. */
export interface Stand {
  /** The host's repositories. */
  readonly folder: string
  /** git http-backend behind nginx: directly, passed on by another nginx, by a naive relay, by Drawbridge, by Drawbridge over TLS. */
  readonly http: Readonly<Record<'direct' | 'nginx' | 'naive' | 'drawbridge' | 'tls', Place>>
  /** A stock sshd: directly, by a second sshd's ForceCommand, by Drawbridge. */
  ssh(kex: Kex): { readonly direct: Place; readonly chain: Place; readonly drawbridge: Place }
  readonly sshd: Sshd
  /** A key that the sshd takes. */
  readonly clientKey: Key
  /** A host that gives bytes faster than anybody passes them on, and what is asked of it. */
  readonly replay: Readonly<Record<'direct' | 'nginx' | 'naive' | 'drawbridge' | 'unrecorded', string>>
  readonly gate: BenchGate
  /** The proxy that `drawbridge` goes through. */
  readonly proxy: ProxyProcess
  /** The nginx that passes everything. */
  readonly nginx: { readonly pid: number }
  readonly naive: { readonly pid: number }
  /** The header a client shows the gate. */
  readonly authorization: string
  stop(): Promise<void>
}

/**
 * `pinned`: every leg agrees on curve25519 and AES-GCM; a post-quantum exchange on one leg only would not be a comparison.
 * `default`: each pair of programs agrees on what it likes best.
 */
export type Kex = 'pinned' | 'default'
export const PINNED_KEX = 'curve25519-sha256'
const PINNED = ['-o', `KexAlgorithms=${PINNED_KEX}`, '-o', 'Ciphers=aes128-gcm@openssh.com']

const LOOPBACK = { host: '127.0.0.1', port: 0 }
const BUSY_SSHD = ['MaxStartups 400', 'MaxSessions 400']

export async function startStand(): Promise<Stand> {
  const top = temporaryFolder('bench')
  const folder = join(top, 'repositories')
  mkdirSync(folder)
  const replay = await startServer('replay.ts')
  const backend = await startNginx({ folder })
  const naive = await startServer('naive.ts', `/real/=${backend.url}`, `/replay/=${replay.url}`)
  const through = await passing(top, { '/real/': backend.url, '/replay/': replay.url })

  const [upstreamKey, clientKey, tls] = await Promise.all([makeKey('upstream'), makeKey('client'), makeTls()])
  const authorizedKeys = [upstreamKey.publicKey, clientKey.publicKey]
  const sshd = await startSshd({ folder, authorizedKeys, config: BUSY_SSHD })
  const chains = {
    pinned: await forcing(sshd, clientKey, PINNED),
    default: await forcing(sshd, clientKey, []),
  }

  const gate = await startGate(hosts(backend, replay.url, sshd, folder, upstreamKey), [
    LOOPBACK,
    LOOPBACK,
    { ...LOOPBACK, tls },
    { ...LOOPBACK, unrecorded: true },
  ])
  const [proxy, , secure, unrecorded] = gate.proxies as [ProxyProcess, ProxyProcess, ProxyProcess, ProxyProcess]
  for (const pattern of ['replay/**', 'real/**', 'ssh1/**']) await gate.grant(pattern)
  const authorization = `Authorization: Bearer ${gate.token}`
  const env = { GIT_CONFIG_PARAMETERS: `'http.extraHeader=${authorization}'` }

  return {
    folder,
    http: {
      direct: { url: backend.url, env: {} },
      nginx: { url: `${through.url}real/`, env: {}, pid: through.worker },
      naive: { url: `${naive.url}real/`, env: {}, pid: naive.pid },
      drawbridge: { url: `${proxy.http}/real/`, env, pid: proxy.pid },
      tls: { url: `${secure.http}/real/`, env: { ...env, GIT_SSL_CAINFO: tls.certificate }, pid: secure.pid },
    },
    ssh: kex => {
      const extra = kex === 'pinned' ? PINNED : []
      const by = (key: Key) => ({ GIT_SSH_COMMAND: sshCommand({ key: key.path, extra }) })
      return {
        direct: { url: `${sshd.url}${folder}/`, env: by(clientKey) },
        chain: { url: `${chains[kex].url}${folder}/`, env: by(clientKey) },
        drawbridge: { url: `${proxy.ssh}/ssh1/`, env: by(gate.key), pid: proxy.pid },
      }
    },
    replay: {
      direct: replay.url,
      nginx: `${through.url}replay/`,
      naive: `${naive.url}replay/`,
      drawbridge: `${proxy.http}/replay/`,
      unrecorded: `${unrecorded.http}/replay/`,
    },
    sshd,
    clientKey,
    gate,
    proxy,
    nginx: { pid: through.worker },
    naive,
    authorization,
    stop: async () => {
      const others = [backend, through, sshd, chains.pinned, chains.default]
      await Promise.all([gate.stop(), ...others.map(other => other.stop())])
      replay.stop()
      naive.stop()
    },
  }
}

/** nginx as the thing in between: passes everything, checks nothing, buffers nothing, keeps its connections. */
function passing(top: string, paths: Readonly<Record<string, string>>): Promise<Nginx> {
  const entries = Object.entries(paths).map(([path, url], i) => ({ path, host: new URL(url).host, name: `passed${i}` }))
  return startNginx({
    folder: join(top, 'none'),
    http: entries.map(
      ({ name, host }) =>
        `upstream ${name} { server ${host}; keepalive 64; keepalive_requests 100000000; keepalive_time 24h; }`,
    ),
    config: [
      'keepalive_requests 100000000;',
      'access_log off;',
      ...entries.map(
        ({ path, name }) =>
          `location ${path} { proxy_pass http://${name}/; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s; }`,
      ),
    ],
  })
}

/** The proxy many build first: an sshd that runs `ssh` to the host for each command. */
function forcing(host: Sshd, key: Key, extra: readonly string[]): Promise<Sshd> {
  const ssh = sshCommand({ key: key.path, extra: ['-o', 'SendEnv=GIT_PROTOCOL', ...extra] })
  const command = `exec ${ssh} -p ${host.port} ${host.user}@127.0.0.1 -- "$SSH_ORIGINAL_COMMAND"`
  return startSshd({ authorizedKeys: [key.publicKey], config: [...BUSY_SSHD, `ForceCommand ${command}`] })
}

function hosts(backend: Nginx, replay: string, sshd: Sshd, folder: string, key: Key): UpstreamSettings[] {
  const common = { connectTimeout: 5_000, idleTimeout: 60_000, connections: 128, hostKeys: [] }
  const open = { ...common, credential: { type: 'none' } } as const
  return [
    { ...open, name: 'real', url: new URL(backend.url) },
    { ...open, name: 'replay', url: new URL(replay) },
    // The same host by a name of its own, so that a grant on it is the only one that covers what runs there.
    { ...open, name: 'slow', url: new URL(replay) },
    {
      ...common,
      name: 'ssh1',
      url: new URL(`${sshd.url}${folder}/`),
      credential: { type: 'ssh-key', username: sshd.user, privateKey: readFileSync(key.path, 'utf8') },
      hostKeys: [sshd.hostKey.publicKey],
    },
  ]
}

/** A server of ours as a process of its own; it prints its port. */
async function startServer(file: string, ...args: string[]): Promise<{ url: string; pid: number; stop(): void }> {
  const child = spawn(process.execPath, [new URL(file, import.meta.url).pathname, ...args], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  })
  const [port] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
  return {
    url: `http://127.0.0.1:${port.toString().trim()}/`,
    pid: child.pid as number,
    stop: () => child.kill(),
  }
}
