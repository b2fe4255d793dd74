import { subjectOf } from '../audit/ending.ts'
import type { DoneUpdate, Emit, OperationEnd, OperationStart } from '../audit/record.ts'
import type { LiveGrant } from '../grant/grant.ts'
import type { Client } from './client.ts'
import { onRecord, type Refusal } from './refusal.ts'
import { stepOf, type Trace } from './trace.ts'

/** How long a host may take to report on a push of which it has every byte, once the push would have been cut. */
const SETTLE_MILLISECONDS = 10_000

export type Result = 'ok' | 'failed' | 'cut' | 'refused'

/** What is only known when an operation has ended. */
export interface Outcome {
  readonly result: Result
  readonly reason?: string
  readonly updates?: readonly DoneUpdate[]
  readonly objects?: number
}

/**
 * One operation under way: from its durable start record to its end record.
 *
 * Ending it is aborting its signal, and there is no second way: a cut (the window ended, an administrator, a lost Redis)
 * and a client that went away arrive at the same place. The first reason stays.
 */
export class Session {
  readonly operation: string
  readonly client: Client
  readonly start: OperationStart
  readonly startedAt: number
  /** The grants that cover it now; refreshed each time the gate is asked again. */
  grants: readonly LiveGrant[]
  /** The grant that holds longest, and when it ends if nothing more happens, by `performance.now()`. */
  window: { readonly grant: string; readonly until: number } = { grant: '', until: 0 }
  /** Why it would have been refused, or cut, were its repository not only observed. */
  instead: Refusal | undefined
  bytesIn = 0
  bytesOut = 0
  /** How many of them its windows have been told of, and with how many it is over; set by the gate. */
  bytesTold = 0
  bytesMax = Number.POSITIVE_INFINITY
  /** Where its answer came from, when the host was not asked for it. */
  reuse: 'shared' | 'cached' | undefined
  readonly #abort = new AbortController()
  /** Where its time goes, if anybody wants to see it. */
  readonly trace: Trace | undefined
  readonly #emit: Emit
  readonly #onBytesOver: (session: Session) => void
  readonly #onEnd: (session: Session) => void
  #cut: Refusal | undefined
  #settled = false
  #late: NodeJS.Timeout | undefined
  #ended: Promise<void> | undefined
  #outcome: Outcome | undefined

  constructor(options: {
    client: Client
    start: OperationStart
    grants: readonly LiveGrant[]
    emit: Emit
    trace?: Trace | undefined
    /** More bytes went by than `bytesMax`. */
    onBytesOver?: (session: Session) => void
    onEnd: (session: Session) => void
  }) {
    this.client = options.client
    this.start = options.start
    this.operation = options.start.operation
    this.grants = options.grants
    this.startedAt = performance.now()
    this.#emit = options.emit
    this.trace = options.trace
    this.#onEnd = options.onEnd
    this.#onBytesOver = options.onBytesOver ?? (() => {})
    const { gone } = options.client
    if (gone.aborted) this.#abort.abort(gone.reason)
    else gone.addEventListener('abort', this.#onGone, { once: true })
  }

  /** Bytes of the client's, or for it, are about to go by. */
  carry(direction: 'in' | 'out', bytes: number): void {
    if (direction === 'in') this.bytesIn += bytes
    else this.bytesOut += bytes
    if (this.bytesIn + this.bytesOut > this.bytesMax) this.#onBytesOver(this)
  }

  /** Aborted when the operation must stop: everything that carries its bytes listens to this one. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** Why it was cut, if it was. */
  get cutBy(): Refusal | undefined {
    return this.#cut
  }

  /** How it ended, once it has. */
  get outcome(): Outcome | undefined {
    return this.#outcome
  }

  readonly #onGone = () => this.#abort.abort(this.client.gone.reason)

  /** Ends the operation for a reason the person is told. One that is settled is first given time for its report. */
  cut(refused: Refusal): void {
    if (this.signal.aborted || this.#ended) return
    if (!this.#settled) this.#end(refused)
    else this.#late ??= setTimeout(() => this.#end(refused), SETTLE_MILLISECONDS)
  }

  #end(refused: Refusal): void {
    this.#cut = refused
    this.#abort.abort(refused)
  }

  /**
   * The last bytes of a push go to the host now. It lands whatever happens afterwards, so that a cut could only hide
   * what became of it. False when it was ended before.
   */
  settle(): boolean {
    if (!this.signal.aborted) this.#settled = true
    return this.#settled
  }

  /** Whether the host was given everything it needs to change its refs. */
  get settled(): boolean {
    return this.#settled
  }

  /**
   * Writes the end record, once: later calls wait for the first. Never rejects: a record that cannot be written now is
   * written by recovery, from the start that is already durable.
   */
  end(outcome: Outcome): Promise<void> {
    this.#ended ??= this.#finish(outcome)
    return this.#ended
  }

  async #finish(outcome: Outcome): Promise<void> {
    this.#outcome = outcome
    clearTimeout(this.#late)
    this.client.gone.removeEventListener('abort', this.#onGone)
    const end: OperationEnd = {
      kind: 'operation.end',
      ...subjectOf(this.start),
      ...outcome,
      bytesIn: this.bytesIn,
      bytesOut: this.bytesOut,
      milliseconds: Math.round(performance.now() - this.startedAt),
      ...(this.reuse && { reuse: this.reuse }),
      ...(this.instead && !this.start.observed && { observed: onRecord(this.instead) }),
    }
    try {
      await stepOf(this.trace, 'record', () => this.#emit(end))
    } catch {
      // The ledger is away; `recover` will close this operation as interrupted.
    } finally {
      this.trace?.ended(this)
      this.#onEnd(this)
    }
  }
}
