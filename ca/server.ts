import { once } from 'node:events'
import { chmod, rm } from 'node:fs/promises'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { REQUEST_BYTES_MAX } from './protocol.ts'

/** The unix socket at which the authority is asked: a line of JSON in, a line out, one request of a connection at a time. */

const CONNECTIONS_MAX = 128
const IDLE_MILLISECONDS_MAX = 60_000

export interface SocketServer {
  /** Takes no new requests; resolves when those under way are answered. */
  close(): Promise<void>
}

export async function serveSocket(path: string, answer: (message: unknown) => Promise<unknown>): Promise<SocketServer> {
  const open = new Map<Socket, { busy: boolean }>()
  let closing = false
  const server = createServer(connection => {
    const state = { busy: false }
    open.set(connection, state)
    connection.on('close', () => open.delete(connection))
    connection.on('error', () => connection.destroy())
    connection.setTimeout(IDLE_MILLISECONDS_MAX, () => state.busy || connection.destroy())
    converse(connection, async message => {
      state.busy = true
      const reply = await answer(message)
      state.busy = false
      return { reply, last: closing }
    }).catch(() => connection.destroy())
  })
  server.maxConnections = CONNECTIONS_MAX
  await claimSocket(server, path)
  return {
    async close() {
      closing = true
      const closed = once(server, 'close')
      server.close()
      for (const [connection, { busy }] of open) if (!busy) connection.destroy()
      await closed
    },
  }
}

async function converse(
  connection: Socket,
  answer: (message: unknown) => Promise<{ reply: unknown; last: boolean }>,
): Promise<void> {
  for await (const line of lines(connection)) {
    // Awaited before the next line is read: whoever sends faster than is answered waits in their own socket buffer.
    const { reply, last } = await answer(parseLine(line))
    if (!connection.write(`${JSON.stringify(reply)}\n`)) await once(connection, 'drain')
    if (last) break
  }
  connection.end()
}

async function* lines(connection: Socket): AsyncGenerator<Buffer> {
  let held = Buffer.alloc(0)
  for await (const chunk of connection.iterator({ destroyOnReturn: false })) {
    held = Buffer.concat([held, chunk])
    for (let end = held.indexOf(10); end >= 0; end = held.indexOf(10)) {
      if (end > REQUEST_BYTES_MAX) throw new Error('the request is too long')
      yield held.subarray(0, end)
      held = held.subarray(end + 1)
    }
    if (held.length > REQUEST_BYTES_MAX) throw new Error('the request is too long')
  }
}

function parseLine(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString('utf8'))
  } catch {
    return undefined
  }
}

/**
 * Listens with mode 0600 from the first moment. A socket left behind by a process that died is taken over; one that somebody
 * answers at is not, which also keeps two authorities from counting the same serials.
 */
export async function claimSocket(server: Server, path: string): Promise<void> {
  try {
    await listen(server, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    if (await isAnswered(path)) throw new Error(`another authority is running at ${path}`, { cause: error })
    await rm(path, { force: true })
    await listen(server, path)
  }
  await chmod(path, 0o600)
}

async function listen(server: Server, path: string): Promise<void> {
  // The socket is made within this call, before the umask is put back.
  const umask = process.umask(0o177)
  try {
    server.listen(path)
  } finally {
    process.umask(umask)
  }
  await once(server, 'listening')
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const connection = createConnection(path)
    connection.on('connect', () => resolve(true)).on('error', () => resolve(false))
    connection.on('connect', () => connection.destroy())
  })
}
