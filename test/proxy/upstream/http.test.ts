import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, createServer as createRawServer, type Server as RawServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterEach, describe, expect, test } from 'vitest'
import type { Credential } from '../../../config/settings.ts'
import { httpUpstream } from '../../../proxy/upstream/http.ts'
import { type Target, UpstreamError } from '../../../proxy/upstream/upstream.ts'
import { startHttpBackend } from '../../support/http-backend.ts'
import { temporaryFolder } from '../../support/program.ts'
import { AUTHORIZATION, eventually, passThrough, sendRaw, startFront, upstreamSettings } from '../http/front.ts'

const TARGET: Target = {
  path: 'team/app',
  service: 'upload-pack',
  protocol: 2,
  stateless: true,
  principal: 'alice',
  operation: 'op-1',
}
const SECRET = 's3cret-of-the-upstream'
const BASIC: Credential = { type: 'basic', username: 'bot', password: SECRET }
const RESULT = { 'content-type': 'application/x-git-upload-pack-result' }
const ADVERTISEMENT = { 'content-type': 'application/x-git-upload-pack-advertisement' }

const open: (Server | RawServer)[] = []
afterEach(() => {
  for (const server of open.splice(0)) {
    server.close()
    if ('closeAllConnections' in server) server.closeAllConnections()
  }
})

async function listen(server: Server | RawServer): Promise<URL> {
  open.push(server)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/git/`)
}

const host = (listener: RequestListener) => listen(createServer(listener))

/** A host that answers as it is told, byte by byte. */
const rawHost = (onRequest: (socket: Socket, request: string) => void) =>
  listen(
    createRawServer(socket => {
      socket.on('error', () => {})
      socket.on('data', chunk => onRequest(socket, chunk.toString('latin1')))
    }),
  )

function connectTo(url: URL, more: { credential?: Credential; idleTimeout?: number; connections?: number } = {}) {
  return httpUpstream({
    ...upstreamSettings(url, more.credential),
    ...more,
    credential: more.credential ?? { type: 'none' },
  })
}

const never = new AbortController().signal

async function text(stream: Readable): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString('latin1')
}

async function failure(promise: Promise<unknown>): Promise<UpstreamError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(UpstreamError)
  return error as UpstreamError
}

describe('an advertisement', () => {
  test.each([
    ['its preamble', '001e# service=git-upload-pack\n0000', '000eversion 2\n0000'],
    ['a preamble with more lines', '001e# service=git-upload-pack\n0009x=y\n\n0000', '000eversion 2\n0000'],
    ['no preamble', '', '000eversion 2\n0000'],
  ])('comes without %s, however it is cut into chunks', async (_name, before, after) => {
    const bytes = before + after
    const url = await host(async (request, response) => {
      const size = Number(request.headers['user-agent'] && sizes.shift())
      response.writeHead(200, ADVERTISEMENT)
      for (let at = 0; at < bytes.length; at += size) {
        response.write(bytes.slice(at, at + size))
        await new Promise(resolve => setImmediate(resolve))
      }
      response.end()
    })
    const sizes = [1, 3, 7, bytes.length]
    const connect = connectTo(url)
    for (const _size of [...sizes]) expect(await text(await connect(TARGET).advertise(never))).toBe(after)
  })

  test.each([
    ['of another service', '001f# service=git-receive-pack\n0000000eversion 2\n0000'],
    ['that is no pkt-line', '<html>please sign in</html>'],
    ['that ends in its preamble', '001e# service=git-upload-pack\n'],
    ['that begins with a flush', '0000'],
    ['that is empty', ''],
  ])('%s is refused', async (_name, bytes) => {
    const url = await host((_request, response) => response.writeHead(200, ADVERTISEMENT).end(bytes))
    await failure(connectTo(url)(TARGET).advertise(never))
  })
})

test('38: what crosses is a short list; nothing the client sent, and nothing of the gate but its credential', async () => {
  const backend = await startHttpBackend()
  const front = await startFront(passThrough(httpUpstream(upstreamSettings(backend.url, BASIC))))
  const odd =
    'Cookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\nReferer: x\r\nTE: trailers\r\nConnection: close, X-Hop\r\nX-Hop: y\r\n'
  const client =
    'User-Agent: git/9 client\r\nGit-Protocol: version=2:x=y\r\nAccept-Language: de\r\nAccept-Encoding: gzip\r\n'
  const { text: answer } = await sendRaw(front.address, [
    `GET /acme/app.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: gate\r\n${AUTHORIZATION}${odd}${client}\r\n`,
  ])
  const headers: IncomingHttpHeaders = backend.requests[0]?.headers ?? {}
  expect(Object.keys(headers).toSorted()).toEqual([
    'accept',
    'accept-encoding',
    'authorization',
    'connection',
    'git-protocol',
    'host',
    'user-agent',
  ])
  expect(headers).toMatchObject({
    accept: 'application/x-git-upload-pack-advertisement',
    'accept-encoding': 'identity',
    authorization: `Basic ${Buffer.from(`bot:${SECRET}`).toString('base64')}`,
    'git-protocol': 'version=2',
    host: backend.url.host,
  })
  expect(headers['user-agent']).toMatch(/^drawbridge\/\d/)
  expect(answer).not.toContain(SECRET)
  await front.close(0)
  await backend.stop()
})

test('no header of the host crosses to the client', async () => {
  const url = await host((_request, response) => {
    response.writeHead(200, {
      ...ADVERTISEMENT,
      'set-cookie': 'a=b',
      'x-secret': 'y',
      server: 'z',
      'www-authenticate': 'Basic',
    })
    response.end('001e# service=git-upload-pack\n0000000eversion 2\n0000')
  })
  const front = await startFront(passThrough(connectTo(url)))
  const { text: answer } = await sendRaw(front.address, [
    `GET /acme/app.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION}Connection: close\r\n\r\n`,
  ])
  expect(answer).toContain('version 2')
  expect(answer).not.toMatch(/set-cookie|x-secret|www-authenticate|^server:/im)
  await front.close(0)
})

test('39: a redirect is not followed, and takes no credential along', async () => {
  const elsewhere: IncomingHttpHeaders[] = []
  const other = await host((request, response) => {
    elsewhere.push(request.headers)
    response.writeHead(200, ADVERTISEMENT).end('0000')
  })
  for (const status of [301, 302, 303, 307, 308, 300]) {
    const location = `${other.origin.replace('//', '//user:pass@')}/x?token=abc`
    const url = await host((_request, response) => response.writeHead(status, { location }).end())
    const error = await failure(connectTo(url, { credential: BASIC })(TARGET).advertise(never))
    expect(error.code).toBe('redirect')
    expect(error.detail).toContain(`${other.origin}/x`)
    expect(error.detail).not.toMatch(/token=abc|user:pass/)
  }
  expect(elsewhere).toEqual([])
})

test.each([
  [401, 'credential'],
  [403, 'credential'],
  [404, 'not-found'],
  [410, 'not-found'],
  [429, 'failed'],
  [500, 'failed'],
  [204, 'failed'],
] as const)('42: a %i is told as %s, and no message or detail holds the secret', async (status, code) => {
  const url = await host((request, response) => {
    response.writeHead(status, { ...ADVERTISEMENT, 'x-echo': request.headers.authorization ?? '' })
    response.end(status === 204 ? undefined : `you sent ${request.headers.authorization}`)
  })
  for (const credential of [BASIC, { type: 'bearer', token: SECRET }] as const) {
    const error = await failure(connectTo(url, { credential })(TARGET).advertise(never))
    expect(error.code).toBe(code)
    const all = [error.message, error.detail, error.stack, String(error.cause)].join()
    expect(all).not.toContain(SECRET)
    expect(all).not.toContain(Buffer.from(`bot:${SECRET}`).toString('base64'))
    expect(error.message).not.toContain('127.0.0.1')
  }
})

test.each([
  ['another content type', { 'content-type': 'text/html' }],
  ['a content type with more to it', { 'content-type': 'application/x-git-upload-pack-advertisement; charset=utf-8' }],
  ['gzip that was not asked for', { ...ADVERTISEMENT, 'content-encoding': 'gzip' }],
])('%s is not git', async (_name, headers) => {
  const url = await host((_request, response) => response.writeHead(200, headers).end('0000'))
  expect((await failure(connectTo(url)(TARGET).advertise(never))).code).toBe('protocol')
})

describe('an answer that ends early is an error, never an end', () => {
  const head = 'HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-result\r\n'
  test.each([
    ['before its length', `${head}Content-Length: 100\r\n\r\nhalf`, 'end'],
    ['in a chunk', `${head}Transfer-Encoding: chunked\r\n\r\n40\r\nhalf`, 'end'],
    ['before its last chunk', `${head}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n`, 'end'],
    ['by a wrong chunk', `${head}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n`, 'end'],
    ['by a reset', `${head}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n`, 'reset'],
  ])('%s', async (_name, bytes, how) => {
    const url = await rawHost(socket => {
      socket.write(bytes, () => setTimeout(() => (how === 'end' ? socket.end() : socket.resetAndDestroy()), 30))
    })
    const answer = await connectTo(url)(TARGET).exchange(Readable.from([Buffer.from('0000')]), never)
    await expect(text(answer)).rejects.toThrow()
  })

  test('and one that could not be told from it is not accepted', async () => {
    const url = await rawHost(socket => socket.end(`${head}Connection: close\r\n\r\n0000`))
    const error = await failure(connectTo(url)(TARGET).exchange(Readable.from([Buffer.from('0000')]), never))
    expect(error).toMatchObject({ code: 'protocol' })
  })
})

describe('36: one connection, one answer at a time', () => {
  const chunk = (content: string) => `${content.length.toString(16)}\r\n${content}\r\n`

  test("an answer that was given up is not the next one's, whatever the host still sends", async () => {
    const sockets = new Set<Socket>()
    const url = await rawHost((socket, request) => {
      sockets.add(socket)
      const head =
        'HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-result\r\nTransfer-Encoding: chunked\r\n\r\n'
      if (request.includes('/first')) {
        socket.write(head + chunk('secret of the first'))
        // After the client has gone: the rest of its answer, and what would look like an answer to the next request.
        setTimeout(() => socket.write(`${chunk('more of the first')}0\r\n\r\n${head}${chunk('stale')}0\r\n\r\n`), 50)
      } else socket.write(`${head}${chunk('for the second')}0\r\n\r\n`)
    })
    const connect = connectTo(url, { connections: 1 })
    const cut = new AbortController()
    const first = await connect({ ...TARGET, path: 'first' }).exchange(Readable.from([Buffer.from('0000')]), cut.signal)
    await new Promise(resolve => first.once('data', resolve))
    first.on('error', () => {})
    cut.abort()
    for (let i = 0; i < 5; i++) {
      const second = await connect({ ...TARGET, path: 'second' }).exchange(Readable.from([Buffer.from('0000')]), never)
      expect(await text(second)).toBe('for the second')
      await new Promise(resolve => setTimeout(resolve, 20))
    }
    expect(sockets.size).toBe(2)
  })

  test('an answer that breaks off before anybody reads it is no uncaught exception', async () => {
    const url = await rawHost(socket => {
      const head = `HTTP/1.1 200 OK\r\nContent-Type: ${RESULT['content-type']}\r\nTransfer-Encoding: chunked\r\n\r\n`
      socket.write(head + chunk('x'), () => socket.resetAndDestroy())
    })
    const answer = await connectTo(url)(TARGET).exchange(Readable.from([Buffer.from('0000')]), never)
    await eventually(() => answer.destroyed).toBe(true)
    await expect(text(answer)).rejects.toThrow()
  })

  test('close() ends the answer under way and its connection', async () => {
    let closed = false
    const url = await rawHost(socket => {
      socket.on('close', () => {
        closed = true
      })
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Type: ${RESULT['content-type']}\r\nTransfer-Encoding: chunked\r\n\r\n${chunk('x')}`,
      )
    })
    const upstream = connectTo(url)(TARGET)
    const answer = await upstream.exchange(Readable.from([Buffer.from('0000')]), never)
    upstream.close()
    await expect(text(answer)).rejects.toThrow()
    await eventually(() => closed).toBe(true)
    upstream.close()
  })

  test("a client that leaves its answer unread takes no slot along, and ends nothing of the next one's", async () => {
    const url = await host((request, response) => {
      const answer = () => response.writeHead(200, RESULT).end('0000')
      if (request.url?.includes('slow')) setTimeout(answer, 100)
      else answer()
    })
    const connect = connectTo(url, { connections: 2 })
    for (let i = 0; i < 5; i++) {
      const first = connect(TARGET)
      await first.exchange(Readable.from([Buffer.from('0000')]), never)
      // On the same connection: the first answer is complete, whether it was read or not.
      await new Promise(resolve => setTimeout(resolve, 10))
      const second = connect({ ...TARGET, path: 'slow' }).exchange(Readable.from([Buffer.from('0000')]), never)
      await new Promise(resolve => setTimeout(resolve, 20))
      first.close()
      expect(await text(await second)).toBe('0000')
    }
  })

  test('a push goes out on a connection of its own and is never sent twice; a question is, when a kept one was closed', async () => {
    const seen: string[] = []
    const url = await rawHost((socket, request) => {
      const [, path = ''] = /^\S+ (\S+)/.exec(request) ?? []
      seen.push(path)
      const type = path.includes('receive-pack') ? 'receive-pack' : 'upload-pack'
      // Every connection is good for one answer, and closed without a word when it is asked again.
      if (socket.bytesWritten > 0 || path.includes('/lost')) socket.destroy()
      else
        socket.write(
          `HTTP/1.1 200 OK\r\nContent-Type: application/x-git-${type}-result\r\nContent-Length: 4\r\n\r\n0000`,
        )
    })
    const connect = connectTo(url)
    const ask = async (target: Partial<Target>) =>
      text(await connect({ ...TARGET, ...target }).exchange(Readable.from([Buffer.from('0000')]), never))
    expect(await ask({ path: 'a' })).toBe('0000')
    expect(await ask({ path: 'b' })).toBe('0000')
    expect(seen.filter(path => path.startsWith('/git/b.git'))).toHaveLength(2)
    expect(await ask({ path: 'c', service: 'receive-pack' })).toBe('0000')
    await failure(ask({ path: 'lost', service: 'receive-pack' }))
    expect(seen.filter(path => /\/(?:c|lost)\.git/.test(path))).toHaveLength(2)
  })

  test('the host sees no more connections than it may', async () => {
    let now = 0
    let most = 0
    const url = await host((request, response) => {
      most = Math.max(most, ++now)
      request.resume().on('end', () =>
        setTimeout(() => {
          now--
          response.writeHead(200, RESULT).end('0000')
        }, 10),
      )
    })
    const connect = connectTo(url, { connections: 2 })
    const all = Array.from({ length: 10 }, async () =>
      text(await connect(TARGET).exchange(Readable.from([Buffer.from('0000')]), never)),
    )
    expect(await Promise.all(all)).toEqual(Array(10).fill('0000'))
    expect(most).toBe(2)
  })
})

describe('a request', () => {
  test('is sent with its length when it is small, in chunks as it comes when it is not', async () => {
    const got: [IncomingHttpHeaders, number][] = []
    const url = await host((request, response) => {
      let bytes = 0
      request.on('data', part => {
        bytes += part.length
      })
      request.on('end', () => {
        got.push([request.headers, bytes])
        response.writeHead(200, RESULT).end('0000')
      })
    })
    const connect = connectTo(url)
    const parts = (count: number, size: number) =>
      Readable.from(Array.from({ length: count }, () => Buffer.alloc(size)))
    for (const body of [parts(3, 100), parts(0, 0), parts(1, 65_536), parts(1, 65_537), parts(40, 65_536)]) {
      await text(await connect(TARGET).exchange(body, never))
    }
    expect(got.map(([headers, bytes]) => [headers['content-length'], headers['transfer-encoding'], bytes])).toEqual([
      ['300', undefined, 300],
      ['0', undefined, 0],
      ['65536', undefined, 65_536],
      [undefined, 'chunked', 65_537],
      [undefined, 'chunked', 40 * 65_536],
    ])
  })

  test('that breaks off in the middle never looks whole to the host', async () => {
    let outcome = ''
    const url = await host((request, response) => {
      request.once('data', () => body.destroy(new Error('the grant has ended')))
      request
        .on('data', () => {})
        .on('error', () => {
          outcome = 'broken'
        })
      request.on('end', () => {
        outcome = 'whole'
        response.writeHead(200, RESULT).end('0000')
      })
    })
    const body = new Readable({ read() {} })
    for (let i = 0; i < 4; i++) body.push(Buffer.alloc(50_000))
    const asked = connectTo(url)(TARGET).exchange(body, never)
    await failure(asked)
    await eventually(() => outcome).toBe('broken')
  })

  test('holds no more than a few chunks of a pack in memory when the host does not read', async () => {
    let pushed = 0
    const url = await rawHost(socket => socket.pause())
    const body = new Readable({
      read() {
        pushed += 65_536
        this.push(Buffer.alloc(65_536))
      },
    })
    const error = await failure(connectTo(url, { idleTimeout: 200 })(TARGET).exchange(body, never))
    expect(error.code).toBe('timeout')
    expect(pushed).toBeLessThan(20 << 20)
  })

  test('is given up when its client goes while the host is silent', async () => {
    const url = await rawHost(() => {})
    const cut = new AbortController()
    const asked = connectTo(url)(TARGET).exchange(Readable.from([Buffer.from('0000')]), cut.signal)
    setTimeout(() => cut.abort(), 20)
    await failure(asked)
  })
})

test('a host that is silent, gone, or never there', async () => {
  const silent = await rawHost(() => {})
  const asked = connectTo(silent, { idleTimeout: 100 })(TARGET)
  expect((await failure(asked.advertise(never))).code).toBe('timeout')

  const half = await rawHost(socket =>
    socket.write(
      `HTTP/1.1 200 OK\r\nContent-Type: ${RESULT['content-type']}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n`,
    ),
  )
  const answer = await connectTo(half, { idleTimeout: 1_000 })(TARGET).exchange(
    Readable.from([Buffer.from('0000')]),
    never,
  )
  await expect(text(answer)).rejects.toThrow()

  const gone = await host(() => {})
  open.pop()?.close()
  const error = await failure(connectTo(gone)(TARGET).advertise(never))
  expect(error.code).toBe('unreachable')
  expect(error.message).toBe('the Git host cannot be reached')
})

test('a host whose certificate cannot be verified is not spoken to', async () => {
  const folder = temporaryFolder('selfsigned')
  const [certificate, key] = [join(folder, 'cert'), join(folder, 'key')]
  const made = [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=localhost',
  ]
  execFileSync('openssl', ['req', '-x509', ...made, '-keyout', key, '-out', certificate], { stdio: 'ignore' })
  let asked = 0
  const server = createTlsServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (_request, response) => {
    asked++
    response.end()
  })
  const url = new URL((await listen(server)).href.replace('http:', 'https:'))
  const error = await failure(connectTo(url, { credential: BASIC })(TARGET).advertise(never))
  expect(error.code).toBe('unreachable')
  expect(error.detail).toMatch(/self-signed/)
  expect(asked).toBe(0)
})
