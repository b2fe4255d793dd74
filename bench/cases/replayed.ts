import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runProgram, temporaryFolder } from '../../test/support/program.ts'
import { type Case, compared, NAIVE, over, timed } from '../case.ts'
import { CLONE_REQUEST } from '../load.ts'
import { residentBytes } from '../process.ts'
import type { Goal } from '../table.ts'

const SAMPLE_MILLISECONDS = 50

/** Bytes from a host that is faster than anybody in between, in packets of git's largest size and of a small one. */
export const replayed: Case = {
  name: 'replay',
  async run({ stand, bytes, rounds, say }) {
    const { replay, authorization, proxy, nginx, naive } = stand
    const request = join(temporaryFolder('bench'), 'request')
    writeFileSync(request, CLONE_REQUEST)
    const idle = residentBytes(proxy.pid)
    let most = idle
    const sampling = setInterval(() => {
      most = Math.max(most, residentBytes(proxy.pid))
    }, SAMPLE_MILLISECONDS)
    const figures = []
    const goals: Goal[] = []
    for (const kilobytes of [64, 8]) {
      const what = `replayed bytes, packets of ${kilobytes} KiB`
      say(what)
      const path = `x/${bytes / 1e6}-${kilobytes}.git/git-upload-pack`
      const result = await timed(
        [
          { name: 'direct', run: () => download(replay.direct + path, bytes, request) },
          { name: 'nginx', run: () => download(replay.nginx + path, bytes, request), pid: nginx.pid },
          { name: NAIVE, run: () => download(replay.naive + path, bytes, request), pid: naive.pid },
          {
            name: 'drawbridge',
            run: () => download(replay.drawbridge + path, bytes, request, authorization),
            pid: proxy.pid,
          },
        ],
        { rounds, say },
      )
      figures.push(...compared(what, result, bytes))
      goals.push({ what: `${what}, time over nginx`, figure: over(result, 'drawbridge', 'nginx'), unit: '×', most: 1 })
    }
    clearInterval(sampling)
    goals.push({ what: "growth of the proxy's memory meanwhile", figure: (most - idle) / 1e6, unit: 'MB', most: 32 })
    return { figures, goals }
  },
}

async function download(url: string, bytes: number, request: string, ...more: string[]): Promise<void> {
  const headers = ['Content-Type: application/x-git-upload-pack-request', 'Git-Protocol: version=2', ...more]
  const size = await runProgram('curl', [
    ...['-sS', '-f', '-o', '/dev/null', '-w', '%{size_download}', '-X', 'POST', '--data-binary', `@${request}`],
    ...headers.flatMap(header => ['-H', header]),
    url,
  ])
  if (Number(size) < bytes * 0.9) throw new Error(`${url} gave only ${size} bytes`)
}
