import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'

/** The server's side of one WebSocket (RFC 6455): text both ways, pings answered, one frame a message. */
export interface Socket {
  send(text: string): void
  /** The TCP connection is gone, without a word. */
  drop(): void
}

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const TEXT = 1
const CLOSE = 8
const PING = 9
const PONG = 10

/** Like Slack's, it answers a close frame and leaves the TCP connection for the client to end. */
export function acceptWebSocket(
  request: IncomingMessage,
  stream: Duplex,
  onText: (text: string) => void,
  onEnd: () => void,
): Socket {
  const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}${GUID}`).digest('base64')
  stream.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  )
  const write = (opcode: number, payload: Buffer) => {
    const head =
      payload.length < 126
        ? Buffer.from([0x80 | opcode, payload.length])
        : Buffer.from([0x80 | opcode, 126, payload.length >> 8, payload.length & 0xff])
    if (!stream.destroyed) stream.write(Buffer.concat([head, payload]))
  }
  let rest: Buffer = Buffer.alloc(0)
  stream.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    for (;;) {
      const [opcode = 0, lengthByte = 0] = rest
      const long = (lengthByte & 0x7f) === 126
      const head = long ? 8 : 6
      if (rest.length < head) return
      const length = long ? rest.readUInt16BE(2) : lengthByte & 0x7f
      if (rest.length < head + length) return
      const mask = rest.subarray(head - 4, head)
      const payload = Buffer.from(rest.subarray(head, head + length).map((byte, at) => byte ^ (mask[at % 4] ?? 0)))
      rest = rest.subarray(head + length)
      if ((opcode & 0x0f) === TEXT) onText(payload.toString())
      if ((opcode & 0x0f) === PING) write(PONG, payload)
      if ((opcode & 0x0f) === CLOSE) {
        write(CLOSE, payload)
        onEnd()
      }
    }
  })
  stream.on('error', () => {})
  // The HTTP server leaves a half of the connection open otherwise.
  stream.on('end', () => stream.destroy())
  stream.on('close', onEnd)
  return { send: text => write(TEXT, Buffer.from(text)), drop: () => stream.destroy() }
}
