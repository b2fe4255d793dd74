import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import ssh2, { type Client } from 'ssh2'
import { describe, expect, onTestFinished, test } from 'vitest'
import { nameList, string, u32 } from '../../../ca/wire.ts'
import { until } from '../../support/program.ts'
import { run, type TestFront, testFront } from './fixture.ts'

// Each test is what somebody would try on the open port; after it the gate still answers whoever is honest.

const stillServes = async (gate: TestFront) =>
  expect((await run('ssh', [...gate.ssh(gate.alice), gate.host, 'whoami'])).stdout).toMatch(/^alice /)

function dial(gate: TestFront): Socket & { got(): Buffer } {
  const socket = connect(gate.port, '127.0.0.1')
  let got = Buffer.alloc(0)
  socket.on('error', () => {})
  socket.on('data', chunk => {
    got = Buffer.concat([got, chunk])
  })
  onTestFinished(() => {
    socket.destroy()
  })
  return Object.assign(socket, { got: () => got })
}

const closed = (socket: Socket) => until(() => socket.closed)

/** ssh2's client with its own protocol object laid open. */
interface Raw {
  readonly client: Client
  send(payload: Buffer): void
  rekey(): void
  /** Resolves when the gate next says this, which goes no further. */
  answers(message: string): Promise<void>
  readonly over: Promise<string>
}

function raw(gate: TestFront, authHandler?: () => false | undefined): Promise<Raw> {
  const client = new ssh2.Client()
  let said = 'closed'
  const over = new Promise<string>(resolve => {
    client.on('error', error => {
      said = error.message
    })
    client.on('close', () => resolve(said))
  })
  client.connect({
    host: '127.0.0.1',
    port: gate.port,
    username: 'git',
    privateKey: readFileSync(gate.alice.path),
    ...(authHandler ? { authHandler } : {}),
  })
  onTestFinished(() => {
    client.destroy()
  })
  const protocol: {
    rekey(): void
    _packetRW: { write: { allocStart: number; alloc(length: number): Buffer; finalize(packet: Buffer): Buffer } }
    _cipher: { encrypt(packet: Buffer): void }
  } = Reflect.get(client, '_protocol')
  const laidOpen: Raw = {
    client,
    over,
    rekey: () => protocol.rekey(),
    answers: message =>
      new Promise(resolve => void Reflect.set(Reflect.get(protocol, '_handlers'), message, () => resolve())),
    send(payload) {
      const { write } = protocol._packetRW
      const packet = write.alloc(payload.length)
      packet.set(payload, write.allocStart)
      protocol._cipher.encrypt(write.finalize(packet))
    },
  }
  return new Promise(resolve => {
    if (authHandler) client.once('handshake', () => resolve(laidOpen))
    else client.once('ready', () => resolve(laidOpen))
  })
}

const request = (user: string, method: string, ...rest: Buffer[]) =>
  Buffer.concat([Buffer.of(50), string(user), string('ssh-connection'), string(method), ...rest])

describe('before the login', () => {
  test.each([
    ['a channel', Buffer.concat([Buffer.of(90), string('session'), u32(0), u32(1 << 20), u32(32768)])],
    [
      'a command',
      Buffer.concat([Buffer.of(98), u32(0), string('exec'), Buffer.of(1), string("git-upload-pack 'acme/app'")]),
    ],
    ['a forwarding', Buffer.concat([Buffer.of(80), string('tcpip-forward'), Buffer.of(1), string(''), u32(0)])],
    ['data', Buffer.concat([Buffer.of(94), u32(0), string('x')])],
  ])('%s is answered by the end of the connection', async (_what, payload) => {
    const gate = await testFront()
    const { send, over } = await raw(gate, () => undefined)
    send(payload)
    await over
    expect(gate.clients).toEqual([])
    await stillServes(gate)
  })

  test('a success message from a client logs nobody in', async () => {
    const gate = await testFront()
    const { send, over } = await raw(gate, () => undefined)
    send(Buffer.of(52))
    send(Buffer.concat([Buffer.of(90), string('session'), u32(0), u32(1 << 20), u32(32768)]))
    await over
  })

  test('another user name in the middle of the login ends it', async () => {
    const gate = await testFront()
    const { send, over, answers } = await raw(gate, () => undefined)
    // The client has asked for the service by itself; a second time would end the connection.
    await answers('SERVICE_ACCEPT')
    const refused = answers('USERAUTH_FAILURE')
    send(request('git', 'none'))
    // One after the other: requests that overlap end the connection anyhow.
    await refused
    send(request('root', 'none'))
    await over
    await stillServes(gate)
  })

  test('requests that overlap, or go on without end, end the connection and nothing else', async () => {
    const gate = await testFront()
    for (let round = 0; round < 3; round++) {
      const { send, over } = await raw(gate, () => undefined)
      send(Buffer.concat([Buffer.of(5), string('ssh-userauth')]))
      for (let n = 0; n < 200; n++) {
        const key = Buffer.concat([string('ssh-ed25519'), randomBytes(32)])
        send(request('git', 'publickey', Buffer.of(0), string('ssh-ed25519'), string(key)))
        if (n % 3 === 0) send(request('git', 'keyboard-interactive', string(''), string('')))
      }
      await over
    }
    await stillServes(gate)
  })

  test.each([
    ['nothing', []],
    ['an identification', ['SSH-2.0-x\r\n']],
    ['an identification, one byte at a time and never its end', [...'SSH-2.0-xxxxxxxxxxxxxxxxxxxxxxxxx']],
  ])('whoever says %s is put out when the grace is over', async (_what, pieces) => {
    const gate = await testFront({ limits: { loginGrace: 400 } })
    const sockets = Array.from({ length: 10 }, () => dial(gate))
    for (const piece of pieces) {
      for (const socket of sockets) socket.write(piece)
      await new Promise(resolve => setImmediate(resolve))
    }
    for (const socket of sockets) await closed(socket)
    expect(gate.front.connections()).toBe(0)
  })

  test('whoever exchanges keys and then says nothing is put out as well', async () => {
    const gate = await testFront({ limits: { loginGrace: 600 } })
    const { over } = await raw(gate, () => undefined)
    await over
  })

  test.each([
    ['a long identification', `SSH-2.0-${'x'.repeat(300)}\r\n`],
    ['a greeting', 'hello\r\nSSH-2.0-x\r\n'],
    ['HTTP', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['a megabyte without a line', 'x'.repeat(1 << 20)],
    ['SSH 1', 'SSH-1.5-x\r\n'],
  ])('%s is put out at once', async (_what, text) => {
    const gate = await testFront()
    const socket = dial(gate)
    socket.write(text)
    await closed(socket)
    await stillServes(gate)
  })

  test('a second KEXINIT during the exchange is put out', async () => {
    const gate = await testFront()
    const socket = dial(gate)
    socket.write('SSH-2.0-x\r\n')
    for (let n = 0; n < 100; n++) socket.write(packet(kexinit(['curve25519-sha256'])))
    await closed(socket)
    await stillServes(gate)
  })
})

describe('Terrapin (CVE-2023-48795)', () => {
  test('strict key exchange is announced, and stock ssh goes by it', async () => {
    const gate = await testFront()
    const { stderr } = await run('ssh', [
      '-vvv',
      ...gate.ssh(gate.alice, ['-o', 'LogLevel=DEBUG3']),
      gate.host,
      'whoami',
    ])
    expect(stderr).toContain('kex-strict-s-v00@openssh.com')
    expect(stderr).toContain('will use strict KEX ordering')
  })

  // The attack puts IGNORE messages into the unprotected part, so that as many can be cut from the protected one.
  test.each([
    ['before KEXINIT', [Buffer.concat([Buffer.of(2), string('x')])], []],
    ['after KEXINIT', [], [Buffer.concat([Buffer.of(2), string('x')])]],
    ['as a DEBUG message', [], [Buffer.concat([Buffer.of(4), Buffer.of(0), string('x'), string('')])]],
  ])('a message slipped in %s breaks the exchange off', async (_where, before, after) => {
    const gate = await testFront()
    const socket = dial(gate)
    socket.write('SSH-2.0-x\r\n')
    const offer = kexinit(['curve25519-sha256', 'kex-strict-c-v00@openssh.com'])
    for (const message of [...before, offer, ...after]) socket.write(packet(message))
    socket.write(packet(Buffer.concat([Buffer.of(30), string(randomBytes(32))])))
    await closed(socket)
    // 31 would be the server's half of the exchange.
    expect(messages(socket.got())).not.toContain(31)
  })
})

describe('after the login', () => {
  test('a second login, as whoever, ends the connection', async () => {
    const gate = await testFront()
    const { send, over } = await raw(gate)
    send(request('root', 'none'))
    await over
    await stillServes(gate)
  })

  test.each([
    ['a terminal', 'pty-req', Buffer.concat([string('vt100'), u32(80), u32(24), u32(0), u32(0), string('\0')])],
    ['X11', 'x11-req', Buffer.concat([Buffer.of(0), string('MIT-MAGIC-COOKIE-1'), string('00'), u32(0)])],
    ['an agent', 'auth-agent-req@openssh.com', Buffer.alloc(0)],
  ])('%s, asked for with an answer, is refused', async (_what, type, rest) => {
    const gate = await testFront()
    const { send, client, answers } = await raw(gate)
    const opened = answers('CHANNEL_OPEN_CONFIRMATION')
    send(Buffer.concat([Buffer.of(90), string('session'), u32(0), u32(1 << 20), u32(32_768)]))
    await opened
    const answer = Promise.race([
      answers('CHANNEL_SUCCESS').then(() => 'given'),
      answers('CHANNEL_FAILURE').then(() => 'refused'),
    ])
    send(Buffer.concat([Buffer.of(98), u32(0), string(type), Buffer.of(1), rest]))
    expect(await answer).toBe('refused')
    client.end()
  })

  test('a packet size of 0 is refused, and the loop goes round', async () => {
    const gate = await testFront()
    const { send, client } = await raw(gate)
    send(Buffer.concat([Buffer.of(90), string('session'), u32(0), u32(0xffff_ffff), u32(0)]))
    await stillServes(gate)
    client.end()
  })

  test('a window that is overrun ends the connection, and what it carried', async () => {
    let aborted = false
    const gate = await testFront({
      commands: {
        whoami: async (_args, { stdout }) => {
          stdout.write('alice ')
          return 0
        },
        // Reads nothing.
        stuck: (_args, { gone }) =>
          new Promise(resolve => {
            gone.addEventListener('abort', () => {
              aborted = true
              resolve(0)
            })
          }),
      },
    })
    const { send, client, over } = await raw(gate)
    await new Promise<void>(resolve => client.exec('stuck', () => resolve()))
    const data = Buffer.concat([Buffer.of(94), u32(0), string(Buffer.alloc(30_000))])
    for (let n = 0; n < 100; n++) send(data)
    await over
    await until(() => aborted)
    await stillServes(gate)
  })

  test('20,000 channels are ten', async () => {
    const gate = await testFront()
    const { send, client } = await raw(gate)
    let [confirmed, failed] = [0, 0]
    const handlers: { CHANNEL_OPEN_CONFIRMATION(): void; CHANNEL_OPEN_FAILURE(): void } = Reflect.get(
      Reflect.get(client, '_protocol'),
      '_handlers',
    )
    handlers.CHANNEL_OPEN_CONFIRMATION = () => confirmed++
    handlers.CHANNEL_OPEN_FAILURE = () => failed++
    for (let n = 0; n < 20_000; n++) {
      send(Buffer.concat([Buffer.of(90), string('session'), u32(n), u32(1 << 20), u32(32768)]))
    }
    await until(() => confirmed + failed === 20_000)
    expect(confirmed).toBe(10)
    await stillServes(gate)
  })

  test('key exchanges for nothing end the connection with a sentence', async () => {
    const gate = await testFront()
    const { client, rekey, over } = await raw(gate)
    let exchanges = 0
    client.on('handshake', () => {
      exchanges++
      rekey()
    })
    rekey()
    await over
    expect(exchanges).toBeLessThan(30)
    await stillServes(gate)
  })

  test('a connection on which nothing is asked for is ended', async () => {
    const gate = await testFront({ idle: 300 })
    const { over } = await raw(gate)
    await over
    expect(gate.front.connections()).toBe(0)
  })

  test('one that has been told to go and stays is put out', async () => {
    const gate = await testFront({ idle: 100 })
    const { client } = await raw(gate)
    // It ignores the goodbye: its half stays open.
    const socket: Socket = Reflect.get(client, '_sock')
    socket.removeAllListeners('data')
    socket.pause()
    await until(() => gate.front.connections() === 0)
  })
})

describe('how many', () => {
  test('connections from one source, and in all, are limited; those inside stay', async () => {
    const gate = await testFront({ limits: { connectionsPerSource: 3 } })
    const inside = [await raw(gate), await raw(gate), await raw(gate)]
    const late = dial(gate)
    await closed(late)
    expect(gate.front.connections()).toBe(3)
    inside[0]!.client.end()
    await until(() => gate.front.connections() === 2)
    await stillServes(gate)

    const small = await testFront({ limits: { connections: 2 } })
    const first = [dial(small), dial(small)]
    await until(() => small.front.connections() === 2)
    await closed(dial(small))
    for (const socket of first) socket.destroy()
    await until(() => small.front.connections() === 0)
    await stillServes(small)
  })

  test('each IPv6 network of 64 bits is one source', async () => {
    let n = 0
    const gate = await testFront({
      limits: { connectionsPerSource: 2 },
      readSource: async () => ({ address: `2001:db8:0:${n < 3 ? 1 : 2}::${++n}`, port: 1 }),
    })
    const sockets = [dial(gate), dial(gate)]
    await until(() => n === 2)
    await closed(dial(gate))
    const other = dial(gate)
    await until(() => other.got().length > 0)
    expect(sockets.map(socket => socket.closed)).toEqual([false, false])
  })

  test('the address in the record is the one the load balancer gave; without one nobody is let in', async () => {
    const gate = await testFront({ readSource: async () => ({ address: '192.0.2.7', port: 4711 }) })
    await run('ssh', [...gate.ssh(gate.alice), gate.host, "git-upload-pack 'acme/app'"])
    expect(gate.clients[0]?.caller.origin.address).toBe('192.0.2.7')
    const unknown = await testFront({ readSource: () => Promise.reject(new Error('no PROXY header')) })
    const socket = dial(unknown)
    await closed(socket)
    expect(socket.got()).toHaveLength(0)
    expect(unknown.logged).toEqual(['ssh connection refused no PROXY header'])
  })
})

// ---- bytes ----

function kexinit(kex: string[]): Buffer {
  const cipher = nameList(['aes128-gcm@openssh.com'])
  const [none, plain] = [nameList([]), nameList(['none'])]
  const lists = [nameList(kex), nameList(['ssh-ed25519']), cipher, cipher, none, none, plain, plain, none, none]
  return Buffer.concat([Buffer.of(20), randomBytes(16), ...lists, Buffer.of(0), u32(0)])
}

/** An unencrypted packet (RFC 4253, section 6). */
function packet(payload: Buffer): Buffer {
  const padding = 16 - ((payload.length + 5) % 8)
  return Buffer.concat([u32(1 + payload.length + padding), Buffer.of(padding), payload, Buffer.alloc(padding)])
}

/** The message numbers of the unencrypted packets behind the identification. */
function messages(bytes: Buffer): number[] {
  const found: number[] = []
  for (let at = bytes.indexOf('\n') + 1; at + 6 <= bytes.length; at += 4 + bytes.readUInt32BE(at))
    found.push(bytes[at + 5]!)
  return found
}
