import type { Logger } from 'pino'
import { checkNetwork, isInside, networks } from '../config/policy/network.ts'
import type { Store } from '../grant/store.ts'

/** How long a network may still be let in after it was locked, if Redis's word of it was lost on the way. */
const LOOK_MILLISECONDS = 1_000

export interface LockedNetworks {
  /** Why nothing is let in from an address; undefined: it is. */
  why(address: string): string | undefined
  /** Looks at once: there is word of a change. */
  look(): Promise<void>
  stop(): void
}

/** Follows which networks are locked out. While Redis does not say, what it said last holds; nothing is let in then anyhow. */
export async function followNetworks(options: {
  readonly store: Pick<Store, 'lockedNetworks'>
  /** Told of each change that comes later: what runs has to be judged again. */
  onChange(): void
  readonly log: Pick<Logger, 'warn' | 'error'>
  readonly lookEvery?: number
}): Promise<LockedNetworks> {
  const { store, onChange, log } = options
  let known = ''
  let locked: { readonly says: string; holds(address: string): boolean }[] = []

  async function look(): Promise<boolean> {
    const found = await store.lockedNetworks()
    const now = JSON.stringify(found.sort((a, b) => (a.network < b.network ? -1 : 1)))
    if (now === known) return false
    known = now
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
    return true
  }
  const again = async () => {
    if (await look()) onChange()
  }

  await look().catch(() => {})
  const timer = setInterval(() => void again().catch(() => {}), options.lookEvery ?? LOOK_MILLISECONDS)
  timer.unref()
  return {
    why: address => locked.find(({ holds }) => holds(address))?.says,
    look: () => again().catch(() => {}),
    stop: () => clearInterval(timer),
  }
}
