import { createServer, type Socket } from 'node:net'
import { FLUSH, line } from '../proxy/git/pktline.ts'
import { band } from '../proxy/git/sideband.ts'

// A Git host that costs nothing: one advertisement, and a pack of any length replayed from memory, in side-band packets of
// a size given by the path. Fast enough that whatever stands in front of it is the bottleneck. Runs as a process of its own.
//
//   /<anything>/<megabytes>-<packet KiB>[-<MB per second>].git/{info/refs,git-upload-pack}

const ADVERTISEMENT = Buffer.concat([
  line('# service=git-upload-pack'),
  FLUSH,
  line('version 2'),
  line('agent=replay'),
  line('ls-refs=unborn'),
  line('fetch=shallow filter'),
  line('object-format=sha1'),
  FLUSH,
])

const PATH = /^(GET|POST) \S*\/(\d+)-(\d+)(?:-([\d.]+))?\.git\/(info\/refs|git-upload-pack)/

const server = createServer({ noDelay: true }, socket => {
  let buffered: Buffer = Buffer.alloc(0)
  let busy = false
  socket.on('error', () => {})
  socket.on('data', chunk => {
    buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk])
    void next()
  })
  async function next(): Promise<void> {
    if (busy) return
    busy = true
    for (let end = requestEnd(buffered); end > 0; end = requestEnd(buffered)) {
      const head = buffered.toString('latin1', 0, Math.min(buffered.length, 1024))
      buffered = buffered.subarray(end)
      await answer(socket, head)
    }
    busy = false
  }
})

/** Where the first request in these bytes ends; 0 when it has not come in whole. */
function requestEnd(bytes: Buffer): number {
  const headEnd = bytes.indexOf('\r\n\r\n')
  if (headEnd < 0) return 0
  const head = bytes.toString('latin1', 0, headEnd).toLowerCase()
  const length = Number(/content-length: (\d+)/.exec(head)?.[1] ?? 0)
  if (!head.includes('transfer-encoding: chunked'))
    return bytes.length >= headEnd + 4 + length ? headEnd + 4 + length : 0
  const end = bytes.indexOf('0\r\n\r\n', headEnd + 4)
  return end < 0 ? 0 : end + 5
}

async function answer(socket: Socket, head: string): Promise<void> {
  const [, , megabytes = '1', kilobytes = '64', rate, what] = PATH.exec(head) ?? []
  if (what === 'info/refs') {
    socket.write(
      `HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Length: ${ADVERTISEMENT.length}\r\n\r\n`,
    )
    socket.write(ADVERTISEMENT)
    return
  }
  const payload = Buffer.alloc(Number(kilobytes) * 1024 - 16, 0x5a)
  const packet = band(1, payload)
  // As many packets as make 256 KiB are written at once, as a host does that has much to send.
  const block = Buffer.concat(
    Array.from({ length: Math.max(1, Math.floor((256 << 10) / packet.length)) }, () => packet),
  )
  const blocks = Math.max(1, Math.floor((Number(megabytes) * 1e6) / block.length))
  const start = Buffer.concat([line('packfile'), band(1, Buffer.from('PACK\0\0\0\x02\0\0\0\x01', 'latin1'))])
  const length = start.length + blocks * block.length + FLUSH.length
  socket.write(
    `HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-result\r\nContent-Length: ${length}\r\n\r\n`,
  )
  socket.write(start)
  const pause = rate === undefined ? 0 : (block.length / (Number(rate) * 1e6)) * 1000
  for (let sent = 0; sent < blocks; sent++) {
    if (socket.destroyed) return
    if (!socket.write(block)) await drained(socket)
    if (pause > 0) await new Promise(resolve => setTimeout(resolve, pause))
  }
  socket.write(FLUSH)
}

function drained(socket: Socket): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      socket.off('drain', done).off('close', done)
      resolve()
    }
    socket.on('drain', done).on('close', done)
  })
}

server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  if (address && typeof address === 'object') process.stdout.write(`${address.port}\n`)
})
process.once('disconnect', () => process.exit(0))
