import type { FastifyRequest } from 'fastify'
import type { Caller } from './access.ts'
import { Problem } from './problem.ts'

/** What may be asked by a token that is for one request: how that one stands, to give it back, and to end the token itself. */
const WITHIN: ReadonlySet<string> = new Set(['GET /requests/:id', 'POST /requests/:id/withdraw', 'DELETE /tokens/:id'])

/**
 * Keeps a token within the request it was given out for. A job can run code of strangers, and what it leaves behind must not
 * outlive it.
 *
 * @throws Problem when it asks for anything else
 */
export function requireWithin({ token }: Caller, { method, routeOptions, params }: FastifyRequest): void {
  if (token?.request === undefined) return
  const route = `${method} ${routeOptions.url?.replace(/^\/api\/v1/, '')}`
  if (route === 'GET /whoami') return
  const about = Reflect.get(Object(params), 'id')
  if (WITHIN.has(route) && (about === token.request || about === token.id)) return
  throw new Problem(403, 'bound', `this token is for ${token.request} and nothing else`)
}
