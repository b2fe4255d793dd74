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
