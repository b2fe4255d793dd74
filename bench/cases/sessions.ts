import { readFileSync } from 'node:fs'
import ssh2 from 'ssh2'
import { type Case, percentile } from '../case.ts'
import { residentBytes } from '../process.ts'
import { revokeToLastByte } from '../revoke.ts'

const RUNNING = 50
const IDLE = { quick: 300, full: 1_000 }
const WARM = 50
const SETTLE_MILLISECONDS = 2_000

/** From the answer to a revocation to the last byte that still comes, on two proxies. */
export const revoke: Case = {
  name: 'revoke',
  async run({ stand, quick, say }) {
    say(`revoke to last byte: ${RUNNING} running operations on two proxies`)
    const latencies = await revokeToLastByte(stand.gate, { running: RUNNING, times: quick ? 3 : 10 })
    const what = `revoke acknowledged to last byte, ${RUNNING} running on 2 proxies`
    const [p50, p99] = [0.5, 0.99].map(share => percentile(latencies, share)) as [number, number]
    return {
      figures: [{ what, way: 'drawbridge', value: `p50 ${p50.toFixed(0)} ms, p99 ${p99.toFixed(0)} ms` }],
      goals: [
        { what: `${what}, p50`, figure: p50, unit: 'ms', most: 100 },
        { what: `${what}, p99`, figure: p99, unit: 'ms', most: 500 },
      ],
    }
  },
}

/** What somebody costs who has logged in over SSH and asks for nothing. */
export const idle: Case = {
  name: 'idle',
  async run({ stand, quick, say }) {
    const count = quick ? IDLE.quick : IDLE.full
    say(`${count} idle SSH sessions`)
    const { proxy, gate } = stand
    const url = new URL(proxy.ssh)
    const privateKey = readFileSync(gate.key.path)
    const clients: ssh2.Client[] = []
    const login = async () => {
      const client = new ssh2.Client()
      clients.push(client)
      await new Promise<void>((resolve, reject) => {
        client.on('ready', resolve).on('error', reject)
        client.connect({ host: url.hostname, port: Number(url.port), username: 'git', privateKey })
      })
    }
    try {
      // What the first ones bring into memory, the code of the key exchange, is no session's.
      for (let i = 0; i < WARM; i++) await login()
      const before = residentBytes(proxy.pid)
      for (let i = 0; i < count; i++) await login()
      await new Promise(resolve => setTimeout(resolve, SETTLE_MILLISECONDS))
      const each = (residentBytes(proxy.pid) - before) / 1e6 / count
      return {
        figures: [{ what: 'an idle SSH session, memory', way: 'drawbridge', value: `${(each * 1000).toFixed(0)} KB` }],
        goals: [{ what: 'an idle SSH session, memory', figure: each, unit: 'MB', most: 0.1 }],
      }
    } finally {
      for (const client of clients) client.end()
    }
  },
}
