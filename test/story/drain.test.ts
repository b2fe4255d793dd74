import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { cloneRepository, commitFile, git, makeRepository, noise, refsOf } from '../support/git.ts'
import type { Line } from '../support/line.ts'
import { accepts, type Program, startProgram, temporaryFolder, until } from '../support/program.ts'
import { sshOptions } from '../support/sshd.ts'
import { type Stand, startStand } from '../support/stand.ts'
import { recordsOf } from '../support/told.ts'
import { UNDERWAY_BYTES, type Underway, underway } from '../support/underway.ts'

// A proxy as it is deployed, told to stop while clones and pushes run through it.

const SERVE = new URL('../../cli/serve.ts', import.meta.url).pathname
const STOPPED = 'this gate is being stopped'

let stand: Stand
let bare: string
let work: string

beforeAll(async () => {
  stand = await startStand({ proxies: 0 })
  bare = await makeRepository(join(stand.folder, 'acme', 'app.git'), { bytes: UNDERWAY_BYTES })
  work = await cloneRepository(bare)
  await commitFile(work, 'more', noise(UNDERWAY_BYTES, 7))
  await stand.grant({ repository: 'local/acme/app' })
})
afterAll(() => stand?.close())

const lines: Line[] = []
const programs: Program[] = []
afterEach(async () => {
  await Promise.all(lines.splice(0).map(line => line.stop()))
  await Promise.all(programs.splice(0).map(program => program.stop('SIGKILL')))
})

interface Serving {
  readonly program: Program
  readonly urls: Readonly<Record<string, string>>
  /** Begins something and comes back when it is in the middle of its pack. */
  begin(what: 'clone' | 'push', transport: 'http' | 'ssh', ref?: string): Promise<Underway>
}

/** `drawbridge serve --role proxy` with so much time for what runs when it is told to stop. */
async function serve(drain: string): Promise<Serving> {
  const folder = temporaryFolder('drain')
  const file = join(folder, 'drawbridge.yaml')
  writeFileSync(
    file,
    `
name: drained
listen: { http: "127.0.0.1:0", ssh: "127.0.0.1:0", admin: "127.0.0.1:0" }
redis: ${stand.redis.url}
postgres: ${stand.postgres.url}
state: state
upstreams: { local: { url: "file://${stand.folder}/" } }
limits: { drain: ${drain} }
`,
  )
  const program = await startProgram(process.execPath, [SERVE, '--role', 'proxy', '--config', file], {
    deathSignal: 'TERM',
  })
  programs.push(program)
  const ready = await until(() => program.output().match(/^\{"kind":"ready".*$/m)?.[0], 'the proxy to be ready')
  const { urls } = JSON.parse(ready) as { urls: Record<string, string> }
  return {
    program,
    urls,
    begin: async (what, transport, ref) => {
      const begun = await underway(stand, {
        what,
        transport,
        repository: 'local/acme/app',
        proxy: { urls },
        ...(what === 'push' && { work }),
        ...(ref && { ref }),
      })
      lines.push(begun.line)
      return begun
    },
  }
}

const portOf = (url: string | undefined) => ({ port: Number(new URL(url!).port) })

test('what does not come to its end in time is cut, told why, and on record', async () => {
  const { program, begin } = await serve('1s')
  const before = await refsOf(bare)
  const clones = [await begin('clone', 'http'), await begin('clone', 'ssh')]
  const pushes = [
    await begin('push', 'http', 'refs/heads/late-http'),
    await begin('push', 'ssh', 'refs/heads/late-ssh'),
  ]
  process.kill(program.pid, 'SIGTERM')
  for (const each of [...clones, ...pushes]) {
    expect(await each.end()).toMatchObject({ result: 'cut', reason: STOPPED })
  }
  for (const each of clones) expect((await each.finish()).stderr).toContain(`remote: ${STOPPED}`)
  for (const each of pushes) expect((await each.finish()).stderr).toMatch(/remote rejected.*this gate is being stopped/)
  expect(await program.ended).toBe(0)
  expect(await refsOf(bare)).toEqual(before)
  for (const { start } of [...clones, ...pushes]) expect(await recordsOf(stand, start.operation)).toHaveLength(2)
})

test('a connection on which nothing runs does not hold the stop up', async () => {
  const { program, urls } = await serve('60s')
  const { port } = portOf(urls.ssh)
  const control = join(temporaryFolder('mux'), 's')
  const options = [...sshOptions({ key: stand.key.path, extra: ['-o', `ControlPath=${control}`] }), '-p', String(port)]
  const master = spawn('ssh', [...options, '-M', '-N', 'git@127.0.0.1'], { stdio: 'ignore' })
  const left = new Promise(resolve => master.on('close', resolve))
  const check = () =>
    new Promise<boolean>(resolve => {
      const asked = spawn('ssh', [...options, '-O', 'check', 'git@127.0.0.1'], { stdio: 'ignore' })
      asked.on('close', status => resolve(status === 0))
    })
  await until(check, 'the connection to be open')
  process.kill(program.pid, 'SIGTERM')
  expect(await program.ended).toBe(0)
  await left
})

test('a second SIGTERM does not wait, and the next start puts what it broke off on record', async () => {
  const { program, begin } = await serve('60s')
  const before = await refsOf(bare)
  const [clone, push] = [await begin('clone', 'http'), await begin('push', 'ssh', 'refs/heads/broken-off')]
  process.kill(program.pid, 'SIGTERM')
  await until(() => program.output().includes('"stopping"'), 'the stop to begin')
  process.kill(program.pid, 'SIGTERM')
  expect(await program.ended).toBe(1)
  for (const each of [clone, push]) expect((await each.finish()).status).not.toBe(0)
  expect(await refsOf(bare)).toEqual(before)
  await serve('1s')
  for (const each of [clone, push]) {
    expect(await each.end()).toMatchObject({ result: 'interrupted' })
    expect(await recordsOf(stand, each.start.operation)).toHaveLength(2)
  }
})

// The last, because afterwards the host has what is pushed, and a push of it is through at once.
test('SIGTERM lets what runs come to its end, and takes nothing new', async () => {
  const { program, urls, begin } = await serve('60s')
  const running = [
    await begin('clone', 'http'),
    await begin('clone', 'ssh'),
    await begin('push', 'http', 'refs/heads/by-http'),
    await begin('push', 'ssh', 'refs/heads/by-ssh'),
  ]
  process.kill(program.pid, 'SIGTERM')
  for (const url of [urls.http, urls.ssh])
    await until(async () => !(await accepts(portOf(url))), 'the listener to close')
  for (const each of running) {
    expect((await each.finish()).status).toBe(0)
    expect(await each.end()).toMatchObject({ result: 'ok' })
  }
  expect(await program.ended).toBe(0)
  const refs = await refsOf(bare)
  const head = await git(['rev-parse', 'HEAD'], { cwd: work })
  expect([refs['refs/heads/by-http'], refs['refs/heads/by-ssh']]).toEqual([head.stdout.trim(), head.stdout.trim()])
})
