import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis as Client } from 'ioredis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createStore, type Store } from '../../grant/store.ts'
import { type ControlPlane, type Ran, startControlPlane } from '../support/control.ts'
import { makeKey } from '../support/keys.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { until } from '../support/program.ts'
import { type Redis, startRedis } from '../support/redis.ts'

// Service accounts, at both doors: the API, and what Redis tells a proxy about the token.

const POLICY = `version: 1
people: { mona: [mona@acme.example] }
groups: { leads: [mona, raj] }
services: { declared: { owner: raj } }
requests: [{ trigger: push, repositories: acme/*, who: "service:*", approvers: leads }]
`

let engines: [Redis, Postgres]
let control: ControlPlane
let store: Store
let redis: Client

beforeAll(async () => {
  engines = await Promise.all([startRedis(), startPostgres()])
  const people = { root: 'admin', mona: 'developer,approver', raj: 'developer,approver', dana: 'developer' }
  control = await startControlPlane({ redis: engines[0].url, postgres: engines[1].url }, people, POLICY)
  redis = new Client(engines[0].url)
  store = createStore({ redis })
})
afterAll(async () => {
  redis?.disconnect()
  await control?.close()
  await Promise.all(engines?.map(engine => engine.stop()) ?? [])
})

const account = (as: string, ...args: string[]) => control.run(as, 'drawbridge', 'service-account', ...args)

interface Token {
  readonly id: string
  readonly token: string
}
const tokenOf = ({ status, stdout, stderr }: Ran): Token => {
  if (status !== 0) throw new Error(stderr)
  const [, claims = ''] = stdout.trim().split('.')
  return { id: JSON.parse(Buffer.from(claims, 'base64url').toString()).jti, token: stdout.trim() }
}

async function ask(token: string, method: string, path: string, body?: object) {
  const answer = await fetch(`${control.url}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
  })
  return { status: answer.status, body: (await answer.json()) as { [name: string]: unknown } }
}
/** What both doors say to a token: the status of the API, and what a proxy is told. */
async function doors(name: string, { id, token }: Token): Promise<[number, string]> {
  const { status } = await ask(token, 'GET', '/whoami')
  const asked = { principal: `service:${name}`, credentials: [`token:${id}`], actions: ['fetch'] as const }
  return [status, (await store.ask({ ...asked, repository: 'acme/api' })).kind]
}
const OPEN = [200, 'live']
const records = async (...filter: string[]) => {
  const listed = await control.run('root', 'drawbridge', 'audit', 'list', '--json', '--limit', '500', ...filter)
  return listed.stdout
    .trim()
    .split('\n')
    .filter(Boolean)
    .map(line => JSON.parse(line).record)
}

test('an account has an owner, and its token ends by itself', async () => {
  const made = tokenOf(await account('root', 'create', 'nightly', '--owner', 'mona', '--for', '1s'))
  await until(async () => (await doors('nightly', made))[0] === 401, 'the end of the token')
  const said = async () => /service:nightly +mona +never +no token left/.test((await account('mona', 'list')).stdout)
  await until(said, 'the list to say so')
})

test.each([
  ['without an owner', ['create', 'lost'], /--owner/],
  ['that a machine would answer for', ['create', 'lost', '--owner', 'service:nightly'], /a person answers/],
  ['with a name that is no name', ['create', '../x', '--owner', 'mona'], /small letters/],
  ['whose name was given before', ['create', 'nightly', '--owner', 'raj'], /names are given once/],
  ['with a token for a year', ['create', 'lost', '--owner', 'mona', '--for', '365 days'], /at most 90 days/],
  ['that would overlap for a month', ['rotate', 'nightly', '--overlap', '30 days'], /at most 7 days/],
])('an account %s is refused', async (_what, args, why) => {
  const refused = await account('root', ...args)
  expect(refused.status).not.toBe(0)
  expect(refused.stderr).toMatch(why)
})

describe('rotation', () => {
  test('leaves two tokens good side by side, until the overlap is over', async () => {
    const first = tokenOf(await account('root', 'create', 'deployer', '--owner', 'mona'))
    expect((await ask(first.token, 'GET', '/whoami')).body).toMatchObject({ principal: 'service:deployer' })
    const second = tokenOf(await account('mona', 'rotate', 'deployer', '--overlap', '3s'))
    expect(await doors('deployer', first)).toEqual(OPEN)
    expect(await doors('deployer', second)).toEqual(OPEN)
    await until(async () => (await doors('deployer', first))[0] === 401, 'the end of the overlap')
    await until(async () => (await doors('deployer', first))[1] === 'barred', 'the same at the proxy')
    expect(await doors('deployer', second)).toEqual(OPEN)
    expect(await records('--kind', 'service.rotated')).toMatchObject([
      { by: 'mona', principal: 'service:deployer', owner: 'mona', token: second.id, until: expect.any(String) },
    ])
  })

  test('never leaves a third, and ends all before at once where no overlap is wanted', async () => {
    const first = tokenOf(await account('root', 'create', 'triple', '--owner', 'mona'))
    const second = tokenOf(await account('root', 'rotate', 'triple'))
    const third = tokenOf(await account('root', 'rotate', 'triple'))
    expect(await doors('triple', first)).toEqual([401, 'barred'])
    expect([await doors('triple', second), await doors('triple', third)]).toEqual([OPEN, OPEN])
    const fourth = tokenOf(await account('root', 'rotate', 'triple', '--overlap', '0s'))
    for (const before of [second, third]) expect(await doors('triple', before)).toEqual([401, 'barred'])
    expect(await doors('triple', fourth)).toEqual(OPEN)
  })

  test('holds when Redis has lost everything in between', async () => {
    const first = tokenOf(await account('root', 'create', 'lossy', '--owner', 'mona'))
    await account('root', 'rotate', 'lossy', '--overlap', '1s')
    await redis.flushall()
    await until(async () => (await doors('lossy', first))[1] === 'barred', 'the end of the overlap')
  })

  // A token that leaked is rotated away by its owner. Whoever has it must not rotate themselves back in.
  test('is the account’s own by its newest token, and by no other', async () => {
    const first = tokenOf(await account('root', 'create', 'itself', '--owner', 'mona'))
    const rotated = await ask(first.token, 'POST', '/services/itself/rotate', {})
    expect(rotated.status).toBe(201)
    const again = await ask(first.token, 'POST', '/services/itself/rotate', {})
    expect(again).toMatchObject({ status: 403, body: { code: 'old-token', hint: expect.stringContaining('leaked') } })
    expect(await ask(String(rotated.body.token), 'POST', '/services/itself/rotate', {})).toMatchObject({ status: 201 })
    // Nor can it be ended by what leaked.
    expect(await ask(String(rotated.body.token), 'DELETE', '/services/itself')).toMatchObject({ status: 404 })
  })

  test('of an account is nobody else’s', async () => {
    await account('root', 'create', 'hers', '--owner', 'mona@acme.example')
    expect((await account('mona', 'rotate', 'hers')).status).toBe(0)
    for (const other of ['raj', 'dana']) {
      expect((await account(other, 'rotate', 'hers')).stderr).toContain('no service account hers')
      expect((await account(other, 'revoke', 'hers')).stderr).toContain('no service account hers')
      expect((await account(other, 'assign', 'hers', '--owner', other)).status).toBe(4)
    }
    expect((await account('dana', 'list')).stdout).toBe('')
  })
})

describe('an owner', () => {
  test('who is locked takes their accounts along, and back when the lock is lifted', async () => {
    const token = tokenOf(await account('root', 'create', 'along', '--owner', 'olga'))
    await control.run('root', 'drawbridge', 'lock', 'olga', '--reason', 'left')
    expect(await doors('along', token)).toEqual([403, 'locked'])
    expect((await account('root', 'list')).stdout).toMatch(/service:along .*locked with its owner/)
    expect((await account('root', 'create', 'more', '--owner', 'olga')).stderr).toContain('olga is locked')
    await control.run('root', 'drawbridge', 'unlock', 'olga')
    expect(await doors('along', token)).toEqual(OPEN)
    const said = await records('--principal', 'service:along')
    expect(said.filter(({ kind }) => kind.startsWith('principal.'))).toMatchObject([
      { kind: 'principal.unlocked', by: 'root' },
      { kind: 'principal.locked', by: 'root', reason: 'its owner olga is locked: left' },
    ])
  })

  test('who leaves is followed by another, with whom the account goes on', async () => {
    const token = tokenOf(await account('root', 'create', 'passed-on', '--owner', 'pete'))
    await control.run('root', 'drawbridge', 'lock', 'pete', '--reason', 'left')
    expect((await account('root', 'assign', 'passed-on', '--owner', 'pete')).stderr).toContain('pete is locked')
    expect((await account('root', 'assign', 'passed-on', '--owner', 'mona')).status).toBe(0)
    expect(await doors('passed-on', token)).toEqual(OPEN)
    expect((await account('mona', 'rotate', 'passed-on')).status).toBe(0)
  })

  test('does not lift, by being unlocked, a lock that was the account’s own', async () => {
    const token = tokenOf(await account('root', 'create', 'own-lock', '--owner', 'quin'))
    await control.run('root', 'drawbridge', 'lock', 'service:own-lock', '--reason', 'leaked')
    await control.run('root', 'drawbridge', 'lock', 'quin', '--reason', 'left')
    await control.run('root', 'drawbridge', 'unlock', 'quin')
    expect(await doors('own-lock', token)).toEqual([403, 'locked'])
  })

  test('of an account decides nothing that it asks for, whether the account is the gate’s or the policy’s', async () => {
    const asking = { repository: 'acme/api', actions: ['update'], refs: ['main'] }
    const { token } = tokenOf(await account('root', 'create', 'asker', '--owner', 'mona@acme.example'))
    const own = { status: 403, body: { detail: expect.stringContaining('what they asked for themselves') } }
    const vote = async (who: string, { id, digest }: { [name: string]: unknown }) =>
      await ask(readFileSync(join(control.folder, who), 'utf8').trim(), 'POST', `/requests/${id}/approve`, { digest })
    const { body } = await ask(token, 'POST', '/requests', asking)
    // She is not even shown it as hers to decide.
    expect(await vote('mona', body)).toMatchObject({ status: 404 })
    // Nor whoever has come to answer for it meanwhile.
    await account('root', 'assign', 'asker', '--owner', 'raj')
    expect(await vote('raj', body)).toMatchObject(own)

    const declared = tokenOf(await account('root', 'create', 'declared', '--owner', 'dana'))
    const filed = await ask(declared.token, 'POST', '/requests', asking)
    expect(await vote('raj', filed.body)).toMatchObject({ status: 404 })
    expect(await vote('mona', filed.body)).toMatchObject({ status: 200, body: { state: 'approved' } })
  })
})

test('revoking ends an account for good, whatever speaks for it', async () => {
  const first = tokenOf(await account('root', 'create', 'gone', '--owner', 'mona'))
  const second = tokenOf(await account('root', 'rotate', 'gone'))
  expect((await account('mona', 'revoke', 'gone', '--reason', 'not needed')).status).toBe(0)
  for (const token of [first, second]) expect((await doors('gone', token))[1]).toBe('locked')
  expect((await ask(second.token, 'GET', '/whoami')).status).toBe(401)
  expect((await account('root', 'rotate', 'gone')).stderr).toContain('gone has ended')
  expect((await account('root', 'create', 'gone', '--owner', 'mona')).stderr).toContain('names are given once')
  expect((await control.run('root', 'drawbridge', 'unlock', 'service:gone')).stderr).toContain('not locked')
  expect(await records('--kind', 'service.ended')).toMatchObject([{ by: 'mona', reason: 'not needed', owner: 'mona' }])
})

describe('a machine', () => {
  test('has no token without somebody who answers for it', async () => {
    const made = await control.run(
      'root',
      'drawbridge',
      'token',
      'create',
      ...['--principal', 'service:stray', '--role', 'developer'],
    )
    expect(made.stderr).toContain('drawbridge service-account create')
  })

  // Otherwise a token of an hour makes a key of months.
  test('registers no key that would outlive its token', async () => {
    const { token } = tokenOf(await account('root', 'create', 'keyless', '--owner', 'mona'))
    const { publicKey } = await makeKey('keyless')
    const refused = await ask(token, 'POST', '/keys', { public_key: publicKey })
    expect(refused).toMatchObject({ status: 403, body: { code: 'machine' } })
  })
})
