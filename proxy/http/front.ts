import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { newId } from '../../audit/id.ts'
import type { Listener, Tls } from '../../config/settings.ts'
import { type Accept, listen as listenHere } from '../accept.ts'
import { readSource } from '../source.ts'
import { createThrottle, type Throttle } from '../throttle.ts'
import { say } from './answer.ts'
import { Connection } from './connection.ts'
import type { HttpLimits, Log } from './limits.ts'
import { answerRequest, type RequestOptions } from './request.ts'
import { type Encryption, encryption } from './tls.ts'

export interface HttpFrontOptions extends Omit<RequestOptions, 'throttle' | 'limits'> {
  readonly listen: Listener
  readonly limits: HttpLimits
  /** Whether an address is a load balancer's that speaks PROXY protocol to us. */
  isLoadBalancer(address: string): boolean
  /** Where connections come from; a listening socket of its own unless given. */
  readonly accept?: Accept
  readonly throttle?: Throttle
}

export interface HttpFront {
  readonly address: { readonly host: string; readonly port: number }
  /**
   * Reads certificate files again; a bad pair changes nothing and is logged. With `files`, goes on with those.
   * @throws when `files` cannot be read or do not fit together; nothing has changed then
   */
  reload(files?: Tls): Promise<void>
  /**
   * Takes no more connections, answers on each what is asked or about to be asked there, and closes it behind that.
   * Resolves when none is left; waits for as long as that takes.
   */
  retire(): Promise<void>
  /** Takes no more connections, lets what is being answered go on for at most `graceMs` milliseconds, then breaks it off. */
  close(graceMs: number): Promise<void>
}

/** git's own heads take 1 KiB; identity providers' tokens are what makes them long. */
const HEAD_BYTES_MAX = 32 * 1024
/** How long a connection may rest between two requests. */
const KEEP_ALIVE_MILLISECONDS = 15_000

/**
 * Listens for git over HTTP and hands what it asks to `serve`.
 *
 * @throws when the address cannot be listened on or the certificate cannot be read
 */
export async function startHttpFront(options: HttpFrontOptions): Promise<HttpFront> {
  const { listen, limits, log, accept = listenHere } = options
  const tls = listen.tls && (await startTls(listen.tls, log))
  const throttle = options.throttle ?? createThrottle({ now: () => performance.now() })
  const connections = new Map<Socket, Connection>()
  const perSource = new Map<string, number>()
  const accepted = new Set<Socket>()
  let draining = false
  let retiring = false

  // Parses only: it never listens, so its own checks for slow heads do not run, and ours (`Connection`) do.
  const http = createHttpServer({
    insecureHTTPParser: false,
    // Checked by us: node would answer by itself, and a request hidden behind that one would be the first we see.
    requireHostHeader: false,
    maxHeaderSize: HEAD_BYTES_MAX,
    keepAliveTimeout: KEEP_ALIVE_MILLISECONDS,
    // Node's 300 s would end a long push. Body and answer have an idle limit and a total of ours.
    requestTimeout: 0,
    headersTimeout: 0,
  })
  http.on('request', (request, response) => onRequest(request, response, false))
  http.on('checkContinue', (request, response) => onRequest(request, response, true))
  http.on('checkExpectation', (request, response) => onRequest(request, response, false))
  http.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const connection = connections.get(socket)
    if (connection) connection.malformed(error)
    else socket.destroy()
  })

  function onRequest(request: IncomingMessage, response: ServerResponse, awaitsContinue: boolean): void {
    const connection = connections.get(request.socket)
    // git never sends a request before it has the answer to the last one. Whoever does may be hiding the second in the
    // body of the first, so neither is answered.
    if (!connection?.begin(response)) {
      request.socket.destroy()
      return
    }
    if (draining || retiring) response.shouldKeepAlive = false
    answerRequest({ connection, request, response, awaitsContinue }, { ...options, throttle }).catch(cause => {
      log.error({ connection: connection.id, err: cause }, 'an HTTP request could not be answered')
      if (response.headersSent) response.destroy()
      else {
        response.shouldKeepAlive = false
        say(response, 500, 'the gate failed to answer; if it stays so, tell the operator of the gate')
      }
    })
  }

  async function receive(raw: Socket): Promise<void> {
    accepted.add(raw)
    raw.on('close', () => accepted.delete(raw))
    raw.on('error', () => raw.destroy())
    raw.setNoDelay(true)
    if (draining || accepted.size > limits.connections) {
      raw.destroy()
      return
    }
    const source = await readSource(raw, options.isLoadBalancer, limits.headers)
    const held = (perSource.get(source.address) ?? 0) + 1
    if (raw.destroyed || held > limits.connectionsPerSource) {
      raw.destroy()
      return
    }
    perSource.set(source.address, held)
    raw.on('close', () => {
      const left = (perSource.get(source.address) ?? 1) - 1
      if (left > 0) perSource.set(source.address, left)
      else perSource.delete(source.address)
    })
    const socket = tls ? tls.wrap(raw) : raw
    const connection = new Connection(newId('c'), source, socket, {
      head: limits.headers,
      keepAlive: KEEP_ALIVE_MILLISECONDS,
      isDraining: () => draining || retiring,
    })
    connections.set(socket, connection)
    socket.on('close', () => connections.delete(socket))
    http.emit('connection', socket)
  }

  const accepting = await accept('http', listen, {
    allowHalfOpen: true,
    onSocket: raw => {
      receive(raw).catch(cause => {
        log.warn({ address: raw.remoteAddress, err: cause }, 'a connection was closed before it was known whose it is')
        raw.destroy()
      })
    },
    onFault: error => log.error({ err: error }, 'the HTTP listener failed'),
  })

  return {
    address: { host: listen.host, port: accepting.address.port },
    reload: async files => (files ? tls?.take(files) : tls?.reload()),
    retire: async () => {
      retiring = true
      const closed = accepting.close()
      for (const connection of connections.values()) connection.retire()
      await closed
    },
    close: async graceMs => {
      draining = true
      tls?.close()
      const closed = accepting.close()
      for (const connection of connections.values()) connection.closeIfIdle()
      const timer = setTimeout(() => {
        for (const raw of accepted) raw.destroy()
      }, graceMs)
      await closed
      clearTimeout(timer)
    },
  }
}

function startTls(files: NonNullable<Listener['tls']>, log: Log): Promise<Encryption> {
  return encryption({
    files,
    onReloaded: () => log.info({ certificate: files.certificate }, 'a new TLS certificate is in use'),
    onRefused: error => log.error({ certificate: files.certificate, err: error }, error.message),
  })
}
