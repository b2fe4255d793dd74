import { isIPv4 } from 'node:net'

// What is unusual, judged by what the same person did before. Pure: facts in, a sentence or nothing out.

/** So much of the past is looked at. */
export const HISTORY_MAX = 200

/** A habit is not one before so many times. */
const HABIT_MIN = 10
/** A fetch is far above the habit from so many times its middle on, and never below so many bytes. */
const VOLUME_FACTOR = 20
const VOLUME_BYTES_MIN = 100 << 20
/** Or so many times the most that anybody fetched from the repository: clones of it differ, but not by that. */
const REPOSITORY_FACTOR = 3
/** Repositories under one window: at so many it is told, once. */
const SPREAD_REPOSITORIES = 20
const LAST_MOMENT_MILLISECONDS = 30_000
/** A window shorter than this is nearly all last moments. */
const LAST_MOMENT_WINDOW_MIN = 10 * 60_000
const REFUSALS = 10
const REFUSALS_MILLISECONDS = 10 * 60_000

/** What a person did, as far as it matters here. Times in milliseconds since the epoch. */
export type Fact =
  | {
      readonly kind: 'start'
      readonly at: number
      readonly action: string
      readonly repository: string
      readonly address: string
      readonly grants: readonly string[]
    }
  | { readonly kind: 'fetched'; readonly at: number; readonly repository: string; readonly bytes: number }
  | { readonly kind: 'refused'; readonly at: number }

/** When a window opened and when it ends. */
export interface Span {
  readonly starts: number
  readonly expires: number
}

export type Anomaly = 'volume' | 'spread' | 'network' | 'last-moment' | 'refusals'

export interface Unusual {
  readonly anomaly: Anomaly
  readonly reason: string
  readonly grant?: string
}

/**
 * Everything unusual about a fact.
 * @param history the same person's facts before it, the oldest first
 * @param spanOf what is known of the windows it ran under
 * @param there how much was fetched from the same repository before, by anybody; looked at for what is `isLarge`
 */
export function unusual(
  fact: Fact,
  history: readonly Fact[],
  spanOf: (grant: string) => Span | undefined,
  there: readonly number[] = [],
): Unusual[] {
  const found = [
    volume(fact, history, there),
    spread(fact, history),
    network(fact, history),
    lastMoment(fact, spanOf),
    refusals(fact, history),
  ]
  return found.filter(one => one !== undefined)
}

/** Whether a fetch is worth a look at what its repository gave before. */
export function isLarge(fact: Fact): boolean {
  return fact.kind === 'fetched' && fact.bytes >= VOLUME_BYTES_MIN
}

/** A fetch far above the person's habit, or above what anybody ever had from this repository. */
function volume(fact: Fact, history: readonly Fact[], there: readonly number[]): Unusual | undefined {
  if (fact.kind !== 'fetched' || !isLarge(fact)) return undefined
  const sizes = history.flatMap(one => (one.kind === 'fetched' ? [one.bytes] : [])).sort((a, b) => a - b)
  const usual = sizes[Math.floor(sizes.length / 2)] ?? 0
  if (sizes.length >= HABIT_MIN && fact.bytes >= usual * VOLUME_FACTOR)
    return { anomaly: 'volume', reason: `${mebibytes(fact.bytes)} were fetched, where ${mebibytes(usual)} are usual` }
  const most = Math.max(...there)
  if (there.length < HABIT_MIN || fact.bytes < most * REPOSITORY_FACTOR) return undefined
  const reason = `${mebibytes(fact.bytes)} were fetched, where nobody had more than ${mebibytes(most)} from this repository`
  return { anomaly: 'volume', reason }
}

/** Many repositories under one window; told when the number is reached. */
function spread(fact: Fact, history: readonly Fact[]): Unusual | undefined {
  if (fact.kind !== 'start') return undefined
  for (const grant of fact.grants) {
    const before = new Set(
      history.flatMap(one => (one.kind === 'start' && one.grants.includes(grant) ? [one.repository] : [])),
    )
    if (before.size === SPREAD_REPOSITORIES - 1 && !before.has(fact.repository)) {
      return { anomaly: 'spread', grant, reason: `${SPREAD_REPOSITORIES} repositories were reached by one window` }
    }
  }
  return undefined
}

/** A network the person never came from. */
function network(fact: Fact, history: readonly Fact[]): Unusual | undefined {
  if (fact.kind !== 'start') return undefined
  const known = history.flatMap(one => (one.kind === 'start' ? [networkOf(one.address)] : []))
  const here = networkOf(fact.address)
  if (known.length < HABIT_MIN || known.includes(here)) return undefined
  return { anomaly: 'network', reason: `they never came from ${here} before` }
}

/** The /24 of an IPv4 address, the /48 of an IPv6 one. */
export function networkOf(address: string): string {
  const v4 = address.replace(/^::ffff:/i, '')
  if (isIPv4(v4)) return `${v4.split('.').slice(0, 3).join('.')}.0/24`
  const [head = '', tail] = address.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail ? tail.split(':') : []
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length)
  const groups = [...left, ...Array<string>(zeros).fill('0'), ...right].slice(0, 3)
  return `${groups.map(group => Number.parseInt(group, 16).toString(16)).join(':')}::/48`
}

/** A use in the last seconds of a window that was open for long. */
function lastMoment(fact: Fact, spanOf: (grant: string) => Span | undefined): Unusual | undefined {
  if (fact.kind !== 'start' || fact.action === 'list') return undefined
  for (const grant of fact.grants) {
    const span = spanOf(grant)
    if (!span || span.expires - span.starts < LAST_MOMENT_WINDOW_MIN) continue
    const left = span.expires - fact.at
    if (left >= 0 && left <= LAST_MOMENT_MILLISECONDS) {
      return { anomaly: 'last-moment', grant, reason: `it began ${Math.round(left / 1000)} s before the window ended` }
    }
  }
  return undefined
}

/** Repeated refusals; told when the number is reached. */
function refusals(fact: Fact, history: readonly Fact[]): Unusual | undefined {
  if (fact.kind !== 'refused') return undefined
  const recent = (end: number, facts: readonly Fact[]) =>
    facts.filter(({ kind, at }) => kind === 'refused' && at > end - REFUSALS_MILLISECONDS && at <= end).length
  if (recent(fact.at, history) + 1 !== REFUSALS) return undefined
  return { anomaly: 'refusals', reason: `${REFUSALS} refusals within ${REFUSALS_MILLISECONDS / 60_000} minutes` }
}

const mebibytes = (bytes: number) => `${Math.max(1, Math.round(bytes / (1 << 20)))} MiB`
