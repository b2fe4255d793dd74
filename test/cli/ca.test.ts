import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { certificateLine } from '../../ca/certificate.ts'
import { authorityClient } from '../../ca/client.ts'
import { parsePublicKeyLine } from '../../ca/key.ts'
import { main } from '../../cli/drawbridge.ts'
import { makeKey } from '../support/keys.ts'
import { startPostgres } from '../support/postgres.ts'
import { type Program, startProgram, temporaryFolder, until } from '../support/program.ts'
import { startRedis } from '../support/redis.ts'

// The commands for the authority, against the role as it is started, with the admin role beside it.

const SERVE = fileURLToPath(new URL('../../cli/serve.ts', import.meta.url))

const folder = temporaryFolder('ca')
const file = join(folder, 'drawbridge.yaml')
const socket = join(folder, 'state', 'ca.sock')
let settings: string
let ca: Program
let admin: string

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

const serve = (role: string) =>
  startProgram(process.execPath, [SERVE, '--role', role, '--config', file], { deathSignal: 'TERM' })
const readyLine = (program: Program) =>
  until(() => program.output().match(/^\{"kind":"ready".*$/m)?.[0], `ready: ${program.output()}`)

beforeAll(async () => {
  const [redis, postgres] = await Promise.all([startRedis(), startPostgres()])
  settings = `
name: gate
public_ssh: ssh://git@gate.example.org:2222
listen: { http: off, ssh: off, admin: "127.0.0.1:0" }
redis: ${redis.url}
postgres: ${postgres.url}
state: state
upstreams: {}
`
  writeFileSync(file, settings)
})

afterAll(() => ca?.stop())

test('init wants a passphrase, makes an authority once, and the role starts with it and not without', async () => {
  expect(await drawbridge('init')).toMatchObject({ status: 2, err: expect.stringContaining('has no section ca') })
  writeFileSync(file, `${settings}ca: {}\n`)
  expect(await drawbridge('init')).toMatchObject({ status: 2, err: expect.stringContaining('no passphrase') })
  writeFileSync(file, `${settings}ca: { passphrase: correct-horse }\n`)
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

  const fetched = await until(async () => {
    const response = await fetch(`${admin}/ca/krl`)
    const bytes = Buffer.from(await response.arrayBuffer())
    return bytes.equals(readFileSync(list)) && { bytes, length: response.headers.get('content-length') }
  }, 'the list at the admin listener')
  expect(fetched.length).toBe(String(fetched.bytes.length))
  expect(await (await fetch(`${admin}/ca/user-keys`)).text()).toBe((await drawbridge('show', '--user-keys')).out)
  expect(await (await fetch(`${admin}/ca/known_hosts`)).text()).toBe(
    (await drawbridge('show', '--known-hosts', '[gate.example.org]:2222')).out,
  )
})

test('SIGHUP with another folder for its keys is refused by name', async () => {
  writeFileSync(file, `${settings}ca: { passphrase: correct-horse, directory: elsewhere }\n`)
  process.kill(ca.pid, 'SIGHUP')
  await until(() => ca.output().includes('ca cannot change while the gate runs'), 'the refusal')
  writeFileSync(file, `${settings}ca: { passphrase: correct-horse }\n`)
  process.kill(ca.pid, 'SIGHUP')
  await until(() => ca.output().includes('settings reloaded'), 'the reload')
})
