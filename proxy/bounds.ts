import { isWithin } from '../config/policy/hours.ts'
import { isInside, type Networks, networks } from '../config/policy/network.ts'
import type { Grant } from '../grant/grant.ts'
import type { Caller } from './client.ts'

/** How many lists of networks are kept ready for use; policies have a handful. */
const LISTS_MAX = 1_000
const lists = new Map<string, Networks>()

/**
 * Why a grant does not hold for this client at this moment, though it is live; undefined when it does.
 *
 * @param address the client's own
 * @param now milliseconds, Redis's clock
 */
export function whyNotHere({ bounds }: Grant, address: string, now: number): string | undefined {
  const outside = bounds?.networks?.find(list => !isInside(networksOf(list), address))
  if (outside) return `your window does not hold from ${address}, only from ${outside.join(', ')}`
  const closed = bounds?.hours?.some(hours => !isWithin(hours, now))
  return closed ? 'your window does not hold at this hour' : undefined
}

/**
 * Whether a grant and a credential are meant for each other: the window of one job is no other job's, and a token that was
 * given out for one request opens nothing else.
 */
export function isFor(grant: Grant, { credentials, request }: Pick<Caller, 'credentials' | 'request'>): boolean {
  const token = grant.bounds?.token
  if (token !== undefined && !credentials.includes(`token:${token}`)) return false
  return request === undefined || grant.request === request
}

function networksOf(written: readonly string[]): Networks {
  const key = written.join(' ')
  const known = lists.get(key)
  if (known) return known
  if (lists.size >= LISTS_MAX) lists.clear()
  const made = networks(written)
  lists.set(key, made)
  return made
}
