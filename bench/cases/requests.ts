import { type Case, median, NAIVE, percentile } from '../case.ts'
import { load } from '../load.ts'
import { cpuSeconds } from '../process.ts'
import type { Figure } from '../table.ts'
import { warm } from '../warm.ts'

const CONNECTIONS = 16
const SECONDS = { quick: 1, full: 4 }

/** The one request every git command begins with: how long it takes alone, and how many a second go through. */
export const infoRefs: Case = {
  name: 'info-refs',
  async run(bench) {
    await warm(bench)
    const { stand, rounds, quick, say } = bench
    say('info/refs')
    const seconds = quick ? SECONDS.quick : SECONDS.full
    const { replay, authorization, proxy, nginx: passing, naive: relay } = stand
    const at = (place: string) => new URL(`${place}x/1-64.git/info/refs?service=git-upload-pack`)
    const v2 = 'Git-Protocol: version=2'
    const direct = way('direct', at(replay.direct), [v2])
    const nginx = way('nginx', at(replay.nginx), [v2], passing.pid)
    const naive = way(NAIVE, at(replay.naive), [v2], relay.pid)
    const ours = way('drawbridge', at(replay.drawbridge), [v2, authorization], proxy.pid)
    const unrecorded = way('drawbridge without records', at(replay.unrecorded), [v2, authorization])
    const ways = [direct, nginx, naive, unrecorded, ours]
    for (let round = 0; round <= rounds; round++) {
      for (const { url, headers, pid, alone, rates, cpu } of ways) {
        const one = await load({ url, headers, connections: 1, seconds: seconds / 2 })
        const before = pid ? cpuSeconds(pid) : Number.NaN
        const many = await load({ url, headers, connections: CONNECTIONS, seconds })
        if (round === 0) continue
        alone.push(...one.latencies)
        rates.push(many.requests / many.seconds)
        if (pid) cpu.push(((cpuSeconds(pid) - before) / many.requests) * 1e6)
      }
      say(`  round ${round} of ${rounds}`)
    }
    for (const { alone } of ways) alone.sort((a, b) => a - b)
    const figures = ways.flatMap(({ name, alone, rates, cpu }): Figure[] => [
      {
        what: 'info/refs, one at a time',
        way: name,
        value: `p50 ${percentile(alone, 0.5).toFixed(2)} ms, p99 ${percentile(alone, 0.99).toFixed(2)} ms`,
      },
      {
        what: `info/refs, ${CONNECTIONS} at once`,
        way: name,
        value: `${median(rates).toFixed(0)}/s${cpu.length > 0 ? `, ${median(cpu).toFixed(0)} µs CPU each` : ''}`,
      },
    ])
    const added = (share: number, to: Way) => percentile(ours.alone, share) - percentile(to.alone, share)
    return {
      figures,
      goals: [
        { what: 'added to a request by check and record, p50', figure: added(0.5, direct), unit: 'ms', most: 1 },
        { what: 'added to a request by check and record, p99', figure: added(0.99, direct), unit: 'ms', most: 5 },
        { what: 'of that by the records, p50', figure: added(0.5, unrecorded), unit: 'ms', most: 1 },
        {
          what: 'info/refs a second over nginx passing it unchecked',
          figure: median(ours.rates) / median(nginx.rates),
          unit: '×',
          least: 0.35,
        },
      ],
    }
  },
}

interface Way {
  readonly name: string
  readonly url: URL
  readonly headers: readonly string[]
  readonly pid: number | undefined
  /** Milliseconds of each request alone; requests a second, and CPU microseconds each, of many at once. */
  readonly alone: number[]
  readonly rates: number[]
  readonly cpu: number[]
}

function way(name: string, url: URL, headers: readonly string[], pid?: number): Way {
  return { name, url, headers, pid, alone: [], rates: [], cpu: [] }
}
