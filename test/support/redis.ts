import { join } from 'node:path'
import type { Redis as Client } from 'ioredis'
import { connectRedis, untilReady } from '../../grant/redis.ts'
import { accepts, freePort, type Program, startProgram, temporaryFolder, until, untilAccepting } from './program.ts'

export interface Redis {
  readonly url: string
  readonly port: number
  /** Path of its unix socket. */
  readonly socket: string
  readonly folder: string
  /** Ends it, saving nothing more than it already had on disk. */
  stop(): Promise<void>
  /** kill -9. */
  kill(): Promise<void>
  /** Stops every request in mid-air (SIGSTOP) without closing a connection. */
  pause(): void
  resume(): void
  /** Starts it again at the same addresses, with what its files kept. */
  restart(): Promise<void>
}

export interface RedisOptions {
  /** Keep data over a restart: `appendfsync always`. */
  readonly durable?: boolean
  /** Further arguments, as redis-server takes them: `['--maxmemory', '20mb']`. */
  readonly args?: readonly string[]
  readonly port?: number
}

/** A real redis-server of its own, on a loopback port and a unix socket. Ends with this process. */
export async function startRedis(options: RedisOptions = {}): Promise<Redis> {
  const folder = temporaryFolder('redis')
  const socket = join(folder, 'redis.sock')
  const port = options.port ?? (await freePort())
  const args = ['--bind', '127.0.0.1', '--port', String(port), '--unixsocket', socket, '--dir', folder, '--save', '']
  if (options.durable) args.push('--appendonly', 'yes', '--appendfsync', 'always')
  args.push('--maxmemory-policy', 'noeviction', ...(options.args ?? []))

  const start = async () => {
    const started = await startProgram('redis-server', args)
    await untilAccepting(started, { port })
    return started
  }
  let program: Program = await start()
  const gone = () => until(async () => !(await accepts({ port })), 'Redis to be gone')
  return {
    url: `redis://127.0.0.1:${port}/0`,
    port,
    socket,
    folder,
    stop: () => program.stop('SIGTERM'),
    kill: () => program.stop('SIGKILL'),
    pause: () => void process.kill(program.pid, 'SIGSTOP'),
    resume: () => void process.kill(program.pid, 'SIGCONT'),
    restart: async () => {
      await program.stop('SIGTERM')
      await gone()
      program = await start()
    },
  }
}

export interface ConnectedRedis extends Redis {
  /** Let go of by `stop`. */
  readonly client: Client
}

/** The same, and a client of it that is ready. */
export async function startConnectedRedis(options?: RedisOptions): Promise<ConnectedRedis> {
  const server = await startRedis(options)
  const client = connectRedis(server.url, () => {})
  await untilReady(client, 5_000)
  const stop = async () => {
    client.disconnect()
    await server.stop()
  }
  return { ...server, client, stop }
}
