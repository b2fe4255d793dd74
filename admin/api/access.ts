import type { Role } from '../../ca/token.ts'

/** Who is asking. */
export interface Caller {
  readonly principal: string
  readonly roles: readonly Role[]
  /** The token that said so; without one it was the socket that only this machine's operator can open. */
  /** A proxy vouched for this person, who logged in there; where they are, and the token that a job showed. */
  readonly via?: { readonly transport: 'ssh'; readonly address: string; readonly job?: string }
  readonly token?: {
    readonly id: string
    readonly expires: number
    readonly signin?: string
    /** The request it is for, and nothing else. */
    readonly request?: string
  }
  /** What the identity provider said at the sign-in behind the token: groups, and when a second factor was shown. */
  readonly groups?: readonly string[]
  readonly mfa?: number
}

/** Whoever can open the admin role's own socket file: its operator, who could read its keys as well. */
export const OPERATOR: Caller = { principal: 'local', roles: ['admin'] }

/** Names that stand for no person. */
export const RESERVED: readonly string[] = ['drawbridge', OPERATOR.principal]

const ANYBODY: readonly Role[] = ['developer', 'approver', 'auditor', 'admin']
/** Taking access away is easier than giving it. */
const ENDS_ACCESS: readonly Role[] = ['approver', 'admin']
export const READS_LEDGER: readonly Role[] = ['auditor', 'admin']

/** What strangers call, since it is how one becomes known. Each asks for a secret of its own. */
export const OPEN: readonly string[] = [
  'GET /login',
  'POST /login/device',
  'POST /login/token',
  'POST /login/refresh',
  'POST /login/workload',
  'POST /logout',
]

/**
 * Who may call what, in one place. A route that is not listed here does not start. Where everybody may call, `seesAll`
 * decides whether they see what is not their own.
 */
export const ACCESS: Readonly<Record<string, readonly Role[]>> = {
  'GET /whoami': ANYBODY,

  'GET /grants': ANYBODY,
  'POST /grants': ['admin'],
  'GET /grants/:id': ANYBODY,
  'POST /grants/:id/revoke': ENDS_ACCESS,
  'POST /grants/:id/extend': ['admin'],
  'POST /grants/:id/release': ANYBODY,

  // Whether a vote counts the policy says; the role only keeps tokens made for git from voting.
  'GET /requests': ANYBODY,
  'POST /requests': ['developer', 'approver', 'admin'],
  'POST /requests/auto': ['developer', 'approver', 'admin'],
  'POST /requests/explain': ANYBODY,
  'GET /requests/:id': ANYBODY,
  'POST /requests/:id/approve': ENDS_ACCESS,
  'POST /requests/:id/deny': ENDS_ACCESS,
  'POST /requests/:id/withdraw': ANYBODY,
  'GET /requests/:id/comments': ANYBODY,
  'POST /requests/:id/comments': ANYBODY,
  'POST /requests/:id/extend': ['developer', 'approver', 'admin'],

  'GET /review': READS_LEDGER,

  'GET /sessions': ANYBODY,
  'POST /sessions/:operation/cut': ENDS_ACCESS,

  'GET /locks': ['approver', 'auditor', 'admin'],
  'PUT /locks/:principal': ENDS_ACCESS,
  'DELETE /locks/:principal': ['admin'],

  // Of keys whose possession was proved to a proxy, which nobody else can say.
  'POST /login/key': ['front'],
  'GET /signins': ANYBODY,
  'DELETE /signins/:id': ANYBODY,
  'POST /certificates': ANYBODY,
  'GET /upstreams': ANYBODY,

  'GET /tokens': ANYBODY,
  'POST /tokens': ['admin'],
  'DELETE /tokens/:id': ANYBODY,

  'GET /services': ANYBODY,
  'POST /services': ['admin'],
  'POST /services/:name/rotate': ANYBODY,
  'POST /services/:name/assign': ['admin'],
  'DELETE /services/:name': ANYBODY,

  'GET /keys': ANYBODY,
  'POST /keys': ANYBODY,
  'DELETE /keys/:fingerprint': ANYBODY,

  'GET /notify/deliveries': ['auditor', 'admin'],
  'POST /notify/retry': ['admin'],
  'POST /notify/channels/:name/test': ['admin'],

  'GET /audit': READS_LEDGER,
  'GET /audit/stream': READS_LEDGER,
  'GET /audit/export': READS_LEDGER,
  'GET /audit/heads': READS_LEDGER,
  'POST /audit/verify': READS_LEDGER,
  // Of what one did oneself; of everything only those who read the ledger.
  'GET /audit/receipts/:of': ANYBODY,
  'GET /audit/consistency': READS_LEDGER,
  'GET /audit/report': READS_LEDGER,
  'POST /audit/retain': ['admin'],
}

/** Whether the caller may see grants, sessions, tokens and keys of others. */
export function seesAll(caller: Caller): boolean {
  return caller.roles.some(role => role !== 'developer')
}

/** Whether the caller may read the ledger. */
export function readsLedger(caller: Caller): boolean {
  return caller.roles.some(role => READS_LEDGER.includes(role))
}

/** Whether the caller may change what belongs to this principal: one's own, or anybody's as an administrator. */
export function governs(caller: Caller, principal: string): boolean {
  return caller.principal === principal || caller.roles.includes('admin')
}
