import { Readable, Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ServerChannel } from 'ssh2'

/** An SSH channel as the plain streams the rest of the program works on. */
export interface Carried {
  readonly request: Readable
  readonly response: Writable
  readonly stderr: Writable
  /**
   * Sends the exit status once everything written is out, then closes the channel. Resolves when the client has closed it too:
   * until then it may hold a window's worth of the answer that whoever runs it has not read, and would lose that with the
   * connection.
   */
  finish(status: number): Promise<void>
  /** The client is gone: all three streams are over. */
  abandon(): void
}

const BUFFER_BYTES = 64 << 10
/** How long a client may take to read the last of an answer before its channel is closed over it. */
const FAREWELL_MILLISECONDS = 60_000

/**
 * ssh2's own channels never fail and may never finish: a write to a channel whose client died is not called back, and
 * `destroy` waits for the peer. These streams end when they are told to.
 */
export function carry(channel: ServerChannel): Carried {
  const request = new Readable({
    highWaterMark: BUFFER_BYTES,
    read() {
      channel.resume()
    },
    destroy(error, done) {
      // What the client still sends is let go: an unread channel would never close.
      channel.resume()
      done(error)
    },
  })
  const closed = new Promise<void>(resolve => channel.once('close', () => resolve()))
  channel.pause()
  channel.on('data', (chunk: Buffer) => {
    if (request.destroyed) return
    request.push(chunk)
    // Not what `push` returned: it may have been taken, and more asked for, while it was being pushed.
    if (request.readableLength >= BUFFER_BYTES) channel.pause()
  })
  channel.once('end', () => request.destroyed || request.push(null))
  // ssh2 reports nothing here that the connection's own end does not.
  channel.on('error', () => {})
  channel.stderr.on('error', () => {})
  const response = onto(channel)
  const stderr = onto(channel.stderr)

  return {
    request,
    response,
    stderr,
    async finish(status) {
      const late = setTimeout(() => {
        channel.close()
        response.destroy()
        stderr.destroy()
      }, FAREWELL_MILLISECONDS)
      await Promise.all([ended(response), ended(stderr)])
      clearTimeout(late)
      request.destroy()
      // The order matters: git and ssh take the status from before the close, and everything written from before the EOF.
      channel.exit(status)
      channel.end()
      await Promise.race([closed, sleep(FAREWELL_MILLISECONDS, undefined, { ref: false })])
    },
    abandon() {
      request.destroy()
      response.destroy()
      stderr.destroy()
    },
  }
}

function onto(target: Writable): Writable {
  const stream = new Writable({
    highWaterMark: BUFFER_BYTES,
    write(chunk: Buffer, _encoding, done) {
      target.write(chunk, done)
    },
    // At once: the channel makes few packets of many pieces, and it is packets that cost.
    writev(pieces: { chunk: Buffer }[], done) {
      target.cork()
      const last = pieces.length - 1
      for (const [i, { chunk }] of pieces.entries()) target.write(chunk, i === last ? done : undefined)
      target.uncork()
    },
  })
  // A channel closed under a write is the client's doing; who writes sees it by `close`, and nobody has to listen.
  return stream.on('error', () => {})
}

function ended(stream: Writable): Promise<void> {
  if (stream.destroyed || stream.writableFinished) return Promise.resolve()
  return new Promise(resolve => {
    stream
      .once('finish', resolve)
      .once('close', resolve)
      .once('error', () => resolve())
    stream.end()
  })
}
