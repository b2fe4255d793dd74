import { readFileSync } from 'node:fs'
import { type AddressInfo, connect as connectSocket, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { parseCertificateLine } from '../../../ca/certificate.ts'
import type { UpstreamSettings } from '../../../config/settings.ts'
import { DELIM, FLUSH, line } from '../../../proxy/git/pktline.ts'
import { sshUpstream } from '../../../proxy/upstream/ssh.ts'
import { type Target, UpstreamError } from '../../../proxy/upstream/upstream.ts'
import { git, gitOk, makeRepository } from '../../support/git.ts'
import { type Key, makeKey, signKey } from '../../support/keys.ts'
import { until } from '../../support/program.ts'
import { type Sshd, startSshd } from '../../support/sshd.ts'

let key: Key
let ca: Key
let sshd: Sshd
let main: string

beforeAll(async () => {
  key = await makeKey('gate')
  ca = await makeKey('ca')
  const hostCa = await makeKey('host-ca')
  const hostKey = await makeKey('host')
  const { path } = await signKey({ ca: hostCa, key: hostKey, id: 'host', host: true, principals: ['127.0.0.1'] })
  authority = hostCa
  sshd = await startSshd({
    authorizedKeys: [key.publicKey],
    trustedUserCAKeys: [ca.publicKey],
    authorizedPrincipals: ['git'],
    hostKey,
    hostCertificate: path,
  })
  const repository = await makeRepository(join(sshd.folder, 'acme/app.git'), { commits: 3, bytes: 2 << 20 })
  main = await gitOk(['rev-parse', 'main'], { cwd: repository })
})
let authority: Key

const settings = (changes: Partial<UpstreamSettings> = {}): UpstreamSettings => ({
  name: 'ssh1',
  url: new URL(`ssh://127.0.0.1:${sshd.port}${sshd.folder}/`),
  credential: { type: 'ssh-key', username: sshd.user, privateKey: readFileSync(key.path, 'utf8') },
  hostKeys: [sshd.hostKey.publicKey],
  connectTimeout: 5_000,
  idleTimeout: 5_000,
  connections: 4,
  ...changes,
})

const target = (changes: Partial<Target> = {}): Target => ({
  path: 'acme/app',
  service: 'upload-pack',
  protocol: 2,
  stateless: false,
  principal: 'alice',
  operation: 'op-1',
  ...changes,
})

const never = new AbortController().signal
const bytes = (...parts: Buffer[]) => Readable.from([Buffer.concat(parts)], { objectMode: false })
const LS_REFS = [line('command=ls-refs'), DELIM, line('ref-prefix refs/heads/'), FLUSH]
const fetchOf = (id: string) => [line('command=fetch'), DELIM, line(`want ${id}`), line('done'), FLUSH]
const fault = async (promise: Promise<unknown>): Promise<UpstreamError> => {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(UpstreamError)
  return error as UpstreamError
}

describe('protocol 2', () => {
  test('one conversation is asked again and again, each answer ending with its flush', async () => {
    const upstream = sshUpstream(settings())(target())
    const advertisement = await buffer(await upstream.advertise(never))
    expect(advertisement.toString()).toMatch(/^000eversion 2\n.*0000$/s)
    const refs = await buffer(await upstream.exchange(bytes(...LS_REFS), never))
    expect(refs.toString()).toContain(`${main} refs/heads/main`)
    expect(refs.toString()).toMatch(/0000$/)
    const pack = await buffer(await upstream.exchange(bytes(...fetchOf(main)), never))
    expect(pack.subarray(0, 13).toString()).toBe('000dpackfile\n')
    expect(pack.length).toBeGreaterThan(2 << 20)
    expect((await buffer(await upstream.exchange(bytes(...LS_REFS), never))).equals(refs)).toBe(true)
    upstream.close()
  })

  test('an exchange alone is not shown the advertisement', async () => {
    const upstream = sshUpstream(settings())(target({ stateless: true }))
    const refs = await buffer(await upstream.exchange(bytes(...LS_REFS), never))
    expect(refs.toString()).toMatch(new RegExp(`^[0-9a-f]{4}${main} refs/heads/main\n0000$`))
    upstream.close()
  })

  test('a host that does not take GIT_PROTOCOL is named for it', async () => {
    const deaf = await startSshd({
      authorizedKeys: [key.publicKey],
      folder: sshd.folder,
      config: ['Match all', 'SetEnv GIT_PROTOCOL=version=0'],
    })
    onTestFinished(() => deaf.stop())
    const upstream = sshUpstream(
      settings({ url: new URL(`ssh://127.0.0.1:${deaf.port}${sshd.folder}/`), hostKeys: [deaf.hostKey.publicKey] }),
    )(target())
    const error = await fault(upstream.advertise(never))
    expect(error).toMatchObject({ code: 'protocol', message: 'the Git host does not speak protocol version 2' })
    expect(error.detail).toContain('AcceptEnv GIT_PROTOCOL')
  })
})

describe('protocols 0 and 1', () => {
  test.each([0, 1] as const)('version %d advertises, then answers one request to its end', async protocol => {
    const upstream = sshUpstream(settings())(target({ protocol }))
    const advertisement = (await buffer(await upstream.advertise(never))).toString('latin1')
    expect(advertisement.startsWith('000eversion 1\n')).toBe(protocol === 1)
    expect(advertisement).toContain(`${main} HEAD\0`)
    const answer = await buffer(
      await upstream.exchange(bytes(line(`want ${main} side-band-64k ofs-delta`), FLUSH, line('done')), never),
    )
    expect(answer.subarray(0, 8).toString()).toBe('0008NAK\n')
    expect(answer.length).toBeGreaterThan(2 << 20)
    upstream.close()
  })

  test('a push lands, with and without the advertisement asked for', async () => {
    const zero = '0'.repeat(40)
    for (const stateless of [false, true]) {
      const ref = `refs/heads/made-${stateless}`
      const upstream = sshUpstream(settings())(target({ service: 'receive-pack', protocol: 0, stateless }))
      if (!stateless) await buffer(await upstream.advertise(never))
      // A pack of no objects: the commit is there already.
      const empty = Buffer.from('5041434b0000000200000000029d08823bd8a8eab510ad6ac75c823cfd3ed31e', 'hex')
      const commands = Buffer.from(`${zero} ${main} ${ref}\0report-status`)
      const head = Buffer.from((commands.length + 4).toString(16).padStart(4, '0'))
      const report = await buffer(await upstream.exchange(bytes(head, commands, FLUSH, empty), never))
      expect(report.toString()).toContain(`ok ${ref}`)
      upstream.close()
      expect(await gitOk(['rev-parse', ref], { cwd: join(sshd.folder, 'acme/app.git') })).toBe(main)
    }
  })

  test('a push whose body breaks off leaves the ref where it was, and no answer counts as one', async () => {
    const upstream = sshUpstream(settings())(target({ service: 'receive-pack', protocol: 0 }))
    await buffer(await upstream.advertise(never))
    const commands = Buffer.from(`${'0'.repeat(40)} ${main} refs/heads/broken\0report-status`)
    const head = Buffer.from((commands.length + 4).toString(16).padStart(4, '0'))
    const body = new Readable({ read() {} })
    body.push(Buffer.concat([head, commands, FLUSH, Buffer.from('PACK')]))
    const answer = await upstream.exchange(body, never)
    setTimeout(() => body.destroy(new Error('the client left')), 200)
    await fault(buffer(answer))
    const { status } = await git(['rev-parse', '-q', '--verify', 'refs/heads/broken'], {
      cwd: join(sshd.folder, 'acme/app.git'),
    })
    expect(status).not.toBe(0)
  })
})

test('an archive is asked for without an advertisement', async () => {
  const upstream = sshUpstream(settings())(target({ service: 'upload-archive', protocol: 0 }))
  expect(await buffer(await upstream.advertise(never))).toHaveLength(0)
  const answer = await buffer(await upstream.exchange(bytes(line('argument main'), FLUSH), never))
  expect(answer.subarray(0, 8).toString()).toBe('0008ACK\n')
  expect(answer.length).toBeGreaterThan(2 << 20)
})

describe('faults', () => {
  test('no such repository', async () => {
    const error = await fault(sshUpstream(settings())(target({ path: 'acme/none' })).advertise(never))
    expect(error).toMatchObject({ code: 'not-found', message: 'there is no such repository' })
    expect(error.detail).toContain('does not appear to be a git repository')
  })

  test('a path is quoted: no name makes the shell of the host do anything', async () => {
    const path = `acme/$(touch ${join(sshd.folder, 'pwned')})'; touch ${join(sshd.folder, 'pwned')}; echo '!!`
    await fault(sshUpstream(settings())(target({ path })).advertise(never))
    expect(() => readFileSync(join(sshd.folder, 'pwned'))).toThrow('ENOENT')
  })

  test('a key the host does not know', async () => {
    const other = await makeKey('other')
    const credential = { type: 'ssh-key', username: sshd.user, privateKey: readFileSync(other.path, 'utf8') } as const
    expect(await fault(sshUpstream(settings({ credential }))(target()).advertise(never))).toMatchObject({
      code: 'credential',
    })
  })

  test('nobody listening', async () => {
    const url = new URL('ssh://127.0.0.1:1/srv/')
    expect(await fault(sshUpstream(settings({ url }))(target()).advertise(never))).toMatchObject({
      code: 'unreachable',
    })
  })

  test('a listener that says nothing', async () => {
    const sockets = new Set<Socket>()
    const silent: Server = createServer(socket => sockets.add(socket))
    await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy()
      silent.close()
    })
    const { port } = silent.address() as AddressInfo
    const upstream = sshUpstream(settings({ url: new URL(`ssh://127.0.0.1:${port}/srv/`), connectTimeout: 300 }))(
      target(),
    )
    expect(await fault(upstream.advertise(never))).toMatchObject({ code: 'timeout' })
  })

  test('a host that falls silent in the middle of an answer', async () => {
    const hung = await startSshd({
      authorizedKeys: [`command="printf '000eversion 2\\n'; sleep 30" ${key.publicKey}`],
    })
    onTestFinished(() => hung.stop())
    const upstream = sshUpstream(
      settings({ url: new URL(`ssh://127.0.0.1:${hung.port}/`), hostKeys: [hung.hostKey.publicKey], idleTimeout: 400 }),
    )(target())
    expect(await fault(upstream.advertise(never).then(buffer))).toMatchObject({ code: 'timeout' })
  })

  test('a host that ends in the middle of an answer, with status 0 even', async () => {
    const short = await startSshd({ authorizedKeys: [`command="printf '000eversion 2\\n'" ${key.publicKey}`] })
    onTestFinished(() => short.stop())
    const upstream = sshUpstream(
      settings({ url: new URL(`ssh://127.0.0.1:${short.port}/`), hostKeys: [short.hostKey.publicKey] }),
    )(target())
    await expect(upstream.advertise(never).then(buffer)).rejects.toThrow('ended before its answer was complete')
  })

  test('a lost connection is never taken for the end of an answer', async () => {
    const upstream = sshUpstream(settings())(target({ protocol: 0 }))
    await buffer(await upstream.advertise(never))
    const answer = await upstream.exchange(bytes(line(`want ${main}`), FLUSH, line('done')), never)
    answer.once('data', () => upstream.close())
    await fault(buffer(answer))
  })

  test('an abort ends what is under way', async () => {
    const controller = new AbortController()
    const upstream = sshUpstream(settings())(target({ protocol: 0 }))
    await buffer(await upstream.advertise(controller.signal))
    const answer = await upstream.exchange(new Readable({ read() {} }), controller.signal)
    setTimeout(() => controller.abort(), 100)
    await fault(buffer(answer))
  })
})

describe('who the host is', () => {
  test.each([
    ['its key', () => sshd.hostKey.publicKey],
    ['a line of known_hosts', () => `[127.0.0.1]:22 ${sshd.hostKey.publicKey}`],
    ['its fingerprint', () => sshd.hostKey.fingerprint],
    ['the authority of its certificate', () => `@cert-authority * ${authority.publicKey}`],
  ])('is known by %s', async (_how, hostKey) => {
    const upstream = sshUpstream(settings({ hostKeys: [hostKey()] }))(target())
    expect((await buffer(await upstream.advertise(never))).length).toBeGreaterThan(0)
    upstream.close()
  })

  test('an impostor is refused before any credential is shown', async () => {
    const [other, otherCa] = [await makeKey('other'), await makeKey('other-ca')]
    for (const hostKey of [other.publicKey, other.fingerprint, `@cert-authority ${otherCa.publicKey}`]) {
      const error = await fault(sshUpstream(settings({ hostKeys: [hostKey] }))(target()).advertise(never))
      expect(error).toMatchObject({ code: 'host-key' })
    }
  })

  test("a certificate for another name is not the host's", async () => {
    const url = new URL(`ssh://localhost:${sshd.port}${sshd.folder}/`)
    const upstream = sshUpstream(settings({ url, hostKeys: [`@cert-authority ${authority.publicKey}`] }))(target())
    expect(await fault(upstream.advertise(never))).toMatchObject({ code: 'host-key' })
  })

  test('without a pinned key there is no way to it', () => {
    expect(() => sshUpstream(settings({ hostKeys: [] }))).toThrow('none is given')
    expect(() => sshUpstream(settings({ hostKeys: ['nonsense'] }))).toThrow('no key in "nonsense"')
    expect(() => sshUpstream(settings({ hostKeys: ['@revoked ssh-ed25519 AAAA'] }))).toThrow(
      '"@revoked" is not understood',
    )
  })
})

describe('connections', () => {
  const logins = () => sshd.log().match(/Accepted publickey/g)?.length ?? 0

  test('stay warm after what ended cleanly, and only then', async () => {
    const connect = sshUpstream(settings())
    const before = logins()
    for (let n = 0; n < 3; n++) {
      const upstream = connect(target())
      await buffer(await upstream.advertise(never))
      await buffer(await upstream.exchange(bytes(...LS_REFS), never))
      upstream.close()
      await new Promise(resolve => setTimeout(resolve, 150))
    }
    expect(logins() - before).toBe(1)
    const cut = connect(target())
    await buffer(await cut.advertise(never))
    const answer = await cut.exchange(bytes(...fetchOf(main)), never)
    answer.once('data', () => answer.destroy())
    await until(() => answer.destroyed)
    const next = connect(target())
    await buffer(await next.advertise(never))
    next.close()
    expect(logins() - before).toBe(2)
  })

  test('are no more than the operator allows; whoever comes too late waits, then is told', async () => {
    const connect = sshUpstream(settings({ connections: 2, idleTimeout: 800 }))
    const held = [connect(target()), connect(target())]
    for (const upstream of held) await buffer(await upstream.advertise(never))
    const late = connect(target())
    expect(await fault(late.advertise(never))).toMatchObject({ code: 'timeout', message: 'the Git host is too busy' })
    const waiting = connect(target()).advertise(never).then(buffer)
    held[0]!.close()
    expect((await waiting).length).toBeGreaterThan(0)
    held[1]!.close()
  })

  test('that died while they were warm are replaced without a word', async () => {
    // Between us and the host, something that forgets connections, as firewalls do: found out only by the next packet.
    let forget = false
    const sockets: Socket[] = []
    const relay = createServer(socket => {
      const host = connectSocket(sshd.port, '127.0.0.1')
      sockets.push(socket, host)
      for (const end of sockets) end.on('error', () => {})
      socket.on('data', chunk => {
        if (!forget) return host.write(chunk)
        forget = false
        host.destroy()
        return socket.destroy()
      })
      host.pipe(socket)
    })
    await new Promise<void>(resolve => relay.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy()
      relay.close()
    })
    const { port } = relay.address() as AddressInfo
    const connect = sshUpstream(settings({ url: new URL(`ssh://127.0.0.1:${port}${sshd.folder}/`) }))
    for (let n = 0; n < 2; n++) {
      const upstream = connect(target())
      expect((await buffer(await upstream.advertise(never))).length).toBeGreaterThan(0)
      upstream.close()
      await new Promise(resolve => setTimeout(resolve, 200))
      forget = n === 0
    }
    expect(forget).toBe(false)
    expect(sockets).toHaveLength(4)
  })

  test.each(['ed25519', 'ecdsa', 'rsa'] as const)(
    'by %s certificate are made for one operation and never shared',
    async type => {
      const asked: string[] = []
      const subject = await makeKey(`subject-${type}`, { type })
      const { certificate } = await signKey({ ca, key: subject, id: 'alice', principals: ['git'] })
      const connect = sshUpstream(
        settings({ credential: { type: 'ssh-certificate', principal: 'git', keyId: '{principal}', extensions: {} } }),
        {
          certificate: async ({ principal, operation }) => {
            asked.push(`${principal} ${operation}`)
            return {
              username: sshd.user,
              privateKey: readFileSync(subject.path, 'utf8'),
              certificate: parseCertificateLine(certificate).blob,
            }
          },
        },
      )
      const before = logins()
      for (const principal of ['alice', 'bob']) {
        const upstream = connect(target({ principal, operation: `op-${principal}` }))
        await buffer(await upstream.advertise(never))
        await buffer(await upstream.exchange(bytes(...LS_REFS), never))
        upstream.close()
      }
      expect(asked).toEqual(['alice op-alice', 'bob op-bob'])
      expect(logins() - before).toBe(2)
      expect(sshd.log()).toMatch(/Accepted publickey for \S+ from 127\.0\.0\.1 port \d+ ssh2: \S+-CERT .*ID alice/)
    },
  )
})
