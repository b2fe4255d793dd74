import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import ssh2 from 'ssh2'
import { expect, onTestFinished, test } from 'vitest'
import { AUTHORIZATION, startFront } from './http/front.ts'
import { testFront } from './ssh/fixture.ts'

// A front that is to end without anybody's noticing: what has a connection gets what it came for.

const ADVERTISE = `GET /acme/app.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION}\r\n`

async function opened(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1').on('error', () => {})
  onTestFinished(() => void socket.destroy())
  await new Promise<void>((resolve, reject) => socket.once('connect', () => resolve()).once('error', reject))
  return socket
}

/** Asks over a connection that stays, and gives the answer's head. */
async function ask(socket: Socket): Promise<string> {
  socket.write(ADVERTISE)
  let text = ''
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    text += chunk
    if (text.includes('0000') || text.endsWith('\r\n0\r\n\r\n')) break
  }
  return text
}

const closed = (socket: Socket) =>
  socket.closed ? Promise.resolve() : new Promise<void>(resolve => socket.once('close', () => resolve()))

test('over HTTP a connection gets one answer more, and is closed behind it', async () => {
  const front = await startFront(async client => {
    client.response.write('0000')
    return { status: 0, operation: 'op-test' }
  })
  onTestFinished(() => front.close(0))
  const [resting, silent] = [await opened(front.address.port), await opened(front.address.port)]
  expect(await ask(resting)).toMatch(/200 OK/)
  const retired = front.retire()
  await expect(opened(front.address.port)).rejects.toThrow('ECONNREFUSED')
  // git was about to ask its next; a client that has just connected was about to ask its first.
  for (const socket of [resting, silent]) {
    expect(await ask(socket)).toMatch(/200 OK[\s\S]*connection: close/i)
    socket.resume()
    await closed(socket)
  }
  await retired
})

test('over HTTP a connection on which nothing comes is closed after a moment', async () => {
  const front = await startFront(async client => {
    client.response.write('0000')
    return { status: 0, operation: 'op-test' }
  })
  const resting = await opened(front.address.port)
  await ask(resting)
  resting.resume()
  await front.retire()
  await closed(resting)
})

/** A login over a connection that is open already. */
function login(sock: Socket, key: string): Promise<ssh2.Client> {
  const client = new ssh2.Client()
  onTestFinished(() => void client.destroy())
  return new Promise((resolve, reject) => {
    client.once('ready', () => resolve(client)).once('error', reject)
    client.connect({ sock, username: 'git', privateKey: readFileSync(key) })
  })
}

function whoami(client: ssh2.Client): Promise<string> {
  return new Promise((resolve, reject) => {
    client.exec('whoami', (error, channel) => {
      if (error) return reject(error)
      let text = ''
      channel.on('data', (chunk: Buffer) => {
        text += chunk
      })
      channel.on('close', () => resolve(text))
    })
  })
}

test('over SSH whoever is logging in gets a command, and whoever is logged in gets one more', async () => {
  const { front, port, alice } = await testFront()
  const [early, late] = [await opened(port), await opened(port)]
  const logged = await login(early, alice.path)
  expect(await whoami(logged)).toMatch(/^alice/)
  const retired = front.retire()
  const entering = await login(late, alice.path)
  const over = [logged, entering].map(client => new Promise<void>(resolve => client.once('close', () => resolve())))
  for (const client of [logged, entering]) {
    expect(await whoami(client)).toMatch(/^alice/)
    // A client that shares its connection among commands connects anew when it is told no.
    await expect(whoami(client)).rejects.toThrow('open failure')
  }
  await Promise.all([...over, retired])
})
