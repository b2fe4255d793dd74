import { createServer, request as requestHttp, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { OperationEnd } from '../../audit/record.ts'
import { DELIM, FLUSH, line } from '../../proxy/git/pktline.ts'
import { commitFile, type GitResult, git, gitOk, makeRepository, refsOf } from '../support/git.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Stand, type StartedProxy, startStand } from '../support/stand.ts'
import { post } from '../support/wire.ts'

// One answer of a host for everybody who asks for the same: who gets it, and who must not.

let stand: Stand
let host: WatchedHost
let proxy: StartedProxy
/** One with hardly any disk for answers. */
let narrow: StartedProxy
let repository: string
let bare: string
let n = 0

beforeAll(async () => {
  stand = await startStand()
  host = await watchedHost(stand.nginx.url)
  const web = stand.settings.upstreams.get('web')!
  const upstreams = new Map([
    ...stand.settings.upstreams,
    ['watched', { ...web, name: 'watched', url: new URL(host.url) }],
  ])
  const reuse = { enabled: true, ttl: 60_000, bytes: 256 << 20, folder: undefined }
  proxy = await stand.startProxy({ upstreams, reuse })
  narrow = await stand.startProxy({ upstreams, reuse: { ...reuse, bytes: 1 << 20 } })
})
afterAll(async () => {
  await stand?.close()
  host?.stop()
})
beforeEach(async () => {
  const name = `reuse-${++n}`
  repository = `watched/acme/${name}`
  bare = await makeRepository(join(stand.folder, 'acme', `${name}.git`), { branches: ['topic'], tags: ['v1'] })
  host.fetches = 0
  host.lists = 0
})
afterEach(() => {
  host.release()
})

const remoteOf = async (principal: string, of = proxy) => {
  const url = new URL(`${of.urls.http}/${repository}.git`)
  url.username = principal
  url.password = await stand.token(principal)
  return url.href
}

interface Clone extends GitResult {
  readonly work: string
}

async function clone(principal: string, options: readonly string[] = [], of = proxy): Promise<Clone> {
  const work = join(temporaryFolder('clone'), 'work')
  return { work, ...(await git(['clone', '-q', ...options, await remoteOf(principal, of), work])) }
}

async function expectWhole({ work, status, stderr }: Clone): Promise<void> {
  expect(stderr).toContain('let through by')
  expect(status).toBe(0)
  expect(await gitOk(['fsck', '--full', '--strict'], { cwd: work })).toBe('')
  expect(await gitOk(['rev-parse', 'HEAD'], { cwd: work })).toBe((await refsOf(bare))['refs/heads/main'])
}

/** The ends of all fetches of this story's repository, in order. */
const ends = async () =>
  (await stand.records()).filter(
    (record): record is OperationEnd =>
      record.kind === 'operation.end' && record.action === 'fetch' && record.repository === repository,
  )

/** Makes the repository so large that an answer is under way for as long as the host is held. */
async function enlarge(): Promise<void> {
  const { noise } = await import('../support/git.ts')
  const work = join(temporaryFolder('enlarge'), 'work')
  await gitOk(['clone', '-q', bare, work])
  await commitFile(work, 'large', noise(6 << 20) as unknown as string)
  await gitOk(['push', '-q', bare, 'HEAD:refs/heads/main'], { cwd: work })
}

const everybody = (count: number) => Array.from({ length: count }, (_, index) => `dev${index}`)

test('twenty clones at once, over HTTP and SSH, ask the host once, and each is whole', async () => {
  await enlarge()
  const people = everybody(18)
  for (const principal of [...people, 'alice']) await stand.grant({ repository, principal, actions: ['fetch'] })
  const ssh = await stand.remote('ssh', repository, proxy)
  const overSsh = async (): Promise<Clone> => {
    const work = join(temporaryFolder('clone'), 'work')
    return { work, ...(await git(['clone', '-q', ssh.url, work], { env: ssh.env })) }
  }
  const all = await Promise.all([...people.map(principal => clone(principal)), overSsh(), overSsh()])
  for (const each of all) await expectWhole(each)
  expect(host.fetches).toBe(1)
  const recorded = await ends()
  expect(recorded.map(({ result }) => result)).toEqual(Array(20).fill('ok'))
  expect(recorded.filter(({ reuse }) => reuse === undefined)).toHaveLength(1)
  // Each record says what this client was given, wherever it came from.
  for (const { bytesOut, objects } of recorded) {
    expect(bytesOut).toBeGreaterThan(6 << 20)
    expect(objects).toBe(recorded[0]?.objects)
  }
})

describe('who has no right to it gets nothing of it', () => {
  beforeEach(async () => {
    await stand.grant({ repository, actions: ['fetch'] })
    await expectWhole(await clone('alice'))
    expect(host.fetches).toBe(1)
    host.requests = 0
  })

  test('without a grant', async () => {
    const refused = await clone('mallory')
    expect(refused.status).not.toBe(0)
    expect(refused.stderr).toContain(`no open window for you on ${repository}`)
  })

  test('without a grant, asking for the pack alone by its ids', async () => {
    const main = (await refsOf(bare))['refs/heads/main']!
    const token = await stand.token('mallory')
    const { text } = await post(
      stand,
      'git-upload-pack',
      repository,
      { body: wanting(main), protocol: 2, token },
      proxy,
    )
    expect(text).toContain('no open window')
    expect(text).not.toContain('PACK')
    expect(host.requests).toBe(0)
  })

  test('with a grant for another repository', async () => {
    await stand.grant({ repository: 'watched/acme/other', principal: 'bob' })
    expect((await clone('bob')).stderr).toContain(`no open window for you on ${repository}`)
    expect(host.requests).toBe(0)
  })

  test('with a grant that ended', async () => {
    const grant = await stand.grant({ repository, principal: 'carol' })
    await stand.revoke(grant)
    expect((await clone('carol')).stderr).toContain('no open window')
    expect(host.requests).toBe(0)
  })

  test('with a grant for some refs: what they get is from the host', async () => {
    await stand.grant({ repository, principal: 'bob', actions: ['fetch', 'update'], refs: ['**', 'refs/tags/**'] })
    await expectWhole(await clone('bob'))
    expect(host.fetches).toBe(2)
    expect((await ends()).at(-1)?.reuse).toBeUndefined()
  })

  test('with one use left: the use is counted, and there is no second', async () => {
    await stand.grant({ repository, principal: 'bob', actions: ['fetch'], uses: 1 })
    await expectWhole(await clone('bob'))
    expect((await ends()).at(-1)?.reuse).toBe('cached')
    expect((await clone('bob')).status).not.toBe(0)
  })
})

const wanting = (...ids: string[]) =>
  Buffer.concat([
    line('command=fetch'),
    line('object-format=sha1'),
    DELIM,
    line('include-tag'),
    ...ids.map(id => line(`want ${id}`)),
    line('done'),
    FLUSH,
  ])

describe('what the host would not give now is not served, though it lies here', () => {
  const ask = async (...ids: string[]) =>
    post(stand, 'git-upload-pack', repository, { body: wanting(...ids), protocol: 2 }, proxy)

  test.each<[string, (main: string) => Promise<unknown>]>([
    [
      'after a force push',
      async () => {
        const work = join(temporaryFolder('force'), 'work')
        await gitOk(['clone', '-q', bare, work])
        await gitOk(['commit', '-q', '--amend', '-m', 'another'], { cwd: work })
        await gitOk(['push', '-q', '--force', bare, 'HEAD:refs/heads/main'], { cwd: work })
        await gitOk(['update-ref', '-d', 'refs/heads/topic'], { cwd: bare })
        await gitOk(['update-ref', '-d', 'refs/tags/v1'], { cwd: bare })
      },
    ],
    [
      'after its branch was deleted',
      async () => {
        for (const ref of Object.keys(await refsOf(bare))) await gitOk(['update-ref', '-d', ref], { cwd: bare })
      },
    ],
  ])('%s', async (_what, change) => {
    await stand.grant({ repository, actions: ['fetch'] })
    const main = (await refsOf(bare))['refs/heads/main']!
    for (let times = 0; times < 2; times++) expect((await ask(main)).text).toContain('PACK')
    expect(host.fetches).toBe(1)
    expect((await ends()).at(-1)?.reuse).toBe('cached')
    await change(main)
    await ask(main)
    // Stock upload-pack gives any object it has; that is the host's to decide, and it was the host who was asked.
    expect(host.fetches).toBe(2)
    expect((await ends()).at(-1)?.reuse).toBeUndefined()
  })

  test('after a tag came or went, which the host would send along or not', async () => {
    await stand.grant({ repository, actions: ['fetch'] })
    const main = (await refsOf(bare))['refs/heads/main']!
    await ask(main)
    await gitOk(['tag', '-a', 'v9', '-m', 'v9', main], { cwd: bare })
    await ask(main)
    expect(host.fetches).toBe(2)
    await gitOk(['tag', '-d', 'v9'], { cwd: bare })
    await ask(main)
    expect((await ends()).map(({ reuse }) => reuse)).toEqual([undefined, undefined, 'cached'])
  })
})

describe('while the answer comes', () => {
  /** Starts clones one after the other, until all of them wait for the rest of the host's answer to the first. */
  async function together(...people: string[]): Promise<Promise<Clone>[]> {
    await enlarge()
    host.hold(1 << 20)
    const clones: Promise<Clone>[] = []
    for (const principal of people) {
      clones.push(clone(principal))
      // Two listings each: their own, and the one for which they are told from others who ask for the same.
      await until(() => host.lists === 2 * clones.length)
    }
    await until(() => host.held)
    await new Promise(resolve => setTimeout(resolve, 300))
    return clones
  }

  test('one is cut and told why; the others read on', async () => {
    await stand.grant({ repository, principal: 'bob', actions: ['fetch'] })
    await stand.grant({ repository, principal: 'carol', actions: ['fetch'] })
    const grant = await stand.grant({ repository, principal: 'dave', actions: ['fetch'] })
    const [bob, carol, dave] = await together('bob', 'carol', 'dave')
    await stand.revoke(grant, 'the incident')
    expect((await dave)?.stderr).toContain('your window was closed: the incident')
    host.release()
    await expectWhole((await bob)!)
    await expectWhole((await carol)!)
    expect(host.fetches).toBe(1)
    const recorded = await ends()
    expect(recorded.map(({ principal, result, reuse }) => [principal, result, reuse]).sort()).toEqual([
      ['bob', 'ok', undefined],
      ['carol', 'ok', 'shared'],
      ['dave', 'cut', 'shared'],
    ])
    expect(recorded.find(({ principal }) => principal === 'dave')?.bytesOut).toBeLessThan(4 << 20)
  })

  test('the one who asked first is cut: the others read on', async () => {
    const grant = await stand.grant({ repository, principal: 'bob', actions: ['fetch'] })
    await stand.grant({ repository, principal: 'carol', actions: ['fetch'] })
    const [bob, carol] = await together('bob', 'carol')
    await stand.revoke(grant, 'the incident')
    expect((await bob)?.stderr).toContain('your window was closed: the incident')
    host.release()
    await expectWhole((await carol)!)
    expect(host.fetches).toBe(1)
  })

  test('when nobody is left to read, the host is let go of', async () => {
    const grant = await stand.grant({ repository, principal: 'bob', actions: ['fetch'] })
    const [bob] = await together('bob')
    await stand.revoke(grant, 'the incident')
    await bob
    await until(() => host.abandoned > 0)
  })

  test('a host that breaks off fails all of them, and the next is asked anew', async () => {
    for (const principal of ['bob', 'carol']) await stand.grant({ repository, principal, actions: ['fetch'] })
    const clones = await together('bob', 'carol')
    host.breakOff()
    for (const each of await Promise.all(clones)) {
      expect(each.status).not.toBe(0)
      expect(each.stderr).toContain('the Git host broke off')
    }
    expect((await ends()).map(({ result }) => result)).toEqual(['failed', 'failed'])
    await expectWhole(await clone('bob'))
    expect(host.fetches).toBe(2)
  })
})

test('the one who asked first may hang up: the others read on', async () => {
  await enlarge()
  for (const principal of ['bob', 'carol']) await stand.grant({ repository, principal, actions: ['fetch'] })
  const body = wanting((await refsOf(bare))['refs/heads/main']!)
  host.hold(1 << 20)
  const first = await hangingUp(body, 'bob')
  await until(() => host.held)
  const token = await stand.token('carol')
  const second = post(stand, 'git-upload-pack', repository, { body, protocol: 2, token }, proxy)
  // One listing each: she has come as far as to wait for the same answer.
  await until(() => host.lists === 2)
  await new Promise(resolve => setTimeout(resolve, 200))
  first.destroy()
  await until(async () => (await ends()).length === 1)
  host.release()
  const { body: answer } = await second
  expect(answer.subarray(-4).toString()).toBe('0000')
  expect(answer.length).toBeGreaterThan(6 << 20)
  expect(host.fetches).toBe(1)
  expect((await ends()).map(({ result, reuse }) => [result, reuse])).toEqual([
    ['failed', undefined],
    ['ok', 'shared'],
  ])
})

/** Asks for a pack and reads no more than its beginning. */
async function hangingUp(body: Buffer, principal: string): Promise<{ destroy(): void }> {
  const asked = requestHttp(`${proxy.urls.http}/${repository}.git/git-upload-pack`, {
    method: 'POST',
    agent: false,
    headers: {
      authorization: `Bearer ${await stand.token(principal)}`,
      'content-type': 'application/x-git-upload-pack-request',
      'git-protocol': 'version=2',
    },
  })
  asked
    .on('error', () => {})
    .on('response', response => response.on('error', () => {}).once('data', () => response.pause()))
  asked.end(body)
  return asked
}

test('an answer longer than the disk reaches everybody, and is not kept', async () => {
  await enlarge()
  for (const principal of ['bob', 'carol', 'dave']) await stand.grant({ repository, principal, actions: ['fetch'] })
  for (const each of await Promise.all([clone('bob', [], narrow), clone('carol', [], narrow)])) await expectWhole(each)
  const before = host.fetches
  await expectWhole(await clone('dave', [], narrow))
  expect(host.fetches).toBe(before + 1)
})

test('whole, shallow and partial clones are different things to ask for', async () => {
  await stand.grant({ repository, actions: ['fetch'] })
  const ways = [[], ['--depth', '1'], ['--depth', '2'], ['--filter=blob:none', '--no-checkout']]
  for (const [index, options] of ways.entries()) {
    for (let times = 0; times < 2; times++) {
      const { work, status } = await clone('alice', options)
      expect(status).toBe(0)
      const count = await gitOk(['rev-list', '--count', 'HEAD'], { cwd: work })
      expect(count).toBe(
        index === 1 ? '1' : index === 2 ? '2' : await gitOk(['rev-list', '--count', 'main'], { cwd: bare }),
      )
      expect(host.fetches).toBe(index + 1)
    }
  }
  expect((await ends()).map(({ reuse }) => reuse ?? 'asked')).toEqual(ways.flatMap(() => ['asked', 'cached']))
})

test('repositories of SHA-256 are shared like any other', async () => {
  bare = await makeRepository(join(stand.folder, 'acme', `long-${n}.git`), { objectFormat: 'sha256', tags: ['v1'] })
  repository = `watched/acme/long-${n}`
  await stand.grant({ repository, actions: ['fetch'] })
  for (let times = 0; times < 2; times++) await expectWhole(await clone('alice'))
  expect((await ends()).map(({ reuse }) => reuse)).toEqual([undefined, 'cached'])
})

test('clients of protocol 0 and 1 are served by the host alone', async () => {
  await stand.grant({ repository, actions: ['fetch'] })
  for (const version of [0, 1]) {
    for (let times = 0; times < 2; times++) {
      const work = join(temporaryFolder('clone'), 'work')
      await gitOk(['-c', `protocol.version=${version}`, 'clone', '-q', await remoteOf('alice'), work])
    }
  }
  expect((await ends()).filter(({ reuse }) => reuse)).toEqual([])
})

// ---- a host that can be held up ----

interface WatchedHost {
  readonly url: string
  /** Commands that were asked, and requests of any kind. */
  fetches: number
  lists: number
  requests: number
  /** Answers that were given up by who asked. */
  abandoned: number
  /** Whether an answer stands still now. */
  readonly held: boolean
  /** The next answer stands still after so many bytes, until it is released or broken off. */
  hold(bytes: number): void
  release(): void
  breakOff(): void
  stop(): void
}

/** Passes everything on to a real host, and knows which requests are fetches. */
async function watchedHost(behind: string): Promise<WatchedHost> {
  let holdAfter: number | undefined
  let standing: { response: ServerResponse; goOn(): void } | undefined
  const server = createServer((request, response) => {
    watched.requests++
    const { method, url, headers } = request
    const asked = requestHttp(new URL((url ?? '/').slice(1), behind), { method, headers }, answer => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      let sent = 0
      answer.on('data', (chunk: Buffer) => {
        sent += chunk.length
        response.write(chunk)
        if (holdAfter === undefined || sent < holdAfter) return
        holdAfter = undefined
        answer.pause()
        standing = { response, goOn: () => answer.resume() }
      })
      answer.on('end', () => response.end())
      answer.on('error', () => response.destroy())
    })
    asked.on('error', () => response.destroy())
    response.on('close', () => {
      if (response.writableFinished) return
      watched.abandoned++
      asked.destroy()
    })
    request.on('data', (chunk: Buffer) => {
      if (chunk.includes('command=fetch')) watched.fetches++
      if (chunk.includes('command=ls-refs')) watched.lists++
      asked.write(chunk)
    })
    request.on('end', () => asked.end())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const watched: WatchedHost = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    fetches: 0,
    lists: 0,
    requests: 0,
    abandoned: 0,
    get held() {
      return standing !== undefined
    },
    hold: bytes => {
      holdAfter = bytes
    },
    release: () => {
      holdAfter = undefined
      standing?.goOn()
      standing = undefined
    },
    breakOff: () => {
      standing?.response.destroy()
      standing = undefined
    },
    stop: () => {
      server.close()
      server.closeAllConnections()
    },
  }
  return watched
}
