import { connect } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { pathToFileURL } from 'node:url'
import { expect } from 'vitest'
import type { OperationRefused, SigninRefused } from '../../../audit/record.ts'
import type { Credential, UpstreamSettings } from '../../../config/settings.ts'
import type { Client, Serve } from '../../../proxy/client.ts'
import { type HttpFront, type HttpFrontOptions, startHttpFront } from '../../../proxy/http/front.ts'
import { repositoryName } from '../../../proxy/repository.ts'
import type { Connect, GitService } from '../../../proxy/upstream/upstream.ts'

export const TOKEN = 'good-token'

export interface FrontUnderTest extends HttpFront {
  /** Without credentials: `http://127.0.0.1:port`. */
  readonly url: string
  /** What was handed to `serve`. */
  readonly served: Client[]
  readonly refused: SigninRefused[]
  readonly refusedPaths: OperationRefused[]
  readonly log: string[]
}

/** A front that knows one token, `good-token` of alice, and gives what it is asked to `serve`. */
export async function startFront(serve: Serve, options: Partial<HttpFrontOptions> = {}): Promise<FrontUnderTest> {
  const served: Client[] = []
  const refused: SigninRefused[] = []
  const refusedPaths: OperationRefused[] = []
  const log: string[] = []
  const write = (facts: object, message: string) => log.push(`${message} ${JSON.stringify(facts)}`)
  const front = await startHttpFront({
    listen: { host: '127.0.0.1', port: 0 },
    limits: { headers: 5_000, bodyIdle: 5_000, total: 60_000, connections: 1_000, connectionsPerSource: 1_000 },
    isLoadBalancer: () => false,
    identify: async ({ token }, origin) =>
      token === TOKEN
        ? { principal: 'alice', identity: { kind: 'token', id: 't-1' }, credentials: ['token:t-1'], origin }
        : { refused: 'no such token' },
    resolveRepository: repositoryName,
    onSigninRefused: record => refused.push(record),
    onRefused: record => refusedPaths.push(record),
    log: { info: write, warn: write, error: write },
    ...options,
    serve: client => {
      served.push(client)
      return serve(client)
    },
  })
  const scheme = options.listen?.tls ? 'https' : 'http'
  return { ...front, url: `${scheme}://127.0.0.1:${front.address.port}`, served, refused, refusedPaths, log }
}

/** `serve` without a gate: what the client asks goes to the host, what the host answers goes to the client. */
export function passThrough(connectTo: Connect): Serve {
  return async client => {
    const slash = client.repository.indexOf('/')
    const upstream = connectTo({
      path: client.repository.slice(slash + 1),
      service: client.service satisfies GitService,
      protocol: client.protocol,
      stateless: true,
      principal: client.caller.principal,
      operation: 'op-test',
    })
    try {
      const answer =
        client.part === 'advertise'
          ? await upstream.advertise(client.gone)
          : await upstream.exchange(client.request, client.gone)
      await pipeline(answer, client.response, { end: false })
    } finally {
      upstream.close()
    }
    return { status: 0, operation: 'op-test' }
  }
}

export function upstreamSettings(url: URL, credential: Credential = { type: 'none' }): UpstreamSettings {
  return { name: 'acme', url, credential, hostKeys: [], connectTimeout: 5_000, idleTimeout: 10_000, connections: 16 }
}

export function folderUrl(folder: string): URL {
  return pathToFileURL(`${folder}/`)
}

export const AUTHORIZATION = `Authorization: Basic ${Buffer.from(`x:${TOKEN}`).toString('base64')}\r\n`

/** Sends bytes as they are and gives everything that came back until the other side closed, or `milliseconds` passed. */
export function sendRaw(
  { port }: { readonly port: number },
  parts: readonly (string | Buffer)[],
  { milliseconds = 3_000, end = false }: { milliseconds?: number; end?: boolean } = {},
): Promise<{ text: string; closed: boolean }> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    const got: Buffer[] = []
    const timer = setTimeout(() => done(false), milliseconds)
    const done = (closed: boolean) => {
      clearTimeout(timer)
      socket.destroy()
      resolve({ text: Buffer.concat(got).toString('latin1'), closed })
    }
    socket.on('connect', () => {
      for (const part of parts) socket.write(part, 'latin1')
      if (end) socket.end()
    })
    socket.on('data', chunk => got.push(chunk))
    socket.on('close', () => done(true))
    socket.on('error', error => ('code' in error && error.code === 'ECONNREFUSED' ? reject(error) : undefined))
  })
}

const EVENTUALLY = { timeout: 10_000, interval: 20 } as const

/** Waits for what comes sooner or later, later on a loaded machine. */
export function eventually<T>(look: () => T) {
  return expect.poll(look, EVENTUALLY)
}
