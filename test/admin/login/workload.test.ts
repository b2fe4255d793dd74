import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type CryptoKey, createLocalJWKSet, exportJWK, exportSPKI, generateKeyPair, type JWK, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { judgeWorkload, remoteKeys } from '../../../admin/login/workload.ts'
import { claimsFault, type PresetName, type WorkloadSettings } from '../../../config/workload.ts'
import { type ControlPlane, startControlPlane } from '../../support/control.ts'
import { type Postgres, startPostgres } from '../../support/postgres.ts'
import { until } from '../../support/program.ts'
import { type Redis, startRedis } from '../../support/redis.ts'

const ISSUER = 'https://token.actions.githubusercontent.com'
const AUDIENCE = 'https://access.example.org'

let signing: { readonly publicKey: CryptoKey; readonly privateKey: CryptoKey }
let jwk: JWK

beforeAll(async () => {
  signing = await generateKeyPair('RS256', { extractable: true })
  jwk = { ...(await exportJWK(signing.publicKey)), kid: 'k1', alg: 'RS256', use: 'sig' }
})

const seconds = () => Math.floor(Date.now() / 1_000)
const job = (over: object = {}) => ({
  iss: ISSUER,
  aud: AUDIENCE,
  sub: 'repo:acme/deploy:ref:refs/heads/main',
  iat: seconds(),
  nbf: seconds(),
  exp: seconds() + 300,
  jti: `job-${Math.random()}`,
  repository: 'acme/deploy',
  repository_id: '123456',
  repository_owner_id: '42',
  ref: 'refs/heads/main',
  event_name: 'push',
  ...over,
})
const sign = (payload: object, header: object = {}) =>
  new SignJWT(payload as never).setProtectedHeader({ alg: 'RS256', kid: 'k1', ...header }).sign(signing.privateKey)

const workload = (over: Partial<WorkloadSettings> = {}): WorkloadSettings => ({
  name: 'deploy',
  preset: 'github',
  issuer: new URL(ISSUER),
  audience: AUDIENCE,
  claims: new Map([['repository_id', ['123456']]]),
  lasts: 600_000,
  ...over,
})
const claims = (of: Record<string, readonly string[]>) => new Map(Object.entries(of))
const judge = (token: string, ...workloads: WorkloadSettings[]) =>
  judgeWorkload(token, workloads.length > 0 ? workloads : [workload()], {
    keysOf: async () => createLocalJWKSet({ keys: [jwk] }),
    now: Date.now(),
  })
const judgeJob = async (over: object, of?: Partial<WorkloadSettings>) =>
  await judge(await sign(job(over)), workload(of))

describe('the token of a job', () => {
  test('that holds names the job by its repository and ref', async () => {
    expect(await judgeJob({})).toMatchObject({ ok: true, principal: 'ci:github:acme/deploy:refs/heads/main' })
  })

  test('with alg none, or a MAC keyed by the public key, is refused', async () => {
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    expect(await judge(`${encode({ alg: 'none' })}.${encode(job())}.`)).toMatchObject({ ok: false })
    const mac = new SignJWT(job() as never).setProtectedHeader({ alg: 'HS256', kid: 'k1' })
    for (const secret of [await exportSPKI(signing.publicKey), JSON.stringify(jwk), jwk.n ?? '']) {
      expect(await judge(await mac.sign(Buffer.from(secret)))).toMatchObject({ ok: false, code: 'workload-token' })
    }
  })

  test('by another key under the same kid, by an unknown kid, or with a byte changed is refused', async () => {
    const other = await generateKeyPair('RS256')
    const forged = new SignJWT(job() as never).setProtectedHeader({ alg: 'RS256', kid: 'k1' })
    expect(await judge(await forged.sign(other.privateKey))).toMatchObject({ ok: false, code: 'workload-token' })
    for (const kid of ['k2', '../../../etc/passwd', "' or 1=1"]) {
      expect(await judge(await sign(job(), { kid }))).toMatchObject({ ok: false })
    }
    const [head, , signature] = (await sign(job())).split('.')
    const changed = Buffer.from(JSON.stringify(job({ repository_id: '9' }))).toString('base64url')
    expect(await judge(`${head}.${changed}.${signature}`)).toMatchObject({ ok: false })
  })

  // The sender would choose the key, or the rules.
  test.each(['jku', 'x5u', 'jwk', 'x5c', 'crit'])('that brings %s in its header is refused', async field => {
    const attacker = await generateKeyPair('RS256', { extractable: true })
    const own = await exportJWK(attacker.publicKey)
    const value = {
      jku: 'https://evil.example/k',
      x5u: 'https://evil.example/c',
      jwk: own,
      x5c: ['AA=='],
      crit: ['exp'],
    }[field]
    const token = new SignJWT(job() as never).setProtectedHeader({ alg: 'RS256', kid: 'k1', [field]: value } as never)
    const signed =
      field === 'crit'
        ? await sign(job(), {}).then(text => withHeader(text, { crit: value }))
        : await token.sign(attacker.privateKey)
    expect(await judge(signed)).toMatchObject({ ok: false, code: 'workload-header' })
  })
  const withHeader = (token: string, more: object) => {
    const [head = '', ...rest] = token.split('.')
    const header = { ...JSON.parse(Buffer.from(head, 'base64url').toString()), ...more }
    return [Buffer.from(JSON.stringify(header)).toString('base64url'), ...rest].join('.')
  }

  test.each([
    ['for another audience', { aud: 'https://other.example' }],
    ['for us and others', { aud: [AUDIENCE, 'https://other.example'] }],
    ['for nobody', { aud: undefined }],
    ['of another issuer', { iss: 'https://evil.example' }],
    ['of an issuer that only begins like ours', { iss: `${ISSUER}.evil.example` }],
    ['of nobody', { iss: undefined }],
    ['that has ended', { exp: seconds() - 60 }],
    ['that never ends', { exp: undefined }],
    ['not valid yet', { nbf: seconds() + 120 }],
    ['made in the future', { iat: seconds() + 120 }],
    ['made last week', { iat: seconds() - 7 * 86_400 }],
    ['without a subject', { sub: undefined }],
  ])('%s is refused', async (_what, over) => {
    expect(await judgeJob(over)).toMatchObject({ ok: false })
  })

  test('is taken by a clock that is a little off, and not by one that is far off', async () => {
    expect(await judgeJob({ nbf: seconds() + 20, iat: seconds() + 20 })).toMatchObject({ ok: true })
    expect(await judgeJob({ exp: seconds() - 20 })).toMatchObject({ ok: true })
    expect(await judgeJob({ exp: seconds() - 40 })).toMatchObject({ ok: false })
  })
})

describe('a job', () => {
  // The repository was given up or deleted, and somebody else took its name.
  test('of a repository made anew under the same name is somebody else', async () => {
    expect(await judgeJob({ repository_id: '999999' })).toMatchObject({ ok: false, code: 'workload-claims' })
  })

  test('whose claim is missing matches nothing, not even *', async () => {
    const of = { claims: claims({ repository_id: ['123456'], environment: ['*'] }) }
    expect(await judgeJob({}, of)).toMatchObject({
      ok: false,
      reason: expect.stringContaining('environment is missing'),
    })
    expect(await judgeJob({ environment: '' }, of)).toMatchObject({ ok: false })
    expect(await judgeJob({ environment: ['prod'] }, of)).toMatchObject({ ok: false })
    expect(await judgeJob({ environment: 'prod' }, of)).toMatchObject({ ok: true })
  })

  test('matches a pattern within one part of a name only', async () => {
    const of = { claims: claims({ repository_id: ['123456'], ref: ['refs/heads/release-*'] }) }
    expect(await judgeJob({ ref: 'refs/heads/release-1.2' }, of)).toMatchObject({ ok: true })
    for (const ref of [
      'refs/heads/release-1/evil',
      'refs/heads/release-',
      'x/refs/heads/release-1',
      'refs/headsXrelease-1',
    ]) {
      expect(await judgeJob({ ref }, of)).toMatchObject({ ok: false })
    }
  })

  // Code of strangers, run with the rights of the repository.
  test('of a pull request is refused unless the settings name the event', async () => {
    for (const event_name of ['pull_request', 'pull_request_target', undefined]) {
      expect(await judgeJob({ event_name })).toMatchObject({ ok: false })
    }
    const of = { claims: claims({ repository_id: ['123456'], event_name: ['pull_request'] }) }
    expect(await judgeJob({ event_name: 'pull_request' }, of)).toMatchObject({ ok: true })
  })

  test('whose claims would make up another name is refused', async () => {
    for (const ref of ['refs/heads/a:b', 'refs/heads/a b', 'refs/heads/a\u202eb']) {
      expect(await judgeJob({ ref })).toMatchObject({ ok: false, code: 'workload-principal' })
    }
  })

  test('of Kubernetes is told by nested claims', async () => {
    const cluster = workload({
      preset: 'kubernetes',
      claims: claims({ 'kubernetes.io/serviceaccount/uid': ['u-1'] }),
    })
    const bound = { 'kubernetes.io': { namespace: 'ci', serviceaccount: { name: 'deployer', uid: 'u-1' } } }
    expect(await judge(await sign(job(bound)), cluster)).toMatchObject({ principal: 'ci:kubernetes:ci/deployer' })
    const anew = { 'kubernetes.io': { namespace: 'ci', serviceaccount: { name: 'deployer', uid: 'u-2' } } }
    expect(await judge(await sign(job(anew)), cluster)).toMatchObject({ ok: false })
  })
})

describe('settings', () => {
  test.each<[PresetName, Record<string, readonly string[]>]>([
    ['github', { repository: ['acme/deploy'] }],
    ['github', { repository_id: ['*'] }],
    ['github', { sub: ['repo:acme/*'], repository_id: ['1'] }],
    ['gitlab', { project_path: ['acme/deploy'] }],
    ['kubernetes', { sub: ['system:serviceaccount:ci:deployer'] }],
  ])('of %s by what others can come to have are refused: %j', (preset, of) => {
    expect(claimsFault(preset, claims(of))).toMatch(/^expected/)
  })

  test('by an id are taken', () => {
    expect(claimsFault('github', claims({ repository_owner_id: ['42'], repository: ['acme/*'] }))).toBeUndefined()
  })
})

describe('the exchange', () => {
  let engines: [Redis, Postgres]
  let issuer: Server
  let at: string
  let gate: ControlPlane

  beforeAll(async () => {
    issuer = createServer((request, response) => {
      response.setHeader('content-type', 'application/json')
      const found = {
        '/.well-known/openid-configuration': { issuer: at, jwks_uri: `${at}/keys` },
        '/keys': { keys: [jwk] },
      }
      response.end(JSON.stringify(Reflect.get(found, request.url ?? '') ?? {}))
    })
    await new Promise<void>(resolve => issuer.listen(0, '127.0.0.1', resolve))
    at = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}`
    engines = await Promise.all([startRedis(), startPostgres()])
    const urls = { redis: engines[0].url, postgres: engines[1].url }
    const workloads = [workload({ issuer: new URL(at) })]
    gate = await startControlPlane(urls, { root: 'admin', eve: 'auditor' }, 'version: 1\nrules: []\n', { workloads })
  })
  afterAll(async () => {
    await gate?.close()
    issuer?.close()
    await Promise.all(engines?.map(engine => engine.stop()) ?? [])
  })

  const exchange = async (token: string) => {
    const answer = await fetch(`${gate.url}/api/v1/login/workload`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token }),
    })
    return { status: answer.status, body: JSON.parse(await answer.text()) }
  }

  test('gives the job a token of the gate, by keys found at the issuer', async () => {
    const { status, body } = await exchange(await sign(job({ iss: at })))
    expect({ status, body }).toMatchObject({
      status: 201,
      body: { principal: 'ci:github:acme/deploy:refs/heads/main' },
    })
    const me = await fetch(`${gate.url}/api/v1/whoami`, { headers: { authorization: `Bearer ${body.token}` } })
    expect(JSON.parse(await me.text())).toMatchObject({ principal: body.principal, roles: ['developer'] })
  })

  test('takes each token once', async () => {
    const token = await sign(job({ iss: at }))
    expect((await exchange(token)).status).toBe(201)
    expect((await exchange(token)).status).toBe(401)
    const both = await sign(job({ iss: at }))
    const statuses = await Promise.all([exchange(both), exchange(both), exchange(both)])
    expect(statuses.map(({ status }) => status).sort()).toEqual([201, 401, 401])
  })

  test('says one sentence to whoever is refused, and the exact rule to the ledger', async () => {
    const wrong = await exchange(await sign(job({ iss: at, repository_id: '9' })))
    const unknown = await exchange('nonsense')
    expect(wrong).toEqual(unknown)
    const list = ['audit', 'list', '--kind', 'signin.refused', '--json']
    const said = async () => (await gate.run('eve', 'drawbridge', ...list)).stdout.includes('claim repository_id is')
    await until(said, 'the rule in the ledger')
  })

  test('finds no keys at an issuer that says it is another', async () => {
    const liar = createServer((_request, response) =>
      response.end(JSON.stringify({ issuer: ISSUER, jwks_uri: `${at}/keys` })),
    )
    await new Promise<void>(resolve => liar.listen(0, '127.0.0.1', resolve))
    const where = new URL(`http://127.0.0.1:${(liar.address() as AddressInfo).port}`)
    await expect(remoteKeys()(where)).rejects.toThrow(/says that it is/)
    liar.close()
  })
})
