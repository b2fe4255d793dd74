import { createServer, type Server, type Socket } from 'node:net'
import type { PGlite } from '@electric-sql/pglite'

/**
 * PGlite behind a unix socket, for any number of clients. It has one session, so clients take turns: one holds the session from
 * its first message until the database says it is idle and in no transaction.
 *
 * (pglite-socket lets messages of several clients mix between two ReadyForQuery; one client's Bind then meets another's
 * Execute: `portal "" does not exist`.)
 */

// PostgreSQL's "Message Formats": a startup packet has no type byte; these codes stand where its version would.
const SSL_REQUEST = 80_877_103
const GSS_REQUEST = 80_877_104
const CANCEL_REQUEST = 80_877_102

const SYNC = 0x53
const QUERY = 0x51
const FLUSH = 0x48
const TERMINATE = 0x58
const READY_FOR_QUERY = 0x5a
const IDLE = 0x49

/** A longer message is no statement of ours; the client is cut. */
const MESSAGE_BYTES_MAX = 64 << 20

type Database = Pick<PGlite, 'execProtocolRaw' | 'exec' | 'runExclusive'>

/** Listens at `path` for PostgreSQL's protocol. */
export async function servePglite(database: Database, path: string): Promise<Server> {
  const turns = takeTurns(database)
  const server = createServer(socket => new Client(socket, turns))
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => resolve())
  })
  return server
}

interface Turns {
  /** Runs whole groups of messages, this client's turn or as soon as it is. */
  run(client: Client, messages: Buffer): Promise<Uint8Array>
  leave(client: Client): void
}

function takeTurns(database: Database): Turns {
  let holder: Client | undefined
  let waiting: { client: Client; start: () => void }[] = []

  const next = () => {
    if (holder) return
    const first = waiting.shift()
    if (!first) return
    holder = first.client
    first.start()
  }
  const turn = (client: Client) =>
    new Promise<void>(start => {
      if (holder === client) return start()
      waiting.push({ client, start })
      next()
    })
  const give = (client: Client) => {
    if (holder !== client) return
    holder = undefined
    next()
  }
  return {
    run: async (client, messages) => {
      await turn(client)
      const answer = await database.runExclusive(() => database.execProtocolRaw(messages))
      if (client.gone) await abandon(client)
      else if (isIdle(answer)) give(client)
      return answer
    },
    leave: client => {
      waiting = waiting.filter(other => other.client !== client)
      if (holder === client && !client.busy) void abandon(client)
    },
  }

  /** A client that went away in a transaction must not leave it to the next one. */
  async function abandon(client: Client): Promise<void> {
    await database.exec('rollback').catch(() => {})
    give(client)
  }
}

/** Whether the last message of an answer is ReadyForQuery ('Z', length 5, state) outside a transaction. */
function isIdle(answer: Uint8Array): boolean {
  return answer.length >= 6 && answer.at(-6) === READY_FOR_QUERY && answer.at(-2) === 5 && answer.at(-1) === IDLE
}

class Client {
  readonly #socket: Socket
  readonly #turns: Turns
  #received = Buffer.alloc(0)
  #group: Buffer[] = []
  #started = false
  gone = false
  busy = false

  constructor(socket: Socket, turns: Turns) {
    this.#socket = socket
    this.#turns = turns
    socket.on('data', chunk => {
      this.#received = Buffer.concat([this.#received, chunk])
      void this.#work()
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.gone = true
      turns.leave(this)
    })
  }

  /** Takes whole messages off what was received and runs them group by group, in order, one group at a time. */
  async #work(): Promise<void> {
    if (this.busy) return
    this.busy = true
    try {
      for (let group = this.#nextGroup(); group && !this.gone; group = this.#nextGroup()) {
        const answer = await this.#turns.run(this, group)
        if (!this.gone) this.#socket.write(answer)
      }
    } catch {
      this.#socket.destroy()
    } finally {
      this.busy = false
      if (this.gone) this.#turns.leave(this)
    }
  }

  /** Messages up to one that asks for an answer: Sync, Query or Flush; or a startup packet. */
  #nextGroup(): Buffer | undefined {
    for (;;) {
      const startup = !this.#started
      const head = startup ? 0 : 1
      if (this.#received.length < head + 4) return undefined
      const length = head + this.#received.readUInt32BE(head)
      if (length < head + 4 || length > MESSAGE_BYTES_MAX) throw new Error(`a message of ${length} bytes`)
      if (this.#received.length < length) return undefined
      const message = this.#received.subarray(0, length)
      this.#received = this.#received.subarray(length)
      if (startup) {
        const code = message.readUInt32BE(4)
        if (code === SSL_REQUEST || code === GSS_REQUEST) {
          this.#socket.write('N')
          continue
        }
        if (code === CANCEL_REQUEST) {
          this.#socket.end()
          return undefined
        }
        this.#started = true
        return message
      }
      const type = message[0]
      if (type === TERMINATE) {
        this.#socket.end()
        return undefined
      }
      this.#group.push(message)
      if (type === SYNC || type === QUERY || type === FLUSH) return Buffer.concat(this.#group.splice(0))
    }
  }
}
