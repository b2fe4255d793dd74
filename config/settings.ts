import type { HeadsSettings } from './heads.ts'
import type { HookSettings } from './hooks.ts'
import type { NotifySettings } from './notify.ts'
import type { OnCallSettings } from './oncall.ts'
import type { PolicyRepository } from './policyrepository.ts'
import type { TracesSettings } from './telemetry.ts'
import type { WorkloadSettings } from './workload.ts'

/** What `drawbridge.yaml` says, checked and with every default filled in. */

/** An address to listen on: `host:port`, or a unix socket's path. */
export interface Address {
  readonly host: string
  readonly port: number
}

export interface Tls {
  readonly certificate: string
  readonly key: string
  /** Both are in one file, which the gate's own authority fills and renews. */
  readonly issued?: true
}

export interface Listener extends Address {
  readonly tls?: Tls
}

/** A host key as known_hosts writes it: algorithm and base64, or a SHA256 fingerprint, or `@cert-authority` and a key. */
export type HostKey = string

export type Credential =
  | { readonly type: 'none' }
  | { readonly type: 'basic'; readonly username: string; readonly password: string }
  | { readonly type: 'bearer'; readonly token: string }
  | { readonly type: 'ssh-key'; readonly username: string; readonly privateKey: string }
  | {
      readonly type: 'ssh-certificate'
      /** Templates: `{principal}` and `{principal.login}` stand for whom it is for. */
      readonly principal: string
      readonly keyId: string
      readonly extensions: Readonly<Record<string, string>>
    }

export interface UpstreamSettings {
  readonly name: string
  /** `https:`, `http:`, `ssh:` or `file:`; always ends in `/`. */
  readonly url: URL
  readonly credential: Credential
  readonly hostKeys: readonly HostKey[]
  /** Milliseconds to connect, and without a byte while an answer is due. */
  readonly connectTimeout: number
  readonly idleTimeout: number
  /** How many connections to this host at once. */
  readonly connections: number
}

/** The gate's own roles, by which the API is opened. */
export type LoginRole = 'developer' | 'approver' | 'auditor' | 'admin'

/** The identity provider people sign in with (OpenID Connect), and what is made of what it says. */
export interface LoginSettings {
  /** Its issuer identifier; `https:`, or `http:` on this machine. */
  readonly issuer: URL
  readonly clientId: string
  /** Absent: a public client. */
  readonly clientSecret?: string
  readonly scopes: readonly string[]
  /** The claim that is the person's name at the gate, and the one that lists their groups. */
  readonly principal: string
  readonly groups: string
  /** When not empty, the name is an address in one of these. */
  readonly domains: readonly string[]
  /** Claims that must be there, each with one of these values. */
  readonly require: ReadonlyMap<string, readonly string[]>
  /** Who has which role, by groups; everybody who signs in is a developer. */
  readonly roles: ReadonlyMap<LoginRole, readonly string[]>
  readonly mfa: {
    /** Values of `amr` and `acr` that say a second factor was shown. */
    readonly amr: readonly string[]
    readonly acr: readonly string[]
    /** Nobody signs in without one. */
    readonly required: boolean
  }
  /** Milliseconds: a sign-in, and one token of it. */
  readonly lasts: number
  readonly token: number
  /** Milliseconds after which the provider is asked again whether somebody is still there; absent: it is not asked. */
  readonly recheck?: number
}

/** How a proxy asks its control plane in the name of who logged in over SSH. */
export interface ControlSettings {
  /** `https:`, or `http:` on this machine. */
  readonly url: string
  /** Holds a token with the role `front`; read at each use, so that it can be renewed. */
  readonly tokenFile: string
  /** Certificates to trust besides, PEM. */
  readonly caFile?: string
}

/** Another system that is sent the records of the ledger. */
export type ForwardSettings = { readonly name: string } & (
  | {
      readonly type: 'syslog'
      readonly host: string
      readonly port: number
      /** PEM: trusted for the receiver; what we show it. */
      readonly ca: string | undefined
      readonly certificate: string | undefined
      readonly key: string | undefined
    }
  | { readonly type: 'webhook'; readonly url: URL; readonly secret: string }
  /** A stream in the gate's own Redis, and about how many records stay in it. */
  | { readonly type: 'redis'; readonly stream: string; readonly keep: number }
  | {
      readonly type: 's3'
      readonly endpoint: URL
      readonly region: string
      readonly bucket: string
      readonly prefix: string
      readonly accessKey: string
      readonly secretKey: string
    }
)

export interface Settings {
  /** This gate's name in records: unique among the proxies that share a ledger. */
  readonly name: string
  /** The file this was read from. */
  readonly file: string
  /** The URLs people see: in messages and `git access setup`. Without a trailing slash. */
  readonly publicHttp: string | undefined
  readonly publicSsh: string | undefined
  readonly publicAdmin: string | undefined
  readonly listen: {
    readonly http?: Listener
    readonly ssh?: Listener
    readonly admin: Listener
    /** Where each role is watched; nowhere unless given. */
    readonly metrics?: { readonly [role in 'proxy' | 'admin' | 'ca']?: Address | undefined }
  }
  /** `embedded`, or a URL: `redis:`, `rediss:`, `unix:` (a socket's path), or
   *  `sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/MASTER/DB`. */
  readonly redis: string
  /** `embedded`, or a URL. */
  readonly postgres: string
  /** Folder for the spool, keys kept in files, trial data. */
  readonly state: string
  readonly upstreams: ReadonlyMap<string, UpstreamSettings>
  /** A file or folder, or where else it is kept. */
  readonly policy: string | PolicyRepository | undefined
  /** Absent: nothing can be asked of the control plane over SSH. */
  readonly control?: ControlSettings
  /** Jobs of CI systems that may exchange their own token for one of the gate's. */
  readonly workloads?: readonly WorkloadSettings[]
  /** Absent: nobody signs in here; tokens and keys are handed out. */
  readonly login?: LoginSettings
  readonly ssh: {
    /** Files of private host keys. */
    readonly hostKeys: readonly string[]
    /** Public keys of user certificate authorities we trust, one a line as in TrustedUserCAKeys. */
    readonly trustedUserCAKeys: readonly string[]
  }
  readonly ca: {
    /** Whether this gate has an authority of its own: the file has a `ca` section. */
    readonly configured: boolean
    /** Private to the authority: keys, serials, KRL. */
    readonly directory: string
    /** The unix socket at which it is asked. */
    readonly socket: string
    /** Of the keys kept in files; absent when there are none there. */
    readonly passphrase: string | undefined
    /** Where keys kept elsewhere are, and the files of what opens that. */
    readonly vault?: {
      readonly address: string
      readonly tokenFile: string
      readonly mount?: string
      readonly namespace?: string
    }
    readonly kms?: { readonly credentialsFile: string; readonly endpoint?: string }
  }
  /** How many processes the proxy is on this machine. */
  readonly workers: number
  /** CIDRs of load balancers that speak PROXY protocol to us. */
  readonly proxyProtocol: readonly string[]
  readonly limits: {
    readonly commands: number
    readonly connectionsPerSource: number
    readonly connections: number
    readonly loginGrace: number
    readonly loginAttempts: number
    readonly channels: number
    readonly headers: number
    readonly bodyIdle: number
    readonly total: number
    /** Milliseconds running operations get to finish after SIGTERM. */
    readonly drain: number
    /** Milliseconds Redis may be unreachable before everything running is cut. */
    readonly redisSilence: number
  }
  /** Who is told what, and where; absent: nobody. */
  readonly notify?: NotifySettings
  /** Who may tell from outside that access is to end. */
  readonly hooks?: readonly HookSettings[]
  /** Schedules kept elsewhere. */
  readonly onCall?: readonly OnCallSettings[]
  /** When Postgres is away: `refuse` operations, or `spool` records up to `spoolBytes`. */
  readonly ledger: {
    readonly whenAway: 'refuse' | 'spool'
    readonly spoolBytes: number
    /** Records older than this many milliseconds are exported and taken out of the database; absent: they stay. */
    readonly retention?: number
    /** Folder for what retention exports; `ledger/archive` below state unless given. */
    readonly archive?: string
    readonly heads?: HeadsSettings
    /** Where records are sent on to, each under a name of its own. */
    readonly forward?: readonly ForwardSettings[]
  }
  /** Absent: nobody follows operations in time. */
  readonly traces?: TracesSettings
  /** Answers of hosts that several clients share: for `ttl` milliseconds, in `bytes` of disk at most. */
  readonly reuse: {
    readonly enabled: boolean
    readonly ttl: number
    readonly bytes: number
    /** Absent: one below the proxy's own part of `state`. */
    readonly folder: string | undefined
  }
}
