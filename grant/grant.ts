/**
 * A grant: one window in which one principal may do named things to matching repositories and refs.
 * Pure values; where they live is `store.ts`, what their patterns mean is `pattern.ts`.
 */

/** What a grant can allow. `list` (reading the advertisement) comes with any other action and is never granted by itself. */
export const ACTIONS = [
  'fetch',
  'create',
  'update',
  'force',
  'delete',
  'tag',
  'archive',
  'lfs-download',
  'lfs-upload',
] as const
export type Action = (typeof ACTIONS)[number]

export interface Grant {
  readonly id: string
  readonly principal: string
  /** Pattern over `<upstream>/<path>`: `*` stays within one segment, `**` crosses them. */
  readonly repository: string
  readonly actions: readonly Action[]
  /** Patterns over full ref names; without `refs/` in front a pattern speaks of branches. Empty: any branch or tag. */
  readonly refs: readonly string[]
  /** Milliseconds since the epoch, on Redis's clock. The window is `starts <= now < expires`. */
  readonly starts: number
  readonly expires: number
  /** Milliseconds without use after which the window ends by itself. */
  readonly idle?: number
  /** How many packs may be delivered or pushes landed; absent: as many as fit in the window. */
  readonly uses?: number
  readonly reason: string
  /** The request this grant answers, where there was one. */
  readonly request?: string
  /** By whose approvals that request opened it, as the principals they voted as; none where the policy opens by itself. */
  readonly approvers?: readonly string[]
  /** The version of the policy that request was decided by. */
  readonly policy?: string
  readonly bounds?: Bounds
}

/** Of more approvers than these a grant names the first. */
export const APPROVERS_MAX = 100

/** Patterns of paths, with `!` in front of what may not be changed; see `paths.ts`. */
export type PathList = readonly string[]

/** Where, when and for how much a live grant holds; all of it has to. Looked at by the proxy at every use, and again while an operation runs. */
export interface Bounds {
  /** Bytes of git's own that go by under it in all, in both directions; then it is used up. */
  readonly bytes?: number
  /** What a push changes: every path has to be allowed by each of these lists, see `paths.ts`. */
  readonly paths?: readonly PathList[]
  /** Only for who comes by the token of this id: what a job asked for is that job's, and no other's of the same name. */
  readonly token?: string
  /** The client's address is in some network of every list. */
  readonly networks?: readonly (readonly string[])[]
  /** Hours of the week on a zone's own clock, in minutes since Monday 00:00, `from <= minute < to`; within all of them. */
  readonly hours?: readonly {
    readonly zone: string
    readonly spans: readonly { readonly from: number; readonly to: number }[]
  }[]
}

/** A grant as Redis knows it at this moment. */
export interface LiveGrant extends Grant {
  /** When it ends if nothing more happens: the earlier of `expires` and the idle end. Milliseconds, Redis's clock. */
  readonly ends: number
  /** Uses left, where they are counted. */
  readonly left?: number
  /** Bytes that went by under it, where they are counted. */
  readonly carried?: number
}

/** What a proxy asks of the store for one attempt; answered in one round trip. */
export interface Ask {
  readonly principal: string
  /** Names by which the presented credential may have been barred: `token:<jti>`, `serial:<n>`, `key:<fingerprint>`. */
  readonly credentials: readonly string[]
  /** The one spelling, `<upstream>/<path>`. */
  readonly repository: string
  /** The grants wanted are those with any of these. */
  readonly actions: readonly Action[]
  /** Count one use of each of these grants for this operation, all or none; asking again for the same operation counts nothing. */
  readonly consume?: { readonly operation: string; readonly grants: readonly string[] }
  /** So many bytes more went by under each of these grants. */
  readonly carried?: { readonly bytes: number; readonly grants: readonly string[] }
}

export type Answer =
  /** The grants that are live, match the repository and hold one of the actions: perhaps none. Their idle clocks are reset. */
  | { readonly kind: 'live'; readonly now: number; readonly grants: readonly LiveGrant[] }
  /** The principal is locked. */
  | { readonly kind: 'locked'; readonly now: number; readonly reason: string }
  /** The credential itself was revoked. */
  | { readonly kind: 'barred'; readonly now: number; readonly credential: string }
  /** `consume` named a grant that is over or used up; nothing was counted. */
  | { readonly kind: 'spent'; readonly now: number; readonly grants: readonly LiveGrant[] }
  /** Redis lost or may have lost revocations (restart, failover); nothing is allowed until the control plane has put them back. */
  | { readonly kind: 'unconfirmed'; readonly now: number }

/** Published whenever a principal's standing changed for the worse; every proxy then asks again for what it has running. */
export interface CutNotice {
  readonly principal: string
  readonly grant?: string
  /** Only this operation is to end, whatever its grants say; nothing else has changed. */
  readonly operation?: string
  /** Said to the person whose operation ends. */
  readonly reason: string
}
