import { UpstreamError } from '../upstream.ts'
import type { Connection } from './connection.ts'

export interface PoolOptions {
  /** How many connections at once, in use and warm. */
  readonly connections: number
  /** Milliseconds to wait for one to come free. */
  readonly wait: number
  open(signal: AbortSignal): Promise<Connection>
}

const WARM_MILLISECONDS = 30_000

/**
 * Connections to one host under one identity. One carries one command at a time; after a command that ended cleanly it
 * stays open for a while for the next, which then saves the key exchange and the login.
 */
export class ConnectionPool {
  readonly #options: PoolOptions
  readonly #warm = new Map<Connection, NodeJS.Timeout>()
  readonly #waiting: (() => void)[] = []
  #open = 0

  constructor(options: PoolOptions) {
    this.#options = options
  }

  /** A logged-in connection for the caller alone; `warm` says that it was used before. Rejects with an UpstreamError. */
  async take(signal: AbortSignal): Promise<{ readonly connection: Connection; readonly warm: boolean }> {
    for (;;) {
      const kept = this.#takeWarm()
      if (kept) return { connection: kept, warm: true }
      if (this.#open < this.#options.connections) break
      await this.#turn(signal)
    }
    this.#open++
    try {
      const connection = await this.#options.open(signal)
      connection.onClose(() => this.#closed(connection))
      return { connection, warm: false }
    } catch (error) {
      this.#open--
      this.#waiting.shift()?.()
      throw error
    }
  }

  /** Gives a connection back. Only one whose command is over on both sides may be used again. */
  give(connection: Connection, reusable: boolean): void {
    if (!reusable || !connection.alive) {
      connection.destroy()
      return
    }
    const timer = setTimeout(() => connection.destroy(), WARM_MILLISECONDS)
    timer.unref()
    connection.hold(false)
    this.#warm.set(connection, timer)
    this.#waiting.shift()?.()
  }

  /** The one used last: the others grow old and go. */
  #takeWarm(): Connection | undefined {
    for (const connection of [...this.#warm.keys()].toReversed()) {
      clearTimeout(this.#warm.get(connection))
      this.#warm.delete(connection)
      if (!connection.alive) continue
      connection.hold(true)
      return connection
    }
    return undefined
  }

  #closed(connection: Connection): void {
    clearTimeout(this.#warm.get(connection))
    this.#warm.delete(connection)
    this.#open--
    this.#waiting.shift()?.()
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (error: unknown) => {
        done()
        const at = this.#waiting.indexOf(proceed)
        if (at >= 0) this.#waiting.splice(at, 1)
        reject(error)
      }
      const detail = `all ${this.#options.connections} connections were in use for ${this.#options.wait / 1000} seconds`
      const busy = () => leave(new UpstreamError('timeout', 'the Git host is busy', detail))
      const onAbort = () => leave(signal.reason)
      const proceed = () => {
        done()
        resolve()
      }
      const timer = setTimeout(busy, this.#options.wait)
      const done = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(proceed)
    })
  }
}
