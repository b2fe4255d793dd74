import type { Upstream } from '../upstream/upstream.ts'

/** A host that can be let go of between two requests; the next one finds it anew. */
export interface Releasable extends Upstream {
  release(): void
}

/**
 * A client that is served from elsewhere must not keep a connection to the host for itself meanwhile: if many did, the one
 * they all wait for would get none.
 */
export function releasable(connect: () => Upstream): Releasable {
  let host = connect()
  return {
    get conversational() {
      return host.conversational
    },
    advertise: signal => host.advertise(signal),
    exchange: (body, signal) => host.exchange(body, signal),
    release: () => {
      host.close()
      host = connect()
    },
    close: () => host.close(),
  }
}
