import type { Connection } from './connection.ts'

const WARM_MILLISECONDS = 30_000

/**
 * Connections to one host under one identity. One carries one command at a time; after a command that ended cleanly it
 * stays open for a while for the next, which then saves the key exchange and the login. A connection is only opened when
 * none is warm, so there are never more of them than there were commands at once.
 */
export class ConnectionPool {
  readonly #open: (signal: AbortSignal) => Promise<Connection>
  readonly #warm = new Map<Connection, NodeJS.Timeout>()

  constructor(open: (signal: AbortSignal) => Promise<Connection>) {
    this.#open = open
  }

  /** A logged-in connection for the caller alone; `warm` says that it was used before. Rejects with an UpstreamError. */
  async take(signal: AbortSignal): Promise<{ readonly connection: Connection; readonly warm: boolean }> {
    // The one used last: the others grow old and go.
    for (const connection of [...this.#warm.keys()].toReversed()) {
      this.#forget(connection)
      if (!connection.alive) continue
      connection.hold(true)
      return { connection, warm: true }
    }
    const connection = await this.#open(signal)
    connection.onClose(() => this.#forget(connection))
    return { connection, warm: false }
  }

  /** Gives a connection back. Only one whose command is over on both sides may be used again. */
  give(connection: Connection, reusable: boolean): void {
    if (!reusable || !connection.alive) {
      connection.destroy()
      return
    }
    connection.hold(false)
    this.#warm.set(connection, setTimeout(() => connection.destroy(), WARM_MILLISECONDS).unref())
  }

  #forget(connection: Connection): void {
    clearTimeout(this.#warm.get(connection))
    this.#warm.delete(connection)
  }
}
