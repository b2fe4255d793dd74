import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { knownHostsLines } from '../../ca/authority.ts'
import { type RunningAuthority, startAuthority } from '../support/authority.ts'
import { git, makeRepository, millisecondsFor, refsOf } from '../support/git.ts'
import { type Key, makeKey } from '../support/keys.ts'
import { type Line, startLine } from '../support/line.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { sshCommand } from '../support/sshd.ts'
import { type Stand, type StartedProxy, startStand } from '../support/stand.ts'

// What operators do on a working day, in the middle of many clones: the authority's keys turn, and one of two proxies is
// restarted, as behind a balancer that sends what is new to the other one. git is told to try nothing twice.

const CLONES = process.env.STORY_LARGE ? 100 : 4
/** So much is not through when the line stalls. */
const REPOSITORY_BYTES = 24 << 20
const STALL_BYTES = 1 << 20
const TIMEOUT = 60_000 + millisecondsFor(CLONES * REPOSITORY_BYTES)

let stand: Stand
let authority: RunningAuthority
let bare: string
const lines: Line[] = []

beforeAll(async () => {
  authority = await startAuthority()
  stand = await startStand({ proxies: 0, change: { ca: authority.settings } })
  await authority.tell(stand.redis.url)
  bare = await makeRepository(join(stand.folder, 'acme/app.git'), { bytes: REPOSITORY_BYTES })
  await stand.grant({ repository: 'local/acme/app', expires: Date.now() + 3_600_000 })
}, 120_000)
afterAll(async () => {
  await Promise.all(lines.map(line => line.stop()))
  await stand?.close()
  await authority?.close()
})

async function startProxy(): Promise<StartedProxy> {
  // The first stand still until the last have begun; and proxies and lines share one process, whose turns are long when a
  // hundred go on at once.
  const limits = { ...stand.settings.limits, drain: TIMEOUT, bodyIdle: TIMEOUT, redisSilence: 60_000 }
  return await stand.startProxy({ limits })
}

/** A developer's key with the certificate of this moment, and known_hosts as they were told once. */
async function developer(): Promise<{ key: Key; env: { [name: string]: string } }> {
  const key = await makeKey('developer')
  await authority.certify(key, 'alice')
  return { key, env: { GIT_SSH_COMMAND: sshCommand({ key: key.path, knownHosts }) } }
}
let knownHosts = ''

test(`${CLONES} clones under way outlive two rotations and the restart of the proxy they run through`, {
  timeout: TIMEOUT,
}, async () => {
  knownHosts = join(temporaryFolder('known'), 'known_hosts')
  writeFileSync(knownHosts, knownHostsLines((await authority.client.trusted()).host, ['*']))
  const early = await developer()
  const [one, other] = [await startProxy(), await startProxy()]

  const begin = async (through: StartedProxy, transport: 'http' | 'ssh') => {
    const { url, env } = await stand.remote(transport, 'local/acme/app', through)
    const line = await startLine(Number(new URL(url).port), { downAfter: STALL_BYTES })
    lines.push(line)
    const at = new URL(url)
    at.port = String(line.port)
    const folder = join(temporaryFolder('clone'), 'work')
    const by = transport === 'ssh' ? (await developer()).env : env
    const cloned = git(['clone', '-q', at.href, folder], { env: by, timeout: TIMEOUT })
    await until(() => line.stalled, 'a clone to be in the middle of its pack', TIMEOUT)
    return { folder, cloned }
  }
  /** One after the other: many keys exchanged at one moment are not what this is about. */
  const several = async (through: StartedProxy) => {
    const begun: Awaited<ReturnType<typeof begin>>[] = []
    while (begun.length < CLONES / 2) begun.push(await begin(through, begun.length % 4 === 3 ? 'http' : 'ssh'))
    return begun
  }

  const first = await several(one)
  await authority.client.rotate({ by: 'eve', ring: 'user' })
  const stopped = one.close()
  // The balancer sends what is new to the other one, by certificates of the new key.
  const second = await several(other)
  await authority.client.rotate({ by: 'eve', ring: 'user' })
  await authority.client.rotate({ by: 'eve', ring: 'host' })
  for (const line of lines) line.resume()

  const clones = [...first, ...second]
  const ended = await Promise.all(clones.map(({ cloned }) => cloned))
  expect(ended.map(({ status, stderr }) => ({ status, stderr }))).toEqual(
    clones.map(() => ({ status: 0, stderr: expect.any(String) })),
  )
  await stopped
  const { 'refs/heads/main': tip } = await refsOf(bare)
  for (const { folder } of clones) expect((await git(['rev-parse', 'HEAD'], { cwd: folder })).stdout.trim()).toBe(tip)

  const ends = (await stand.records()).filter(record => record.kind === 'operation.end' && record.action === 'fetch')
  expect(ends.map(end => 'result' in end && end.result)).toEqual(clones.map(() => 'ok'))

  // Restarted, with a host certificate by the new key: whoever was told before the rotations comes in as ever.
  const restarted = await startProxy()
  const again = await git(['ls-remote', `${restarted.urls.ssh}/local/acme/app.git`], { env: early.env })
  expect(again).toMatchObject({ status: 0, stdout: expect.stringContaining('refs/heads/main') })
})
