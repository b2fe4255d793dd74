import { Redis } from 'ioredis'

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
 * @param url `redis://`, `rediss://`, or the path of a unix socket
 * @param onError hears of lost connections; without a listener they would end the process
 */
export function connectRedis(url: string, onError: (error: Error) => void): Redis {
  const options = {
    enableOfflineQueue: false,
    // A command that was sent and not answered may or may not have been done; sending it again is the caller's choice.
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    connectTimeout: CONNECT_MILLISECONDS_MAX,
    commandTimeout: ANSWER_MILLISECONDS_MAX,
    retryStrategy: (times: number) => Math.min(50 * 2 ** Math.min(times, 10), RECONNECT_MILLISECONDS_MAX),
    // A demoted primary answers READONLY: leave it and ask again who the primary is.
    reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
  }
  const redis = url.startsWith('/') ? new Redis({ ...options, path: url }) : new Redis(url, options)
  redis.on('error', onError)
  return redis
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
