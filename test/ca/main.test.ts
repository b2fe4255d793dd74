import { once } from 'node:events'
import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createConnection, createServer } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { Record } from '../../audit/record.ts'
import { checkCertificate } from '../../ca/check.ts'
import { type AuthorityClient, authorityClient } from '../../ca/client.ts'
import type { CertificateRequest } from '../../ca/issue.ts'
import { fingerprint, parsePublicKeyLine, publicKeyLine } from '../../ca/key.ts'
import { encodeKrl, revocations } from '../../ca/krl.ts'
import { type MainOptions, main } from '../../ca/main.ts'
import { startAgent } from '../support/agent.ts'
import { keys, NOON, run, temporaryDirectory } from './keys.ts'

const request: CertificateRequest = {
  type: 'user',
  by: 'ada@example.org',
  publicKey: keys.p256.blob,
  keyId: 'ada@example.org',
  principals: ['ada'],
  expires: NOON + 3_600_000,
}

/** An authority of the test's own, its clock at noon. */
async function authority(changes: Partial<MainOptions> = {}) {
  const directory = changes.directory ?? join(temporaryDirectory(), 'ca')
  const socket = join(temporaryDirectory(), 's')
  const records: Record[] = []
  const clock = { now: NOON }
  const options: MainOptions = {
    directory,
    socket,
    protection: { plain: true },
    emit: async record => void records.push(record),
    create: true,
    now: () => clock.now,
    ...changes,
  }
  const running = await main(options)
  let closed = false
  const close = async () => {
    if (!closed) await running.close()
    closed = true
  }
  onTestFinished(close)
  return { directory, socket, records, clock, client: authorityClient(socket), close, options }
}

async function issue(client: AuthorityClient, changes: Partial<CertificateRequest> = {}) {
  const answer = await client.issue({ ...request, ...changes })
  if (!answer.ok) throw new Error(answer.reason)
  return answer.certificate
}

/** Judges as our doors do: by what the authority says is trusted, and by its KRL. */
async function judge(
  client: AuthorityClient,
  certificate: Awaited<ReturnType<typeof issue>>,
  now = NOON,
): Promise<string> {
  const trusted = await client.trusted()
  const revoked = revocations(await client.krl())
  const result = checkCertificate(certificate, {
    type: certificate.type,
    now,
    isAuthority: blob => trusted[certificate.type].some(line => parsePublicKeyLine(line).blob.equals(blob)),
    isRevoked: revoked.isRevoked,
  })
  return result.ok ? 'ok' : result.code
}

test('user and host certificates are issued by different keys, recorded, and taken', async () => {
  const { client, records } = await authority()
  const user = await issue(client, {
    sourceAddress: '192.0.2.0/24',
    extensions: new Map([['login@github.com', 'ada']]),
  })
  const host = await issue(client, { type: 'host', principals: ['gate.example.org'] })
  expect(user.authority.equals(host.authority)).toBe(false)
  expect(host.serial > user.serial).toBe(true)
  expect(await judge(client, host)).toBe('ok')
  expect(await judge(client, user)).toBe('source-address')
  expect(records.map(({ kind }) => kind)).toEqual(['role.started', 'certificate.issued', 'certificate.issued'])
})

test('refusals are answers with a reason, and recorded', async () => {
  const { client, records } = await authority()
  expect(await client.issue({ ...request, principals: ['*'] })).toMatchObject({ ok: false, code: 'principals' })
  expect(await client.issue({ ...request, expires: NOON + 1e9 })).toMatchObject({ ok: false, code: 'lifetime' })
  expect(records.slice(1)).toMatchObject([{ kind: 'certificate.refused' }, { kind: 'certificate.refused' }])
})

test('with the ledger away nothing is issued, and what is revoked is revoked all the same', async () => {
  let down = false
  const { client } = await authority({ emit: async () => (down ? Promise.reject(new Error('down')) : undefined) })
  const certificate = await issue(client)
  down = true
  expect(await client.issue(request)).toMatchObject({ ok: false, code: 'ledger-unreachable' })
  const revoked = await client.revoke({ by: 'eve@example.org', reason: 'lost', serial: String(certificate.serial) })
  expect(revoked).toMatchObject({ ok: false, code: 'ledger-unreachable', reason: expect.stringContaining('done') })
  expect(await judge(client, certificate)).toBe('revoked')
})

test('a rotation in the middle of a hundred logins loses none: certificates from before, during and after it are taken', async () => {
  const { client, records, directory } = await authority()
  const before = await issue(client)
  const trustedBefore = await client.trusted()
  const during = Array.from({ length: 100 }, async () => judge(client, await issue(client)))
  expect(await client.rotate({ by: 'eve@example.org', ring: 'user' })).toEqual({ ok: true })
  expect(new Set(await Promise.all(during))).toEqual(new Set(['ok']))
  const after = await issue(client)
  expect(after.authority.equals(before.authority)).toBe(false)
  // A host that has only the keys of before the rotation takes what is issued after it.
  expect(trustedBefore.user).toContain(publicKeyLine(after.authority))
  expect(await judge(client, before)).toBe('ok')
  expect(await judge(client, after)).toBe('ok')
  const trusted = await client.trusted()
  expect(trusted.user).toHaveLength(3)
  // The private half of the retired key is gone: current and next of both rings are left.
  expect(readdirSync(directory).filter(name => name.startsWith('key-'))).toHaveLength(4)
  expect(records).toContainEqual({
    kind: 'authority.rotated',
    by: 'eve@example.org',
    ring: 'user',
    fingerprint: fingerprint(parsePublicKeyLine(trusted.user[1]!).blob),
  })
})

test('a retired key that leaked is distrusted at once, at our door and by stock OpenSSH', async () => {
  const { client, records } = await authority()
  const certificate = await issue(client)
  const leaked = fingerprint(certificate.authority)
  expect(await client.distrust({ by: 'eve@example.org', fingerprint: leaked })).toMatchObject({
    ok: false,
    reason: expect.stringContaining('rotate'),
  })
  await client.rotate({ by: 'eve@example.org', ring: 'user' })
  expect(await client.distrust({ by: 'eve@example.org', fingerprint: leaked })).toEqual({ ok: true })
  expect(await judge(client, certificate)).toBe('unknown-authority')
  expect(records.at(-1)).toEqual({
    kind: 'authority.distrusted',
    by: 'eve@example.org',
    ring: 'user',
    fingerprint: leaked,
  })
  const directory = temporaryDirectory()
  const [krl, key] = [join(directory, 'krl'), join(directory, 'key.pub')]
  writeFileSync(krl, encodeKrl(await client.krl()))
  writeFileSync(key, `${publicKeyLine(certificate.authority)}\n`)
  await expect(run('ssh-keygen', ['-Q', '-f', krl, key])).rejects.toMatchObject({
    stdout: expect.stringContaining('REVOKED'),
  })
})

test('serials, key ids and keys are revoked, and stay so over a rotation and a restart', async () => {
  const first = await authority()
  const other = keys.p384.blob
  const certificates = [
    await issue(first.client),
    await issue(first.client, { keyId: 'bob', publicKey: other }),
    await issue(first.client, { publicKey: keys.rsa.blob }),
    await issue(first.client, { publicKey: other }),
  ]
  const by = 'eve@example.org'
  const reason = 'lost'
  expect(await first.client.revoke({ by, reason, serial: String(certificates[0]!.serial) })).toEqual({ ok: true })
  expect(await first.client.revoke({ by, reason, keyId: 'bob' })).toEqual({ ok: true })
  expect(await first.client.revoke({ by, reason, publicKey: publicKeyLine(keys.rsa.blob) })).toEqual({ ok: true })
  expect(await first.client.revoke({ by, reason })).toMatchObject({ ok: false, code: 'request' })
  expect(await first.client.revoke({ by, reason, serial: '9', keyId: 'bob' })).toMatchObject({
    ok: false,
    code: 'request',
  })
  await first.client.rotate({ by, ring: 'user' })
  expect(first.records.filter(({ kind }) => kind === 'certificate.revoked')).toHaveLength(3)
  const version = (await first.client.krl()).version
  await first.close()
  const second = await authority({ directory: first.directory, create: false })
  const judged: string[] = []
  for (const certificate of certificates) judged.push(await judge(second.client, certificate))
  expect(judged).toEqual(['revoked', 'revoked', 'revoked', 'ok'])
  expect((await second.client.krl()).version).toBe(version)
  // And nothing new comes under what is revoked.
  expect(await second.client.issue({ ...request, keyId: 'bob' })).toMatchObject({ code: 'revoked' })
  expect(await second.client.issue({ ...request, publicKey: keys.rsa.blob })).toMatchObject({ code: 'revoked' })
  expect((await issue(second.client)).serial > certificates[3]!.serial).toBe(true)
})

test('revocations and a rotation at the same moment are all kept', async () => {
  const { client } = await authority()
  const by = 'eve@example.org'
  const asked = Array.from({ length: 20 }, (_, i) =>
    client.revoke({ by, reason: 'lost', serial: String(100 + i * 50) }),
  )
  const rotated = client.rotate({ by, ring: 'host' })
  expect(new Set((await Promise.all([...asked, rotated])).map(({ ok }) => ok))).toEqual(new Set([true]))
  const [section] = (await client.krl()).certificates
  expect(section!.serials).toHaveLength(20)
  expect((await client.trusted()).host).toHaveLength(3)
})

test('a key in an ssh-agent becomes the next one, signs after the next turn, and is found again after a restart', async () => {
  const agent = await startAgent()
  onTestFinished(() => agent.stop())
  const agentSocket = agent.socket
  const rotation = { by: 'eve@example.org', ring: 'user' as const }
  const next = { kind: 'agent' as const, socket: agentSocket, publicKey: publicKeyLine(keys.rsa.blob) }
  const first = await authority()
  expect(await first.client.rotate({ ...rotation, next })).toMatchObject({
    ok: false,
    reason: expect.stringContaining('ssh-add'),
  })
  await agent.add(keys.rsa.privateKey, 'gate')
  expect(await first.client.rotate({ ...rotation, next })).toEqual({ ok: true })
  expect(await first.client.rotate({ ...rotation, next })).toMatchObject({
    ok: false,
    reason: expect.stringContaining('already'),
  })
  expect(await first.client.rotate(rotation)).toEqual({ ok: true })
  expect((await issue(first.client)).authority.equals(keys.rsa.blob)).toBe(true)
  await first.close()
  const second = await authority({ directory: first.directory })
  expect((await issue(second.client)).authority.equals(keys.rsa.blob)).toBe(true)
})

test('the keys are encrypted with the passphrase, and the authority does not start with another', async () => {
  const first = await authority({ protection: { passphrase: 'one' } })
  expect(readdirSync(first.directory).filter(name => name.startsWith('key-'))).toHaveLength(4)
  await first.close()
  await expect(authority({ directory: first.directory, protection: { passphrase: 'two' } })).rejects.toThrow(
    /wrong passphrase/,
  )
  const again = await authority({ directory: first.directory, protection: { passphrase: 'one' } })
  await issue(again.client)
})

test('an authority is not made by mistake, and a lost KRL is not an empty one', async () => {
  await expect(authority({ create: false })).rejects.toThrow(/drawbridge ca init/)
  const first = await authority()
  await first.close()
  rmSync(join(first.directory, 'revoked.krl'))
  await expect(authority({ directory: first.directory })).rejects.toThrow(/revoked.krl is missing/)
})

test('the files and the socket are for their owner alone', async () => {
  const { directory, socket } = await authority()
  expect(statSync(directory).mode & 0o777).toBe(0o700)
  expect(statSync(socket).mode & 0o777).toBe(0o600)
  for (const name of readdirSync(directory))
    expect([name, statSync(join(directory, name)).mode & 0o777]).toEqual([name, 0o600])
})

test('one directory has one authority; the socket of one that died is taken over', async () => {
  const { directory, socket, options } = await authority()
  await expect(main({ ...options, socket: `${socket}2` })).rejects.toThrow(/another authority is running/)
  await expect(main({ ...options, directory: `${directory}2` })).rejects.toThrow(/another authority is running/)
  // What kill -9 leaves behind: a socket file at which nobody listens.
  const dead = join(temporaryDirectory(), 's')
  const server = createServer()
  await once(server.listen(dead), 'listening')
  const kept = `${dead}.kept`
  await run('ln', [dead, kept])
  server.close()
  await once(server, 'close')
  await run('mv', [kept, dead])
  const third = await authority({ socket: dead, directory: join(temporaryDirectory(), 'ca') })
  expect(await authorityClient(third.options.socket).trusted()).toBeDefined()
})

async function say(socket: string, bytes: string | Buffer): Promise<string> {
  const connection = createConnection(socket)
  let heard = ''
  connection
    .on('error', () => {})
    .on('data', chunk => {
      heard += chunk
      if (heard.split('\n').length > bytes.toString('latin1').split('\n').length - 1) connection.end()
    })
  connection.write(bytes)
  await new Promise(resolve => connection.on('close', resolve))
  return heard
}

test.each([
  ['no JSON', 'hello\n'],
  ['no object', '7\n'],
  ['nothing', '\n'],
  ['an unknown question', '{"ask":"shell"}\n'],
  ['a field too many', '{"ask":"krl","x":1}\n'],
  ['a prototype', '{"ask":"__proto__","__proto__":{"ask":"krl"}}\n'],
  [
    'a file to use as a key',
    '{"ask":"rotate","by":"eve","ring":"user","next":{"kind":"file","file":"../../etc/passwd"}}\n',
  ],
  ['serial 0', '{"ask":"revoke","by":"eve","reason":"x","serial":"0"}\n'],
  ['bytes', Buffer.from([0xff, 0xfe, 0, 10])],
])('a request that is %s is answered with a refusal', async (_, bytes) => {
  const { socket } = await authority()
  expect(JSON.parse(await say(socket, bytes))).toMatchObject({ ok: false, code: 'request' })
})

test('requests of one connection are answered in order, however they are cut; one without end is hung up on', async () => {
  const { socket, client } = await authority()
  const connection = createConnection(socket)
  const heard: string[] = []
  connection.on('data', chunk => heard.push(...chunk.toString().split('\n').filter(Boolean)))
  for (const byte of '{"ask":"trusted"}\n{"ask":"krl"}\nx\n') connection.write(byte)
  await expect.poll(() => heard.length).toBe(3)
  expect(heard.map(line => Object.keys(JSON.parse(line))[1])).toEqual(['user', 'krl', 'code'])
  connection.destroy()
  expect(await say(socket, Buffer.alloc(1 << 20, 'a'))).toBe('')
  expect(await client.trusted()).toBeDefined()
})

test('what is asked when the authority is told to stop is still answered', async () => {
  const reached = Promise.withResolvers<void>()
  const recorded = Promise.withResolvers<void>()
  const emit = async ({ kind }: Record) => {
    if (kind !== 'certificate.issued') return
    reached.resolve()
    await recorded.promise
  }
  const { client, close } = await authority({ emit })
  const asked = client.issue(request)
  await reached.promise
  const closed = close()
  recorded.resolve()
  expect(await asked).toMatchObject({ ok: true })
  await closed
  await expect(client.trusted()).rejects.toThrow(/cannot be reached/)
})
