import { createServer, type IncomingMessage, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FLUSH, line } from '../../proxy/git/pktline.ts'
import { git, makeRepository, refsOf } from '../support/git.ts'
import { startLine } from '../support/line.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Stand, type StartedProxy, startStand } from '../support/stand.ts'
import { recordTold, unseen } from '../support/told.ts'

// What must not cross the gate: headers, redirects, another's answer, a second spelling of a name.

let stand: Stand
let proxy: StartedProxy
let host: Server
let bare: string
const asked: IncomingMessage[] = []

/** A host that says more than it should, and moves away when it is asked to. */
function startHost(): Promise<Server> {
  const server = createServer((incoming, response) => {
    asked.push(incoming)
    if (incoming.url!.startsWith('/moved/')) {
      response
        .writeHead(302, { location: `http://127.0.0.1:${(server.address() as AddressInfo).port}/elsewhere` })
        .end()
      return
    }
    response.writeHead(200, {
      'content-type': 'application/x-git-upload-pack-advertisement',
      'set-cookie': 'session=host',
      'www-authenticate': 'Basic realm="host"',
      server: 'host/1',
      'x-host': 'yes',
      'strict-transport-security': 'max-age=1',
      'access-control-allow-origin': '*',
      'keep-alive': 'timeout=1',
      trailer: 'x-late',
    })
    response.write(Buffer.concat([line('# service=git-upload-pack\n'), FLUSH, line('version 2\n'), FLUSH]))
    response.addTrailers({ 'x-late': 'yes' })
    response.end()
  })
  return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server)))
}

beforeAll(async () => {
  host = await startHost()
  stand = await startStand()
  const common = stand.settings.upstreams.get('web')!
  const url = new URL(`http://127.0.0.1:${(host.address() as AddressInfo).port}/`)
  const credential = { type: 'bearer', token: 'the-host-knows-this' } as const
  const upstreams = new Map([
    // One connection for everybody: an answer on it that was not read to its end is the next one's, if the gate errs.
    ['web', { ...common, connections: 1 }],
    ['odd', { ...common, name: 'odd', url, credential }],
  ])
  proxy = await stand.startProxy({ upstreams })
  bare = await makeRepository(join(stand.folder, 'acme', 'large.git'), { bytes: 16 << 20 })
  await makeRepository(join(stand.folder, 'acme', 'app.git'), { branches: ['topic'] })
  await stand.grant({ repository: '**' })
})
afterAll(async () => {
  await stand?.close()
  host?.close()
})

const raw = async (path: string, headers: { [name: string]: string } = {}) =>
  await fetch(`${proxy.urls.http}${path}`, {
    redirect: 'manual',
    headers: { authorization: `Bearer ${await stand.token('alice')}`, 'git-protocol': 'version=2', ...headers },
  })
const INFO = 'info/refs?service=git-upload-pack'

describe('headers', () => {
  test('of the client do not reach the host, but for those the gate makes itself', async () => {
    asked.length = 0
    await raw(`/odd/acme/app.git/${INFO}`, {
      cookie: 'session=alice',
      'proxy-authorization': 'Basic YTpi',
      'x-forwarded-for': '10.0.0.1',
      'x-forwarded-host': 'elsewhere.example',
      forwarded: 'for=10.0.0.1',
      via: '1.1 alice',
      te: 'trailers',
      referer: 'http://inside.example/',
      origin: 'http://inside.example',
      'x-anything': 'alice',
      'accept-language': 'xx',
      'user-agent': 'git/alice',
    })
    const [heard] = asked
    expect(Object.keys(heard!.headers).sort()).toEqual(
      ['accept', 'accept-encoding', 'authorization', 'connection', 'git-protocol', 'host', 'user-agent'].sort(),
    )
    expect(heard!.headers.authorization).toBe('Bearer the-host-knows-this')
    expect(heard!.rawHeaders.join('\n')).not.toMatch(/alice|10\.0\.0\.1|inside\.example/)
  })

  test('of the host do not reach the client, nor do its trailers', async () => {
    const answer = await raw(`/odd/acme/app.git/${INFO}`)
    expect(answer.status).toBe(200)
    await answer.text()
    const own = [
      'cache-control',
      'connection',
      'content-type',
      'date',
      'expires',
      'keep-alive',
      'pragma',
      'transfer-encoding',
      'x-content-type-options',
    ]
    expect([...answer.headers.keys()].filter(name => !own.includes(name))).toEqual([])
    expect(answer.headers.get('keep-alive')).not.toBe('timeout=1')
  })
})

test('a host that has moved is not followed, and its new place is shown no credential', async () => {
  asked.length = 0
  const { url } = await stand.remote('http', 'odd/moved/app', proxy)
  const { status, stderr } = await git(['ls-remote', url])
  expect(status).toBe(128)
  expect(stderr).toContain('the Git host has moved')
  expect(asked.map(({ url }) => url)).toEqual([`/moved/app.git/${INFO}`])
  const record = (await stand.records()).findLast(each => each.kind === 'operation.end')
  expect(record).toMatchObject({ result: 'failed', reason: expect.stringContaining('redirects are not followed') })
})

// CVE-2026-6733: an answer that nobody had read to its end was given to whoever came next on the same connection.
test("what was left of one person's clone is never in the answer of the next", async () => {
  const refs = await refsOf(join(stand.folder, 'acme', 'app.git'))
  const wanted = `${refs['refs/heads/topic']}\trefs/heads/topic`
  await stand.grant({ repository: '**', principal: 'bob' })
  const bob = new URL(`${proxy.urls.http}/web/acme/app.git`)
  bob.username = 'bob'
  bob.password = await stand.token('bob')
  for (let n = 0; n < 5; n++) {
    const { url } = await stand.remote('http', 'web/acme/large', proxy)
    const through = new URL(url)
    const line = await startLine(Number(through.port), { downAfter: 200_000 * (n + 1) })
    through.port = String(line.port)
    const abandoned = git(['clone', '-q', through.href, join(temporaryFolder('clone'), 'work')])
    await until(() => line.stalled, 'the clone to be under way')
    line.cut()
    const { status, stdout } = await git(['ls-remote', bob.href, 'refs/heads/topic'])
    expect({ status, stdout: stdout.trim() }).toEqual({ status: 0, stdout: wanted })
    expect((await abandoned).status).not.toBe(0)
    await line.stop()
  }
})

/** GETs a path as it is written: whoever attacks does not tidy it first. */
async function exactly(path: string): Promise<{ status: number; text: string }> {
  const { hostname, port } = new URL(proxy.urls.http!)
  const headers = { authorization: `Bearer ${await stand.token('alice')}`, 'git-protocol': 'version=2' }
  return new Promise((resolve, reject) => {
    request({ hostname, port, path, headers, agent: false }, response => {
      let text = ''
      response.on('data', chunk => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
      .on('error', reject)
      .end()
  })
}

describe('another spelling of a repository', () => {
  test.each([
    '/web//acme/app.git',
    '//web/acme/app.git',
    '/web/acme/app.git/',
    '/web/acme/./app.git',
    '/web/acme/../acme/app.git',
    '/web/acme/%2e%2e/acme/app.git',
    '/web/acme%2fapp.git',
    '/web/acme%5capp.git',
    '/web/acme/app.git%00',
    '/web/acme/app%2egit.git',
    '/web/acme/app.GIT',
    '/web/acme/app.git.git',
    '/web/acme/app..git',
    '/web/acme/%252e%252e/app.git',
    '/web/acme/%c0%ae%c0%ae/app.git',
    '/web/acme/-app.git',
    '/web/acme/~root/app.git',
    '/web/acme/app.git;x',
    '/web/acme/ app.git',
    '/web/acme/app%0a.git',
  ])('%s is none, and the host is not asked', async path => {
    const untouched = await unseen(stand, bare)
    const { status, text } = await exactly(`${path.replaceAll(' ', '%20')}/${INFO}`)
    expect(status === 200 ? text : `ERR ${status}`).toContain('ERR ')
    await untouched()
    if (status === 200) expect(await recordTold(stand, text)).toMatchObject({ kind: 'operation.refused' })
  })
})
