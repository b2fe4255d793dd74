import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { PRESETS, type WorkloadSettings } from '../../config/workload.ts'
import { type ControlPlane, startControlPlane } from '../support/control.ts'
import { cloneRepository, commitFile, git, makeRepository, refsOf } from '../support/git.ts'
import { makeKey } from '../support/keys.ts'
import { startProgram, temporaryFolder, until } from '../support/program.ts'
import { type Stand, type StartedProxy, startStand } from '../support/stand.ts'

// A job of a CI system, by the script of the page: its credential is for one window, the window for this one job.

const PAGE = readFileSync(new URL('../../docs/sign-in.md', import.meta.url), 'utf8')
const SCRIPT = /<!-- gate\.sh -->\n```sh\n([\s\S]*?)```/.exec(PAGE)?.[1] ?? ''
const AUDIENCE = 'https://access.example.org'
const JOB = 'ci:github:acme/build:refs/heads/main'
const POLICY = `version: 1
groups: { leads: [mona] }
requests:
  - { trigger: clone, repositories: local/acme/*, who: "ci:github:acme/build:refs/heads/*", automatic: true, approvers: leads }
  - { trigger: push, repositories: local/acme/*, who: "ci:github:acme/build:refs/heads/*", auto_request: { wait: 40s }, approvers: leads }
`

let stand: Stand
let control: ControlPlane
let proxy: StartedProxy
let issuer: Server
let at: string
let sign: () => Promise<string>

beforeAll(async () => {
  const keys = await generateKeyPair('ES256')
  const jwk = { ...(await exportJWK(keys.publicKey)), kid: 'k1', alg: 'ES256', use: 'sig' }
  issuer = createServer(({ url }, response) => {
    const metadata = { issuer: at, jwks_uri: `${at}/keys` }
    response.end(JSON.stringify(url === '/keys' ? { keys: [jwk] } : metadata))
  })
  await new Promise<void>(resolve => issuer.listen(0, '127.0.0.1', resolve))
  at = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}`
  let jobs = 0
  sign = async () => {
    const claims = { repository: 'acme/build', repository_id: '7', ref: 'refs/heads/main', event_name: 'push' }
    return await new SignJWT({ ...claims, sub: 'repo:acme/build', jti: `job-${++jobs}` })
      .setProtectedHeader({ alg: 'ES256', kid: 'k1' })
      .setIssuer(at)
      .setAudience(AUDIENCE)
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(keys.privateKey)
  }
  const build: WorkloadSettings = {
    name: 'build',
    preset: 'github',
    issuer: new URL(at),
    audience: AUDIENCE,
    claims: new Map([['repository_id', ['7']]]),
    lasts: 3_600_000,
  }
  stand = await startStand({ proxies: 0 })
  await stand.store.doubt()
  control = await startControlPlane(
    { redis: stand.redis.url, postgres: stand.postgres.url },
    { root: 'admin', eve: 'auditor', mona: 'approver', 'service:gate': 'front' },
    POLICY,
    { workloads: [build] },
  )
  proxy = await stand.startProxy({ control: { url: control.url, tokenFile: join(control.folder, 'service:gate') } })
  for (const name of ['app', 'other']) await makeRepository(join(stand.folder, 'acme', `${name}.git`))
})
afterAll(async () => {
  issuer?.close()
  await control?.close()
  await stand?.close()
})

async function post(path: string, body: object, token?: string) {
  const answer = await fetch(`${control.url}/api/v1${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
    body: JSON.stringify(body),
  })
  return {
    status: answer.status,
    body: (await answer.json()) as { [name: string]: string } & { request?: { id: string } },
  }
}
const window = (repository = 'local/acme/app') => ({ repository, actions: ['fetch'], for: '10m', reason: 'build' })
const exchange = async (request?: object) => await post('/login/workload', { token: await sign(), request })
async function reads(token: string | undefined, repository = 'local/acme/app'): Promise<string> {
  const url = new URL(`${proxy.urls.http}/${repository}.git`)
  url.username = 'job'
  url.password = token ?? ''
  const { status, stderr } = await git(['ls-remote', url.href])
  return status === 0 ? 'reads' : stderr
}

test('the script of the page clones, and gives its window back when it ends', async () => {
  const folder = temporaryFolder('job')
  const env = { ACCESS: control.url, GATE: proxy.urls.http ?? '', REPOSITORY: 'local/acme/app' }
  const script = `${SCRIPT}\ngit clone -q "$GATE/$REPOSITORY.git" app && git -C app log --oneline | wc -l`
  const job = await startProgram('sh', ['-ec', script], {
    cwd: folder,
    env: { ...process.env, ...env, JOB_TOKEN: await sign() },
  })
  expect([await job.ended, job.output()]).toEqual([0, expect.any(String)])
  const made = await control.run('eve', 'drawbridge', 'audit', 'list', '--json', '--principal', JOB)
  const kinds = made.stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line).record.kind)
  for (const kind of ['token.created', 'request.approved', 'operation.start', 'request.withdrawn', 'grant.ended']) {
    expect(kinds).toContain(kind)
  }
  expect(await stand.store.live(JOB)).toEqual([])
})

describe('a job’s credential', () => {
  test('opens the window it was given for, and no other one of the same name', async () => {
    await stand.grant({ principal: JOB, repository: 'local/acme/other', actions: ['fetch'] })
    const { body } = await exchange(window())
    expect(await reads(body.token)).toBe('reads')
    expect(await reads(body.token, 'local/acme/other')).toContain('no open window')
  })

  test('opens nothing any more once the job has given its window back', async () => {
    const { body } = await exchange(window())
    expect((await post(`/requests/${body.request?.id}/withdraw`, {}, body.token)).status).toBe(200)
    expect(await reads(body.token)).toContain('no open window')
  })

  test('ends with its window, where that is sooner', async () => {
    const { body } = await exchange(window())
    expect(Date.parse(body.expires_at ?? '') - Date.now()).toBeLessThanOrEqual(600_000)
  })

  // What a job leaves behind must not outlive it: it can run code of strangers.
  test('reaches nothing else of the API: no keys, no requests of others or of its own', async () => {
    const [mine, other] = [await exchange(window()), await exchange(window())]
    const bound = { status: 403, body: { code: 'bound' } }
    const { publicKey } = await makeKey('job')
    const { token } = mine.body
    expect(await post('/keys', { public_key: publicKey }, token)).toMatchObject(bound)
    expect(await post('/requests', window(), token)).toMatchObject(bound)
    expect(await post(`/requests/${other.body.request?.id}/withdraw`, {}, token)).toMatchObject(bound)
    expect(await post('/services/x/rotate', {}, token)).toMatchObject(bound)
    expect(await reads(other.body.token)).toBe('reads')
  })
})

describe('a job’s window', () => {
  test('is no other job’s, though both have the same name', async () => {
    const [, other] = [await exchange(window()), await exchange()]
    expect(await reads(other.body.token)).toContain('no open window')
  })

  test('that a refused push asked for by itself is that job’s alone as well, and the push goes on with it', async () => {
    const { body } = await exchange()
    const bare = join(stand.folder, 'acme', 'app.git')
    const work = await cloneRepository(bare)
    const tip = await commitFile(work, 'built', 'by the job')
    const url = new URL(`${proxy.urls.http}/local/acme/app.git`)
    url.username = 'job'
    url.password = body.token ?? ''
    const pushing = git(['push', url.href, 'HEAD:refs/heads/main'], { cwd: work })
    const asked = await until(async () => {
      const listed = await control.run('mona', 'drawbridge', 'request', 'list', '--json')
      return (JSON.parse(listed.stdout) as { id: string; principal: string }[]).find(one => one.principal === JOB)
    }, 'the request to be filed')
    await control.run('mona', 'drawbridge', 'request', 'approve', asked.id)
    expect(await pushing).toMatchObject({ status: 0 })
    expect((await refsOf(bare))['refs/heads/main']).toBe(tip)
    const [window] = (await stand.store.live(JOB)).filter(({ request }) => request === asked.id)
    expect(window?.bounds).toEqual({ token: body.id })
  })

  test('that was asked for later is that job’s alone as well', async () => {
    const [one, other] = [await exchange(), await exchange()]
    expect((await post('/requests', window(), one.body.token)).status).toBe(201)
    await until(async () => (await reads(one.body.token)) === 'reads', 'the window')
    expect(await reads(other.body.token)).toContain('no open window')
  })
})

test('a policy that says no leaves the token of the CI system unused', async () => {
  const token = await sign()
  const refused = await post('/login/workload', { token, request: window('local/secret/app') })
  expect(refused).toMatchObject({ status: 403, body: { code: 'policy-no-rule' } })
  expect((await post('/login/workload', { token, request: window() })).status).toBe(201)
  expect((await post('/login/workload', { token, request: window() })).status).toBe(401)
})

describe('the page', () => {
  const examples = new Map(
    [...PAGE.matchAll(/<!-- ci: (\w+) -->\n```yaml\n([\s\S]*?)```/g)].map(([, ci, text]) => [ci!, text!]),
  )

  test('has a file to paste for every CI system there is a preset for', () => {
    expect([...examples.keys()].sort()).toEqual(Object.keys(PRESETS).sort())
  })

  test.each([...examples])(
    'whose file for %s is YAML, makes a token for the gate and reads the script',
    (_ci, text) => {
      expect(() => parse(text)).not.toThrow()
      expect(text).toContain('JOB_TOKEN')
      expect(text.indexOf('. gate.sh')).toBeGreaterThan(0)
      expect(text.indexOf('git clone')).toBeGreaterThan(text.indexOf('. gate.sh'))
    },
  )
})
