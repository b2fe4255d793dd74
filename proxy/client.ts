import type { Readable, Writable } from 'node:stream'
import type { Identity, Origin, Service } from '../audit/record.ts'

/** Who is calling, as the front recognised them. */
export interface Caller {
  readonly principal: string
  readonly identity: Identity
  /** Names by which the credential may have been barred, see `Ask.credentials`. */
  readonly credentials: readonly string[]
  readonly origin: Origin
  /** The request whose windows the credential is for; absent: any window of the principal's. */
  readonly request?: string
  /** Whether the credential is still taken, where that can be told without asking: false once a certificate is revoked. */
  stands?(): boolean
}

/**
 * One git client and what it wants, whichever transport carries it. The fronts make these; `serve` answers them.
 *
 * Over HTTP the two halves of a conversation are two requests (`advertise`, then one `exchange` or more); over SSH
 * they are one channel (`conversation`).
 */
export interface Client {
  readonly caller: Caller
  /** The one spelling of the repository, `<upstream>/<path>` without `.git`. */
  readonly repository: string
  readonly service: Exclude<Service, 'lfs'>
  readonly protocol: 0 | 1 | 2
  readonly part: 'advertise' | 'exchange' | 'conversation'
  /** The client's bytes, already decoded (gzip, chunks). Empty for `advertise`. */
  readonly request: Readable
  /** Where answers go. Never ended by `serve`: the front does that when `serve` has resolved. */
  readonly response: Writable
  /** Standard error of an SSH channel; HTTP has none. */
  readonly stderr?: Writable
  /** Aborted when the client went away. */
  readonly gone: AbortSignal
  /** What it said of a trace it belongs to (W3C Trace Context); unproved. */
  readonly traceparent?: string | undefined
}

/**
 * Answers one client: asks the gate, records, relays. Whatever is to be said to the person is written to `response` in
 * the form git shows best, so the fronts only carry bytes. Resolves to the exit status an SSH channel should give.
 * Rejects only for faults of our own.
 */
export type Serve = (client: Client) => Promise<{ readonly status: 0 | 1 | 128; readonly operation: string }>
