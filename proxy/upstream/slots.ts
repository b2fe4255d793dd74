import { UpstreamError } from './upstream.ts'

interface Waiting {
  readonly streams: boolean
  readonly go: () => void
}

/**
 * How many requests may be at a host at once; the others wait their turn.
 *
 * A push that streams holds its slot while the gate may still have to ask the host something about it. If pushes could
 * take every slot, each would wait for a question that waits for a push: so the last slot is never a streaming request's.
 */
export class Slots {
  readonly #count: number
  readonly #wait: number
  readonly #waiting: Waiting[] = []
  #taken = 0
  #streaming = 0

  /** @param wait milliseconds somebody may wait for a slot */
  constructor(count: number, wait: number) {
    this.#count = count
    this.#wait = wait
  }

  /**
   * Takes a slot, and gives the function that frees it, once.
   *
   * @throws UpstreamError when none came free in time; the signal's reason when it was aborted
   */
  take(streams: boolean, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#free(streams)) return Promise.resolve(this.#enter(streams))
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        streams,
        go: () => {
          leave()
          resolve(this.#enter(streams))
        },
      }
      const leave = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1)
      }
      const onAbort = () => {
        leave()
        reject(signal.reason)
      }
      const timer = setTimeout(() => {
        leave()
        const detail = `all ${this.#count} connections were busy for ${this.#wait / 1000} seconds`
        reject(new UpstreamError('timeout', 'the Git host is too busy', detail))
      }, this.#wait)
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(waiting)
    })
  }

  #free(streams: boolean): boolean {
    // A host with one slot in all can be pushed to, at the price that its pushes cannot be asked about while they stream.
    return this.#taken < this.#count && (!streams || this.#streaming < Math.max(1, this.#count - 1))
  }

  #enter(streams: boolean): () => void {
    this.#taken++
    if (streams) this.#streaming++
    let entered = true
    return () => {
      if (!entered) return
      entered = false
      this.#taken--
      if (streams) this.#streaming--
      this.#waiting.find(next => this.#free(next.streams))?.go()
    }
  }
}
