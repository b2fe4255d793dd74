import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { OperationEnd } from '../../audit/record.ts'
import { cloneRepository, commitFile, git, makeRepository, noise, refsOf } from '../support/git.ts'
import type { Line } from '../support/line.ts'
import { type Program, startProgram, temporaryFolder, until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'
import { recordsOf } from '../support/told.ts'
import { UNDERWAY_BYTES, underway } from '../support/underway.ts'

// A proxy of two processes, as it is deployed: restarted while git runs through it, and one of them killed.

const SERVE = new URL('../../cli/serve.ts', import.meta.url).pathname
const TRANSPORTS = ['http', 'ssh'] as const

let stand: Stand
let work: string
let bare: string
let program: Program
let gate: { readonly urls: Readonly<Record<string, string>> }
let log = ''

beforeAll(async () => {
  stand = await startStand({ proxies: 0 })
  bare = await makeRepository(join(stand.folder, 'acme', 'app.git'), { bytes: UNDERWAY_BYTES })
  await makeRepository(join(stand.folder, 'acme', 'small.git'))
  work = await cloneRepository(bare)
  await commitFile(work, 'more', noise(UNDERWAY_BYTES, 7))
  for (const name of ['app', 'small']) await stand.grant({ repository: `local/acme/${name}` })
  const file = join(temporaryFolder('workers'), 'drawbridge.yaml')
  writeFileSync(
    file,
    `
name: many
listen: { http: "127.0.0.1:0", ssh: "127.0.0.1:0", admin: "127.0.0.1:0", metrics: { proxy: "127.0.0.1:0" } }
redis: ${stand.redis.url}
postgres: ${stand.postgres.url}
state: state
workers: 2
limits: { drain: 30s }
upstreams: { local: { url: "file://${stand.folder}/" } }
`,
  )
  program = await startProgram(process.execPath, [SERVE, '--role', 'proxy', '--config', file], {
    deathSignal: 'TERM',
    onOutput: text => {
      log += text
    },
  })
  const ready = await until(() => /^\{"kind":"ready".*$/m.exec(log)?.[0], 'the proxy to be ready')
  gate = JSON.parse(ready)
}, 180_000)
afterAll(async () => {
  await program?.stop()
  await stand?.close()
})

const lines: Line[] = []
afterEach(async () => {
  await Promise.all(lines.splice(0).map(line => line.stop()))
})

async function begin(what: 'clone' | 'push', transport: 'http' | 'ssh', ref?: string) {
  const begun = await underway(stand, {
    what,
    transport,
    repository: 'local/acme/app',
    proxy: gate,
    ...(what === 'push' && { work }),
    ...(ref && { ref }),
  })
  lines.push(begun.line)
  return begun
}

/** Clones the small repository over both transports, one after the other, until it is told to stop. */
function cloning() {
  const failures: string[] = []
  let over = false
  let count = 0
  const loop = async (transport: 'http' | 'ssh') => {
    while (!over) {
      const { url, env } = await stand.remote(transport, 'local/acme/small', gate)
      const { status, stderr } = await git(['clone', '-q', url, join(temporaryFolder('clone'), 'work')], { env })
      count++
      if (status !== 0) failures.push(stderr)
    }
  }
  const loops = Promise.all(TRANSPORTS.map(loop))
  return {
    failures,
    count: () => count,
    stop: async () => {
      over = true
      await loops
    },
  }
}

/** The workers that live now: their processes by their numbers. */
function workers(): Map<number, number> {
  const children = execFileSync('ps', ['-o', 'pid=,args=', '--ppid', String(program.pid)], { encoding: 'latin1' })
  const rows = [...children.matchAll(/^\s*(\d+) .*--worker (\d+)$/gm)]
  return new Map(rows.map(([, pid, number]) => [Number(number), Number(pid)]))
}

/** Under which name an operation is on record. */
async function nameOf({ operation }: { readonly operation: string }): Promise<string> {
  const [row] = await stand.sql<{ proxy: string }[]>`
    select proxy from audit.inbox where operation = ${operation} and kind = 'operation.start'`
  return row!.proxy
}

const metric = async (name: string) => {
  const text = await (await fetch(`${gate.urls['proxy-metrics']}/metrics`)).text()
  return text.split('\n').filter(row => row.startsWith(`${name}{`) || row.startsWith(`${name} `))
}

test('two workers share what comes, and answer as one', async () => {
  for (const transport of TRANSPORTS) {
    for (let n = 0; n < 2; n++) {
      const { url, env } = await stand.remote(transport, 'local/acme/small', gate)
      expect(await git(['ls-remote', url], { env })).toMatchObject({ status: 0 })
    }
  }
  const names = await stand.sql<{ proxy: string }[]>`select distinct proxy from audit.inbox order by proxy`
  expect(names.map(({ proxy }) => proxy)).toEqual(['many~1', 'many~2'])
  expect(await metric('drawbridge_workers')).toEqual(['drawbridge_workers 2'])
  const live = await metric('drawbridge_sessions_live')
  expect(live.sort()).toEqual(['drawbridge_sessions_live{worker="1"} 0', 'drawbridge_sessions_live{worker="2"} 0'])
  const ready = await fetch(`${gate.urls['proxy-metrics']}/readyz`)
  expect(await ready.json()).toMatchObject({ ready: true, checks: { 'worker 1 redis': 'ok', 'worker 2 ledger': 'ok' } })
})

test('a restart of the workers loses nothing: what runs comes to its end at the old ones, what comes goes to new ones', async () => {
  const before = workers()
  const running = [await begin('clone', 'http'), await begin('push', 'ssh', 'refs/heads/pushed')]
  const load = cloning()
  process.kill(program.pid, 'SIGUSR2')
  await until(() => workers().size === 4, 'new workers beside the old', 60_000)
  await until(
    async () => (await metric('drawbridge_sessions_live')).every(row => /"[34]"/.test(row)),
    'the new to serve',
  )
  const soFar = load.count()
  await until(() => load.count() > soFar + 2, 'clones at the new workers', 60_000)
  for (const each of running) {
    expect(await each.finish()).toMatchObject({ status: 0 })
    expect(await each.end()).toMatchObject({ result: 'ok' })
    expect(['many~1', 'many~2']).toContain(await nameOf(each.start))
  }
  await until(() => log.includes('the workers were restarted'), 'the old to end', 60_000)
  await load.stop()
  expect(load.failures).toEqual([])
  expect([...workers().keys()].sort()).toEqual([3, 4])
  expect([...workers().values()].some(pid => [...before.values()].includes(pid))).toBe(false)
  expect((await refsOf(bare))['refs/heads/pushed']).toBe(
    (await git(['rev-parse', 'HEAD'], { cwd: work })).stdout.trim(),
  )
  const ends = (await stand.records()).filter((record): record is OperationEnd => record.kind === 'operation.end')
  expect(ends.filter(({ result }) => result !== 'ok')).toEqual([])
}, 180_000)

test('one worker killed takes along what it carried and no more; each of that gets one end, and nothing else does', async () => {
  const running = [await begin('clone', 'http'), await begin('clone', 'ssh')]
  const names = await Promise.all(running.map(({ start }) => nameOf(start)))
  const [dies = ''] = names
  expect(new Set(names).size).toBe(2)
  process.kill(workers().get(Number(dies.split('~')[1]))!, 'SIGKILL')
  for (const transport of TRANSPORTS) {
    const { url, env } = await stand.remote(transport, 'local/acme/small', gate)
    expect(await git(['ls-remote', url], { env })).toMatchObject({ status: 0 })
  }
  for (const [n, each] of running.entries()) {
    const { status } = await each.finish()
    expect(await each.end()).toMatchObject({ result: names[n] === dies ? 'interrupted' : 'ok' })
    expect(status === 0).toBe(names[n] !== dies)
    expect(await recordsOf(stand, each.start.operation)).toHaveLength(2)
  }
  await until(() => workers().size === 2, 'the worker to be started again')
  expect(await metric('drawbridge_worker_deaths_total')).toEqual(['drawbridge_worker_deaths_total 1'])
  expect((await stand.records()).filter(({ kind }) => kind === 'ledger.duplicate')).toEqual([])
}, 180_000)

// The last: afterwards there is nobody who listens.
test('with the first process killed the workers take nothing new, finish what runs and end', async () => {
  const pids = [...workers().values()]
  const running = await begin('clone', 'ssh')
  process.kill(program.pid, 'SIGKILL')
  expect(await running.finish()).toMatchObject({ status: 0 })
  expect(await running.end()).toMatchObject({ result: 'ok' })
  await until(() => pids.every(pid => !existsSync(`/proc/${pid}`)), 'the workers to end', 60_000)
}, 180_000)
