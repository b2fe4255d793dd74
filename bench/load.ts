import { connect, type Socket } from 'node:net'
import { DELIM, FLUSH, line } from '../proxy/git/pktline.ts'

/** A clone of one commit, as protocol 2 asks for it. */
export const CLONE_REQUEST = Buffer.concat([
  line('command=fetch'),
  DELIM,
  line('ofs-delta'),
  line(`want ${'1'.repeat(40)}`),
  line('done'),
  FLUSH,
])

export interface Load {
  readonly requests: number
  readonly seconds: number
  /** Milliseconds, ascending. */
  readonly latencies: readonly number[]
}

/**
 * The same GET over and over, on so many connections at once, for so many seconds: raw sockets, so that the asking costs as
 * little as it can. With `each: 'connection'` every request has a connection of its own. Throws on any answer but 200.
 */
export async function load(options: {
  readonly url: URL
  readonly headers: readonly string[]
  readonly connections: number
  readonly seconds: number
  readonly each?: 'request' | 'connection'
}): Promise<Load> {
  const { url, headers, connections, seconds, each = 'request' } = options
  const request = Buffer.from(
    [`GET ${url.pathname}${url.search} HTTP/1.1`, `Host: ${url.host}`, ...headers, '', ''].join('\r\n'),
  )
  const latencies: number[] = []
  const start = performance.now()
  const until = start + seconds * 1000
  await Promise.all(
    Array.from({ length: connections }, async () => {
      let socket: Socket | undefined
      while (performance.now() < until) {
        const at = performance.now()
        socket ??= await open(url)
        await ask(socket, request)
        latencies.push(performance.now() - at)
        if (each === 'request') continue
        socket.destroy()
        socket = undefined
      }
      socket?.destroy()
    }),
  )
  latencies.sort((a, b) => a - b)
  return { requests: latencies.length, seconds: (performance.now() - start) / 1000, latencies }
}

async function open(url: URL): Promise<Socket> {
  const socket = connect({ host: url.hostname, port: Number(url.port), noDelay: true })
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  return socket
}

function ask(socket: Socket, request: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    let bytes: Buffer = Buffer.alloc(0)
    const onData = (chunk: Buffer) => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
      if (!isWhole(bytes)) return
      socket.off('data', onData).off('close', onClose)
      if (bytes.toString('latin1', 9, 12) !== '200') reject(new Error(bytes.toString('latin1', 0, 300)))
      else resolve()
    }
    const onClose = () => reject(new Error('the connection was closed in the middle of an answer'))
    socket.on('data', onData).once('close', onClose)
    socket.write(request)
  })
}

function isWhole(bytes: Buffer): boolean {
  const headEnd = bytes.indexOf('\r\n\r\n')
  if (headEnd < 0) return false
  const head = bytes.toString('latin1', 0, headEnd)
  const length = /content-length: (\d+)/i.exec(head)?.[1]
  if (length !== undefined) return bytes.length >= headEnd + 4 + Number(length)
  return bytes.subarray(-5).toString('latin1') === '0\r\n\r\n'
}
