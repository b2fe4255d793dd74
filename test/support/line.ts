import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface LineOptions {
  /** Bytes the client may send on one connection before the line stalls in that direction. */
  readonly upAfter?: number
  /** Bytes the client may be sent on one connection before the line stalls in that direction. */
  readonly downAfter?: number
  /** A connection on which the client says this hears nothing any more. */
  readonly deafAfter?: RegExp
}

/** A TCP line between a client and a server that can stall and break. */
export interface Line {
  readonly port: number
  /** Connections made so far. */
  readonly connections: number
  /** Whether a connection is stalled now. */
  readonly stalled: boolean
  /** Lets everything go on. */
  resume(): void
  /** Breaks every connection off, as a pulled plug does. */
  cut(): void
  stop(): Promise<void>
}

/** Starts a line to a loopback port. Back-pressure passes through, so that a stalled reader stops its writer. */
export async function startLine(port: number, options: LineOptions = {}): Promise<Line> {
  const sockets = new Set<Socket>()
  const stalled = new Set<Socket>()
  let open = false
  let connections = 0

  const pass = (from: Socket, to: Socket, after: number, onBytes: (chunk: Buffer) => void) => {
    let passed = 0
    from.on('data', (chunk: Buffer) => {
      onBytes(chunk)
      passed += chunk.length
      const flowing = to.write(chunk)
      if (!open && passed >= after) stall(from)
      else if (!flowing) from.pause()
    })
    to.on('drain', () => {
      if (!stalled.has(from)) from.resume()
    })
    from.on('end', () => to.end())
    from.on('close', () => to.destroy())
    from.on('error', () => to.destroy())
  }
  const stall = (socket: Socket) => {
    stalled.add(socket)
    socket.pause()
  }

  const server = createServer({ allowHalfOpen: true, noDelay: true }, client => {
    connections++
    const host = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    for (const socket of [client, host]) {
      sockets.add(socket)
      socket.on('close', () => {
        sockets.delete(socket)
        stalled.delete(socket)
      })
    }
    pass(client, host, options.upAfter ?? Number.POSITIVE_INFINITY, chunk => {
      if (options.deafAfter?.test(chunk.toString('latin1'))) stall(host)
    })
    pass(host, client, options.downAfter ?? Number.POSITIVE_INFINITY, () => {})
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    get connections() {
      return connections
    },
    get stalled() {
      return stalled.size > 0
    },
    resume() {
      open = true
      for (const socket of stalled) socket.resume()
      stalled.clear()
    },
    cut() {
      for (const socket of sockets) socket.resetAndDestroy()
    },
    stop() {
      for (const socket of sockets) socket.destroy()
      return new Promise(resolve => server.close(() => resolve()))
    },
  }
}
