import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import type { Sql } from 'postgres'
import { findLock } from '../register/locks.ts'
import { rolesOf } from '../register/roles.ts'
import { signinStanding } from '../register/signins.ts'
import { findToken } from '../register/tokens.ts'
import { kindOf } from '../voter.ts'
import { type Caller, READS_LEDGER } from './access.ts'
import { principal as principalForm } from './fields.ts'
import { Problem } from './problem.ts'

/**
 * What a proxy may ask in the name of somebody it knows, by a token with the role `front`: requests,
 * giving windows back, reading the ledger, and nothing else. A proxy that was taken over could ask for windows in anybody's name,
 * approve in the name of approvers and read the ledger in the name of auditors; it cannot make tokens, keys or grants, nor change
 * a record. That is the price of `ssh GATE approve`, and why the setting is the operator's to make.
 */
const FOR_OTHERS: ReadonlySet<string> = new Set([
  'GET /whoami',
  'GET /requests',
  'POST /requests',
  'POST /requests/auto',
  'POST /requests/explain',
  'GET /requests/:id',
  'POST /requests/:id/approve',
  'POST /requests/:id/deny',
  'POST /requests/:id/extend',
  'POST /requests/:id/withdraw',
  'POST /grants/:id/release',
  'POST /certificates',
  'GET /audit',
  'GET /audit/stream',
])

/** What tells of others, and so asks for more than that somebody is known. */
const OF_THE_LEDGER: ReadonlySet<string> = new Set(['GET /audit', 'GET /audit/stream'])

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
  if (OF_THE_LEDGER.has(route)) await requireReader(sql, principal)
  // What a key proves is who somebody is. Whether their vote counts is for the policy to say; administrators use a token.
  return {
    ...front,
    ...(await signedIn(sql, principal, request.headers['drawbridge-signin'])),
    principal,
    roles: OF_THE_LEDGER.has(route) ? ['auditor'] : ['developer', 'approver'],
    via: { transport: 'ssh', address, ...(await jobOf(sql, principal, request.headers['drawbridge-token'])) },
  }
}

/** By what they hold besides their key, and only while they hold it. */
async function requireReader(sql: Sql, principal: string): Promise<void> {
  const held = await rolesOf(sql, principal)
  if (held.some(role => READS_LEDGER.includes(role))) return
  const lacking = `${principal} has no token and no sign-in with the role ${READS_LEDGER.join(' or ')}`
  throw new Problem(403, 'role', lacking, 'ask an administrator for the role; or sign in again: git access login')
}

/** What the identity provider said of the person, where their key or token comes of a sign-in. */
async function signedIn(sql: Sql, principal: string, id: unknown): Promise<Pick<Caller, 'groups' | 'mfa'>> {
  if (id === undefined) return {}
  const standing = typeof id === 'string' ? await signinStanding(sql, id, principal) : 'unknown'
  if (typeof standing === 'string') throw new Problem(403, 'signed-out', 'the sign-in is over', 'git access login')
  const { groups, mfa } = standing
  return { groups, ...(mfa !== undefined && { mfa }) }
}

/** Which job asks, where it showed its token: jobs share one name, and windows are not to be shared. */
async function jobOf(sql: Sql, principal: string, id: unknown): Promise<{ readonly job?: string }> {
  if (id === undefined || kindOf(principal) !== 'ci') return {}
  const token = typeof id === 'string' ? await findToken(sql, id) : undefined
  if (token?.principal !== principal || token.revoked || token.expires.getTime() <= Date.now()) {
    throw new Problem(403, 'signed-out', 'the token of the job is over', 'exchange another one')
  }
  return { job: token.id }
}

function unescaped(header: string | string[] | undefined): string | undefined {
  try {
    return typeof header === 'string' ? decodeURIComponent(header) : undefined
  } catch {
    return undefined
  }
}
