import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { Registry } from 'prom-client'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { OperationStart } from '../../../audit/record.ts'
import type { Credential, UpstreamSettings } from '../../../config/settings.ts'
import type { LiveGrant } from '../../../grant/grant.ts'
import type { Client } from '../../../proxy/client.ts'
import { DELIM, FLUSH, line } from '../../../proxy/git/pktline.ts'
import { band } from '../../../proxy/git/sideband.ts'
import { commandReader, readCommand } from '../../../proxy/git/uploadpack.ts'
import type { FetchCommand } from '../../../proxy/reuse/asked.ts'
import { measureReuse } from '../../../proxy/reuse/metrics.ts'
import { type Given, Reuse } from '../../../proxy/reuse/reuse.ts'
import { SPOOL_PREFIX } from '../../../proxy/reuse/spool.ts'
import { Session } from '../../../proxy/session.ts'
import type { Target, Upstream } from '../../../proxy/upstream/upstream.ts'
import { temporaryFolder } from '../../support/program.ts'

const A = 'a'.repeat(40)
const B = 'b'.repeat(40)
const MIB = 1 << 20

/** A host whose refs and packs the test sets; it counts what it is asked for. */
class Host {
  refs = [`${A} refs/heads/main`]
  pack: (target: Target) => Buffer[] = () => [band(1, Buffer.from('PACK…'))]
  lists: Target[] = []
  fetches: Target[] = []
  settings: UpstreamSettings

  constructor(credential: Credential = { type: 'none' }) {
    const url = new URL('https://host.example/')
    const limits = { connectTimeout: 1000, idleTimeout: 1000, connections: 8 }
    this.settings = { name: 'host', url, credential, hostKeys: [], ...limits }
  }

  connect = (target: Target): Upstream => ({
    conversational: false,
    advertise: () => Promise.reject(new Error('was asked to advertise')),
    exchange: async body => {
      const asked = (await body.toArray()).join('')
      if (asked.includes('command=ls-refs')) {
        this.lists.push(target)
        return Readable.from([...this.refs.map(line), FLUSH], { objectMode: false })
      }
      this.fetches.push(target)
      return Readable.from([line('packfile'), ...this.pack(target), FLUSH], { objectMode: false })
    },
    close: () => {},
  })
}

const opened: Reuse[] = []
afterEach(() => {
  for (const reuse of opened.splice(0)) reuse.close()
})

async function reuseOf(host: Host, change: { ttl?: number; bytes?: number; folder?: string } = {}): Promise<Reuse> {
  const reuse = await Reuse.open({
    folder: temporaryFolder('reuse'),
    bytes: 64 * MIB,
    ttl: 60_000,
    hostOf: () => host.connect,
    upstreamOf: () => host.settings,
    ...change,
  })
  opened.push(reuse)
  return reuse
}

async function fetchCommand(...args: string[]): Promise<FetchCommand> {
  const packets = [line('command=fetch'), DELIM, ...args.map(line), line('done'), FLUSH]
  const command = await readCommand(commandReader(Readable.from([Buffer.concat(packets)], { objectMode: false })))
  if (command?.command !== 'fetch') throw new Error('not read as a fetch')
  return command
}

const EVERYTHING: Partial<LiveGrant> = { actions: ['fetch'], refs: [] }

interface Asking {
  readonly principal?: string
  readonly repository?: string
  readonly grant?: Partial<LiveGrant>
  readonly gone?: AbortSignal
  readonly release?: () => void
}

/** Asks as somebody whom the gate has let through. */
async function ask(reuse: Reuse, args: string[], asking: Asking = {}): Promise<Given | undefined> {
  const { principal = 'alice', repository = 'host/app', grant = EVERYTHING, release = () => {} } = asking
  const client: Client = {
    caller: {
      principal,
      identity: { kind: 'token', id: 't-1' },
      credentials: [],
      origin: { transport: 'http', address: '127.0.0.1', connection: 'c-1', agent: 'test' },
    },
    repository,
    service: 'upload-pack',
    protocol: 2,
    part: 'exchange',
    request: Readable.from([]),
    response: new PassThrough(),
    gone: asking.gone ?? new AbortController().signal,
  }
  const session = new Session({
    client,
    start: { operation: 'op-1' } as OperationStart,
    grants: [grant as LiveGrant],
    emit: async () => {},
    onEnd: () => {},
  })
  return reuse.exchange({ client, session, command: await fetchCommand(...args), release })
}

/** Asks, reads all of it, and says where it came from. */
async function fetched(reuse: Reuse, args: string[], asking: Asking = {}): Promise<string> {
  const given = await ask(reuse, args, asking)
  if (!given) return 'host alone'
  await given.answer.toArray()
  // The answer is on its way out when its last byte is read.
  await new Promise(resolve => setImmediate(resolve))
  return given.reused ?? 'asked'
}

test('the same again comes from the disk, and what is different does not', async () => {
  const host = new Host()
  host.refs.push(`${B} refs/heads/topic`)
  const reuse = await reuseOf(host)
  expect(await fetched(reuse, [`want ${A}`])).toBe('asked')
  expect(await fetched(reuse, [`want ${A}`])).toBe('cached')
  for (const other of [
    [`want ${B}`],
    [`want ${A}`, `want ${B}`],
    [`want ${A}`, 'filter blob:none'],
    [`want ${A}`, `have ${B}`],
  ])
    expect(await fetched(reuse, other)).toBe('asked')
  expect(await fetched(reuse, [`want ${A}`], { repository: 'host/other' })).toBe('asked')
  expect(host.fetches).toHaveLength(6)
  expect(reuse.counts).toMatchObject({ asked: 6, cached: 1, shared: 0 })
  expect(reuse.counts.bytes).toBeGreaterThan(0)
})

test('twenty at once ask once, and the host is asked for its refs a few times, not twenty', async () => {
  const host = new Host()
  const reuse = await reuseOf(host)
  const all = await Promise.all(
    Array.from({ length: 20 }, (_, n) => fetched(reuse, [`want ${A}`], { principal: `p${n}` })),
  )
  expect(all.filter(how => how === 'asked')).toHaveLength(1)
  expect(all.filter(how => how === 'shared' || how === 'cached')).toHaveLength(19)
  expect(host.fetches).toHaveLength(1)
  expect(host.lists.length).toBeLessThanOrEqual(3)
})

test('what it did can be read by Prometheus', async () => {
  const host = new Host()
  const reuse = await reuseOf(host)
  const registry = new Registry()
  measureReuse(registry, reuse)
  for (const args of [[`want ${A}`], [`want ${A}`], [`want ${B}`]]) await fetched(reuse, args)
  for (let times = 0; times < 2; times++) {
    const text = await registry.metrics()
    expect(text).toContain('drawbridge_reuse_fetches_total{how="asked",reason=""} 1\n')
    expect(text).toContain('drawbridge_reuse_fetches_total{how="cached",reason=""} 1\n')
    expect(text).toContain('drawbridge_reuse_fetches_total{how="passed",reason="wants"} 1\n')
    expect(text).toContain(`drawbridge_reuse_disk_bytes ${reuse.bytes}\n`)
    expect(text).toContain(`drawbridge_reuse_bytes_total ${reuse.counts.bytes}\n`)
  }
})

describe('what the host would not give now is not given', () => {
  test('a tip that has moved or is gone, though its pack lies here', async () => {
    const host = new Host()
    const reuse = await reuseOf(host)
    await fetched(reuse, [`want ${A}`])
    host.refs = [`${B} refs/heads/main`]
    expect(await fetched(reuse, [`want ${A}`])).toBe('host alone')
    host.refs = []
    expect(await fetched(reuse, [`want ${A}`])).toBe('host alone')
    expect(reuse.counts.passed.wants).toBe(2)
  })

  test('what a tag points to is no tip, and what only a ref elsewhere stands at neither', async () => {
    const host = new Host()
    host.refs = [`${A} refs/tags/v1 peeled:${B}`]
    expect(await fetched(await reuseOf(host), [`want ${B}`])).toBe('host alone')
  })

  test('with include-tag, an answer that was made when other tags were there', async () => {
    const host = new Host()
    host.refs.push(`${B} refs/tags/v1 peeled:${A}`)
    const reuse = await reuseOf(host)
    const clone = [`want ${A}`, 'include-tag']
    expect(await fetched(reuse, clone)).toBe('asked')
    expect(await fetched(reuse, clone)).toBe('cached')
    host.refs.pop()
    expect(await fetched(reuse, clone)).toBe('asked')
  })

  test('when it does not tell its refs, it is asked itself', async () => {
    const host = new Host()
    const reuse = await reuseOf(host)
    await fetched(reuse, [`want ${A}`])
    host.refs = ['ERR no']
    expect(await fetched(reuse, [`want ${A}`])).toBe('host alone')
    expect(reuse.counts.passed.listing).toBe(1)
  })
})

describe('whom the host sees', () => {
  test('where each principal has an account there, nobody is given what another was', async () => {
    const host = new Host({ type: 'ssh-certificate', principal: 'git', keyId: '{principal}', extensions: {} })
    const reuse = await reuseOf(host)
    expect(await fetched(reuse, [`want ${A}`], { principal: 'alice' })).toBe('asked')
    expect(await fetched(reuse, [`want ${A}`], { principal: 'bob' })).toBe('asked')
    expect(await fetched(reuse, [`want ${A}`], { principal: 'bob' })).toBe('cached')
    expect(host.lists.map(({ principal }) => principal)).toEqual(['alice', 'bob', 'bob'])
    expect(host.fetches.map(({ principal }) => principal)).toEqual(['alice', 'bob'])
  })

  test('where all have one, they share; another account or place of the host is another host', async () => {
    const host = new Host({ type: 'bearer', token: 'one' })
    const reuse = await reuseOf(host)
    expect(await fetched(reuse, [`want ${A}`], { principal: 'alice' })).toBe('asked')
    expect(await fetched(reuse, [`want ${A}`], { principal: 'bob' })).toBe('cached')
    host.settings = { ...host.settings, credential: { type: 'bearer', token: 'two' } }
    expect(await fetched(reuse, [`want ${A}`])).toBe('asked')
    host.settings = { ...host.settings, url: new URL('https://elsewhere.example/') }
    expect(await fetched(reuse, [`want ${A}`])).toBe('asked')
  })

  test('a grant that names refs is served by the host alone', async () => {
    const host = new Host()
    const reuse = await reuseOf(host)
    await fetched(reuse, [`want ${A}`])
    expect(await fetched(reuse, [`want ${A}`], { grant: { actions: ['fetch'], refs: ['refs/heads/main'] } })).toBe(
      'host alone',
    )
    // One that allows every ref to be written is none for reading.
    expect(await fetched(reuse, [`want ${A}`], { grant: { actions: ['update'], refs: [] } })).toBe('host alone')
    expect(host.lists).toHaveLength(1)
  })
})

test('a connection of the client’s own is let go of before the host is asked, and only then', async () => {
  const host = new Host()
  const reuse = await reuseOf(host)
  const release = vi.fn(() => expect(host.lists).toHaveLength(0))
  await fetched(reuse, [`want ${A}`], { release })
  expect(release).toHaveBeenCalledOnce()
  const kept = vi.fn()
  expect(await fetched(reuse, [`want ${A}`, 'sideband-all'], { release: kept })).toBe('host alone')
  expect(kept).not.toHaveBeenCalled()
})

test('whoever is cut while they wait gets nothing', async () => {
  const host = new Host()
  const reuse = await reuseOf(host)
  const cut = new AbortController()
  const asking = ask(reuse, [`want ${A}`], { gone: cut.signal })
  cut.abort(new Error('gone'))
  await expect(asking).rejects.toThrow('gone')
})

describe('the disk', () => {
  const sized = (bytes: number) => () =>
    Array.from({ length: bytes / 60_000 }, () => band(1, Buffer.alloc(60_000, 'x')))

  test('an answer is let go of after its time', async () => {
    const host = new Host()
    const reuse = await reuseOf(host, { ttl: 20 })
    await fetched(reuse, [`want ${A}`])
    await vi.waitFor(() => expect([reuse.answers, reuse.bytes]).toEqual([0, 0]))
    expect(await fetched(reuse, [`want ${A}`])).toBe('asked')
  })

  test('a time of none: shared as it comes, kept not at all', async () => {
    const host = new Host()
    const reuse = await reuseOf(host, { ttl: 0 })
    await fetched(reuse, [`want ${A}`])
    await vi.waitFor(() => expect([reuse.answers, reuse.bytes]).toEqual([0, 0]))
  })

  test('never holds more than it may: what was not used for longest goes first', async () => {
    const host = new Host()
    host.pack = sized(1.2 * MIB)
    const ids = ['1', '2', '3', '4'].map(digit => digit.repeat(40))
    host.refs = ids.map((id, n) => `${id} refs/heads/b${n}`)
    const reuse = await reuseOf(host, { bytes: 4 * MIB })
    const how: string[] = []
    // The third takes the place of the second, since the first was used again.
    for (const n of [0, 1, 0, 2, 0, 1]) {
      how.push(await fetched(reuse, [`want ${ids[n]}`]))
      expect(reuse.bytes).toBeLessThanOrEqual(4 * MIB)
    }
    expect(how).toEqual(['asked', 'asked', 'cached', 'asked', 'cached', 'asked'])
    expect(reuse.counts.evicted).toBeGreaterThan(0)
  })

  test('an answer that somebody reads is not taken from under them', async () => {
    const host = new Host()
    host.pack = sized(1.2 * MIB)
    host.refs.push(`${B} refs/heads/topic`)
    const reuse = await reuseOf(host, { bytes: 2 * MIB })
    await fetched(reuse, [`want ${A}`])
    const reading = await ask(reuse, [`want ${A}`])
    expect(await fetched(reuse, [`want ${B}`])).toBe('host alone')
    expect(reuse.counts.passed.disk).toBe(1)
    expect(Buffer.concat(await reading!.answer.toArray()).length).toBeGreaterThan(MIB)
    // And it is still there for the next.
    expect(await fetched(reuse, [`want ${A}`])).toBe('cached')
    expect(await fetched(reuse, [`want ${B}`])).toBe('asked')
  })

  test('an answer longer than all of it passes through, and is not kept', async () => {
    const host = new Host()
    host.pack = sized(6 * MIB)
    const reuse = await reuseOf(host, { bytes: 2 * MIB })
    expect(await fetched(reuse, [`want ${A}`])).toBe('asked')
    await vi.waitFor(() => expect(reuse.bytes).toBe(0))
    expect(await fetched(reuse, [`want ${A}`])).toBe('asked')
  })

  test('none at all: everybody asks the host', async () => {
    const host = new Host()
    const reuse = await reuseOf(host, { bytes: 0 })
    expect(await fetched(reuse, [`want ${A}`])).toBe('host alone')
  })

  test('what an earlier run left is taken away, and nothing else in the folder', async () => {
    const folder = join(temporaryFolder('reuse'), 'below')
    mkdirSync(folder)
    writeFileSync(join(folder, `${SPOOL_PREFIX}left`), 'x')
    writeFileSync(join(folder, 'somebody-elses'), 'x')
    await reuseOf(new Host(), { folder })
    expect(readdirSync(folder)).toEqual(['somebody-elses'])
  })

  test('a folder that is made is nobody else’s', async () => {
    const folder = join(temporaryFolder('reuse'), 'made')
    await reuseOf(new Host(), { folder })
    expect(statSync(folder).mode & 0o777).toBe(0o700)
  })
})
