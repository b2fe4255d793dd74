import { Redis, type RedisOptions } from 'ioredis'

/** How long one question to Redis may take. Longer is the same as unreachable: the attempt is refused. */
export const ANSWER_MILLISECONDS_MAX = 900
const CONNECT_MILLISECONDS_MAX = 2_000
const RECONNECT_MILLISECONDS_MAX = 1_000

/** Redis did not answer as it should: what is asked of it is unknown, and unknown means no. */
export class StoreError extends Error {
  /** `clock`: its clock went back; `failed`: it answered with an error. */
  readonly code: 'unreachable' | 'timeout' | 'clock' | 'failed'
  constructor(code: StoreError['code'], message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'StoreError'
    this.code = code
  }
}

/**
 * A connection to Redis as everything here needs it: it fails at once instead of queueing while there is no connection,
 * and never stops trying to come back.
 *
 * @param url `redis:`, `rediss:`, `unix:` and the path of a socket, or
 *   `sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/MASTER/DB`
 * @param onError hears of lost connections; without a listener they would end the process
 */
export function connectRedis(url: string, onError: (error: Error) => void): Redis {
  const redis = new Redis({
    ...whereFrom(url),
    enableOfflineQueue: false,
    // A command that was sent and not answered may or may not have been done; sending it again is the caller's choice.
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    connectTimeout: CONNECT_MILLISECONDS_MAX,
    commandTimeout: ANSWER_MILLISECONDS_MAX,
    retryStrategy: times => Math.min(50 * 2 ** Math.min(times, 10), RECONNECT_MILLISECONDS_MAX),
    // A demoted primary answers READONLY: leave it and ask again who the primary is.
    reconnectOnError: error => error.message.startsWith('READONLY'),
  })
  redis.on('error', onError)
  return redis
}

const SENTINEL_PORT = 26_379

type Where = Pick<
  RedisOptions,
  'path' | 'host' | 'port' | 'db' | 'username' | 'password' | 'tls' | 'sentinels' | 'name'
>

function whereFrom(url: string): Where {
  if (url.startsWith('unix:')) return { path: url.replace(/^unix:(\/\/)?/, '') }
  if (!url.startsWith('sentinel:')) return fromUrl(new URL(url))
  // The host part is a list, which URL does not take.
  const parts = /^sentinel:\/\/(?:([^:@/]*):([^@/]*)@)?([^/]+)\/([^/]+)\/(\d+)$/.exec(url)
  if (parts === null) throw new Error('redis: expected sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/MASTER/DB')
  const [, username, password, hosts = '', name = '', db] = parts
  const sentinels = hosts.split(',').map(host => {
    const { hostname, port } = new URL(`redis://${host}`)
    return { host: plainHost(hostname), port: Number(port || SENTINEL_PORT) }
  })
  return {
    sentinels,
    name: decodeURIComponent(name),
    db: Number(db),
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
  }
}

function fromUrl({ protocol, hostname, port, username, password, pathname }: URL): Where {
  return {
    host: plainHost(hostname),
    port: Number(port || 6_379),
    db: Number(pathname.slice(1) || 0),
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
    ...(protocol === 'rediss:' && { tls: {} }),
  }
}

/** URLs write IPv6 addresses in brackets; sockets do not. */
function plainHost(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1')
}

/** Resolves when commands can be sent; rejects with a `StoreError` after the time given. */
export async function untilReady(redis: Redis, milliseconds: number): Promise<void> {
  if (redis.status === 'ready') return
  await new Promise<void>((resolve, reject) => {
    const ready = () => {
      clearTimeout(late)
      resolve()
    }
    const late = setTimeout(() => {
      redis.off('ready', ready)
      reject(new StoreError('unreachable', `Redis cannot be reached within ${milliseconds} ms; check that it runs`))
    }, milliseconds)
    redis.once('ready', ready)
  })
}

/** Awaits an answer for a bounded time and gives errors one shape, whatever options the connection was made with. */
export async function answered<T>(question: Promise<T>): Promise<T> {
  let late: NodeJS.Timeout | undefined
  const bound = new Promise<never>((_, reject) => {
    late = setTimeout(() => {
      reject(new StoreError('timeout', `Redis did not answer within ${ANSWER_MILLISECONDS_MAX} ms`))
    }, ANSWER_MILLISECONDS_MAX)
  })
  try {
    return await Promise.race([question, bound])
  } catch (cause) {
    throw asStoreError(cause)
  } finally {
    clearTimeout(late)
  }
}

function asStoreError(cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause
  const message = cause instanceof Error ? cause.message : String(cause)
  if (/timed out/i.test(message)) return new StoreError('timeout', `Redis did not answer: ${message}`, cause)
  if (cause instanceof Error && cause.name === 'ReplyError') {
    return new StoreError('failed', `Redis answered with an error: ${message}`, cause)
  }
  return new StoreError('unreachable', `Redis cannot be reached: ${message}`, cause)
}
