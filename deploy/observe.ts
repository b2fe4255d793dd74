import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Registry } from 'prom-client'
import type { Address } from '../config/settings.ts'

/** What of a role can be watched. */
export interface Observed {
  readonly metrics: Registry
  /** What it needs, each `ok` or what is wrong. */
  checks(): Promise<Readonly<Record<string, string>>>
}

/** A watcher that hangs must not be waited for, nor one that sends. */
const REQUEST_MILLISECONDS_MAX = 10_000
const CONNECTIONS_MAX = 64
const HEAD_BYTES_MAX = 8 << 10
const CHECKS_MILLISECONDS_MAX = 3_000

/**
 * `/metrics`, `/healthz` and `/readyz` of one role. Nothing in them names a person or a repository, and nobody is asked for a
 * token: listen where only your monitoring reaches.
 *
 * `/healthz` answers as long as this process turns: start it again when it does not. `/readyz` is 503 while the role could
 * not do its work, and while it is stopping: send nobody there.
 */
export async function observe(
  listen: Address,
  role: Observed,
): Promise<{ readonly url: string; stopping(): void; close(): void }> {
  let stopping = false

  async function readiness(): Promise<{ ready: boolean; checks: Readonly<Record<string, string>> }> {
    if (stopping) return { ready: false, checks: { role: 'it is being stopped' } }
    const late = new Promise<Record<string, string>>(resolve => {
      setTimeout(() => resolve({ role: 'the checks take too long' }), CHECKS_MILLISECONDS_MAX).unref()
    })
    const checks = await Promise.race([role.checks(), late]).catch(error => ({
      role: error instanceof Error ? error.message : String(error),
    }))
    return { ready: Object.values(checks).every(said => said === 'ok'), checks }
  }

  const answers: Readonly<Record<string, () => Promise<{ status: number; type: string; body: string }>>> = {
    '/healthz': async () => ({ status: 200, type: 'text/plain', body: 'ok\n' }),
    '/readyz': async () => {
      const state = await readiness()
      return { status: state.ready ? 200 : 503, type: 'application/json', body: `${JSON.stringify(state)}\n` }
    },
    '/metrics': async () => ({ status: 200, type: role.metrics.contentType, body: await role.metrics.metrics() }),
  }

  const server = createServer(
    { requestTimeout: REQUEST_MILLISECONDS_MAX, maxHeaderSize: HEAD_BYTES_MAX },
    (request, response) => {
      const [path = ''] = (request.url ?? '').split('?', 1)
      const answer = Object.hasOwn(answers, path) ? answers[path] : undefined
      if (answer === undefined || (request.method !== 'GET' && request.method !== 'HEAD')) {
        response
          .writeHead(answer === undefined ? 404 : 405, { 'content-type': 'text/plain' })
          .end('/metrics, /healthz, /readyz\n')
        return
      }
      answer().then(
        ({ status, type, body }) =>
          response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body),
        () => response.writeHead(500).end(),
      )
    },
  )
  server.maxConnections = CONNECTIONS_MAX
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(listen.port, listen.host, resolve)
  })
  const { address, family, port } = server.address() as AddressInfo
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    stopping: () => {
      stopping = true
    },
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}
