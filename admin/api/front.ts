import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import type { Sql } from 'postgres'
import { findLock } from '../register/locks.ts'
import type { Caller } from './access.ts'
import { principal as principalForm } from './fields.ts'
import { Problem } from './problem.ts'

/**
 * What a proxy may ask in the name of somebody who logged in there over SSH, by a token with the role `front`: requests and
 * giving windows back, and nothing else. A proxy that was taken over could ask for windows in anybody's name, and approve in
 * the name of approvers; it cannot make tokens, keys or grants. That is the price of `ssh GATE approve`, and why the setting
 * is the operator's to make.
 */
const FOR_OTHERS: ReadonlySet<string> = new Set([
  'GET /whoami',
  'GET /requests',
  'POST /requests',
  'GET /requests/:id',
  'POST /requests/:id/approve',
  'POST /requests/:id/deny',
  'POST /grants/:id/release',
  'POST /certificates',
])

/** What a proxy asks for itself: that somebody be signed in whose key it does not know. */
export const FOR_ITSELF: ReadonlySet<string> = new Set(['POST /login/key'])

/**
 * Whom a proxy speaks for.
 *
 * @param route as in `ACCESS`
 * @throws Problem when it is nobody, or nothing it may ask for others
 */
export async function spokenFor(sql: Sql, front: Caller, request: FastifyRequest, route: string): Promise<Caller> {
  if (!FOR_OTHERS.has(route)) throw new Problem(403, 'role', `a front does not ask ${route} for others`)
  const principal = unescaped(request.headers['drawbridge-principal'])
  const address = request.headers['drawbridge-address']
  if (principal === undefined || !principalForm.safeParse(principal).success) {
    throw new Problem(400, 'invalid', 'drawbridge-principal: whom does this front speak for')
  }
  if (typeof address !== 'string' || isIP(address) === 0) {
    throw new Problem(400, 'invalid', 'drawbridge-address: where that person is')
  }
  const lock = await findLock(sql, principal)
  if (lock?.locked) throw new Problem(403, 'locked', `${principal} is locked`, 'ask an administrator')
  // What a key proves is who somebody is. Whether their vote counts is for the policy to say; administrators use a token.
  return { ...front, principal, roles: ['developer', 'approver'], via: { transport: 'ssh', address } }
}

function unescaped(header: string | string[] | undefined): string | undefined {
  try {
    return typeof header === 'string' ? decodeURIComponent(header) : undefined
  } catch {
    return undefined
  }
}
