import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseCertificate } from '../../ca/certificate.ts'
import type { UpstreamSettings } from '../../config/settings.ts'
import { upstreamLogin } from '../../proxy/upstreamlogin.ts'
import { type RunningAuthority, startAuthority } from '../support/authority.ts'
import { cloneRepository, commitFile, git, gitOk, makeRepository, refsOf } from '../support/git.ts'
import { temporaryFolder } from '../support/program.ts'
import { type Sshd, startSshd } from '../support/sshd.ts'
import { type Stand, startStand } from '../support/stand.ts'

// A stock sshd that trusts the gate's authority, and nothing else: no key of the gate's is anywhere on it.

let stand: Stand
let authority: RunningAuthority
let sshd: Sshd
const folder = temporaryFolder('certified')

const settings = (more: object = {}): UpstreamSettings => ({
  name: 'host',
  url: new URL(`${sshd.url}${folder}/`),
  credential: { type: 'ssh-certificate', principal: '{principal}', keyId: '{principal}', extensions: {}, ...more },
  hostKeys: [sshd.hostKey.publicKey],
  connectTimeout: 5_000,
  idleTimeout: 60_000,
  connections: 16,
})

beforeAll(async () => {
  authority = await startAuthority()
  const { user } = await authority.client.trusted()
  sshd = await startSshd({ folder, trustedUserCAKeys: user, authorizedPrincipals: ['alice'] })
  stand = await startStand({
    change: { ca: authority.settings, upstreams: new Map([['host', settings()]]) },
  })
  await makeRepository(join(folder, 'acme/app.git'))
  for (const principal of ['alice', 'mallory']) await stand.grant({ principal, repository: 'host/acme/app' })
}, 60_000)

afterAll(async () => {
  await stand?.close()
  await sshd?.stop()
  await authority?.close()
})

/** What sshd let in, in order: the key id and serial of each login. */
const accepted = () =>
  [...sshd.log().matchAll(/Accepted publickey .* ID (\S+) \(serial (\d+)\)/g)].map(([, id, n]) => [id, n])

const remoteOf = async (principal: string, transport: 'http' | 'ssh' = 'http') => {
  const { url, env } = await stand.remote(transport, 'host/acme/app')
  const own = new URL(url)
  if (transport === 'http') own.password = await stand.token(principal)
  return { url: own.href, env }
}

test('a clone and a push go through, each operation by a certificate of its own that is on record', async () => {
  const { url, env } = await remoteOf('alice')
  const work = await cloneRepository(url, { env })
  await commitFile(work, 'new', 'content')
  await gitOk(['push', 'origin', 'HEAD:refs/heads/new'], { cwd: work, env })
  expect(await refsOf(join(folder, 'acme/app.git'))).toHaveProperty('refs/heads/new')

  const logins = accepted()
  const serials = logins.map(([, serial]) => serial)
  expect(new Set(logins.map(([id]) => id))).toEqual(new Set(['alice']))
  expect(serials.length).toBeGreaterThan(1)
  expect(new Set(serials).size).toBe(serials.length)
  const issued = authority.records.flatMap(record => (record.kind === 'certificate.issued' ? [record] : []))
  for (const serial of serials)
    expect(issued.find(record => record.serial === serial)).toMatchObject({ by: 'alice', principals: ['alice'] })
})

test('over SSH as well', async () => {
  const { url, env } = await remoteOf('alice', 'ssh')
  expect((await git(['ls-remote', url], { env })).status).toBe(0)
})

test('whom the host does not list gets nowhere by a connection of somebody it does', async () => {
  const alice = await remoteOf('alice')
  const mallory = await remoteOf('mallory')
  const before = accepted().length
  // At the same time, so that there is a warm connection to be tempted by.
  const [hers, theirs] = await Promise.all([git(['ls-remote', alice.url]), git(['ls-remote', mallory.url])])
  const after = await git(['ls-remote', mallory.url])
  expect(hers.status).toBe(0)
  for (const refused of [theirs, after]) {
    expect(refused.status).not.toBe(0)
    expect(refused.stderr).toContain("refused the gate's own credential")
  }
  expect(
    new Set(
      accepted()
        .slice(before)
        .map(([id]) => id),
    ),
  ).toEqual(new Set(['alice']))
})

test('the certificate holds minutes, the name the host knows, and what a vendor wants; no terminal and no forwarding', async () => {
  const upstream = settings({
    principal: 'git',
    keyId: '{principal.login}',
    extensions: { 'login@github.com': '{principal.login}' },
  })
  const { certificate, username } = await upstreamLogin(authority.client, upstream, { principal: 'ada@example.org' })
  const { keyId, principals, extensions, criticalOptions, validBefore } = parseCertificate(certificate ?? Buffer.of())
  expect({ keyId, principals, username }).toEqual({ keyId: 'ada', principals: ['git'], username: sshd.user })
  expect([...extensions]).toEqual([['login@github.com', 'ada']])
  expect([...criticalOptions]).toEqual([])
  expect(Number(validBefore) * 1000 - Date.now()).toBeLessThanOrEqual(5 * 60_000)
})

test('with the authority away nothing goes to the host, and the person is told so', async () => {
  const { url } = await remoteOf('alice')
  const before = accepted().length
  await authority.close()
  const refused = await git(['ls-remote', url])
  expect(refused.status).not.toBe(0)
  expect(refused.stderr).toContain('the gate has no credential for the Git host')
  expect(accepted().length).toBe(before)
})
