/**
 * What the ledger holds: one typed union, one canonical form. Names here are stable; machines read them for years.
 * Secrets and file contents never enter a record.
 */

export type Service = 'upload-pack' | 'receive-pack' | 'upload-archive' | 'lfs'

/** By what a principal was recognised. Enough to find the credential, never the credential. */
export type Identity =
  | { readonly kind: 'token'; readonly id: string }
  | { readonly kind: 'key'; readonly fingerprint: string }
  | {
      readonly kind: 'certificate'
      readonly serial: string
      readonly keyId: string
      readonly fingerprint: string
      readonly authority: string
    }

/** Where an attempt comes from. */
export interface Origin {
  readonly transport: 'http' | 'ssh'
  /** The client's own address: behind a listed load balancer the one PROXY protocol gave. */
  readonly address: string
  /** One TCP connection; readers fold the several requests of one `git clone` by it. */
  readonly connection: string
  /** User-Agent or SSH software version, cleaned of control characters, at most 200 characters. */
  readonly agent: string
}

/** One ref update as it was asked for. */
export interface AskedUpdate {
  readonly ref: string
  readonly old: string
  readonly new: string
  readonly action: 'create' | 'update' | 'force' | 'delete' | 'tag' | 'update-or-force'
  /** The lists that bound what it may change, where its window had any. */
  readonly paths?: readonly (readonly string[])[]
}

/** One ref update as the host reported it. */
export interface DoneUpdate extends AskedUpdate {
  readonly result: 'ok' | 'rejected' | 'unknown'
  readonly reason?: string
}

/** What a fetch asked for. */
export interface FetchDetail {
  readonly wants: number
  readonly haves: number
  readonly depth?: string
  readonly filter?: string
  /** No haves and no shallow lines: a clone; otherwise incremental. */
  readonly kind: 'clone' | 'incremental'
}

/** Why it would have been refused. The policy only observes this repository, so it was let through. */
export interface ObservedRefusal {
  /** As of a refused operation. */
  readonly code: string
  readonly reason: string
}

/** A grant that answers a request, and who said yes to that. */
export interface Approval {
  readonly grant: string
  readonly request: string
  /** By whose approvals, as the principals they voted as; none where the policy opens by itself. Absent: not known of an old grant. */
  readonly approvers?: readonly string[]
  /** The version of the policy it was decided by. */
  readonly policy?: string
}

interface Operation {
  /** The operation's id; also in every message a person sees. */
  readonly operation: string
  readonly principal: string
  readonly repository: string
  readonly service: Service
}

export interface OperationStart extends Operation {
  readonly kind: 'operation.start'
  readonly action: 'list' | 'fetch' | 'push' | 'archive'
  readonly identity: Identity
  readonly origin: Origin
  readonly protocol: 0 | 1 | 2
  /** The grants it runs under. */
  readonly grants: readonly string[]
  /** Those of them that answer a request. More time for one is told by its `grant.extended`. */
  readonly under?: readonly Approval[]
  readonly updates?: readonly AskedUpdate[]
  readonly fetch?: FetchDetail
  readonly pushOptions?: readonly string[]
  readonly observed?: ObservedRefusal
}

export interface OperationEnd extends Operation {
  readonly kind: 'operation.end'
  readonly action: 'list' | 'fetch' | 'push' | 'archive'
  /** ok; failed: the host or the client broke off; cut: the window ended; refused: judged and refused after it had started; interrupted: the proxy died. */
  readonly result: 'ok' | 'failed' | 'cut' | 'refused' | 'interrupted'
  readonly reason?: string
  readonly bytesIn: number
  readonly bytesOut: number
  readonly milliseconds: number
  readonly updates?: readonly DoneUpdate[]
  /** Objects in the pack that went by, from its header, where one was seen. */
  readonly objects?: number
  /** The host was not asked for the pack: it was under way for somebody who asked for the same, or kept from before. */
  readonly reuse?: 'shared' | 'cached'
  /** What came up while it ran; what was known before is in its start. */
  readonly observed?: ObservedRefusal
}

export interface OperationRefused extends Operation {
  readonly kind: 'operation.refused'
  readonly action: 'list' | 'fetch' | 'push' | 'archive'
  readonly identity: Identity
  readonly origin: Origin
  /** A stable word: `no-grant`, `locked`, `barred`, `unconfirmed`, `redis-unreachable`, `ledger-unreachable`, `ref-refused`, `protocol`, … */
  readonly code: string
  readonly reason: string
  readonly updates?: readonly AskedUpdate[]
}

/** A login or credential that was turned away before anybody was recognised. */
export interface SigninRefused {
  readonly kind: 'signin.refused'
  readonly origin: Origin
  readonly code: string
  readonly reason: string
  /** What the client said of itself; unproved. */
  readonly claimed?: string
}

/**
 * By which way a request or a decision came: over SSH, where a proxy vouched for who it was; filed by an operation that was refused;
 * by a channel that proved who it was; or by a token at the API, from our own command line where the program says so.
 */
export type Via = 'ssh' | 'refusal' | 'slack' | 'email' | 'teams' | 'api' | 'cli'

/** What administrators and the control plane do. `by` is the principal who did it, or `drawbridge` itself. */
export type ControlRecord =
  | {
      readonly kind: 'grant.issued'
      readonly by: string
      readonly grant: string
      readonly principal: string
      readonly repository: string
      readonly actions: readonly string[]
      readonly refs: readonly string[]
      readonly starts: string
      readonly expires: string
      readonly idle?: number
      readonly uses?: number
      readonly bytes?: number
      /** What a push may change: within each of these lists. */
      readonly paths?: readonly (readonly string[])[]
      readonly reason: string
      readonly request?: string
      /** Of the request, as in `Approval`. */
      readonly approvers?: readonly string[]
      readonly policy?: string
    }
  | {
      readonly kind: 'grant.extended'
      readonly by: string
      readonly grant: string
      readonly principal: string
      readonly expires: string
      readonly reason: string
      /** The request for more time, where there was one; who approved it, by which version of the policy. */
      readonly request?: string
      readonly approvers?: readonly string[]
      readonly policy?: string
    }
  | {
      readonly kind: 'grant.ended'
      readonly by: string
      readonly grant: string
      readonly principal: string
      readonly how: 'expired' | 'revoked' | 'released' | 'idle' | 'used' | 'locked'
      readonly reason: string
    }
  | {
      readonly kind: 'session.cut'
      readonly by: string
      readonly operation: string
      readonly principal: string
      readonly reason: string
    }
  | {
      readonly kind: 'principal.locked' | 'principal.unlocked'
      readonly by: string
      readonly principal: string
      readonly reason: string
    }
  /** A person was recognised by the identity provider, and confirmed what the terminal or key shows; and the end of it. */
  | {
      readonly kind: 'signin.made' | 'signin.ended'
      readonly by: string
      readonly signin: string
      readonly principal: string
      readonly address?: string
      readonly groups?: readonly string[]
      readonly roles?: readonly string[]
      /** When a second factor was last shown. */
      readonly mfa?: string
      readonly expires?: string
      readonly reason?: string
    }
  | {
      readonly kind: 'token.created' | 'token.revoked'
      readonly by: string
      readonly token: string
      readonly principal: string
      readonly roles: readonly string[]
      readonly expires?: string
    }
  /** A service account: created with its owner, given another token or another owner, and its end. */
  | {
      readonly kind: 'service.created' | 'service.rotated' | 'service.assigned' | 'service.ended'
      readonly by: string
      readonly principal: string
      readonly owner: string
      /** The token that it was given. */
      readonly token?: string
      /** Until when the token before is good as well. */
      readonly until?: string
      readonly reason?: string
    }
  | {
      readonly kind: 'key.registered' | 'key.revoked'
      readonly by: string
      readonly fingerprint: string
      readonly principal: string
      readonly expires?: string
    }
  | {
      readonly kind: 'certificate.issued' | 'certificate.refused' | 'certificate.revoked'
      readonly by: string
      readonly serial: string
      readonly keyId: string
      readonly principals: readonly string[]
      readonly expires?: string
      readonly reason?: string
    }
  | {
      readonly kind: 'authority.rotated' | 'authority.distrusted'
      readonly by: string
      readonly ring: 'user' | 'host'
      /** The key that became the next one, or that is trusted no more. */
      readonly fingerprint: string
    }
  | {
      readonly kind: 'config.loaded' | 'config.refused' | 'policy.loaded' | 'policy.refused'
      readonly by: string
      readonly version: string
      readonly reason?: string
    }
  | {
      readonly kind: 'role.started' | 'role.stopped'
      readonly by: string
      readonly role: string
      readonly reason?: string
    }
  | {
      readonly kind:
        | 'request.made'
        | 'request.approved'
        | 'request.denied'
        | 'request.withdrawn'
        | 'request.lapsed'
        | 'request.escalated'
        | 'request.vote'
      readonly by: string
      readonly request: string
      readonly principal: string
      readonly repository: string
      readonly actions: readonly string[]
      readonly refs: readonly string[]
      readonly reason: string
      /** The version of the policy it is decided by, and the rules that govern it. */
      readonly policy?: string
      readonly rule?: string
      readonly via?: Via
    }
  /** Somebody said something about a request; `channel` is the one it came by. It decides nothing. */
  | {
      readonly kind: 'request.comment'
      readonly by: string
      readonly request: string
      readonly principal: string
      readonly repository: string
      readonly reason: string
      readonly via?: Via
      readonly channel?: string
    }
  /** What a Git host said began opened something, opened nothing, or is over. */
  | {
      readonly kind: 'trigger.fired' | 'trigger.refused' | 'trigger.ended'
      readonly by: string
      readonly event: string
      /** The host's own number of it. */
      readonly run: string
      readonly repository: string
      /** What was merged, is deployed or runs, where the host says so. */
      readonly commit?: string
      /** The host's number of the message. */
      readonly delivery: string
      /** Login and number at the host. */
      readonly actor: string
      readonly principal?: string
      readonly request?: string
      readonly rule?: string
      readonly reason?: string
    }
  /** Something came in by a channel of notices and was not believed. */
  | {
      readonly kind: 'channel.refused'
      readonly by: string
      readonly channel: string
      readonly code: string
      readonly reason: string
      readonly address?: string
      /** What it said of itself. */
      readonly claimed?: string
    }

/** What the ledger says about itself. */
export type LedgerRecord =
  /** Records `from` to `to` of one run of a proxy never arrived, or were taken out of the inbox. */
  | {
      readonly kind: 'ledger.gap'
      readonly by: string
      readonly proxy: string
      readonly boot: string
      readonly from: number
      readonly to: number
    }
  /** Something in the record is unusual for this person. */
  | {
      readonly kind: 'anomaly.found'
      readonly by: string
      readonly anomaly: 'volume' | 'spread' | 'network' | 'last-moment' | 'refusals'
      readonly principal: string
      readonly repository?: string
      readonly operation?: string
      readonly grant?: string
      readonly reason: string
    }
  /** A push or a listing found a ref where no recorded push had put it: somebody moved it past the gate. */
  | {
      readonly kind: 'bypass.suspected'
      readonly by: string
      readonly repository: string
      readonly ref: string
      /** Where the last recorded push left it, and where it was found. */
      readonly left: string
      readonly found: string
      /** The push or listing that found it, and whose it was; they did no wrong. */
      readonly operation: string
      readonly principal: string
      readonly reason: string
    }
  /** Records `from` to `to` were exported to `file` and taken out of the database, as `ledger.retention` says. */
  | {
      readonly kind: 'ledger.retained'
      readonly by: string
      readonly from: number
      readonly to: number
      readonly file: string
      readonly sha256: string
    }
  /** Stands where a proxy sent an end for an operation that had one: its number is used, and an operation keeps exactly one end. */
  | { readonly kind: 'ledger.duplicate'; readonly operation: string }

export type Record = OperationStart | OperationEnd | OperationRefused | SigninRefused | ControlRecord | LedgerRecord

/** Makes a record durable: resolves when it is on disk, rejects when it could not be put there. */
export type Emit = (record: Record) => Promise<void>
