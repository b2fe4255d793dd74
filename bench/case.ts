import { cpuSeconds } from './process.ts'
import type { Stand } from './stand.ts'
import type { Figure, Results } from './table.ts'

/** What a case is given. */
export interface Bench {
  readonly stand: Stand
  /** Size of the big repository and of a replayed answer. */
  readonly bytes: number
  readonly rounds: number
  readonly quick: boolean
  say(text: string): void
}

/** One kind of work, measured through every way it can go. */
export interface Case {
  readonly name: string
  run(bench: Bench): Promise<Results>
}

export interface Way {
  readonly name: string
  run(): Promise<unknown>
  /** Done before each run, and not counted. */
  prepare?(): Promise<void>
  /** Whose CPU is counted. */
  readonly pid?: number
}

export interface Taken {
  /** Medians; CPU is NaN where nobody's was counted. */
  readonly seconds: number
  readonly cpu: number
}

export const GIGABYTE = 1e9
/** A relay that checks and records nothing, see `naive.ts`. */
export const NAIVE = 'naive relay'

/** Each way in turn, `rounds` times after one that is not counted. */
export async function timed(
  ways: readonly Way[],
  { rounds, say }: Pick<Bench, 'rounds' | 'say'>,
): Promise<Map<string, Taken>> {
  const taken = new Map(ways.map(way => [way.name, { seconds: [] as number[], cpu: [] as number[] }]))
  for (let round = 0; round <= rounds; round++) {
    for (const way of ways) {
      await way.prepare?.()
      const cpu = way.pid ? cpuSeconds(way.pid) : Number.NaN
      const start = performance.now()
      await way.run()
      if (round === 0) continue
      taken.get(way.name)?.seconds.push((performance.now() - start) / 1000)
      taken.get(way.name)?.cpu.push(way.pid ? cpuSeconds(way.pid) - cpu : Number.NaN)
    }
    say(`  round ${round} of ${rounds}`)
  }
  return new Map([...taken].map(([name, { seconds, cpu }]) => [name, { seconds: median(seconds), cpu: median(cpu) }]))
}

/** The figures of a work: every way's time against that of `direct`. `size`: the bytes it moved. */
export function compared(what: string, result: ReadonlyMap<string, Taken>, size?: number): Figure[] {
  const direct = result.get('direct')?.seconds
  return [...result].map(([way, { seconds, cpu }]) => ({
    what,
    way,
    value: seconds < 1 ? `${(seconds * 1000).toFixed(0)} ms` : `${seconds.toFixed(2)} s`,
    ...(direct !== undefined && way !== 'direct' && { ratio: seconds / direct }),
    ...(size !== undefined && Number.isFinite(cpu) && { cpuPerGigabyte: cpu / (size / GIGABYTE) }),
  }))
}

/** How much longer one way took than another. */
export function over(result: ReadonlyMap<string, Taken>, way: string, than: string): number {
  return (result.get(way)?.seconds ?? Number.NaN) / (result.get(than)?.seconds ?? Number.NaN)
}

/** The value below which this share of them lies; `sorted` ascending. */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

export function median(values: readonly number[]): number {
  return percentile(
    values.toSorted((a, b) => a - b),
    0.5,
  )
}
