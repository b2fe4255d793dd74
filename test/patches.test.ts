import { createHash, createPublicKey, decapsulate, diffieHellman, generateKeyPairSync, randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from 'node:net'
import { type Duplex, duplexPair, type Writable } from 'node:stream'
import ssh2, { type Client, type ClientChannel, type Connection, type ServerChannel } from 'ssh2'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { readPublicKey } from '../ca/key.ts'
import { verifySignature } from '../ca/signature.ts'
import { mpint, nameList, Reader, string, u32 } from '../ca/wire.ts'
import { requirePatchedSsh2 } from '../proxy/ssh/patched.ts'
import { type Key, makeKey } from './support/keys.ts'
import { until } from './support/program.ts'

// What patches/ssh2+1.17.0.patch closes, each hole told by what a hostile peer would do. Both ends are ssh2 over a pipe in
// memory, so that what one side has buffered can be seen.

let hostKey: Key
beforeAll(async () => {
  hostKey = await makeKey('host')
})

interface Ends {
  readonly client: Client
  readonly connection: Connection
  /** The client's and the server's end of the pipe. */
  readonly near: Duplex
  readonly far: Duplex
  readonly faults: string[]
  /** Opens a session and runs `x`. */
  exec(): Promise<{ channel: ClientChannel; served: ServerChannel }>
}

async function ends(
  config: Partial<ssh2.ServerConfig> = {},
  connect: ssh2.ConnectConfig = {},
  [near, far]: [Duplex, Duplex] = duplexPair(),
): Promise<Ends> {
  const faults: string[] = []
  const served: ServerChannel[] = []
  const client = new ssh2.Client()
  const server = new ssh2.Server({ hostKeys: [readFileSync(hostKey.path)], keepaliveInterval: 3_600_000, ...config })
  const connected = new Promise<Connection>(resolve => {
    server.on('connection', connection => {
      connection.on('error', error => faults.push(error.message))
      connection.on('authentication', context => context.accept())
      connection.on('ready', () => resolve(connection))
      connection.on('session', accept => {
        accept().on('exec', acceptExec => {
          const channel = acceptExec()
          channel.on('error', () => {})
          served.push(channel)
        })
      })
    })
  })
  server.injectSocket(far as never)
  client.on('error', () => {})
  const ready = new Promise<void>((resolve, reject) => client.once('ready', () => resolve()).once('error', reject))
  client.connect({ sock: near, username: 'x', hostVerifier: () => true, ...connect })
  await ready
  return {
    client,
    connection: await connected,
    near,
    far,
    faults,
    exec: () =>
      new Promise((resolve, reject) => {
        client.exec('x', (error, channel) => {
          channel?.on('error', () => {})
          if (error) reject(error)
          else resolve({ channel, served: served.at(-1)! })
        })
      }),
  }
}

interface Internals {
  channelData(id: number, data: Buffer): void
  channelWindowAdjust(id: number, bytes: number): void
  rekey(): void
  _packetRW: { write: { allocStart: number; alloc(length: number): Buffer; finalize(packet: Buffer): Buffer } }
  _cipher: { encrypt(packet: Buffer): void }
}

/** ssh2's own protocol object: how a client here says what a client must not. */
const internals = (client: Client): Internals => Reflect.get(client, '_protocol')

function send(client: Client, payload: Buffer): void {
  const { _packetRW, _cipher } = internals(client)
  const packet = _packetRW.write.alloc(payload.length)
  packet.set(payload, _packetRW.write.allocStart)
  _cipher.encrypt(_packetRW.write.finalize(packet))
}

const openSession = (sender: number, window: number, packetSize: number) =>
  Buffer.concat([Buffer.of(90), string('session'), u32(sender), u32(window), u32(packetSize)])

/** A client whose next session has these limits. */
function limits(client: Client, window: number, packetSize: number): void {
  const protocol: { session(id: number, window: number, packetSize: number): void } = Reflect.get(client, '_protocol')
  const session = protocol.session.bind(protocol)
  protocol.session = id => session(id, window, packetSize)
}

/** Writes for as long as the channel takes it; gives how much that was. */
function flood(channel: Writable): { bytes(): number } {
  let taken = 0
  const more = () => {
    if (taken > 64 << 20) return
    channel.write(Buffer.alloc(32 << 10), () => {
      taken += 32 << 10
      setImmediate(more)
    })
  }
  more()
  return { bytes: () => taken }
}

const moment = (milliseconds = 300) => new Promise(resolve => setTimeout(resolve, milliseconds))

test('the installed ssh2 is the patched one, and native ciphers that were built are loaded', () => {
  const addon = createRequire(import.meta.url)
    .resolve('ssh2/package.json')
    .replace('package.json', ADDON)
  // Built for another Node it is passed over without a word.
  expect(requirePatchedSsh2()).toEqual({ patched: true, nativeCrypto: existsSync(addon) })
})

const ADDON = 'lib/protocol/crypto/build/Release/sshcrypto.node'

describe('windows and packet sizes', () => {
  // Sent as many packets of no bytes as there are in a loop without end: the event loop never came back.
  test.each([0, 1, 1023])('a maximum packet size of %d is refused', async size => {
    const { client, exec } = await ends()
    limits(client, 1 << 20, size)
    await expect(exec()).rejects.toThrow('maximum packet size too small')
  })

  test('packets are no larger than every implementation takes, whatever is offered', async () => {
    const { client, exec } = await ends()
    limits(client, 0xffff_ffff, 0xffff_ffff)
    const { channel, served } = await exec()
    const sizes: number[] = []
    channel.on('data', (chunk: Buffer) => sizes.push(chunk.length))
    served.write(Buffer.alloc(100_000))
    await until(() => sizes.reduce((sum, size) => sum + size, 0) === 100_000)
    expect(Math.max(...sizes)).toBe(32 << 10)
  })

  test('a peer that sends more than the window holds is disconnected, once, with more of it in the same chunk', async () => {
    const { client, faults, exec, far } = await ends()
    const { served } = await exec()
    served.pause()
    // Corked, all of these arrive as few chunks: packets go on behind the one at which the ciphers were let go.
    for (let n = 0; n < 120; n++) internals(client).channelData(0, Buffer.alloc(30_000))
    await until(() => far.writableEnded)
    await moment(50)
    expect(faults).toEqual(['Peer ignored the channel window'])
    expect(served.readableLength).toBeLessThanOrEqual((1 << 20) + (64 << 10))
  })

  test('a window wider than 2^32 - 1 is a protocol error', async () => {
    const { client, faults, exec } = await ends()
    await exec()
    internals(client).channelWindowAdjust(0, 0xffff_ffff)
    await until(() => faults.length > 0)
    expect(faults).toEqual(['Peer widened the channel window too far'])
  })

  test('4 GiB of window and a socket that is not read buffer next to nothing', async () => {
    const { client, near, far, exec } = await ends()
    limits(client, 0xffff_ffff - (4 << 20), 32 << 10)
    const { served } = await exec()
    near.pause()
    const flooded = flood(served)
    await moment()
    expect(flooded.bytes()).toBeLessThan(1 << 20)
    expect(far.writableLength).toBeLessThan(1 << 20)
  })

  test('a key exchange that is begun and never finished holds the writer, not the bytes', async () => {
    const { client, near, exec } = await ends()
    limits(client, 0xffff_ffff - (4 << 20), 32 << 10)
    const { served } = await exec()
    // It says KEXINIT, and answers nothing from then on.
    near.removeAllListeners('data')
    near.resume()
    internals(client).rekey()
    await moment(50)
    const flooded = flood(served)
    await moment()
    expect(flooded.bytes()).toBeLessThan(1 << 20)
  })

  test('after a key exchange the held writers go on, and nothing is lost or moved', async () => {
    const { client, exec } = await ends()
    const { channel, served } = await exec()
    const sent = randomBytes(3 << 20)
    const got: Buffer[] = []
    channel.on('data', (chunk: Buffer) => {
      got.push(chunk)
      if (got.length % 20 === 0) internals(client).rekey()
    })
    served.write(sent)
    await until(() => got.reduce((sum, chunk) => sum + chunk.length, 0) >= sent.length)
    expect(Buffer.concat(got).equals(sent)).toBe(true)
  })

  test('standard output and standard error that wait for one window keep to themselves', async () => {
    const { exec } = await ends()
    const { channel, served } = await exec()
    const [out, err] = [randomBytes(5 << 20), randomBytes(5 << 20)]
    const got = { out: [] as Buffer[], err: [] as Buffer[] }
    channel.on('data', (chunk: Buffer) => got.out.push(chunk))
    channel.stderr.on('data', (chunk: Buffer) => got.err.push(chunk))
    served.write(out)
    served.stderr.write(err)
    const total = () => [...got.out, ...got.err].reduce((sum, chunk) => sum + chunk.length, 0)
    await until(() => total() >= 10 << 20)
    expect(Buffer.concat(got.out).equals(out)).toBe(true)
    expect(Buffer.concat(got.err).equals(err)).toBe(true)
  })

  test('a host cannot fill standard output by way of standard error', async () => {
    const { exec } = await ends()
    const { channel, served } = await exec()
    channel.pause()
    channel.stderr.resume()
    const [out, err] = [flood(served), flood(served.stderr)]
    await moment()
    expect(channel.readableLength).toBeLessThanOrEqual((1 << 20) + (64 << 10))
    expect(out.bytes() + err.bytes()).toBeLessThan(4 << 20)
  })

  test('answers that are not read stop the reading of what asks for them', async () => {
    const { client, near, far } = await ends()
    near.pause()
    const request = Buffer.concat([Buffer.of(80), string('x@example.org'), Buffer.of(1)])
    for (let n = 0; n < 60; n++) {
      for (let m = 0; m < 1000; m++) send(client, request)
      await new Promise(resolve => setImmediate(resolve))
    }
    expect(far.isPaused()).toBe(true)
    expect(far.writableLength).toBeLessThan(2 << 20)
    near.resume()
    await until(() => !far.isPaused())
  })
})

describe('memory that is used again', () => {
  /** Cuts packets at every place there is: within a length, a packet, and what authenticates it. */
  const PIECE_BYTES = 997

  /** Two ends over TCP. What the client reads is shown to it in small pieces, each destroyed once it was shown. */
  async function overTcp(cipher: ssh2.CipherAlgorithm = 'aes128-gcm@openssh.com'): Promise<Ends> {
    const server = createServer()
    const accepted = new Promise<Socket>(resolve => server.once('connection', resolve))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const room = Buffer.alloc(64 << 10)
    let loggedIn = false
    const near = connectSocket({
      host: '127.0.0.1',
      port: (server.address() as AddressInfo).port,
      onread: {
        buffer: room,
        callback: count => {
          const step = loggedIn ? PIECE_BYTES : 7
          for (let at = 0; at < count; at += step) {
            const piece = room.subarray(at, Math.min(count, at + step))
            near.emit('data', loggedIn ? piece : Buffer.from(piece))
            piece.fill(0xff)
          }
          return true
        },
      },
    })
    near.pause()
    const far = await accepted
    onTestFinished(() => {
      near.destroy()
      far.destroy()
      server.close()
    })
    const algorithms = { cipher: [cipher] }
    const both = await ends({}, { lend: data => Buffer.from(data), algorithms }, [near, far])
    loggedIn = true
    return both
  }

  test.each(['aes128-gcm@openssh.com', 'chacha20-poly1305@openssh.com', 'aes256-ctr'] as const)(
    'whatever is read into it next, a rekey and what was said on both outputs stay as they were, by %s',
    async cipher => {
      const { client, exec } = await overTcp(cipher)
      const { channel, served } = await exec()
      const [out, err] = [randomBytes(400_000), randomBytes(1 << 20)]
      const got = { out: [] as Buffer[], err: [] as Buffer[] }
      channel.on('data', (chunk: Buffer) => {
        if (got.out.push(chunk) % 200 === 0) internals(client).rekey()
      })
      channel.stderr.on('data', (chunk: Buffer) => got.err.push(chunk))
      served.stderr.write(err)
      // Small packets, so that many lie whole in a piece whose next brings what authenticates them.
      for (let at = 0; at < out.length; at += 500) {
        await new Promise(resolve => served.write(out.subarray(at, at + 500), resolve))
      }
      const size = (chunks: Buffer[]) => chunks.reduce((sum, chunk) => sum + chunk.length, 0)
      await until(() => size(got.out) >= out.length && size(got.err) >= err.length)
      expect(Buffer.concat(got.out).equals(out) && Buffer.concat(got.err).equals(err)).toBe(true)
    },
  )

  // Packets of all connections lie side by side: one that is let go too early would be another person's bytes.
  test('packets of several connections stay each other’s neighbours, also of one that is not read for a while', async () => {
    const connections = await Promise.all(Array.from({ length: 4 }, overTcp))
    const all = await Promise.all(
      connections.map(async ({ near, exec }, i) => {
        const { channel, served } = await exec()
        const sent = randomBytes(2 << 20)
        const got: Buffer[] = []
        channel.on('data', (chunk: Buffer) => got.push(chunk))
        if (i === 0) {
          near.pause()
          setTimeout(() => near.resume(), 200)
        }
        for (let at = 0; at < sent.length; at += 5_000) served.write(sent.subarray(at, at + 5_000))
        await until(() => got.reduce((sum, chunk) => sum + chunk.length, 0) >= sent.length)
        return Buffer.concat(got).equals(sent)
      }),
    )
    expect(all).toEqual([true, true, true, true])
  })

  test('small writes that wait together go out as few packets', async () => {
    const { exec, far } = await overTcp()
    const { channel, served } = await exec()
    channel.resume()
    const before = (far as Socket).bytesWritten
    served.cork()
    for (let i = 0; i < 1_000; i++) served.write(Buffer.alloc(100))
    served.uncork()
    await moment()
    // Each packet of its own would be 48 bytes more.
    expect((far as Socket).bytesWritten - before).toBeLessThan(102_000)
  })
})

describe('channels', () => {
  test('are limited, and one that was closed without a command makes room for another', async () => {
    const { client } = await ends({ maxChannels: 10 })
    const open: number[] = []
    let [failed, closed] = [0, 0]
    const close = (id: number) => send(client, Buffer.concat([Buffer.of(97), u32(id)]))
    const handlers: Handlers = Reflect.get(internals(client), '_handlers')
    handlers.CHANNEL_OPEN_CONFIRMATION = (_protocol, { sender }) => open.push(sender)
    handlers.CHANNEL_OPEN_FAILURE = () => failed++
    handlers.CHANNEL_CLOSE = () => closed++
    for (let n = 0; n < 20_000; n++) send(client, openSession(n, 1 << 20, 32 << 10))
    await until(() => open.length + failed === 20_000)
    expect(open).toHaveLength(10)
    for (const id of open) close(id)
    await until(() => closed === 10)
    // One after the other there may be any number of them.
    handlers.CHANNEL_OPEN_CONFIRMATION = (_protocol, { sender }) => close(sender)
    handlers.CHANNEL_CLOSE = () => {
      if (++closed < 5_000) send(client, openSession(0, 1 << 20, 32 << 10))
    }
    send(client, openSession(0, 1 << 20, 32 << 10))
    await until(() => closed === 5_000)
    expect(failed).toBe(19_990)
  })
})

interface Handlers {
  CHANNEL_OPEN_CONFIRMATION(protocol: unknown, info: { sender: number }): void
  CHANNEL_OPEN_FAILURE(): void
  CHANNEL_CLOSE(): void
}

describe('key exchange', () => {
  test('is mlkem768x25519-sha256 between two of us, and again for every rekey', async () => {
    const names: string[] = []
    const { client, connection } = await ends()
    connection.on('handshake', ({ kex }) => names.push(kex))
    for (let n = 0; n < 5; n++) {
      const done = new Promise<void>(resolve => connection.once('rekey', () => resolve()))
      internals(client).rekey()
      await done
    }
    expect(names).toEqual(Array(5).fill('mlkem768x25519-sha256'))
  })

  // The signature is over H, and H over K: a peer written from the draft alone that can verify it agrees on every byte.
  test('mlkem768x25519-sha256 is the one of draft-ietf-sshm-mlkem-hybrid-kex', async () => {
    const { hash, hostBlob, signature } = await handshake('mlkem768x25519-sha256')
    expect(verifySignature(readPublicKey(hostBlob), hash, signature, ['ssh-ed25519'])).toBe(true)
  })

  test('a share of the wrong length, a broken encapsulation key and a point of small order are refused', async () => {
    const good = generateKeyPairSync('ml-kem-768').publicKey.export({ format: 'der', type: 'spki' }).subarray(-1184)
    const point = randomBytes(32)
    for (const share of [
      Buffer.alloc(0),
      Buffer.concat([good, point, Buffer.of(0)]),
      Buffer.concat([good, point.subarray(1)]),
      // Coefficients are below 3329 (FIPS 203, section 7.2).
      Buffer.concat([Buffer.alloc(1152, 0xff), good.subarray(1152), point]),
      Buffer.concat([good, Buffer.alloc(32)]),
    ]) {
      await expect(handshake('mlkem768x25519-sha256', share)).rejects.toThrow('closed')
    }
  })

  test('offers no SHA-1, no group exchange, no DSA, and strict kex', async () => {
    const { kexinit } = await handshake('curve25519-sha256')
    const lists = listsOf(kexinit)
    expect(lists[0]).toEqual([
      'mlkem768x25519-sha256',
      'curve25519-sha256@libssh.org',
      'curve25519-sha256',
      'ecdh-sha2-nistp256',
      'ecdh-sha2-nistp384',
      'ecdh-sha2-nistp521',
      'diffie-hellman-group14-sha256',
      'diffie-hellman-group15-sha512',
      'diffie-hellman-group16-sha512',
      'diffie-hellman-group17-sha512',
      'diffie-hellman-group18-sha512',
      'kex-strict-s-v00@openssh.com',
    ])
    expect(lists.flat().filter(name => /sha1|^ssh-rsa|dss|group-exchange|md5|cbc|arcfour/.test(name))).toEqual([])
  })

  test('RSA host keys sign with SHA-2 alone', async () => {
    const rsa = await makeKey('rsa', { type: 'rsa', bits: 2048 })
    const { kexinit } = await handshake('curve25519-sha256', undefined, [readFileSync(rsa.path)], 'rsa-sha2-512')
    expect(listsOf(kexinit)[1]?.toSorted()).toEqual(['rsa-sha2-256', 'rsa-sha2-512'])
  })

  test('a host is accepted by a plain yes only: not by a promise, not by silence that is truthy', async () => {
    for (const hostVerifier of [async () => false, async () => true, () => 1, () => 'yes', () => null] as unknown[]) {
      const refused = ends({}, { hostVerifier } as ssh2.ConnectConfig)
      await expect(refused).rejects.toThrow('Host denied (verification failed)')
    }
  })

  test('the algorithms a server takes are named with all their commas', async () => {
    const { client } = await ends()
    expect(client).toBeDefined()
    const named = await serverSigAlgs()
    expect(named).toEqual([
      'ssh-ed25519',
      'ecdsa-sha2-nistp256',
      'ecdsa-sha2-nistp384',
      'ecdsa-sha2-nistp521',
      'rsa-sha2-512',
      'rsa-sha2-256',
    ])
  })
})

async function serverSigAlgs(): Promise<string[]> {
  const [near, far] = duplexPair()
  const server = new ssh2.Server({ hostKeys: [readFileSync(hostKey.path)] }, connection => {
    connection.on('error', () => {})
    connection.on('authentication', context => context.accept())
  })
  server.injectSocket(far as never)
  const client = new ssh2.Client()
  return new Promise(resolve => {
    client.on('error', () => {})
    client.connect({ sock: near, username: 'x', hostVerifier: () => true })
    const handlers: { EXT_INFO: (protocol: unknown, extensions: { algs: string[] }[]) => void } = Reflect.get(
      internals(client),
      '_handlers',
    )
    handlers.EXT_INFO = (_protocol, extensions) => resolve(extensions[0]!.algs)
  })
}

describe('before the login', () => {
  test('an identification arrives in as many pieces as the network likes', async () => {
    const { far, near } = bare()
    const got: Buffer[] = []
    near.on('data', (chunk: Buffer) => got.push(chunk))
    for (const char of 'SSH-2.0-one_byte_at_a_time\r\n') {
      near.write(char)
      await new Promise(resolve => setImmediate(resolve))
    }
    await until(() => Buffer.concat(got).includes('mlkem768x25519-sha256'))
    expect(far.destroyed).toBe(false)
  })

  test.each([
    ['of 254 characters', [`SSH-2.0-${'x'.repeat(254)}\r\n`]],
    ['without an end', Array.from({ length: 300 }, () => 'x')],
    ['behind a greeting', ['hello\r\n', 'SSH-2.0-x\r\n']],
    ['of another protocol', ['GET / HTTP/1.1\r\n\r\n']],
  ])('an identification %s is refused', async (_what, pieces) => {
    const { far, near } = bare()
    for (const piece of pieces) {
      near.write(piece)
      await new Promise(resolve => setImmediate(resolve))
    }
    await until(() => far.writableEnded)
  })
})

function bare(): { near: Duplex; far: Duplex } {
  const [near, far] = duplexPair()
  const server = new ssh2.Server({ hostKeys: [readFileSync(hostKey.path)] }, connection =>
    connection.on('error', () => {}),
  )
  server.injectSocket(far as never)
  near.resume()
  return { near, far }
}

// ---- a client of the transport layer (RFC 4253), written from the documents alone ----

const IDENT = 'SSH-2.0-test'

/** One key exchange up to the server's reply; rejects when the server closes instead. */
async function handshake(
  kex: 'mlkem768x25519-sha256' | 'curve25519-sha256',
  share?: Buffer,
  hostKeys = [readFileSync(hostKey.path)],
  hostKeyAlgorithm = 'ssh-ed25519',
): Promise<{ kexinit: Buffer; hash: Buffer; hostBlob: Buffer; signature: Buffer }> {
  const [near, far] = duplexPair()
  const server = new ssh2.Server({ hostKeys }, connection => connection.on('error', () => {}))
  server.injectSocket(far as never)
  const read = packets(near)
  near.write(`${IDENT}\r\n`)
  const serverIdent = await read.line()
  const cipher = nameList(['aes128-gcm@openssh.com'])
  const none = nameList([])
  const offer = Buffer.concat([
    Buffer.of(20),
    randomBytes(16),
    nameList([kex]),
    nameList([hostKeyAlgorithm]),
    cipher,
    cipher,
    none,
    none,
    nameList(['none']),
    nameList(['none']),
    none,
    none,
    Buffer.of(0),
    u32(0),
  ])
  near.write(packet(offer))
  const kexinit = await read.packet()
  const x25519 = generateKeyPairSync('x25519')
  const kem = generateKeyPairSync('ml-kem-768')
  const point = x25519.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)
  const hybrid = kex === 'mlkem768x25519-sha256'
  const encapsulationKey = kem.publicKey.export({ format: 'der', type: 'spki' }).subarray(-1184)
  const mine = share ?? (hybrid ? Buffer.concat([encapsulationKey, point]) : point)
  near.write(packet(Buffer.concat([Buffer.of(30), string(mine)])))
  const reply = new Reader(await read.packet(), 'reply')
  if (reply.byte() !== 31) throw new Error('closed')
  const [hostBlob, theirs, signature] = [reply.string(), reply.string(), reply.string()]
  const classical = diffieHellman({
    privateKey: x25519.privateKey,
    publicKey: createPublicKey({
      key: Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), theirs.subarray(-32)]),
      format: 'der',
      type: 'spki',
    }),
  })
  // K is a string of the hash in the hybrid, an mpint in RFC 8731.
  const k = hybrid
    ? string(
        createHash('sha256')
          .update(decapsulate(kem.privateKey, theirs.subarray(0, -32)))
          .update(classical)
          .digest(),
      )
    : mpint(classical)
  const hash = createHash('sha256')
  for (const part of [IDENT, serverIdent, offer, kexinit, hostBlob, mine, theirs]) hash.update(string(part))
  near.destroy()
  return { kexinit, hash: hash.update(k).digest(), hostBlob, signature }
}

/** An unencrypted packet (RFC 4253, section 6). */
function packet(payload: Buffer): Buffer {
  const padding = 16 - ((payload.length + 5) % 8)
  return Buffer.concat([u32(1 + payload.length + padding), Buffer.of(padding), payload, Buffer.alloc(padding)])
}

function packets(stream: Duplex) {
  let bytes = Buffer.alloc(0)
  let over = false
  let wake = () => {}
  stream.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk])
    wake()
  })
  for (const event of ['end', 'close', 'error']) {
    stream.on(event, () => {
      over = true
      wake()
    })
  }
  const need = async (enough: () => boolean) => {
    while (!enough()) {
      if (over) throw new Error('closed')
      await new Promise<void>(resolve => {
        wake = resolve
      })
    }
  }
  const take = (length: number) => {
    const taken = bytes.subarray(0, length)
    bytes = bytes.subarray(length)
    return taken
  }
  return {
    async line() {
      await need(() => bytes.includes('\n'))
      return take(bytes.indexOf('\n') + 1)
        .toString()
        .trim()
    },
    async packet() {
      await need(() => bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE())
      const whole = take(4 + bytes.readUInt32BE())
      return Buffer.from(whole.subarray(5, whole.length - whole[4]!))
    },
  }
}

function listsOf(kexinit: Buffer): string[][] {
  const reader = new Reader(kexinit.subarray(17), 'KEXINIT')
  return Array.from({ length: 10 }, () => reader.string().toString().split(',').filter(Boolean))
}
