import { createServer, globalAgent } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { createClient } from '../../cli/client.ts'
import { until } from '../support/program.ts'

const server = createServer()
afterEach(() => {
  server.closeAllConnections()
  server.close()
})

// A wait for an approval is sent over the connection that the request itself was made on.
test('an answer that takes long is waited for, also on a connection that was used before', async () => {
  let held = false
  server.on('request', ({ url }, response) => {
    if (url === '/api/v1/fast') response.end('{}')
    else held = true
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const client = createClient({ url: `http://127.0.0.1:${port}` }, { DRAWBRIDGE_TOKEN: 'x' })
  await client.call('GET', '/fast')
  const slow = client.call('GET', '/slow').catch(() => {})
  await until(() => held, 'the second question')
  const [socket, ...more] = Object.entries(globalAgent.sockets).flatMap(([name, sockets]) =>
    name.includes(`:${port}:`) ? (sockets ?? []) : [],
  )
  expect(more).toEqual([])
  expect(socket?.timeout).toBe(0)
  expect(socket?.listenerCount('connect')).toBe(0)
  server.closeAllConnections()
  await slow
})
