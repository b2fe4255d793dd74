import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import type { Address, Settings } from '../../config/settings.ts'
import type { Front } from '../../proxy/accept.ts'
import type { Log } from '../../proxy/http/limits.ts'
import { plainAddress } from '../../proxy/source.ts'
import { sourceOf } from '../../proxy/ssh/door.ts'
import type { Worker } from './pool.ts'

// Why accepted sockets are handed over, rather than node:cluster or one listening socket for all:
// - With one listening socket in every process, whichever wakes first takes all that wait: a burst of clones is one worker's.
//   With SO_REUSEPORT what waits at a socket is reset when its process ends.
// - node:cluster hands over too, but frees its copy of a connection at the worker's answer only: when the worker dies before,
//   that client hangs. It closes the listening socket with the last worker, and ends its workers at once when the first
//   process dies.
// - Here the listening socket outlives every worker, what was not taken is handed to another, and the one who hands out sees
//   every connection of a source, so that the shares of the limits come out as the limits.

export interface HandingOptions {
  readonly listen: Pick<Settings['listen'], 'http' | 'ssh'>
  /** Most connections at once, each front. */
  connections(): number
  serving(): readonly Worker[]
  readonly log: Log
}

export interface Handing {
  readonly addresses: Readonly<Partial<Record<Front, { readonly address: string; readonly port: number }>>>
  /** A worker has this connection's socket now. */
  taken(connection: number): void
  left(connection: number): void
  /** Whoever waits for a worker gets one. */
  retry(): void
  /** Its connections are gone with it; those it never took go to others. */
  gone(worker: Worker): void
  /** Listens no more. */
  close(): void
}

/** How long a connection waits while no worker serves; git's own patience is longer. */
const WAIT_MILLISECONDS_MAX = 10_000

interface Handed {
  readonly front: Front
  readonly source: string
  /** Ours, until the worker says that it has its own. */
  socket: Socket | undefined
  worker: Worker | undefined
}

/**
 * Listens for all workers and hands each connection to one of them: the one that has the fewest of its source; among those
 * the one that has the fewest at all; among those the one that has waited longest for one.
 *
 * @throws when an address cannot be listened on
 */
export async function startHanding({ listen, connections, serving, log }: HandingOptions): Promise<Handing> {
  const handed = new Map<number, Handed>()
  const waiting = new Map<number, NodeJS.Timeout>()
  const counts = new Map<string, number>()
  /** The last connection each was given. */
  const lately = new WeakMap<Worker, number>()
  let last = 0

  const count = (key: string) => counts.get(key) ?? 0
  function add(keys: readonly string[], by: 1 | -1): void {
    for (const key of keys) {
      const sum = count(key) + by
      if (sum === 0) counts.delete(key)
      else counts.set(key, sum)
    }
  }

  function accept(front: Front, socket: Socket): void {
    socket.on('error', () => {})
    if (socket.remoteAddress === undefined || count(front) >= connections()) {
      socket.destroy()
      return
    }
    last++
    const source = sourceOf(plainAddress(socket.remoteAddress))
    handed.set(last, { front, source, socket, worker: undefined })
    add([front], 1)
    hand(last)
  }

  function hand(connection: number): void {
    const one = handed.get(connection)
    if (!one?.socket) return
    one.worker = choose(one)
    if (!one.worker) {
      waiting.set(
        connection,
        setTimeout(() => left(connection), WAIT_MILLISECONDS_MAX),
      )
      return
    }
    add(keysOf(one.worker, one), 1)
    lately.set(one.worker, connection)
    one.worker.send({ kind: 'connection', connection, front: one.front }, one.socket)
  }

  function choose(one: Handed): Worker | undefined {
    const ranked = serving().map(worker => {
      const [ofSource, all] = keysOf(worker, one)
      return { worker, rank: [count(ofSource), count(all), lately.get(worker) ?? 0] as const }
    })
    return ranked.sort(({ rank: a }, { rank: b }) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2])[0]?.worker
  }

  function taken(connection: number): void {
    const one = handed.get(connection)
    one?.socket?.destroy()
    if (one) one.socket = undefined
  }

  function left(connection: number): void {
    const one = handed.get(connection)
    if (!one) return
    taken(connection)
    clearTimeout(waiting.get(connection))
    waiting.delete(connection)
    handed.delete(connection)
    add([one.front], -1)
    if (one.worker) add(keysOf(one.worker, one), -1)
  }

  function gone(worker: Worker): void {
    for (const [connection, one] of handed) {
      if (one.worker !== worker) continue
      if (!one.socket) {
        left(connection)
        continue
      }
      add(keysOf(worker, one), -1)
      hand(connection)
    }
  }

  const fronts = (['http', 'ssh'] as const).filter(front => listen[front])
  const servers = new Map<Front, Server>()
  try {
    for (const front of fronts) {
      const server = createServer({ pauseOnConnect: true }, socket => accept(front, socket))
      await listening(server, listen[front]!)
      server.on('error', error => log.error({ err: error }, `the ${front} listener failed`))
      servers.set(front, server)
    }
  } catch (error) {
    for (const server of servers.values()) server.close()
    throw error
  }
  return {
    addresses: Object.fromEntries([...servers].map(([front, server]) => [front, server.address() as AddressInfo])),
    taken,
    left,
    retry: () => {
      for (const [connection, timer] of waiting) {
        clearTimeout(timer)
        waiting.delete(connection)
        hand(connection)
      }
    },
    gone,
    close: () => {
      for (const server of servers.values()) server.close()
      for (const connection of waiting.keys()) left(connection)
    },
  }
}

/** What is counted for a worker that has a connection. */
function keysOf({ number }: Worker, { front, source }: Handed): [string, string] {
  return [`${number} ${front} ${source}`, `${number}`]
}

function listening(server: Server, { host, port }: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}
