import type { MetricObjectWithValues, MetricValue } from 'prom-client'
import type { Front } from '../../proxy/accept.ts'
import type { FailedMessage, ReadyMessage } from '../parent.ts'

// What a proxy's first process and its workers say to each other, over Node's IPC channel. It keeps the order of what is
// sent, sockets too: a worker that is told to retire has been given every connection that was meant for it.

export type ToWorker =
  /** Goes with the socket. */
  | { readonly kind: 'connection'; readonly connection: number; readonly front: Front }
  | LoginFailed
  | { readonly kind: 'observe'; readonly question: number }
  /**
   * `retire`: take nothing new, come to the end of what is open, and go. `stop`: as at SIGTERM; said rather than sent as a
   * signal, because a service manager may have sent the signal to every process already, and a second one ends at once.
   */
  | { readonly kind: 'retire' | 'stop' }

export type FromWorker =
  | ReadyMessage
  | FailedMessage
  /** It takes no more connections, whoever told it so. */
  | { readonly kind: 'stopping' }
  /** The worker has the socket now; and: that connection is closed. */
  | { readonly kind: 'taken' | 'left'; readonly connection: number }
  | LoginFailed
  | Observation

/** Somebody at this address failed to log in at one of the workers. */
export interface LoginFailed {
  readonly kind: 'login-failed'
  readonly front: Front
  readonly address: string
}

export interface Observation {
  readonly kind: 'observed'
  readonly question: number
  readonly metrics: MetricObjectWithValues<MetricValue<string>>[]
  readonly checks: Readonly<Record<string, string>>
}
