import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as after } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { OperationEnd, OperationStart } from '../../audit/record.ts'
import { cloneRepository, commitFile, git, gitOk, makeRepository, noise, refsOf } from '../support/git.ts'
import { startLine } from '../support/line.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Stand, type StartedProxy, startStand } from '../support/stand.ts'
import { commandSection, overSsh, packOf, post } from '../support/wire.ts'

// Slowness, with every limit scaled down: what lives takes longer than any of them, what is idle meets the first.

const IDLE = 2_500
/** For the host, which has to make a pack first on a machine that may be busy. */
const HOST_IDLE = 3_000
const PAUSE = 400
/** With a pause behind each, longer together than every limit but `total`. */
const PIECES = 10

let stand: Stand
let proxy: StartedProxy

beforeAll(async () => {
  stand = await startStand()
  const { settings } = stand
  const upstreams = new Map([...settings.upstreams].map(([name, each]) => [name, { ...each, idleTimeout: HOST_IDLE }]))
  const limits = { ...settings.limits, headers: IDLE, bodyIdle: IDLE, loginGrace: 5_000, redisSilence: 3_000 }
  proxy = await stand.startProxy({ upstreams, limits })
  await stand.grant({ repository: '**' })
})
afterAll(() => stand?.close())

async function fixture(name: string) {
  const bare = await makeRepository(join(stand.folder, 'acme', `${name}.git`))
  const work = await cloneRepository(bare)
  const old = (await refsOf(bare))['refs/heads/main']!
  const now = await commitFile(work, 'noise', noise(200_000))
  const pack = await packOf(work, ['HEAD', `^${old}`])
  return { bare, work, old, now, commands: commandSection([{ old, new: now, ref: 'refs/heads/main' }]), pack }
}

async function ofRepository(repository: string, action: 'push' | 'fetch'): Promise<(OperationStart | OperationEnd)[]> {
  const records = await stand.records({ underway: true })
  return records.filter(
    (record): record is OperationStart | OperationEnd =>
      (record.kind === 'operation.start' || record.kind === 'operation.end') &&
      record.repository === repository &&
      record.action === action,
  )
}

/** Waits for the end of the only push or fetch of a repository. */
function ended(repository: string, action: 'push' | 'fetch'): Promise<OperationEnd> {
  return until(
    async () =>
      (await ofRepository(repository, action)).find(
        (record): record is OperationEnd => record.kind === 'operation.end',
      ),
    `the ${action} to end`,
  )
}

describe('a push that takes its time', () => {
  test.each(
    ['http', 'ssh'].flatMap(transport => ['local', 'web', 'ssh1'].map(upstream => [transport, upstream] as const)),
  )('over %s to %s lands, however long it takes in all', async (transport, upstream) => {
    const name = `slow-${transport}-${upstream}`
    const repository = `${upstream}/acme/${name}`
    const { bare, now, commands, pack } = await fixture(name)
    const size = Math.ceil(pack.length / PIECES)
    const pieces = Array.from({ length: PIECES }, (_, n) => pack.subarray(n * size, (n + 1) * size))
    const body = [commands, ...pieces]
    const sent = { body, between: () => after(PAUSE) }
    const { text } =
      transport === 'http'
        ? await post(stand, 'git-receive-pack', repository, sent, proxy)
        : await overSsh(stand, `git-receive-pack '/${repository}.git'`, sent, proxy)
    expect(text).toContain('ok refs/heads/main')
    expect((await refsOf(bare))['refs/heads/main']).toBe(now)
    const end = await ended(repository, 'push')
    expect(end).toMatchObject({ result: 'ok' })
    expect(end.milliseconds).toBeGreaterThan(PIECES * PAUSE * 0.9)
    expect(end.milliseconds).toBeGreaterThan(HOST_IDLE)
  })
})

test('a push that stops is ended, the ref stays, and the record says so', async () => {
  const repository = 'web/acme/stops'
  const { bare, old, commands, pack } = await fixture('stops')
  const url = new URL(`${proxy.urls.http}/${repository}.git/git-receive-pack`)
  const socket = connect(Number(url.port), url.hostname)
  const closed = new Promise(resolve => socket.on('close', resolve))
  socket.on('error', () => {}).resume()
  const head = [
    `POST ${url.pathname} HTTP/1.1`,
    `Host: ${url.host}`,
    `Authorization: Bearer ${await stand.token('alice')}`,
    'Content-Type: application/x-git-receive-pack-request',
    `Content-Length: ${commands.length + pack.length}`,
  ]
  socket.write(`${head.join('\r\n')}\r\n\r\n`)
  socket.write(commands)
  socket.write(pack.subarray(0, pack.length / 2))
  expect(await ended(repository, 'push')).toMatchObject({ result: 'failed' })
  await closed
  expect((await refsOf(bare))['refs/heads/main']).toBe(old)
  expect(await ofRepository(repository, 'push')).toHaveLength(2)
})

test('a clone that is not read is ended, and the record says so', async () => {
  const bare = await makeRepository(join(stand.folder, 'acme', 'unread.git'), { bytes: 32 << 20 })
  const repository = 'local/acme/unread'
  const { url } = await stand.remote('http', repository, proxy)
  const through = new URL(url)
  const line = await startLine(Number(through.port), { downAfter: 1 << 20 })
  through.port = String(line.port)
  const unread = git(['clone', '-q', through.href, join(temporaryFolder('clone'), 'work')])
  expect(await ended(repository, 'fetch')).toMatchObject({ result: 'failed', reason: 'the client went away' })
  line.resume()
  expect((await unread).status).not.toBe(0)
  await line.stop()
  expect(await gitOk(['rev-parse', 'main'], { cwd: bare })).toMatch(/^[0-9a-f]{40}$/)
})
