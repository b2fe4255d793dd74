import { addAbortSignal, type Readable } from 'node:stream'
import { PacketCounter } from '../git/pktline.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { type AnswerWatch, watchAnswer } from './answer.ts'
import { type Disk, Spool, SpoolError, type SpoolReader } from './spool.ts'

export interface FlightOptions {
  readonly folder: string
  readonly disk: Disk
  /** Makes a way to the host of its own: it outlives the client who asked first. */
  upstream(): Upstream
  readonly request: Readable
  /** Whether a depth was asked for. */
  readonly shallow: boolean
  /** Called once, when the host has answered or failed to, or when nobody was left to read. */
  onLanded(flight: Flight): void
}

/**
 * One answer of a host, for everybody who asks for the same: asked once, spooled as it comes, read by each at their own
 * pace. It goes on as long as one of them reads.
 */
export class Flight {
  readonly #spool: Spool
  readonly #watch: AnswerWatch
  readonly #abort = new AbortController()
  readonly #verdict: Promise<'shared' | 'own'>
  #judge: (verdict: 'shared' | 'own') => void = () => {}
  #state: 'flying' | 'kept' | 'over' = 'flying'

  /** @throws SpoolError when there is no disk for it */
  constructor(options: FlightOptions) {
    this.#spool = new Spool({ ...options, onIdle: () => this.#onIdle() })
    this.#watch = watchAnswer(options)
    this.#verdict = new Promise(resolve => {
      this.#judge = resolve
    })
    void this.#fly(options.upstream(), options)
  }

  /** Bytes of disk it takes. */
  get bytes(): number {
    return this.#spool.bytes
  }

  /** Whether somebody reads it now. */
  get read(): boolean {
    return this.#spool.readers > 0
  }

  /** `flying`: the host still answers; `kept`: the whole answer is on disk; `over`: it is of no use to anybody new. */
  get state(): 'flying' | 'kept' | 'over' {
    const usable = this.#spool.entire && this.#watch.verdict !== 'own' && !this.#abort.signal.aborted
    return usable ? this.#state : 'over'
  }

  /** For who asked first: the answer, whatever it is, once it begins. Rejects as the host's own `exchange` would. */
  async lead(signal: AbortSignal): Promise<SpoolReader> {
    const reader = this.#spool.reader()
    return orLeave(reader, reader.begun, signal)
  }

  /**
   * For who asks for the same: the answer once it begins, and once it is known to be anybody's. Rejects with SpoolError
   * when it is not; nothing of it was read then.
   */
  async follow(signal: AbortSignal): Promise<SpoolReader> {
    const reader = this.#spool.reader()
    const begun = this.#verdict.then(verdict => {
      if (verdict === 'own') throw new SpoolError('the answer is only for who asked first')
      return reader.begun
    })
    return orLeave(reader, begun, signal)
  }

  /** Is kept no longer: leaves the disk when the last reader has left. While the host answers, nothing changes. */
  discard(): void {
    if (this.#state === 'flying') return
    this.#state = 'over'
    this.#spool.discard()
  }

  /** Stops asking the host; who reads is broken off. */
  abandon(): void {
    this.#abort.abort(new SpoolError('answers are shared no more'))
  }

  async #fly(upstream: Upstream, { request, onLanded }: FlightOptions): Promise<void> {
    const { signal } = this.#abort
    try {
      const answer = addAbortSignal(signal, await upstream.exchange(request, signal))
      const counter = new PacketCounter(this.#watch)
      for await (const chunk of answer as AsyncIterable<Buffer>) {
        this.#look(counter, chunk)
        await this.#spool.append(chunk)
      }
      await this.#spool.end()
      this.#state = this.#watch.whole && counter.atBoundary && this.#spool.entire ? 'kept' : 'over'
    } catch (error) {
      this.#state = 'over'
      this.#spool.fail(error instanceof Error ? error : new SpoolError(String(error)))
    } finally {
      upstream.close()
      this.#judge('own')
      onLanded(this)
    }
  }

  /** Readers find out for themselves what is wrong with the packets: to them it is the host's answer. */
  #look(counter: PacketCounter, chunk: Buffer): void {
    if (this.#watch.verdict === 'own') return
    try {
      counter.count(chunk)
    } catch {
      this.#watch.watch?.(-1, chunk)
    }
    if (this.#watch.verdict) this.#judge(this.#watch.verdict)
  }

  #onIdle(): void {
    if (this.#state === 'flying') this.#abort.abort(new SpoolError('nobody was left to read the answer'))
  }
}

/** Waits for an answer to begin, unless whoever waits has to go: then nothing is read for them. */
async function orLeave(reader: SpoolReader, begun: Promise<void>, signal: AbortSignal): Promise<SpoolReader> {
  const gone = Promise.withResolvers<never>()
  const onAbort = () => gone.reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    await Promise.race([gone.promise, begun])
    return reader
  } catch (error) {
    reader.destroy()
    throw error
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
