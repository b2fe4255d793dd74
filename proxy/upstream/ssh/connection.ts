import { connect as connectSocket, type Socket } from 'node:net'
import ssh2, { type Client, type ClientChannel } from 'ssh2'
import type { UpstreamSettings } from '../../../config/settings.ts'
import { GATHER_MILLISECONDS, gathering } from '../gather.ts'
import { type Lending, UpstreamError } from '../upstream.ts'
import type { HostKeys } from './hostkey.ts'
import { SshIntake } from './intake.ts'

/** As whom to log in. */
export interface Login {
  readonly username: string
  readonly privateKey: string | Buffer
  /** An OpenSSH certificate of that key, as it goes on the wire. */
  readonly certificate?: Buffer
}

/** A host that answers none of four questions, half a minute apart, is gone. */
const KEEPALIVE_MILLISECONDS = 30_000
const KEEPALIVES_MAX = 4

/** One logged-in connection to a host. */
export interface Connection {
  /** Runs a command. Rejects with an UpstreamError. */
  exec(command: string, env: Readonly<Record<string, string>>): Promise<ClientChannel & Lending>
  readonly alive: boolean
  /** Whether it keeps this process running. */
  hold(held: boolean): void
  /** Ends it at once, whatever it is at. */
  destroy(): void
  onClose(listener: () => void): void
}

/**
 * Connects and logs in.
 *
 * @throws UpstreamError
 */
export function openConnection(
  settings: UpstreamSettings,
  hostKeys: HostKeys,
  login: Login,
  signal: AbortSignal,
): Promise<Connection> {
  const { url, connectTimeout } = settings
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const port = Number(url.port || 22)
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client()
    // Without TCP_NODELAY small packets wait for each other's acknowledgement.
    const intake = new SshIntake()
    const socket = connectSocket({
      host,
      port,
      noDelay: true,
      onread: intake.onread(chunk => socket.emit('data', chunk)),
    })
    // Until ssh2 listens: what comes before is not kept.
    socket.pause()
    let impostor = false
    const fail = (error: unknown) => {
      release()
      socket.destroy()
      reject(error)
    }
    const onError = (error: Error & { level?: string }) => {
      if (impostor) {
        const detail = `the host key of ${host}:${port} is none of those pinned for upstream ${settings.name}`
        fail(new UpstreamError('host-key', 'the Git host could not be recognised', detail))
      } else fail(connectFault(settings, error))
    }
    const onClose = () =>
      fail(new UpstreamError('unreachable', 'the Git host cannot be reached', `${host}:${port} closed the connection`))
    const onAbort = () => fail(signal.reason)
    const onReady = () => {
      release()
      resolve(established(settings, client, socket, intake))
    }
    function release() {
      client.off('error', onError).off('close', onClose).off('ready', onReady)
      client.on('error', () => {})
      signal.removeEventListener('abort', onAbort)
    }
    client.on('error', onError).on('close', onClose).on('ready', onReady)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) return onAbort()
    let offered = false
    try {
      client.connect({
        sock: socket,
        lend: data => intake.lend(data),
        username: login.username,
        readyTimeout: connectTimeout,
        keepaliveInterval: KEEPALIVE_MILLISECONDS,
        keepaliveCountMax: KEEPALIVES_MAX,
        algorithms: { serverHostKey: [...hostKeys.algorithms], compress: ['none'] },
        hostVerifier: (blob: Buffer) => {
          impostor = !hostKeys.verify(blob)
          return !impostor
        },
        authHandler: () => {
          if (offered) return false
          offered = true
          const { username, privateKey: key, certificate } = login
          return { type: 'publickey', username, key, ...(certificate ? { certificate } : {}) }
        },
      })
    } catch (error) {
      onError(error instanceof Error ? error : new Error(String(error)))
    }
  })
}

function established(settings: UpstreamSettings, client: Client, socket: Socket, intake: SshIntake): Connection {
  let alive = true
  intake.begin()
  socket.once('close', () => intake.close())
  const waits = gathering()
  // ssh2 itself never pauses the socket: how much may come is told to the host, channel by channel.
  socket.on('data', (chunk: Buffer) => {
    if (!waits(chunk.length)) return
    socket.pause()
    setTimeout(() => socket.resume(), GATHER_MILLISECONDS)
  })
  client.once('close', () => {
    alive = false
  })
  client.once('end', () => {
    alive = false
  })
  return {
    get alive() {
      return alive && !socket.destroyed
    },
    exec(command, env) {
      return new Promise((resolve, reject) => {
        const refused = (error: Error) => {
          const detail = `${where(settings)} did not run ${command}: ${error.message}`
          reject(new UpstreamError('failed', 'the Git host failed', detail, error))
        }
        try {
          client.exec(command, { env: { ...env } }, (error, channel) => {
            if (error) refused(error)
            else resolve(Object.assign(channel, { giveBack: (chunk: Buffer) => intake.giveBack(chunk) }))
          })
        } catch (error) {
          refused(error instanceof Error ? error : new Error(String(error)))
        }
      })
    },
    hold(held) {
      if (held) socket.ref()
      else socket.unref()
    },
    destroy() {
      alive = false
      socket.destroy()
    },
    onClose(listener) {
      client.once('close', listener)
    },
  }
}

export function where({ url }: UpstreamSettings): string {
  return `${url.hostname}:${url.port || 22}`
}

function connectFault(settings: UpstreamSettings, error: Error & { level?: string }): UpstreamError {
  const detail = `${where(settings)}: ${error.message}`
  switch (error.level) {
    case 'client-authentication':
      return new UpstreamError('credential', "the Git host refused the gate's own credential", detail, error)
    case 'client-timeout':
      return new UpstreamError('timeout', 'the Git host did not answer in time', detail, error)
    case 'client-socket':
      return new UpstreamError('unreachable', 'the Git host cannot be reached', detail, error)
    default:
      return new UpstreamError('protocol', 'the Git host did not answer as one', detail, error)
  }
}
