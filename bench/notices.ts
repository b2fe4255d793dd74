// What a channel that is down costs git: node bench/notices.ts [NOTICES]
// Real Redis and PostgreSQL, a control plane with a webhook channel and a proxy, all on this machine. While so many facts are
// written down and told, a client asks for the refs of a repository again and again: with nothing to tell, with a channel that
// takes notices, one that answers 503 and one that never answers. Then the channel is well, and all there is has to come once.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { announce } from '../admin/notify/announce.ts'
import { createAct } from '../admin/register/act.ts'
import { lockPrincipal } from '../admin/register/locks.ts'
import { cleaner } from '../audit/clean.ts'
import { startReceiver } from '../test/admin/notify/receiver.ts'
import { startControlPlane } from '../test/support/control.ts'
import { makeRepository } from '../test/support/git.ts'
import { until } from '../test/support/program.ts'
import setup from '../test/support/setup.ts'
import { startStand } from '../test/support/stand.ts'
import { percentile } from './case.ts'

const NOTICES = Number(process.argv[2] ?? 1_000)
const QUIET_REQUESTS = 300
/** The senders' longest pause, and some. */
const CAUGHT_UP_MILLISECONDS_MAX = 180_000

const tidy = await setup()
const stand = await startStand({ proxies: 0 })
await stand.store.doubt()
const receiver = await startReceiver()
const { url, secret } = receiver
const control = await startControlPlane(
  { redis: stand.redis.url, postgres: stand.postgres.url },
  { dana: 'developer' },
  'version: 1\nrequests: []\n',
  {
    notify: {
      ending: 600_000,
      giveUp: 86_400_000,
      people: new Map(),
      channels: [{ type: 'webhook', name: 'siem', url, secret }],
    },
  },
)
const proxy = await stand.startProxy()
const act = createAct({
  sql: stand.sql,
  clean: cleaner(),
  announce: (transaction, records) => announce(transaction, records, Date.now()),
  committed: () => {},
})

try {
  await makeRepository(join(stand.folder, 'acme', 'app.git'))
  await stand.grant({ principal: 'dana', repository: 'local/acme/app' })
  const token = readFileSync(join(control.folder, 'dana'), 'utf8').trim()
  const asked = `${proxy.urls.http}/local/acme/app.git/info/refs?service=git-upload-pack`
  const headers = { authorization: `Bearer ${token}`, 'git-protocol': 'version=2' }
  const ask = async () => {
    const begun = performance.now()
    const answer = await fetch(asked, { headers })
    await answer.arrayBuffer()
    if (!answer.ok) throw new Error(`the proxy answered ${answer.status}`)
    return performance.now() - begun
  }
  for (let i = 0; i < 50; i++) await ask()

  const quiet: number[] = []
  for (let i = 0; i < QUIET_REQUESTS; i++) quiet.push(await ask())
  say('nothing to tell', quiet)
  for (const [what, answer] of [
    ['the channel takes them', { status: 200 }],
    ['the channel answers 503', { status: 503 }],
    ['the channel never answers', { status: 200, hang: true }],
  ] as const) {
    receiver.answer = answer
    let telling = true
    const told = tell(what).finally(() => {
      telling = false
    })
    const took: number[] = []
    while (telling) took.push(await ask())
    await told
    say(what, took)
  }

  receiver.answer = { status: 200 }
  const all = 3 * NOTICES
  await until(() => receiver.taken.length >= all, `${all} notices to be taken`, CAUGHT_UP_MILLISECONDS_MAX)
  process.stdout.write(`afterwards: ${receiver.taken.length} notices taken, each once\n`)
} finally {
  await control.close()
  await stand.close()
  await receiver.stop()
  tidy()
}

async function tell(why: string): Promise<void> {
  for (let i = 0; i < NOTICES; i++) await lockPrincipal(act, { principal: `somebody-${i}`, by: 'bench', reason: why })
}

function say(what: string, took: number[]): void {
  took.sort((a, b) => a - b)
  const at = (share: number) => `${percentile(took, share).toFixed(1)} ms`
  process.stdout.write(`${what.padEnd(28)}info/refs p50 ${at(0.5)}, p95 ${at(0.95)}, of ${took.length}\n`)
}
