import type { Ask, LiveGrant } from '../grant/grant.ts'
import type { Session } from './session.ts'
import type { Wanted } from './wanted.ts'

/** What Redis is told along with a question: what is to be counted on which grants. */
export type Told = Pick<Ask, 'consume' | 'carried'>

/** One use of the grants that count uses. */
export function spending(wanted: Wanted, grants: readonly LiveGrant[]): Told {
  const spend = charged(wanted, grants, countsUses)
  return spend.length > 0 ? { consume: { operation: wanted.operation, grants: spend } } : {}
}

/** What went by since the windows that count bytes were last told, and from here on counts as told. */
export function carrying(wanted: Wanted, session: Session): Told {
  const grants = charged(wanted, session.grants, countsBytes)
  const bytes = session.bytesIn + session.bytesOut - session.bytesTold
  if (grants.length === 0 || bytes <= 0) return {}
  session.bytesTold += bytes
  return { carried: { bytes, grants } }
}

/** How many bytes may still go by before anybody has to be asked: as many as the least of its windows has left. */
export function bytesLeft(wanted: Wanted, grants: readonly LiveGrant[]): number {
  const charging = charged(wanted, grants, countsBytes)
  const left = grants
    .filter(({ id }) => charging.includes(id))
    .map(({ bounds, carried = 0 }) => (bounds?.bytes ?? Number.POSITIVE_INFINITY) - carried)
  return Math.min(Number.POSITIVE_INFINITY, ...left)
}

const countsUses = ({ uses }: LiveGrant) => uses !== undefined
const countsBytes = ({ bounds }: LiveGrant) => bounds?.bytes !== undefined

/** The grants that what is wanted is counted on: none where those that do not count cover the same. */
function charged(wanted: Wanted, grants: readonly LiveGrant[], counts: (grant: LiveGrant) => boolean): string[] {
  const free = grants.filter(grant => !counts(grant))
  if (free.length === grants.length || (free.length > 0 && wanted.covers(free))) return []
  // The fewest: the soonest to end first, added until what is wanted is covered.
  const charge: LiveGrant[] = []
  for (const grant of grants.filter(counts).sort((a, b) => a.ends - b.ends)) {
    charge.push(grant)
    if (wanted.covers([...free, ...charge])) break
  }
  return charge.map(grant => grant.id)
}
