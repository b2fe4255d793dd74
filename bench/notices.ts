// What a channel that is down costs git: node bench/notices.ts [NOTICES]
// Three gates on this machine, each with Redis, PostgreSQL, a control plane with a webhook channel and a proxy: of one the channel
// takes notices, of one it answers 503, of one it never answers. While each has so many facts to write down and tell, a client asks
// them in turn for the refs of a repository, so that whatever else the machine does meets all three alike. Then the channels are
// well, and all there was to tell has to come once.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { announce } from '../admin/notify/announce.ts'
import { createAct } from '../admin/register/act.ts'
import { lockPrincipal } from '../admin/register/locks.ts'
import { cleaner } from '../audit/clean.ts'
import { type Receiver, startReceiver } from '../test/admin/notify/receiver.ts'
import { startControlPlane } from '../test/support/control.ts'
import { makeRepository } from '../test/support/git.ts'
import { until } from '../test/support/program.ts'
import setup from '../test/support/setup.ts'
import { startStand } from '../test/support/stand.ts'
import { percentile } from './case.ts'

const NOTICES = Number(process.argv[2] ?? 1_000)
const QUIET_REQUESTS = 300
const WARM_REQUESTS = 50
/** The senders' longest pause, and some. */
const CAUGHT_UP_MILLISECONDS_MAX = 180_000
const CHANNELS = {
  'takes them': { status: 200 },
  'answers 503': { status: 503 },
  'never answers': { status: 200, hang: true },
} as const

interface Gate {
  /** Milliseconds that one question for the refs took. */
  ask(): Promise<number>
  /** Writes down what is to be told, one by one. */
  tell(): Promise<void>
  /** Resolves once the channel is well and has taken everything. */
  caughtUp(): Promise<number>
  close(): Promise<void>
}

async function startGate(answer: Receiver['answer']): Promise<Gate> {
  const stand = await startStand({ proxies: 0 })
  await stand.store.doubt()
  const receiver = await startReceiver()
  receiver.answer = answer
  const { url, secret } = receiver
  const channels = [{ type: 'webhook', name: 'siem', url, secret }] as const
  const control = await startControlPlane(
    { redis: stand.redis.url, postgres: stand.postgres.url },
    { dana: 'developer' },
    'version: 1\nrequests: []\n',
    { notify: { ending: 600_000, giveUp: 86_400_000, people: new Map(), channels } },
  )
  const proxy = await stand.startProxy()
  await makeRepository(join(stand.folder, 'acme', 'app.git'))
  await stand.grant({ principal: 'dana', repository: 'local/acme/app', expires: Date.now() + 3_600_000 })
  const act = createAct({
    sql: stand.sql,
    clean: cleaner(),
    announce: (transaction, records) => announce(transaction, records, Date.now()),
    committed: () => {},
  })
  const refs = `${proxy.urls.http}/local/acme/app.git/info/refs?service=git-upload-pack`
  const token = readFileSync(join(control.folder, 'dana'), 'utf8').trim()
  const headers = { authorization: `Bearer ${token}`, 'git-protocol': 'version=2' }
  return {
    ask: async () => {
      const begun = performance.now()
      const answer = await fetch(refs, { headers })
      await answer.arrayBuffer()
      if (!answer.ok) throw new Error(`the proxy answered ${answer.status}`)
      return performance.now() - begun
    },
    tell: async () => {
      for (let i = 0; i < NOTICES; i++)
        await lockPrincipal(act, { principal: `somebody-${i}`, by: 'bench', reason: 'to be told' })
    },
    caughtUp: async () => {
      receiver.answer = { status: 200 }
      const { taken } = receiver
      await until(() => taken.length >= NOTICES, `${NOTICES} notices to be taken`, CAUGHT_UP_MILLISECONDS_MAX)
      return taken.length
    },
    close: async () => {
      await control.close()
      await stand.close()
      await receiver.stop()
    },
  }
}

const tidy = await setup()
const gates = new Map<string, Gate>()
try {
  for (const [says, answer] of Object.entries(CHANNELS)) gates.set(says, await startGate(answer))
  const inTurn = async (goOn: (round: number) => boolean) => {
    const took = new Map([...gates.keys()].map(says => [says, [] as number[]]))
    for (let round = 0; goOn(round); round++) for (const [says, gate] of gates) took.get(says)?.push(await gate.ask())
    return took
  }
  await inTurn(round => round < WARM_REQUESTS)
  say('nothing to tell', await inTurn(round => round < QUIET_REQUESTS))

  let telling = gates.size
  const told = [...gates.values()].map(gate => gate.tell().finally(() => telling--))
  say(`${NOTICES} notices`, await inTurn(() => telling === gates.size))
  await Promise.all(told)
  const taken = await Promise.all([...gates.values()].map(gate => gate.caughtUp()))
  process.stdout.write(`afterwards: ${taken.join(', ')} notices taken, each once\n`)
} finally {
  for (const gate of gates.values()) await gate.close()
  tidy()
}

function say(when: string, took: ReadonlyMap<string, number[]>): void {
  for (const [says, all] of took) {
    all.sort((a, b) => a - b)
    const at = (share: number) => `${percentile(all, share).toFixed(1)} ms`
    const what = `${when}, the channel ${says}`
    process.stdout.write(`${what.padEnd(44)}info/refs p50 ${at(0.5)}, p95 ${at(0.95)}, of ${all.length}\n`)
  }
}
