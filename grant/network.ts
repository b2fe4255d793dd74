/** A network can be locked out as a principal can: under a name that no person has. */

const PREFIX = 'network:'

export const lockOfNetwork = (network: string): string => `${PREFIX}${network}`

/** The network that a lock is about; undefined: it is about a principal. */
export function networkOf(principal: string): string | undefined {
  return principal.startsWith(PREFIX) ? principal.slice(PREFIX.length) : undefined
}

/** Nothing is let in from there. */
export interface LockedNetwork {
  /** An address, or addresses with the bits they share: `203.0.113.0/24`. */
  readonly network: string
  readonly reason: string
}
