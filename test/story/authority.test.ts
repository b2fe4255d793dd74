import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { knownHostsLines } from '../../ca/authority.ts'
import { fingerprint, parsePublicKeyLine } from '../../ca/key.ts'
import { createAuthorityBoard } from '../../grant/authority.ts'
import { type RunningAuthority, startAuthority } from '../support/authority.ts'
import { git, makeRepository } from '../support/git.ts'
import { type Key, makeKey } from '../support/keys.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { sshCommand } from '../support/sshd.ts'
import { type Stand, startStand } from '../support/stand.ts'
import { UNDERWAY_BYTES, underway } from '../support/underway.ts'

// A gate that has an authority of its own: stock ssh logs in by what it issued, and by nothing it took back.

let stand: Stand
let authority: RunningAuthority

beforeAll(async () => {
  authority = await startAuthority()
  stand = await startStand({ proxies: 0, change: { ca: authority.settings } })
  await authority.tell(stand.redis.url)
  await stand.startProxy()
  await makeRepository(join(stand.folder, 'acme/app.git'))
  await makeRepository(join(stand.folder, 'acme/large.git'), { bytes: UNDERWAY_BYTES })
  for (const repository of ['local/acme/app', 'local/acme/large']) await stand.grant({ repository })
}, 60_000)

afterAll(async () => {
  await stand?.close()
  await authority?.close()
})

const list = (key: Key, extra: { knownHosts?: string } = {}) =>
  git(['ls-remote', `${stand.proxies[0]?.urls.ssh}/local/acme/app.git`], {
    env: { GIT_SSH_COMMAND: sshCommand({ key: key.path, ...extra }) },
  })

test('its certificates are taken, and those of an authority nobody named are not', async () => {
  const key = await makeKey('mine')
  await authority.certify(key, 'alice')
  expect(await list(key)).toMatchObject({ status: 0, stdout: expect.stringContaining('refs/heads/main') })

  const other = await startAuthority()
  const stranger = await makeKey('stranger')
  await other.certify(stranger, 'alice')
  expect((await list(stranger)).status).not.toBe(0)
  await other.close()
})

test('with tls: ca a proxy is reached over HTTPS by whoever trusts the root of its authority, and by nobody else', async () => {
  const file = join(temporaryFolder('tls'), 'http.pem')
  const http = { host: '127.0.0.1', port: 0, tls: { certificate: file, key: file, issued: true as const } }
  const proxy = await stand.startProxy({ listen: { ...stand.settings.listen, http } })
  const root = join(temporaryFolder('root'), 'root.pem')
  writeFileSync(root, (await authority.client.tlsRoot()) ?? '')
  const { url } = await stand.remote('http', 'local/acme/app', proxy)
  expect(url).toMatch(/^https:/)
  const clone = (...config: string[]) => git([...config, 'clone', '-q', url, join(temporaryFolder('clone'), 'work')])
  // For this gate alone, as the pages say: no other host is known by that root.
  const { origin } = new URL(url)
  expect(await clone('-c', `http.${origin}/.sslCAInfo=${root}`)).toMatchObject({ status: 0 })
  expect(await clone()).toMatchObject({ status: 128, stderr: expect.stringMatching(/certificate/i) })
})

test('a revoked serial is refused at the door at once, and so are a key id and a key', async () => {
  const revoke = { by: 'eve', reason: 'lost' }
  const [byOne, byTwo, byThree] = [await makeKey('one'), await makeKey('two'), await makeKey('three')]
  const first = await authority.certify(byOne, 'alice')
  await authority.certify(byTwo, 'alice-laptop', { principals: ['alice-laptop', 'git'] })
  await authority.certify(byThree, 'alice')
  for (const key of [byOne, byThree]) expect((await list(key)).status).toBe(0)

  await authority.client.revoke({ ...revoke, serial: String(first.serial) })
  await authority.client.revoke({ ...revoke, keyId: 'alice-laptop' })
  await authority.client.revoke({ ...revoke, publicKey: byThree.publicKey })
  await told()
  for (const key of [byOne, byTwo, byThree]) {
    const refused = await list(key)
    expect(refused.status).not.toBe(0)
  }
  // A refusal is written behind the connection's end.
  await until(async () => {
    const refusals = (await stand.records()).filter(record => record.kind === 'signin.refused')
    return refusals.filter(({ code }) => code === 'revoked').length === 3
  }, 'three refusals on record')
})

test('a clone by a certificate that is revoked meanwhile is cut, and told why', async () => {
  const key = await makeKey('running')
  const { serial } = await authority.certify(key, 'alice')
  const byCertificate: Stand = {
    ...stand,
    remote: async (...of) => ({
      ...(await stand.remote(...of)),
      env: { GIT_SSH_COMMAND: sshCommand({ key: key.path }) },
    }),
  }
  const clone = await underway(byCertificate, { what: 'clone', transport: 'ssh', repository: 'local/acme/large' })
  expect(clone.start.identity).toMatchObject({ kind: 'certificate', serial: String(serial) })
  await authority.client.revoke({ by: 'eve', reason: 'stolen', serial: String(serial) })
  const { result, reason } = await clone.end()
  const { status } = await clone.finish()
  expect({ result, reason }).toEqual({ result: 'cut', reason: expect.stringContaining('has been revoked') })
  expect(status).not.toBe(0)
  await clone.line.stop()
})

test('rotations in the middle of logins lose none, and a distrusted key lets nobody in from then on', async () => {
  const key = await makeKey('before')
  const { authority: signedBy } = await authority.certify(key, 'alice')
  let over = false
  const logins = Array.from({ length: 3 }, async (_, nth) => {
    const statuses: number[] = []
    while (!over) {
      const fresh = await makeKey(`during-${nth}-${statuses.length}`)
      await authority.certify(fresh, 'alice')
      statuses.push((await list(fresh)).status, (await list(key)).status)
    }
    return statuses
  })
  for (let turn = 0; turn < 3; turn++) {
    await authority.client.rotate({ by: 'eve', ring: 'user' })
    await sleep(300)
  }
  over = true
  const statuses = (await Promise.all(logins)).flat()
  expect(statuses.length).toBeGreaterThan(5)
  expect(new Set(statuses)).toEqual(new Set([0]))

  await authority.client.distrust({ by: 'eve', fingerprint: fingerprint(signedBy) })
  await told()
  expect((await list(key)).status).not.toBe(0)
}, 60_000)

test('one @cert-authority line makes the gate known, through a rotation and a leaked host key', async () => {
  const key = await makeKey('knowing')
  await authority.certify(key, 'alice')
  const known = async () => {
    const file = join(temporaryFolder('known'), 'known_hosts')
    const { host } = await authority.client.trusted()
    writeFileSync(file, knownHostsLines(host, [`[127.0.0.1]:${new URL(stand.proxies[0]?.urls.ssh ?? '').port}`]))
    return file
  }
  const knownHosts = await known()
  expect((await list(key, { knownHosts })).status).toBe(0)
  const [leaked = ''] = (await authority.client.trusted()).host
  await authority.client.rotate({ by: 'eve', ring: 'host' })
  expect((await list(key, { knownHosts })).status).toBe(0)

  await authority.client.distrust({ by: 'eve', fingerprint: fingerprint(parsePublicKeyLine(leaked).blob) })
  const without = await known()
  expect(await until(async () => (await list(key, { knownHosts: without })).status === 0)).toBe(true)
})

test('a locked principal gets nowhere with a certificate that is good', async () => {
  const key = await makeKey('locked')
  await authority.certify(key, 'alice')
  await stand.store.lock('alice', 'left the company', 1)
  const refused = await list(key)
  await stand.store.unlock('alice', 2)
  expect(refused.status).not.toBe(0)
  expect(refused.stderr).toContain('locked')
})

test('an authority that Redis says nothing of, or nonsense, is trusted with nothing', async () => {
  const key = await makeKey('unsaid')
  await authority.certify(key, 'alice')
  expect((await list(key)).status).toBe(0)
  await authority.close()
  const redis = new Redis(stand.redis.url)
  const board = createAuthorityBoard({ redis })
  const good = await board.get()
  await board.put({ version: 'nonsense', text: '{"user":[],"krl":""}' })
  expect((await list(key)).status).not.toBe(0)
  await board.put(good ?? { version: '', text: '' })
  expect((await list(key)).status).toBe(0)
  await board.clear()
  expect((await list(key)).status).not.toBe(0)
  redis.disconnect()
})

/** The authority's word has come to Redis: `tell` looks twenty times a second. */
const told = () => sleep(300)
