import { Agent, createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream'

// The proxy that is written in an afternoon: node:http on both sides and a pipe between, nothing checked, nothing recorded.
// What Drawbridge costs beyond it is what the checks cost. Runs as a process of its own; ends with its parent.
//
//   naive.ts PATH=URL …      requests below PATH go to URL; prints its port

const places = process.argv.slice(2).map(each => {
  const at = each.indexOf('=')
  return { path: each.slice(0, at), url: new URL(each.slice(at + 1)) }
})
const agent = new Agent({ keepAlive: true, maxSockets: 256 })

const server = createServer((asked, answer) => {
  const place = places.find(({ path }) => asked.url?.startsWith(path))
  if (!place) {
    answer.writeHead(404).end()
    return
  }
  const { host: _host, connection: _connection, ...headers } = asked.headers
  const path = `/${asked.url?.slice(place.path.length) ?? ''}`
  const onward = request({
    agent,
    host: place.url.hostname,
    port: place.url.port,
    method: asked.method,
    path,
    headers,
  })
  onward.on('response', response => {
    answer.writeHead(response.statusCode ?? 502, response.headers)
    pipeline(response, answer, () => {})
  })
  onward.on('error', () => answer.destroy())
  pipeline(asked, onward, () => {})
})
server.requestTimeout = 0
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`))
process.once('disconnect', () => process.exit(0))
