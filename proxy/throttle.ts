import { hash } from 'node:crypto'
import { isIPv6 } from 'node:net'

/** How failed credentials slow their source down. */
export interface Throttle {
  /** Seconds a source must wait before this credential is looked at; 0: go on. */
  wait(address: string, credential: string): number
  /** Counts a failure, and gives the milliseconds to hold its answer back. */
  failed(address: string): number
  /** A credential that was good lately is always looked at: one broken job must not lock out its whole office. */
  succeeded(credential: string): void
}

export interface ThrottleOptions {
  /** Milliseconds; only differences matter. */
  now(): number
  readonly sources?: number
}

// Somebody with a stale token sees no delay worth the name; a machine that guesses gets an answer every few seconds, then none.
const FREE_FAILURES = 3
const FIRST_DELAY_MILLISECONDS = 100
const LONGEST_DELAY_MILLISECONDS = 5_000
const FAILURES_MAX = 20
/** One failure is forgiven in this time. */
const FORGIVE_MILLISECONDS = 30_000
const SOURCES_MAX = 10_000
const GOOD_CREDENTIALS_MAX = 10_000

interface Counted {
  failures: number
  since: number
}

/** Remembers at most `sources` addresses; the one longest unseen goes first. */
export function createThrottle(options: ThrottleOptions): Throttle {
  const sourcesMax = options.sources ?? SOURCES_MAX
  // In order of the last failure: the first key is the one to let go.
  const counted = new Map<string, Counted>()
  // Digests: a secret is not kept for longer than its request.
  const good = new Set<string>()

  const failuresOf = (source: string): Counted => {
    const now = options.now()
    const known = counted.get(source)
    if (!known) return { failures: 0, since: now }
    const forgiven = Math.floor((now - known.since) / FORGIVE_MILLISECONDS)
    const failures = Math.max(0, known.failures - forgiven)
    return { failures, since: failures === 0 ? now : known.since + forgiven * FORGIVE_MILLISECONDS }
  }

  return {
    wait(address, credential) {
      const { failures, since } = failuresOf(network(address))
      if (failures < FAILURES_MAX || good.has(digest(credential))) return 0
      return Math.max(1, Math.ceil((since + FORGIVE_MILLISECONDS - options.now()) / 1000))
    },
    failed(address) {
      const source = network(address)
      const { failures, since } = failuresOf(source)
      counted.delete(source)
      counted.set(source, { failures: Math.min(failures + 1, FAILURES_MAX), since })
      if (counted.size > sourcesMax) counted.delete(counted.keys().next().value!)
      if (failures < FREE_FAILURES) return 0
      return Math.min(LONGEST_DELAY_MILLISECONDS, FIRST_DELAY_MILLISECONDS * 2 ** (failures - FREE_FAILURES))
    },
    succeeded(credential) {
      const known = digest(credential)
      good.delete(known)
      good.add(known)
      if (good.size > GOOD_CREDENTIALS_MAX) good.delete(good.values().next().value!)
    },
  }
}

function digest(credential: string): string {
  return hash('sha256', credential, 'base64')
}

/** Whoever has one IPv6 address has its whole /64. Expects the canonical form of `plainAddress`. */
function network(address: string): string {
  if (!isIPv6(address)) return address
  const [head = '', tail] = address.split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const after = tail === '' ? [] : tail.split(':')
    while (groups.length + after.length < 8) groups.push('0')
    groups.push(...after)
  }
  return groups.slice(0, 4).join(':')
}
