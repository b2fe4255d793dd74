import { connect } from 'node:net'
import { setTimeout as after } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Serve } from '../../../proxy/client.ts'
import { AUTHORIZATION, eventually, type FrontUnderTest, sendRaw, startFront } from './front.ts'

/** Reads all of the request and says how much it was; what breaks off is remembered. */
const seen: string[] = []
const broken: unknown[] = []
const reading: Serve = async client => {
  try {
    const chunks: Buffer[] = []
    for await (const chunk of client.request) chunks.push(chunk)
    seen.push(Buffer.concat(chunks).toString('latin1'))
    client.response.write(`read ${Buffer.concat(chunks).length}`)
  } catch (error) {
    broken.push(error)
  }
  return { status: 0, operation: 'op-test' }
}

const POST = 'POST /acme/app.git/git-receive-pack HTTP/1.1\r\nHost: gate\r\n'
const TYPE = 'Content-Type: application/x-git-receive-pack-request\r\n'
const HEAD = `${POST}${TYPE}${AUTHORIZATION}`
/** What an attacker hides: if it is ever served, the two sides disagreed on where a request ends. */
const SMUGGLED = `GET /acme/smuggled.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: gate\r\n${AUTHORIZATION}\r\n`

let front: FrontUnderTest
beforeAll(async () => {
  front = await startFront(reading)
})
afterAll(() => front.close(0))

function smuggled(): string[] {
  return front.served.map(({ repository }) => repository).filter(name => name === 'acme/smuggled')
}

describe('33: where one request ends and the next begins is never in doubt', () => {
  const chunked = 'Transfer-Encoding: chunked\r\n'
  test.each([
    ['a length and chunks', `${HEAD}Content-Length: 4\r\n${chunked}\r\n0\r\n\r\n`],
    ['chunks and a length', `${HEAD}${chunked}Content-Length: 4\r\n\r\n0\r\n\r\n`],
    ['two lengths', `${HEAD}Content-Length: 4\r\nContent-Length: 0\r\n\r\n0000`],
    ['the same length twice', `${HEAD}Content-Length: 4\r\nContent-Length: 4\r\n\r\n0000`],
    ['a list of lengths', `${HEAD}Content-Length: 4, 4\r\n\r\n0000`],
    ['a signed length', `${HEAD}Content-Length: +4\r\n\r\n0000`],
    ['a negative length', `${HEAD}Content-Length: -1\r\n\r\n`],
    ['a hexadecimal length', `${HEAD}Content-Length: 0x4\r\n\r\n0000`],
    ['a length beyond counting', `${HEAD}Content-Length: 18446744073709551620\r\n\r\n0000`],
    ['a folded header', `${HEAD}Content-Length:\r\n 4\r\n\r\n0000`],
    ['a folded coding', `${HEAD}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`],
    ['a header that begins with a blank', `${HEAD} Content-Length: 4\r\n\r\n0000`],
    ['a blank before the colon', `${HEAD}Content-Length : 4\r\n\r\n0000`],
    ['a blank before the colon of a coding', `${HEAD}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`],
    ['bare line feeds', `${HEAD}Content-Length: 4\n\n0000`],
    ['a bare carriage return', `${HEAD}X: a\rContent-Length: 4\r\n\r\n0000`],
    ['a NUL in a header', `${HEAD}X: a\0b\r\nContent-Length: 4\r\n\r\n0000`],
    ['a coding nobody knows', `${HEAD}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`],
    ['chunks that are not last', `${HEAD}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`],
    ['chunks twice', `${HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['zipped chunks', `${HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
    ['no host', `POST /acme/app.git/git-receive-pack HTTP/1.1\r\n${TYPE}${AUTHORIZATION}Content-Length: 4\r\n\r\n0000`],
    ['two hosts', `${HEAD}Host: other\r\nContent-Length: 4\r\n\r\n0000`],
    ['two credentials', `${HEAD}Authorization: Bearer other\r\nContent-Length: 4\r\n\r\n0000`],
    ['an expectation nobody meets', `${HEAD}Expect: 200-ok\r\nContent-Length: 4\r\n\r\n0000`],
    ['two encodings', `${HEAD}Content-Encoding: gzip\r\nContent-Encoding: identity\r\nContent-Length: 4\r\n\r\n0000`],
  ])('%s: refused before anything is served', async (_name, bytes) => {
    const before = front.served.length
    const { text } = await sendRaw(front.address, [bytes])
    expect(text).toMatch(/^HTTP\/1\.1 4(00|17) /)
    await sendRaw(front.address, [bytes + SMUGGLED])
    expect(front.served.length).toBe(before)
  })

  test.each([
    ['a line feed for the end of a chunk size', '4\n0000\r\n0\r\n\r\n'],
    ['a line feed for the end of a chunk', '4\r\n0000\n0\r\n\r\n'],
    ['a line feed in a chunk extension', '4;a\n0000\r\n0\r\n\r\n'],
    ['a chunk longer than said', '4\r\n000000\r\n0\r\n\r\n'],
    ['a signed chunk size', '+4\r\n0000\r\n0\r\n\r\n'],
    ['a prefixed chunk size', '0x4\r\n0000\r\n0\r\n\r\n'],
    ['a chunk size beyond counting', 'ffffffffffffffff4\r\n0000\r\n0\r\n\r\n'],
    ['a chunk extension of 64 KiB', `4;${'a'.repeat(65_536)}\r\n0000\r\n0\r\n\r\n`],
  ])('%s: the body breaks off, and nothing behind it is served', async (_name, body) => {
    const lost = broken.length
    const { closed } = await sendRaw(front.address, [`${HEAD}${chunked}\r\n`, body, SMUGGLED], { milliseconds: 2_000 })
    expect(closed).toBe(true)
    await eventually(() => broken.length).toBe(lost + 1)
    expect(smuggled()).toEqual([])
  })

  test('a request in the body of a GET is body', async () => {
    const length = Buffer.byteLength(SMUGGLED)
    const get = `GET /acme/app.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: gate\r\n${AUTHORIZATION}`
    const { text } = await sendRaw(front.address, [`${get}Content-Length: ${length}\r\n\r\n${SMUGGLED}`], {
      milliseconds: 1_000,
    })
    expect(text.match(/HTTP\/1\.1/g)).toHaveLength(1)
    expect(smuggled()).toEqual([])
  })
})

describe('34: a request behind a refused push', () => {
  const refusing: Serve = async client => {
    client.response.write('no')
    return { status: 1, operation: 'op-test' }
  }

  test('in the same segment, it is not served and the connection is closed', async () => {
    const refused = await startFront(refusing)
    const { closed } = await sendRaw(refused.address, [`${HEAD}Content-Length: 4\r\n\r\n0000${SMUGGLED}`])
    expect(closed).toBe(true)
    expect(refused.served.map(({ repository }) => repository)).not.toContain('acme/smuggled')
    await refused.close(0)
  })

  test('in the body that nobody read, it is drained and never served', async () => {
    const refused = await startFront(refusing)
    const length = 4 + Buffer.byteLength(SMUGGLED)
    const { text } = await sendRaw(refused.address, [`${HEAD}Content-Length: ${length}\r\n\r\n0000${SMUGGLED}`], {
      milliseconds: 1_000,
    })
    expect(text).toContain('200 OK')
    expect(refused.served).toHaveLength(1)
    await refused.close(0)
  })

  test('after the answer, it is a request like any other', async () => {
    const refused = await startFront(refusing)
    const socket = connect(refused.address.port, '127.0.0.1')
    let text = ''
    socket.on('data', chunk => {
      text += chunk
    })
    socket.write(`${HEAD}Content-Length: 4\r\n\r\n0000`)
    await eventually(() => text).toContain('200 OK')
    socket.write(SMUGGLED)
    await eventually(() => refused.served.length).toBe(2)
    expect(refused.served[0]?.caller.origin.connection).toBe(refused.served[1]?.caller.origin.connection)
    socket.destroy()
    await refused.close(0)
  })

  test('a body that never ends is not drained for ever', async () => {
    const limits = { headers: 5_000, bodyIdle: 100, total: 60_000, connections: 10, connectionsPerSource: 10 }
    const refused = await startFront(refusing, { limits })
    const { text, closed } = await sendRaw(refused.address, [`${HEAD}Content-Length: 1000000\r\n\r\n0000`])
    expect(text).toContain('no')
    expect(closed).toBe(true)
    await refused.close(0)
  })
})

describe('35: gzip', () => {
  const gzipped = (body: Buffer) => [
    `${HEAD}Content-Encoding: gzip\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`,
    body,
  ]

  test('is taken off', async () => {
    await sendRaw(front.address, gzipped(gzipSync('0000')))
    expect(seen.at(-1)).toBe('0000')
  })

  test.each([
    ['a bomb', gzipSync(Buffer.alloc(80 << 20)), 'ERR_GUNZIP_RATIO'],
    ['a bomb in two layers unpacks once', gzipSync(gzipSync(Buffer.alloc(1 << 20))), undefined],
    [
      'garbage behind the end',
      Buffer.concat([gzipSync('0000'), Buffer.from('PACK')]),
      'ERR_TRAILING_JUNK_AFTER_STREAM_END',
    ],
    ['zeros behind the end', Buffer.concat([gzipSync('0000'), Buffer.alloc(8)]), 'ERR_TRAILING_JUNK_AFTER_STREAM_END'],
    ['a stream cut short', gzipSync('0000 and more').subarray(0, -9), 'Z_BUF_ERROR'],
    ['a wrong checksum', Buffer.concat([gzipSync('0000').subarray(0, -8), Buffer.alloc(8)]), 'Z_DATA_ERROR'],
    ['no gzip at all', Buffer.from('0000'), 'Z_DATA_ERROR'],
    ['nothing', Buffer.alloc(0), 'Z_BUF_ERROR'],
  ])('%s', async (_name, body, code) => {
    const lost = broken.length
    await sendRaw(front.address, gzipped(body))
    if (code === undefined) expect(broken.length).toBe(lost)
    else expect(broken.at(-1)).toMatchObject({ code })
  })

  test.each(['gzip, gzip', 'deflate', 'br', 'gzip;q=1'])('encoding %s is refused', async encoding => {
    const before = front.served.length
    const { text } = await sendRaw(front.address, [
      `${HEAD}Content-Encoding: ${encoding}\r\nContent-Length: 4\r\nConnection: close\r\n\r\n0000`,
    ])
    expect(text).toMatch(/^HTTP\/1\.1 415 /)
    expect(front.served.length).toBe(before)
  })
})

describe('37: odd heads', () => {
  const get = (headers: string) =>
    `GET /acme/app.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: gate\r\n${AUTHORIZATION}${headers}Connection: close\r\n\r\n`

  test('__proto__ and constructor are headers like any other', async () => {
    const { text } = await sendRaw(front.address, [get('__proto__: x\r\nconstructor: y\r\n')])
    expect(text).toMatch(/^HTTP\/1\.1 200 /)
    expect(Object.keys(Object.prototype)).toEqual([])
  })

  test('2,000 headers are refused, also where the credential is the last of them', async () => {
    const many = Array.from({ length: 2_000 }, (_, i) => `x${i}: \r\n`).join('')
    const { text } = await sendRaw(front.address, [get(many)])
    expect(text).toMatch(/^HTTP\/1\.1 431 /)
  })

  test('64 KiB of header are refused', async () => {
    const { text, closed } = await sendRaw(front.address, [get(`X: ${'a'.repeat(65_536)}\r\n`)])
    expect(text).toMatch(/^HTTP\/1\.1 431 /)
    expect(closed).toBe(true)
  })

  test('a user agent with control characters and escapes is one clean line in the record', async () => {
    await sendRaw(front.address, [get(`User-Agent: git/2\x9b2J\t${'a'.repeat(400)}\r\n`)])
    const agent = front.served.at(-1)?.caller.origin.agent ?? ''
    expect(agent.length).toBeLessThanOrEqual(200)
    expect(agent).toMatch(/^git\/2 a+…$/)
  })

  test('upgrades, CONNECT and HTTP/2 prefaces get nowhere', async () => {
    const upgrade = await sendRaw(front.address, [get('Upgrade: h2c\r\n')])
    expect(upgrade.text).toMatch(/^HTTP\/1\.1 200 /)
    const before = front.served.length
    expect(
      (await sendRaw(front.address, [`CONNECT gate:22 HTTP/1.1\r\nHost: gate\r\n${AUTHORIZATION}\r\n`])).closed,
    ).toBe(true)
    expect((await sendRaw(front.address, ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'])).closed).toBe(true)
    expect(front.served.length).toBe(before)
  })
})

describe('40: slow clients', () => {
  const limits = { headers: 150, bodyIdle: 300, total: 60_000, connections: 10, connectionsPerSource: 10 }

  test('a head that does not come is not waited for', async () => {
    const slow = await startFront(reading, { limits })
    const silent = await sendRaw(slow.address, [])
    expect(silent.closed).toBe(true)
    const half = await sendRaw(slow.address, ['GET / HTTP/1.1\r\nHost: '])
    expect(half.text).toMatch(/^HTTP\/1\.1 408 /)
    expect(half.closed).toBe(true)
    await slow.close(0)
  })

  test('a body that stops coming is given up', async () => {
    const slow = await startFront(reading, { limits })
    const { closed } = await sendRaw(slow.address, [`${HEAD}Content-Length: 100\r\n\r\n0000`])
    expect(closed).toBe(true)
    expect(broken.at(-1)).toMatchObject({ code: 'ERR_BODY_IDLE' })
    await slow.close(0)
  })

  test('a client that does not read holds a bounded amount of memory, and is cut', async () => {
    let written = 0
    let ended: unknown
    let gone = false
    const flooding: Serve = async client => {
      client.gone.addEventListener('abort', () => {
        gone = true
      })
      const chunk = Buffer.alloc(65_536)
      try {
        while (!client.response.destroyed) {
          written += chunk.length * 2
          // Two at once: the second waits in the stream and goes out with what follows it.
          client.response.write(chunk)
          if (!client.response.write(chunk)) {
            await new Promise<void>((resolve, reject) => {
              client.response.once('drain', resolve)
              client.response.once('close', () => reject(new Error('closed')))
            })
          }
        }
      } catch (error) {
        ended = error
      }
      return { status: 1, operation: 'op-test' }
    }
    const slow = await startFront(flooding, { limits })
    const socket = connect(slow.address.port, '127.0.0.1')
    socket.pause()
    socket.write(`GET /acme/app.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: gate\r\n${AUTHORIZATION}\r\n`)
    await eventually(() => ended).toBeDefined()
    await eventually(() => gone).toBe(true)
    // The kernel's own buffers on loopback take some megabytes.
    expect(written).toBeLessThan(20 << 20)
    socket.destroy()
    await slow.close(0)
  })

  test('writes that go out together are taken together, and not before the client has read', async () => {
    const outcomes: string[] = []
    const bulky: Serve = async client => {
      client.response.cork()
      for (let i = 0; i < 2; i++) {
        client.response.write(Buffer.alloc(16 << 20), error => outcomes.push(error ? 'lost' : 'taken'))
      }
      client.response.uncork()
      return { status: 1, operation: 'op-test' }
    }
    const slow = await startFront(bulky, { limits })
    const socket = connect(slow.address.port, '127.0.0.1')
    socket.pause()
    socket.write(`GET /acme/app.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: gate\r\n${AUTHORIZATION}\r\n`)
    await eventually(() => outcomes).toEqual(['lost', 'lost'])
    socket.destroy()
    await slow.close(0)
  })

  test('41: a push may take far longer than any head or pause may', async () => {
    const slow = await startFront(reading, { limits: { ...limits, bodyIdle: 2_000 } })
    const socket = connect(slow.address.port, '127.0.0.1')
    let text = ''
    socket.on('data', chunk => {
      text += chunk
    })
    socket.write(`${HEAD}Transfer-Encoding: chunked\r\n\r\n`)
    for (let i = 0; i < 30; i++) {
      socket.write('4\r\n0000\r\n')
      await after(20)
    }
    socket.write('0\r\n\r\n')
    await eventually(() => text).toContain('read 120')
    socket.destroy()
    await slow.close(0)
  })

  test('a request that goes on beyond the total limit is broken off', async () => {
    const slow = await startFront(reading, { limits: { ...limits, total: 200, bodyIdle: 5_000 } })
    const { closed } = await sendRaw(slow.address, [`${HEAD}Content-Length: 100\r\n\r\n0000`])
    expect(closed).toBe(true)
    expect(slow.log.join()).toContain('took longer than the limit')
    await slow.close(0)
  })
})

test('a source has so many connections and no more', async () => {
  const limits = { headers: 4_000, bodyIdle: 2_000, total: 60_000, connections: 10, connectionsPerSource: 3 }
  const narrow = await startFront(reading, { limits })
  const results = await Promise.all(
    Array.from({ length: 5 }, () => sendRaw(narrow.address, [], { milliseconds: 1_500 })),
  )
  expect(results.filter(({ closed }) => closed)).toHaveLength(2)
  await eventually(
    async () => (await sendRaw(narrow.address, ['GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'])).text,
  ).toContain('200 OK')
  await narrow.close(0)
})
