import type { Redis } from 'ioredis'
import { answered } from './redis.ts'
import { cutChannel } from './store.ts'

/** An operation that runs at this moment, as people are shown it. */
export interface Session {
  readonly operation: string
  readonly principal: string
  readonly repository: string
  readonly service: string
  readonly action: string
  readonly grants: readonly string[]
  readonly transport: string
  readonly address: string
  /** Milliseconds since the epoch, on the proxy's clock. */
  readonly started: number
  /** The proxy that carries it. */
  readonly proxy: string
}

/** What this proxy has running. Neither call waits for anything. */
export interface SessionBoard {
  open(session: Omit<Session, 'proxy'>): void
  close(operation: string): void
  /** Takes this proxy's sessions off the board. */
  stop(): Promise<void>
}

const WRITE_MILLISECONDS = 250
const HEARTBEAT_MILLISECONDS = 5_000
/** A proxy not heard of for this long is taken for dead, and its sessions with it. */
const SILENT_MILLISECONDS_MAX = 15_000
const WRITES_AT_ONCE_MAX = 1_000
/** How many a list holds at most. */
const SESSIONS_LISTED_MAX = 10_000

const proxiesKey = (prefix: string) => `${prefix}:sessions`
const proxyKey = (prefix: string, proxy: string) => `${prefix}:sessions:${proxy}`

/**
 * Shows others what this proxy has running. Nothing depends on it but what people see: it is written a few times a
 * second, apart from the operations themselves, and an operation that ends sooner is never written at all.
 */
export function createSessionBoard(options: {
  readonly redis: Redis
  readonly proxy: string
  readonly prefix?: string
}): SessionBoard {
  const { redis, proxy, prefix = 'db' } = options
  const key = proxyKey(prefix, proxy)
  const running = new Map<string, string>()
  const unwritten = new Set<string>()
  const written = new Set<string>()
  let beaten = Number.NEGATIVE_INFINITY
  let writing = false

  const write = async () => {
    const due = performance.now() - beaten >= HEARTBEAT_MILLISECONDS
    if (writing || (!due && unwritten.size === 0)) return
    writing = true
    const batch = [...unwritten].slice(0, WRITES_AT_ONCE_MAX)
    try {
      const commands = redis.pipeline()
      for (const operation of batch) {
        const session = running.get(operation)
        if (session === undefined) commands.hdel(key, operation)
        else commands.hset(key, operation, session)
      }
      commands.sadd(proxiesKey(prefix), proxy)
      commands.pexpire(key, SILENT_MILLISECONDS_MAX)
      commands.hlen(key)
      const answers = await answered(commands.exec())
      beaten = performance.now()
      for (const operation of batch) {
        unwritten.delete(operation)
        if (running.has(operation)) written.add(operation)
        else written.delete(operation)
      }
      // Redis may have lost the board while we kept ours: write it anew.
      if (answers?.at(-1)?.[1] !== written.size) for (const operation of running.keys()) unwritten.add(operation)
    } catch {
      // Tried again in a moment; nobody's operation waits for it.
    } finally {
      writing = false
    }
  }
  const timer = setInterval(() => void write(), WRITE_MILLISECONDS)
  timer.unref()

  return {
    open: session => {
      running.set(session.operation, JSON.stringify({ ...session, proxy }))
      unwritten.add(session.operation)
    },
    close: operation => {
      running.delete(operation)
      if (written.has(operation)) unwritten.add(operation)
      else unwritten.delete(operation)
    },
    stop: async () => {
      clearInterval(timer)
      await answered(redis.del(key)).catch(() => {})
      await answered(redis.srem(proxiesKey(prefix), proxy)).catch(() => {})
    },
  }
}

/** Everything that runs on all proxies, oldest first. At most `SESSIONS_LISTED_MAX`. */
export async function listSessions(redis: Redis, prefix = 'db'): Promise<Session[]> {
  const proxies = await answered(redis.smembers(proxiesKey(prefix)))
  const sessions: Session[] = []
  for (const proxy of proxies) {
    const texts = await answered(redis.hvals(proxyKey(prefix, proxy)))
    // It comes back with its next heartbeat if it has only been idle.
    if (texts.length === 0) await answered(redis.srem(proxiesKey(prefix), proxy))
    for (const text of texts) sessions.push(JSON.parse(text) as Session)
    if (sessions.length >= SESSIONS_LISTED_MAX) break
  }
  return sessions.sort((a, b) => a.started - b.started).slice(0, SESSIONS_LISTED_MAX)
}

/** Tells every proxy to end one operation. Its grants stay as they are. */
export async function cutSession(
  redis: Redis,
  cut: { readonly operation: string; readonly principal: string; readonly reason: string },
  prefix = 'db',
): Promise<void> {
  await answered(redis.publish(cutChannel(prefix), JSON.stringify(cut)))
}
