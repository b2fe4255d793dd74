import type { Socket } from 'node:net'
import type { Accepting, Front, Wanted } from '../../proxy/accept.ts'
import type { Siblings } from '../../proxy/siblings.ts'
import type { Throttle } from '../../proxy/throttle.ts'
import type { Observed } from '../observe.ts'
import type { FromWorker, ToWorker } from './messages.ts'

/** A worker's side of the channel to the process that started it. */
export interface Enlisted {
  readonly siblings: Siblings
  /** Resolves when it is told to retire or to stop. */
  readonly told: Promise<'retire' | 'stop'>
  /** Answers from now on what is asked about this worker. */
  observe(observed: Observed): void
  /** Says that nothing more is taken, for whoever hands out connections. */
  stopping(): void
}

/** How this process is a worker: connections come over its channel. Call it before anything can come. */
export function enlist(number: number): Enlisted {
  const fronts = new Map<Front, Taking>()
  const throttles = new Map<Front, Throttle>()
  const told = Promise.withResolvers<'retire' | 'stop'>()
  let answer = async (_question: number): Promise<void> => {}

  const say = (message: FromWorker) => {
    if (process.connected) process.send?.(message)
  }

  process.on('message', (message: ToWorker, socket: unknown) => {
    switch (message.kind) {
      case 'connection': {
        say({ kind: 'taken', connection: message.connection })
        take(message.connection, message.front, socket as Socket | undefined)
        return
      }
      case 'login-failed':
        throttles.get(message.front)?.failed(message.address)
        return
      case 'observe':
        // Unanswered, it is taken for what it is: a worker that does not answer.
        answer(message.question).catch(() => {})
        return
      case 'retire':
      case 'stop':
        told.resolve(message.kind)
        return
      default:
        message satisfies never
    }
  })

  function take(connection: number, name: Front, socket: Socket | undefined): void {
    const front = fronts.get(name)
    // Without a socket: the client left while it was on its way.
    if (!socket || !front) {
      socket?.destroy()
      say({ kind: 'left', connection })
      return
    }
    socket.once('close', () => say({ kind: 'left', connection }))
    front.take(socket)
  }

  return {
    siblings: {
      accept: async (front, { host, port }, wanted) => {
        const taking = new Taking(wanted, { address: host, port })
        fronts.set(front, taking)
        return taking
      },
      share: (front, throttle) => {
        throttles.set(front, throttle)
        return {
          ...throttle,
          failed: address => {
            say({ kind: 'login-failed', front, address })
            return throttle.failed(address)
          },
        }
      },
    },
    told: told.promise,
    stopping: () => say({ kind: 'stopping' }),
    observe: ({ metrics, checks }) => {
      // A label for each rather than a sum: a sum that a worker's end makes smaller looks like a counter begun anew.
      metrics.setDefaultLabels({ worker: String(number) })
      answer = async question =>
        say({ kind: 'observed', question, metrics: await metrics.getMetricsAsJSON(), checks: await checks() })
    },
  }
}

/** The connections of one front, as they are handed over. */
class Taking implements Accepting {
  readonly address: Accepting['address']
  readonly #wanted: Wanted
  readonly #open = new Set<Socket>()
  #closed: PromiseWithResolvers<void> | undefined

  constructor(wanted: Wanted, address: Accepting['address']) {
    this.#wanted = wanted
    this.address = address
  }

  take(socket: Socket): void {
    const { allowHalfOpen = false, pauseOnConnect = false, onSocket } = this.#wanted
    socket.allowHalfOpen = allowHalfOpen
    if (pauseOnConnect) socket.pause()
    this.#open.add(socket)
    socket.once('close', () => {
      this.#open.delete(socket)
      this.#checkClosed()
    })
    onSocket(socket)
  }

  close(): Promise<void> {
    this.#closed ??= Promise.withResolvers<void>()
    this.#checkClosed()
    return this.#closed.promise
  }

  #checkClosed(): void {
    if (this.#open.size === 0) this.#closed?.resolve()
  }
}
