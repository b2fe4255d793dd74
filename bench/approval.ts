// From an approval to the operation that waited for it: node bench/approval.ts [TRIES [run|self|slack]]
// Real git, Redis and PostgreSQL, a control plane and two proxies that take turns, all on this machine. The clock starts as
// the approver's call is sent, or by "Slack" the form that its button opens, signed, and ends with the time in the start
// record of the push.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { startSlack } from '../test/admin/notify/slackserver.ts'
import { startControlPlane } from '../test/support/control.ts'
import { cloneRepository, commitFile, gitEnvironment, makeRepository } from '../test/support/git.ts'
import { type Program, startProgram, until } from '../test/support/program.ts'
import setup from '../test/support/setup.ts'
import { type StartedProxy, startStand } from '../test/support/stand.ts'
import { percentile } from './case.ts'
import { approveInSlack } from './press.ts'

const TRIES = Number(process.argv[2] ?? 100)
if (!Number.isInteger(TRIES) || TRIES < 1) {
  process.stderr.write(`bench: a number of tries, not ${process.argv[2]}\n`)
  process.exit(2)
}
const POLICY = `version: 1
people: { mona: [mona, mona@acme.example] }
requests:
  - { name: run, trigger: push, repositories: local/run/*, approvers: person:mona }
  - name: itself
    trigger: push
    repositories: [local/self/*, local/slack/*]
    approvers: person:mona
    auto_request: { wait: 2m }
`
/** How the push waits, and where it is approved. */
const WAYS = {
  run: 'git access run -- git push',
  self: 'git push, auto_request',
  slack: 'the same, approved in Slack',
} as const
type Way = keyof typeof WAYS
const ways = (Object.keys(WAYS) as Way[]).filter(way => way === (process.argv[3] ?? way))
/** In turn: a gate files no more than a few requests a minute for one person. */
const PEOPLE = Array.from({ length: 20 }, (_, i) => `dana-${i}`)
const CLI = new URL('../cli/git-access.ts', import.meta.url).pathname

interface Pending {
  readonly id: string
  readonly digest: string
  readonly grants: readonly { readonly id: string }[]
}

const tidy = await setup()
const stand = await startStand({ proxies: 0 })
await stand.store.doubt()
const slack = await startSlack()
slack.members.set('UMONA', {
  id: 'UMONA',
  team_id: 'T1',
  is_email_confirmed: true,
  profile: { email: 'mona@acme.example' },
})
const { token, signingSecret, url: api } = slack
const channel = {
  type: 'slack',
  name: 'slack',
  token,
  channel: 'C1',
  signingSecret,
  api,
  repositories: ['local/slack/*'],
} as const
const control = await startControlPlane(
  { redis: stand.redis.url, postgres: stand.postgres.url },
  { ...Object.fromEntries(PEOPLE.map(person => [person, 'developer'])), mona: 'approver', 'service:gate': 'front' },
  POLICY,
  { notify: { ending: 600_000, giveUp: 86_400_000, people: new Map(), channels: [channel] } },
)
const first = await stand.startProxy({
  control: { url: control.url, tokenFile: join(control.folder, 'service:gate') },
})
const proxies = [first, await stand.startProxy(first.settings)]

try {
  for (const way of ways) {
    const bare = await makeRepository(join(stand.folder, way, 'app.git'))
    const work = await cloneRepository(bare)
    const took: number[] = []
    for (let index = 0; index < TRIES; index++) {
      await commitFile(work, 'try', String(index))
      const person = PEOPLE[index % PEOPLE.length]!
      took.push(await approvalToOperation(person, way, work, proxies[index % proxies.length]!))
    }
    took.sort((a, b) => a - b)
    const at = (share: number) => `${percentile(took, share)} ms`
    process.stdout.write(`${WAYS[way].padEnd(30)}p50 ${at(0.5)}, p95 ${at(0.95)}, worst ${at(1)}, of ${TRIES}\n`)
  }
} finally {
  await control.close()
  await stand.close()
  await slack.stop()
  tidy()
}

/** One push that waits: milliseconds from its approval to its start. The window is taken back for the next. */
async function approvalToOperation(person: string, way: Way, work: string, proxy: StartedProxy): Promise<number> {
  const url = new URL(`${proxy.urls.http}/local/${way}/app.git`)
  url.username = person
  url.password = tokenOf(person)
  const push = ['git', '-C', work, 'push', '-q', url.href, 'HEAD:refs/heads/main']
  const env = { ...gitEnvironment(), ...control.as(person) }
  const [command, ...args] = way === 'run' ? [process.execPath, CLI, 'run', '--', ...push] : push
  const waiting = await startProgram(command!, args, { env })
  const { id, digest } = await until(() => pending(person, way), 'the request to be there')
  if (way === 'run') await until(() => waiting.output().includes(`${id} waits for`), 'run to wait')
  // Past the answer that says so, into the wait itself.
  await new Promise(resolve => setTimeout(resolve, 300))

  const begun = way === 'slack' ? await approveByButton(id) : Date.now()
  if (way !== 'slack') await call('mona', 'POST', `/requests/${id}/approve`, { digest })
  await succeeded(waiting)
  const { grants } = await call<Pending>(person, 'GET', `/requests/${id}`)
  const operation = await startedUnder(grants[0]?.id ?? '')
  await call(person, 'POST', `/requests/${id}/withdraw`, {})
  return operation - begun
}

/** @returns when the form was sent */
async function approveByButton(id: string): Promise<number> {
  await until(() => JSON.stringify([...slack.messages.values()]).includes(id), 'the request to be in Slack')
  return await approveInSlack(slack, `${control.url}/channels/slack`, 'UMONA', id)
}

async function succeeded(program: Program): Promise<void> {
  const status = await program.ended
  if (status !== 0) throw new Error(`a push that was approved ended with ${status}: ${program.output()}`)
}

async function pending(person: string, way: string): Promise<Pending | undefined> {
  const { requests } = await call<{ requests: (Pending & { repository: string })[] }>(
    person,
    'GET',
    '/requests?mine=true&state=requested',
  )
  // Slower than it could be, so that the asking stays far below what one address may ask in a minute.
  await new Promise(resolve => setTimeout(resolve, 200))
  return requests.find(({ repository }) => repository === `local/${way}/app`)
}

async function startedUnder(grant: string): Promise<number> {
  return await until(async () => {
    const [row] = await stand.sql<{ at: Date | null }[]>`
      select min(at) as at from (
        select at, kind, grants from audit.inbox union all select at, kind, grants from audit.record) as every
      where kind = 'operation.start' and grants @> array[${grant}]`
    return row?.at?.getTime()
  }, 'the start record')
}

function tokenOf(person: string): string {
  return readFileSync(join(control.folder, person), 'utf8').trim()
}

async function call<T>(person: string, method: string, path: string, body?: object): Promise<T> {
  const answer = await fetch(`${control.url}/api/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${tokenOf(person)}`,
      ...(body && { 'content-type': 'application/json' }),
    },
    ...(body && { body: JSON.stringify(body) }),
  })
  if (!answer.ok) throw new Error(`${method} ${path}: ${await answer.text()}`)
  return (await answer.json()) as T
}
