import { spawnSync } from 'node:child_process'
import { generateKeyPairSync, sign } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import { get } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { buffer, json } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { certificateLine } from '../../ca/certificate.ts'
import { authorityClient } from '../../ca/client.ts'
import { fingerprint, parsePublicKeyLine, publicKeyBlob } from '../../ca/key.ts'
import { main } from '../../cli/drawbridge.ts'
import { startAgent } from '../support/agent.ts'
import { makeKey } from '../support/keys.ts'
import { startPostgres } from '../support/postgres.ts'
import { type Program, runProgram, startProgram, temporaryFolder, until } from '../support/program.ts'
import { startRedis } from '../support/redis.ts'

// The commands for the authority, against the role as it is started, with the admin role beside it.

const SERVE = fileURLToPath(new URL('../../cli/serve.ts', import.meta.url))

const folder = temporaryFolder('ca')
const file = join(folder, 'drawbridge.yaml')
const socket = join(folder, 'state', 'ca.sock')
let settings: string
let authority: string
let ca: Program
let admin: string
let root: string

/** In this process: a dozen commands would take longer to start than to run. */
async function drawbridge(...args: string[]) {
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []]
  const written = (into: Buffer[]) => (chunk: Uint8Array | string) => {
    into.push(Buffer.from(chunk as Uint8Array))
    return true
  }
  const spies = [
    vi.spyOn(process.stdout, 'write').mockImplementation(written(stdout)),
    vi.spyOn(process.stderr, 'write').mockImplementation(written(stderr)),
  ]
  const status = await main(['ca', ...args, '--config', file]).finally(() => {
    for (const spy of spies) spy.mockRestore()
  })
  return {
    status,
    stdout: Buffer.concat(stdout),
    out: Buffer.concat(stdout).toString(),
    err: Buffer.concat(stderr).toString(),
  }
}

/** From the admin listener, as somebody who trusts `root`. */
async function fetched(path: string): Promise<{ bytes: Buffer; length: string | undefined }> {
  const [answer] = (await once(get(`${admin}${path}`, { ca: root }), 'response')) as [IncomingMessage]
  return { bytes: await buffer(answer), length: answer.headers['content-length'] }
}

const serve = (role: string) =>
  startProgram(process.execPath, [SERVE, '--role', role, '--config', file], { deathSignal: 'TERM' })
const readyLine = (program: Program) =>
  until(() => program.output().match(/^\{"kind":"ready".*$/m)?.[0], `ready: ${program.output()}`)

const vaultToken = join(folder, 'vault-token')
const vaultKey = generateKeyPairSync('ed25519')

/** Vault's transit engine with one ed25519 key, by its documented wire format. */
const vault = createServer(async (request, response) => {
  const { input } = request.method === 'POST' ? ((await json(request)) as { input: string }) : { input: '' }
  const raw = Buffer.from(vaultKey.publicKey.export({ format: 'jwk' }).x ?? '', 'base64url').toString('base64')
  const data =
    request.method === 'GET'
      ? { type: 'ed25519', keys: { 2: { public_key: raw } } }
      : { signature: `vault:v2:${sign(null, Buffer.from(input, 'base64'), vaultKey.privateKey).toString('base64')}` }
  const allowed = request.headers['x-vault-token'] === 'hvs.good' && request.url?.startsWith('/v1/transit/')
  response.writeHead(allowed ? 200 : 403).end(JSON.stringify({ data }))
})

beforeAll(async () => {
  await once(vault.listen(0, '127.0.0.1'), 'listening')
  const { port } = vault.address() as AddressInfo
  authority = `{ passphrase: correct-horse, vault: { address: "http://127.0.0.1:${port}", token_file: vault-token } }`
  const [redis, postgres] = await Promise.all([startRedis(), startPostgres()])
  settings = `
name: gate
public_ssh: ssh://git@gate.example.org:2222
listen: { http: off, ssh: off, admin: { address: "127.0.0.1:0", tls: ca } }
redis: ${redis.url}
postgres: ${postgres.url}
state: state
upstreams: {}
`
  writeFileSync(file, settings.replace(', tls: ca', ''))
})

afterAll(async () => {
  vault.close()
  await ca?.stop()
})

test('init wants a passphrase, makes an authority once, and the role starts with it and not without', async () => {
  expect(await drawbridge('init')).toMatchObject({ status: 2, err: expect.stringContaining('has no section ca') })
  writeFileSync(file, `${settings}ca: {}\n`)
  expect(await drawbridge('init')).toMatchObject({ status: 2, err: expect.stringContaining('no passphrase') })
  writeFileSync(file, `${settings}ca: ${authority}\n`)
  const early = await serve('ca')
  expect(await early.ended).toBe(1)
  expect(early.output()).toContain('drawbridge ca init')

  expect(await drawbridge('show')).toMatchObject({ status: 3, err: expect.stringContaining('serve --role ca') })
  expect((await drawbridge('init')).status).toBe(0)
  expect(await drawbridge('init')).toMatchObject({
    status: 1,
    err: expect.stringContaining('holds an authority already'),
  })
  ca = await serve('ca')
  await readyLine(ca)
  admin = JSON.parse(await readyLine(await serve('admin'))).urls.admin
})

test('show names current and next, and prints the files OpenSSH reads', async () => {
  const keys = JSON.parse((await drawbridge('show', '--json')).out) as { ring: string; state: string; key: string }[]
  expect(keys.map(({ ring, state }) => `${ring} ${state}`)).toEqual([
    'user current',
    'user next',
    'host current',
    'host next',
  ])
  expect((await drawbridge('show', '--user-keys')).out).toBe(`${keys[0]?.key} drawbridge\n${keys[1]?.key} drawbridge\n`)
  expect((await drawbridge('show', '--known-hosts', 'gate,[gate]:2222')).out).toBe(
    `@cert-authority gate,[gate]:2222 ${keys[2]?.key}\n@cert-authority gate,[gate]:2222 ${keys[3]?.key}\n`,
  )
})

test('the admin listener is known by the root of its TLS, which the command and the listener itself hand out', async () => {
  expect(admin).toMatch(/^https:/)
  root = (await drawbridge('show', '--tls-root')).out
  expect((await fetched('/ca/tls-root')).bytes.toString()).toBe(root)
  root = ''
  await expect(fetched('/ca/tls-root')).rejects.toThrow(/certificate/)
  root = (await drawbridge('show', '--tls-root')).out
})

test('rotate makes next current, and distrust wants a key that is retired', async () => {
  const states = async () =>
    (
      JSON.parse((await drawbridge('show', '--json')).out) as { ring: string; state: string; fingerprint: string }[]
    ).filter(({ ring }) => ring === 'user')
  const [current, next] = await states()
  expect(await drawbridge('distrust', current?.fingerprint ?? '')).toMatchObject({
    status: 1,
    err: expect.stringContaining('rotate until it is retired'),
  })
  expect((await drawbridge('rotate', '--ring', 'user')).status).toBe(0)
  expect((await states()).map(({ state }) => state)).toEqual(['current', 'next', 'retired'])
  expect((await states())[0]?.fingerprint).toBe(next?.fingerprint)
  expect((await drawbridge('distrust', current?.fingerprint ?? '')).status).toBe(0)
  expect((await states()).map(({ state }) => state)).toEqual(['current', 'next'])
  expect((await drawbridge('rotate', '--ring', 'both')).status).toBe(2)
})

test('the next key may be one in an ssh-agent or in Vault, which then sign what is issued', async () => {
  const issued = async () => {
    const key = await makeKey('subject', { folder: temporaryFolder('subject') })
    const answer = await authorityClient(socket).issue({
      type: 'host',
      by: 'gate',
      publicKey: parsePublicKeyLine(key.publicKey).blob,
      keyId: 'gate',
      principals: ['gate'],
      expires: Date.now() + 3_600_000,
    })
    if (!answer.ok) throw new Error(answer.reason)
    return fingerprint(answer.certificate.authority)
  }
  const agent = await startAgent()
  const kept = await makeKey('kept', { folder: temporaryFolder('kept') })
  await runProgram('ssh-add', ['-q', kept.path], { env: { ...process.env, SSH_AUTH_SOCK: agent.socket } })
  const host = ['rotate', '--ring', 'host']
  expect((await drawbridge(...host, '--agent', agent.socket)).status).toBe(2)
  expect((await drawbridge(...host, '--vault', 'gate')).status).toBe(2)
  expect((await drawbridge(...host, '--kms', 'alias/gate')).status).toBe(2)

  expect((await drawbridge(...host, '--agent', agent.socket, '--key', `${kept.path}.pub`)).status).toBe(0)
  // Without its token Vault is not asked, and nothing has turned.
  expect(await drawbridge(...host, '--vault', 'gate@2')).toMatchObject({
    status: 1,
    err: expect.stringContaining('vault-token is missing'),
  })
  writeFileSync(vaultToken, 'hvs.good\n', { mode: 0o600 })
  expect((await drawbridge(...host, '--vault', 'gate@2')).status).toBe(0)
  expect(await issued()).toBe(kept.fingerprint)
  expect((await drawbridge(...host)).status).toBe(0)
  expect(await issued()).toBe(fingerprint(publicKeyBlob(vaultKey.publicKey)))
  await agent.stop()
})

test('what is revoked is in the list, from the command and from the admin listener, in the eyes of ssh-keygen', async () => {
  const key = await makeKey('revoked', { folder })
  const answer = await authorityClient(socket).issue({
    type: 'user',
    by: 'alice',
    publicKey: parsePublicKeyLine(key.publicKey).blob,
    keyId: 'alice',
    principals: ['alice'],
    expires: Date.now() + 3_600_000,
  })
  if (!answer.ok) throw new Error(answer.reason)
  const certificate = `${key.path}-cert.pub`
  writeFileSync(certificate, certificateLine(answer.certificate))

  expect((await drawbridge('revoke', '--reason', 'nothing named')).status).toBe(2)
  expect(await drawbridge('revoke', '--key', file, '--reason', 'no key')).toMatchObject({ status: 2 })
  const list = join(folder, 'list.krl')
  expect((await drawbridge('krl', '--out', list)).status).toBe(0)
  expect(spawnSync('ssh-keygen', ['-Q', '-f', list, certificate]).status).toBe(0)
  expect((await drawbridge('revoke', '--serial', String(answer.certificate.serial), '--reason', 'lost')).status).toBe(0)
  expect((await drawbridge('krl', '--out', list)).status).toBe(0)
  expect(spawnSync('ssh-keygen', ['-Q', '-f', list, certificate]).status).toBe(1)
  expect((await drawbridge('krl')).stdout.equals(readFileSync(list))).toBe(true)

  const served = await until(async () => {
    const answer = await fetched('/ca/krl')
    return answer.bytes.equals(readFileSync(list)) && answer
  }, 'the list at the admin listener')
  expect(served.length).toBe(String(served.bytes.length))
  expect((await fetched('/ca/user-keys')).bytes.toString()).toBe((await drawbridge('show', '--user-keys')).out)
  expect((await fetched('/ca/known_hosts')).bytes.toString()).toBe(
    (await drawbridge('show', '--known-hosts', '[gate.example.org]:2222')).out,
  )
})

test('SIGHUP with another folder for its keys is refused by name', async () => {
  writeFileSync(file, `${settings}ca: ${authority.replace('{', '{ directory: elsewhere,')}\n`)
  process.kill(ca.pid, 'SIGHUP')
  await until(() => ca.output().includes('ca cannot change while the gate runs'), 'the refusal')
  writeFileSync(file, `${settings}ca: ${authority}\n`)
  process.kill(ca.pid, 'SIGHUP')
  await until(() => ca.output().includes('settings reloaded'), 'the reload')
})
