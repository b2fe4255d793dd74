import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { cutSession } from '../../grant/sessions.ts'
import { cloneRepository, commitFile, git, gitOk, makeRepository, noise, refsOf } from '../support/git.ts'
import { type Line, startLine } from '../support/line.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Stand, type StartedProxy, startStand } from '../support/stand.ts'
import { recordsOf } from '../support/told.ts'
import { UNDERWAY_BYTES, type Underway, underway } from '../support/underway.ts'
import { operationIn } from '../support/wire.ts'

// What runs ends when its window does. The clients are stock git behind a line that stalls, so that nothing has to be large.

let stand: Stand
let bare: string
let work: string
let tip: string

beforeAll(async () => {
  stand = await startStand({ proxies: 2 })
  bare = await makeRepository(join(stand.folder, 'acme', 'large.git'), { bytes: UNDERWAY_BYTES })
  work = await cloneRepository(bare)
  await commitFile(work, 'more.bin', noise(UNDERWAY_BYTES, 7))
  tip = (await refsOf(bare))['refs/heads/main']!
})
afterAll(() => stand?.close())

const lines: Line[] = []
beforeEach(async () => {
  for (const { id } of await stand.store.live('alice')) {
    await stand.store.revoke({ principal: 'alice', grant: id, reason: 'the next story begins' })
  }
})
afterEach(() => Promise.all(lines.splice(0).map(line => line.stop())))

/** Starts a clone or a push and waits until it is in the middle of its pack. */
async function inTheMiddle(
  what: 'clone' | 'push',
  transport: 'http' | 'ssh',
  repository: string,
  proxy: StartedProxy = stand.proxies[0]!,
): Promise<Underway> {
  const started = await underway(stand, { what, transport, repository, proxy, ...(what === 'push' && { work }) })
  lines.push(started.line)
  return started
}

/** Long enough for a cut that should not come to have come. */
const later = () => new Promise(resolve => setTimeout(resolve, 2_500))

describe.each([
  ['http', 'web'],
  ['http', 'local'],
  ['ssh', 'ssh1'],
  ['ssh', 'web'],
] as const)('over %s, the repository on %s, revoking', (transport, upstream) => {
  const repository = `${upstream}/acme/large`

  test('during a push leaves the ref where it was, and git says why', async () => {
    const grant = await stand.grant({ repository })
    const push = await inTheMiddle('push', transport, repository)
    await stand.revoke(grant, 'PAY-231 is done')
    const end = await push.end()
    expect(end).toMatchObject({ result: 'cut', reason: 'your window was closed: PAY-231 is done' })
    const { status, stderr } = await push.finish()
    expect(status).toBe(1)
    expect(stderr).toContain('! [remote rejected] HEAD -> main (your window was closed: PAY-231 is done)')
    expect(stderr).toContain(`remote: ask with: git access request ${repository} --push --for 1h`)
    expect(operationIn(stderr)).toBe(push.start.operation)
    expect(await recordsOf(stand, push.start.operation)).toHaveLength(2)
    expect((await refsOf(bare))['refs/heads/main']).toBe(tip)
  })

  test('during a clone ends it with the reason', async () => {
    const grant = await stand.grant({ repository })
    const clone = await inTheMiddle('clone', transport, repository)
    await stand.revoke(grant, 'PAY-231 is done')
    const end = await clone.end()
    expect(end).toMatchObject({ result: 'cut', reason: 'your window was closed: PAY-231 is done' })
    expect(end.bytesOut).toBeLessThan(UNDERWAY_BYTES)
    const { status, stderr } = await clone.finish()
    expect(status).toBe(128)
    expect(stderr).toContain('remote: your window was closed: PAY-231 is done')
    expect(stderr).toContain(`ask with: git access request ${repository} --fetch --for 1h`)
    expect(operationIn(stderr)).toBe(clone.start.operation)
    expect(stderr).toMatch(/fatal: (?:early EOF|.*index-pack)/)
  })
})

describe('a running clone is cut', () => {
  const repository = 'local/acme/large'

  test('when its window ends', async () => {
    const now = await stand.store.now()
    await stand.grant({ repository, expires: now + 1_500 })
    const clone = await inTheMiddle('clone', 'http', repository)
    expect(await clone.end()).toMatchObject({ result: 'cut', reason: 'your window has ended' })
    expect((await clone.finish()).stderr).toContain('remote: your window has ended')
  })

  test('when its principal is locked', async () => {
    await stand.grant({ repository })
    const clone = await inTheMiddle('clone', 'ssh', repository)
    await stand.store.lock('alice', 'key found on a pastebin', Date.now())
    expect(await clone.end()).toMatchObject({
      result: 'cut',
      reason: 'your access is locked: key found on a pastebin',
    })
    await stand.store.unlock('alice', Date.now() + 1)
    expect((await clone.finish()).stderr).toContain('remote: your access is locked: key found on a pastebin')
  })

  test('on every proxy, and so is a running push', async () => {
    const grant = await stand.grant({ repository })
    const running: Underway[] = []
    for (const proxy of stand.proxies.slice(0, 2)) {
      running.push(await inTheMiddle('clone', 'http', repository, proxy))
      running.push(await inTheMiddle('push', 'ssh', repository, proxy))
    }
    expect(new Set(running.map(({ start }) => start.operation)).size).toBe(4)
    await stand.revoke(grant)
    for (const each of running) expect(await each.end()).toMatchObject({ result: 'cut' })
    for (const each of running) {
      expect((await each.finish()).stderr).toContain('your window was closed: the story says so')
      expect(await recordsOf(stand, each.start.operation)).toHaveLength(2)
    }
    expect((await refsOf(bare))['refs/heads/main']).toBe(tip)
  })

  test('by an administrator, by its operation alone', async () => {
    await stand.grant({ repository })
    const [one, other] = [
      await inTheMiddle('clone', 'http', repository),
      await inTheMiddle('clone', 'http', repository),
    ]
    const client = new Redis(stand.redis.url)
    await cutSession(client, { operation: one.start.operation, principal: 'alice', reason: 'too large' })
    client.disconnect()
    expect(await one.end()).toMatchObject({ result: 'cut', reason: 'it was ended by an administrator: too large' })
    expect((await one.finish()).stderr).toContain('remote: it was ended by an administrator: too large')
    expect((await other.finish()).status).toBe(0)
    expect(await other.end()).toMatchObject({ result: 'ok' })
  })

  test('though the notice of the revocation never came', async () => {
    const line = await startLine(stand.redis.port, { deafAfter: /subscribe/i })
    const proxy = await stand.startProxy({ redis: `redis://127.0.0.1:${line.port}/0` })
    const grant = await stand.grant({ repository })
    const clone = await inTheMiddle('clone', 'http', repository, proxy)
    await stand.revoke(grant)
    expect(await clone.end(6_000)).toMatchObject({ result: 'cut', reason: 'your window has ended' })
    expect((await clone.finish()).status).toBe(128)
    await line.stop()
  })

  test('with everything else once Redis has been silent for longer than the sweep bears', async () => {
    await stand.grant({ repository })
    const [clone, push] = [await inTheMiddle('clone', 'http', repository), await inTheMiddle('push', 'ssh', repository)]
    stand.redis.pause()
    try {
      for (const each of [clone, push]) {
        expect(await each.end(8_000)).toMatchObject({
          result: 'cut',
          reason: 'the gate can no longer see whether your window is open',
        })
      }
    } finally {
      stand.redis.resume()
    }
    expect((await clone.finish()).stderr).toContain('the gate can no longer see whether your window is open')
    expect((await push.finish()).status).toBe(1)
    expect((await refsOf(bare))['refs/heads/main']).toBe(tip)
    const { url, env } = await stand.remote('http', repository)
    await until(async () => (await git(['ls-remote', url], { env })).status === 0, 'the gate to be back', 5_000)
  })
})

describe('a running clone goes on', () => {
  const repository = 'web/acme/large'

  test('when its window was extended', async () => {
    const now = await stand.store.now()
    const grant = await stand.grant({ repository, expires: now + 2_000 })
    const clone = await inTheMiddle('clone', 'http', repository)
    expect(await stand.store.extend({ principal: 'alice', grant: grant.id, expires: now + 60_000 })).toBe('extended')
    await later()
    expect((await clone.finish()).status).toBe(0)
    expect(await clone.end()).toMatchObject({ result: 'ok' })
  })

  test('while one of two windows that cover it is open, and no longer', async () => {
    const [one, other] = [await stand.grant({ repository }), await stand.grant({ repository })]
    const clone = await inTheMiddle('clone', 'ssh', repository)
    await stand.revoke(one)
    await later()
    expect(await recordsOf(stand, clone.start.operation)).toHaveLength(1)
    await stand.revoke(other, 'now')
    expect(await clone.end()).toMatchObject({ result: 'cut', reason: 'your window was closed: now' })
    expect((await clone.finish()).status).toBe(128)
  })

  test('longer than its window may lie idle, which then ends by itself', async () => {
    await stand.grant({ repository, idle: 2_000 })
    const clone = await inTheMiddle('clone', 'http', repository)
    await later()
    expect((await clone.finish()).status).toBe(0)
    await later()
    const { url, env } = await stand.remote('http', repository)
    expect((await git(['ls-remote', url], { env })).stderr).toContain('no open window for you')
  })
})

test('a push whose last bytes have gone is told what became of it, though its window was closed meanwhile', async () => {
  const repository = 'local/acme/slow'
  const slow = await makeRepository(join(stand.folder, 'acme', 'slow.git'))
  const folder = temporaryFolder('hook')
  const [reached, go] = [join(folder, 'reached'), join(folder, 'go')]
  const hook = join(slow, 'hooks', 'pre-receive')
  writeFileSync(hook, `#!/bin/sh\n: >${reached}\nwhile [ ! -e ${go} ]; do sleep 0.02; done\n`)
  chmodSync(hook, 0o755)
  const clone = await cloneRepository(slow)
  const id = await commitFile(clone)
  const grant = await stand.grant({ repository })
  const { url, env } = await stand.remote('http', repository)
  const pushing = git(['push', url, 'HEAD:refs/heads/main'], { cwd: clone, env })
  await until(() => existsSync(reached), 'the host to have the whole pack')
  await stand.revoke(grant)
  await new Promise(resolve => setTimeout(resolve, 300))
  writeFileSync(go, '')
  const { status, stderr } = await pushing
  expect(stderr).toContain('HEAD -> main')
  expect(status).toBe(0)
  expect((await refsOf(slow))['refs/heads/main']).toBe(id)
  const ends = (await stand.records()).filter(
    record => record.kind === 'operation.end' && record.repository === repository && record.action === 'push',
  )
  expect(ends).toMatchObject([{ result: 'ok', updates: [{ ref: 'refs/heads/main', result: 'ok' }] }])
  expect(await gitOk(['rev-parse', 'main'], { cwd: slow })).toBe(id)
})
