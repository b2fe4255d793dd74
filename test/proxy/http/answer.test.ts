import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { expect, test } from 'vitest'
import { Answer } from '../../../proxy/http/answer.ts'

// A host hands its pack out in pieces of 4 KiB, and many of them wait while one is being written. Written corked, they
// came to more than a window, so that node asked to wait for `drain`; the socket then took them one by one, was never
// full, and never said it. The clone stood still until the host gave up.
test('an answer in many small pieces goes on when more than a window of them had to wait', async () => {
  const PIECES = 4096
  const PIECE = Buffer.alloc(4096, 'x')
  const server = createServer((_request, response) => {
    const answer = new Answer(response, { contentType: 'text/plain', stall: 60_000 })
    let left = PIECES
    // As many at a time as come in one read of a fast host's socket, whatever `write` returns.
    const some = () => {
      if (left === 0) {
        answer.end()
        return
      }
      const count = Math.min(64, left)
      left -= count
      let flowing = true
      for (let i = 0; i < count; i++) flowing = answer.write(PIECE)
      if (flowing) setImmediate(some)
      else answer.once('drain', some)
    }
    some()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  socket.write('GET / HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n')
  let bytes = 0
  for await (const chunk of socket) bytes += chunk.length
  expect(bytes).toBeGreaterThan(PIECES * PIECE.length)
  server.close()
})

interface Told {
  readonly head: string
  readonly body: string
  /** How many times the client had something to read. */
  readonly reads: number
}

/** What a client gets of an answer that is written by `write`. */
async function told(write: (answer: Answer) => void): Promise<Told> {
  const server = createServer((_request, response) => {
    write(new Answer(response, { contentType: 'text/plain', preamble: Buffer.from('first, '), stall: 60_000 }))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  socket.write('GET / HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n')
  const parts: Buffer[] = []
  for await (const part of socket) parts.push(part)
  server.close()
  const [head = '', body = ''] = Buffer.concat(parts).toString('latin1').split('\r\n\r\n')
  return { head, body, reads: parts.length }
}

test('a small answer goes out in one piece, with its length', async () => {
  const bytes = Buffer.from('all of it')
  const { head, body, reads } = await told(answer => {
    answer.write(bytes, () => bytes.fill('x'))
    answer.end()
  })
  expect(head).toContain('content-length: 16')
  expect(body).toBe('first, all of it')
  expect(reads).toBe(1)
})

test('an empty one is its preamble, and has a length as well', async () => {
  expect(await told(answer => answer.end())).toMatchObject({ body: 'first, ' })
})

// git shows progress as it comes: a line of it must not wait for the next.
test('the beginning of an answer that goes on later is not kept waiting', async () => {
  let seen = ''
  const server = createServer((_request, response) => {
    const answer = new Answer(response, { contentType: 'text/plain', stall: 60_000 })
    answer.write('remote: counting')
    const timer = setInterval(() => {
      if (!seen.includes('counting')) return
      clearInterval(timer)
      answer.end(' done')
    }, 5)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  socket.write('GET / HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n')
  for await (const part of socket) seen += part
  expect(seen).toMatch(/transfer-encoding: chunked.*counting.*done/is)
  server.close()
})
