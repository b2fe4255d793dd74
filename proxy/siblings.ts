import type { Accept, Front } from './accept.ts'
import type { Throttle } from './throttle.ts'

/** The other workers of this proxy on this machine, as far as one of them has to do with them. */
export interface Siblings {
  /** Connections come from the process that started them all and has the listening sockets. */
  readonly accept: Accept
  /** Whoever fails to log in at one of them is slowed down by all: otherwise each worker more would be more guesses. */
  share(front: Front, throttle: Throttle): Throttle
}
