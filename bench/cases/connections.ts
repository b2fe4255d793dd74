import { readFileSync } from 'node:fs'
import ssh2 from 'ssh2'
import type { Key } from '../../test/support/keys.ts'
import { type Case, median } from '../case.ts'
import { load } from '../load.ts'
import { PINNED_KEX } from '../stand.ts'
import type { Figure } from '../table.ts'

const AT_ONCE = 16
const SECONDS = { quick: 0.7, full: 2 }

/** Connections a second: over HTTP with one request each, over SSH up to the login. */
export const connections: Case = {
  name: 'connections',
  async run({ stand, rounds, quick, say }) {
    say(`connections a second, ${AT_ONCE} at once`)
    const seconds = quick ? SECONDS.quick : SECONDS.full
    const { replay, authorization, sshd, clientKey, proxy, gate } = stand
    const http = (place: string, headers: readonly string[]) => async () => {
      const url = new URL(`${place}x/1-64.git/info/refs?service=git-upload-pack`)
      const taken = await load({ url, headers, connections: AT_ONCE, seconds, each: 'connection' })
      return taken.requests / taken.seconds
    }
    const ssh = (port: number, username: string, key: Key) => () => logins({ port, username, key }, seconds)
    const v2 = 'Git-Protocol: version=2'
    const ways = [
      { what: OVER_HTTP, way: 'direct', run: http(replay.direct, [v2]) },
      { what: OVER_HTTP, way: 'nginx', run: http(replay.nginx, [v2]) },
      { what: OVER_HTTP, way: 'drawbridge', run: http(replay.drawbridge, [v2, authorization]) },
      { what: OVER_SSH, way: 'direct', run: ssh(sshd.port, sshd.user, clientKey) },
      { what: OVER_SSH, way: 'drawbridge', run: ssh(Number(new URL(proxy.ssh).port), 'git', gate.key) },
    ].map(way => ({ ...way, rates: [] as number[] }))
    for (let round = 0; round <= rounds; round++) {
      for (const { run, rates } of ways) {
        const rate = await run()
        if (round > 0) rates.push(rate)
      }
      say(`  round ${round} of ${rounds}`)
    }
    const direct = (what: string) => median(ways.find(way => way.what === what)?.rates ?? [])
    return {
      figures: ways.map(
        ({ what, way, rates }): Figure => ({
          what,
          way,
          value: `${median(rates).toFixed(0)}/s`,
          ...(way !== 'direct' && { ratio: median(rates) / direct(what) }),
        }),
      ),
      goals: [],
    }
  },
}

const OVER_HTTP = `connections/s over HTTP, ${AT_ONCE} at once`
const OVER_SSH = `connections/s over SSH, ${AT_ONCE} at once, up to the login (${PINNED_KEX})`

/** Logs in and leaves again, so many at once, for so many seconds; gives how often a second. */
async function logins(
  { port, username, key }: { readonly port: number; readonly username: string; readonly key: Key },
  seconds: number,
): Promise<number> {
  const privateKey = readFileSync(key.path)
  const algorithms = { kex: [PINNED_KEX], cipher: ['aes128-gcm@openssh.com'] } satisfies ssh2.Algorithms
  const start = performance.now()
  let count = 0
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (performance.now() - start < seconds * 1000) {
        const client = new ssh2.Client()
        await new Promise<void>((resolve, reject) => {
          client.on('ready', resolve).on('error', reject)
          client.connect({ host: '127.0.0.1', port, username, privateKey, algorithms })
        })
        client.end()
        count++
      }
    }),
  )
  return count / ((performance.now() - start) / 1000)
}
