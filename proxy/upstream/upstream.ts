import type { Readable } from 'node:stream'

export type GitService = 'upload-pack' | 'receive-pack' | 'upload-archive'

/** Which repository on which host, for whom. */
export interface Target {
  /** Path below the upstream's base URL, without `.git`, already checked to be one plain spelling. */
  readonly path: string
  readonly service: GitService
  readonly protocol: 0 | 1 | 2
  /** true: each exchange is a request of its own (an HTTP client); false: one conversation (an SSH client). */
  readonly stateless: boolean
  readonly principal: string
  readonly operation: string
}

/**
 * The Git host, for one client. Every transport is `advertise` and `exchange`.
 *
 * Bytes are git's own in both directions: HTTP's `# service=` preamble, status codes and encodings stay inside the
 * implementation.
 */
export interface Upstream {
  /**
   * Whether a v0/v1 fetch is held with this host as a conversation (ssh always; local programs for a client that
   * converses) or as single requests (http always; local programs for a stateless client).
   */
  readonly conversational: boolean
  /** The advertisement, up to and including its flush packet, then end. */
  advertise(signal: AbortSignal): Promise<Readable>
  /**
   * Sends one request and gives the answer. May be called without `advertise` first (an HTTP client's POST): a host that
   * speaks first is then read up to its flush. Resolves when the host begins to answer.
   *
   * Over a conversational host, protocol 2's upload-pack may be asked again and again: the answer ends with its flush
   * packet. Otherwise the end of `body` is the end of what is said to the host, and the answer ends when the host is done.
   */
  exchange(body: Readable, signal: AbortSignal): Promise<Readable>
  /** Ends it, whatever is under way. Idempotent. */
  close(): void
}

/**
 * An answer whose chunks lie in memory that is used again. Whoever has no more use for a chunk, nor for any part of it,
 * may give it back; nobody has to. Chunks that were put back (`unshift`) or cut anew (`read(n)`) are not known by it.
 */
export interface Lending {
  giveBack(chunk: Buffer): void
}

export type Connect = (target: Target) => Upstream

/** Why a host did not do what it was asked. `message` may be shown to anybody; `detail` is for the operator's log. */
export class UpstreamError extends Error {
  readonly code:
    | 'unreachable'
    | 'timeout'
    | 'credential'
    | 'not-found'
    | 'host-key'
    | 'redirect'
    | 'protocol'
    | 'failed'
  readonly detail: string
  constructor(code: UpstreamError['code'], message: string, detail: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'UpstreamError'
    this.code = code
    this.detail = detail
  }
}
