import type { Logger } from 'pino'
import { checkNetwork, isInside, networks } from '../config/policy/network.ts'
import type { Store } from '../grant/store.ts'
import { type Follower, follow } from './follow.ts'

export interface LockedNetworks extends Follower {
  /** Why nothing is let in from an address; undefined: it is. */
  why(address: string): string | undefined
}

/** Follows which networks are locked out. */
export async function followNetworks(options: {
  readonly store: Pick<Store, 'lockedNetworks'>
  onChange(): void
  readonly log: Pick<Logger, 'warn' | 'error'>
}): Promise<LockedNetworks> {
  const { store, onChange, log } = options
  let locked: { readonly says: string; holds(address: string): boolean }[] = []

  const follower = await follow({
    ask: async () => (await store.lockedNetworks()).sort((a, b) => (a.network < b.network ? -1 : 1)),
    take: found => {
      locked = found.flatMap(({ network, reason }) => {
        const fault = checkNetwork(network)
        if (fault !== undefined) {
          log.error({ network, fault }, 'what is locked is no network; lock it again as one')
          return []
        }
        const list = networks([network])
        return [{ says: `nothing is let in from ${network}: ${reason}`, holds: address => isInside(list, address) }]
      })
      if (locked.length > 0) log.warn({ networks: found.map(({ network }) => network) }, 'networks are locked out')
    },
    onChange,
  })
  return { ...follower, why: address => locked.find(({ holds }) => holds(address))?.says }
}
