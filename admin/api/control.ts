import type { KeyObject } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { Redis } from 'ioredis'
import type { Sql } from 'postgres'
import type { Registry } from 'prom-client'
import type { Retention } from '../../audit/retain.ts'
import type { Tail } from '../../audit/tail.ts'
import type { AuthorityClient } from '../../ca/client.ts'
import type { Role } from '../../ca/token.ts'
import type { WorkloadSettings } from '../../config/workload.ts'
import type { Store } from '../../grant/store.ts'
import type { KnownAuthority } from '../authority.ts'
import type { Enact } from '../enact.ts'
import type { HookOptions } from '../hooks/routes.ts'
import type { People } from '../login/provider.ts'
import type { KeysOf } from '../login/workload.ts'
import type { LinkOptions } from '../notify/links.ts'
import type { Notify } from '../notify/notify.ts'
import type { PolicyInForce } from '../policy.ts'
import type { Act } from '../register/act.ts'
import type { Caller } from './access.ts'
import { Problem } from './problem.ts'

/** What the routes need; made in `main.ts`. */
export interface Control {
  readonly sql: Sql
  readonly redis: Redis
  readonly store: Store
  readonly act: Act
  readonly enact: Pick<Enact, 'settle' | 'state'>
  readonly tail: Pick<Tail, 'follow'>
  /** Where the settings bound how long records stay. */
  readonly retention?: Pick<Retention, 'due' | 'run'>
  /** By what requests are decided. */
  readonly policy: Pick<PolicyInForce, 'standing'>
  /** Says whether the ledger takes records, and why not. */
  readonly ledgerFault: () => string | undefined
  /** How often a follower of the ledger hears that it is followed, and is asked whether they still may; milliseconds. */
  readonly heartbeatEvery?: number
  /** Where signed heads are published outside the database, and the keys they are signed with. */
  readonly heads: { readonly file: string; readonly keys: readonly KeyObject[] }
  readonly metrics: Registry
  /** What may come in from outside to end access. */
  readonly hooks?: Omit<HookOptions, 'sql' | 'act'>
  /** By what one-time links are known; without it there are none. */
  readonly links?: Pick<LinkOptions, 'linkKey' | 'refuse'>
  /** What tells people; nothing where no channel is set up. */
  readonly notify?: () => Pick<Notify, 'channel' | 'wake'> | undefined
  /** Absent: people sign in nowhere. */
  readonly people?: People
  /** CI jobs that exchange their token for one of ours, and where keys of issuers are found. */
  readonly workloads?: { readonly settings: readonly WorkloadSettings[]; readonly keysOf: KeysOf }
  /** The URLs people reach the gate by, without a slash at the end. */
  readonly places: {
    readonly http?: string
    readonly ssh?: string
    admin(): string
    /** What the remotes of before are under; nothing of a host on the gate's own disk. */
    readonly upstreams: readonly { readonly name: string; readonly url: string }[]
  }
  /** Absent: certificates are issued to nobody. */
  readonly authority?: Pick<AuthorityClient, 'issue' | 'trusted' | 'tlsRoot'>
  /** What doors are told of that authority. */
  readonly trust?: Pick<KnownAuthority, 'trust' | 'fault'>
  /** Who a token stands for, by its signature and times alone. */
  readonly verifyToken: (
    token: string,
  ) => Promise<(Caller & Required<Pick<Caller, 'token'>>) | { readonly refused: string }>
  readonly issueToken: (token: {
    id: string
    principal: string
    roles: readonly Role[]
    signin?: string
    request?: string
    expires: number
  }) => Promise<string>
}

/** How long an answer waits for Redis to hear of the change. Then it says that it will. */
export const ENACT_MILLISECONDS_MAX = 2_000

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller | null
    /** Asks again what was asked before the request was taken: that of answers which go on. Throws as that did. */
    admit: (() => Promise<Caller>) | null
  }
}

export function callerOf(request: FastifyRequest): Caller {
  if (request.caller === null) throw new Error(`${request.url} was reached without a caller`)
  return request.caller
}

/** Why an answer that goes on has to end, if it has to: whoever asked may have been locked out, or have lost the role. */
export async function refusalSince(request: FastifyRequest): Promise<string | undefined> {
  try {
    await request.admit?.()
    return undefined
  } catch (error) {
    if (error instanceof Problem) return error.message
    throw error
  }
}
