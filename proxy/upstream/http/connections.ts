import type { UpstreamSettings } from '../../../config/settings.ts'
import { type Asked, Connection, type Request, Unanswered } from './connection.ts'

/** Closed by us before hosts tire of it: a request on a connection that is being closed is lost. */
const WARM_MILLISECONDS = 4_000

/** The connections to one host. How many are busy at once is their user's part; those that rest make room for new ones. */
export class Connections {
  readonly #settings: UpstreamSettings
  readonly #open = new Set<Connection>()
  /** The one used last is taken first: it is the likeliest to be still there. */
  readonly #resting: Connection[] = []
  #session: Buffer | undefined

  constructor(settings: UpstreamSettings) {
    this.#settings = settings
  }

  /** `again`: the request may be sent twice, so a connection may be used that the host could be closing just now. */
  ask(request: Request, again: boolean): Asked {
    const warm = again ? this.#warm() : undefined
    let asked = (warm ?? this.#fresh()).ask(request)
    if (!warm) return asked
    let givenUp = false
    return {
      answer: asked.answer.catch(cause => {
        if (!(cause instanceof Unanswered) || givenUp) throw cause
        asked = this.#fresh().ask(request)
        return asked.answer
      }),
      giveUp: reason => {
        givenUp = true
        asked.giveUp(reason)
      },
    }
  }

  #warm(): Connection | undefined {
    for (let connection = this.#resting.pop(); connection; connection = this.#resting.pop()) {
      if (connection.usable) return connection
      connection.destroy()
    }
    return undefined
  }

  #fresh(): Connection {
    if (this.#open.size >= this.#settings.connections) this.#resting.shift()?.destroy()
    const { url, connectTimeout, idleTimeout } = this.#settings
    const connection: Connection = new Connection({
      url,
      connectTimeout,
      idleTimeout,
      ...(this.#session && { session: this.#session }),
      onSession: session => {
        this.#session = session
      },
      onFree: (free, milliseconds = WARM_MILLISECONDS) => {
        if (milliseconds <= 0) free.destroy()
        else {
          free.rest(Math.min(milliseconds, WARM_MILLISECONDS))
          this.#resting.push(free)
        }
      },
      onClose: closed => {
        this.#open.delete(closed)
        const at = this.#resting.indexOf(closed)
        if (at >= 0) this.#resting.splice(at, 1)
      },
    })
    this.#open.add(connection)
    return connection
  }
}
