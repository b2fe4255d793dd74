import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ACCESS } from '../../admin/api/access.ts'
import { type ControlPlane, startControlPlane } from '../support/control.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { type Redis, startRedis } from '../support/redis.ts'

// A proxy speaks for whoever logged in there over SSH. What if it was taken over, or somebody else pretends to be one?

const POLICY = `version: 1
groups: { leads: [mona] }
requests:
  - { name: near, trigger: clone, repositories: near/*, networks: 10.0.0.0/8, automatic: true, approvers: leads }
  - { name: push, trigger: push, repositories: acme/*, approvers: leads }
`

let redis: Redis
let database: Postgres
let control: ControlPlane

beforeAll(async () => {
  ;[redis, database] = await Promise.all([startRedis(), startPostgres()])
  control = await startControlPlane(
    { redis: redis.url, postgres: database.url },
    { 'service:gate': 'front', dana: 'developer', mona: 'approver', root: 'admin', kim: 'auditor' },
    POLICY,
  )
})
afterAll(async () => {
  await control?.close()
  await Promise.all([redis?.stop(), database?.stop()])
})

async function ask(
  token: string,
  method: string,
  path: string,
  options: { readonly headers?: { readonly [name: string]: string }; readonly body?: object } = {},
): Promise<{ status: number; body: { [name: string]: unknown } }> {
  const answer = await fetch(`${control.url}/api/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${readFileSync(join(control.folder, token), 'utf8').trim()}`,
      ...(options.body && { 'content-type': 'application/json' }),
      ...options.headers,
    },
    ...(options.body && { body: JSON.stringify(options.body) }),
  })
  return { status: answer.status, body: (await answer.json()) as { [name: string]: unknown } }
}

const as = (principal: string, address = '192.0.2.7') => ({
  'drawbridge-principal': encodeURIComponent(principal),
  'drawbridge-address': address,
})
const PUSH = { repository: 'acme/api', actions: ['update'], refs: ['main'] }

test('a front asks in the name of a person, and the request is that person’s', async () => {
  const made = await ask('service:gate', 'POST', '/requests', { headers: as('dana'), body: PUSH })
  expect(made).toMatchObject({ status: 201, body: { principal: 'dana', requester: 'dana' } })
})

test('the address that counts is the person’s, not the proxy’s', async () => {
  const wish = { repository: 'near/api', actions: ['fetch'] }
  const near = await ask('service:gate', 'POST', '/requests', { headers: as('dana', '10.1.2.3'), body: wish })
  expect(near.status).toBe(201)
  const far = await ask('service:gate', 'POST', '/requests', { headers: as('eve', '192.0.2.7'), body: wish })
  expect(far).toMatchObject({ status: 403, body: { detail: expect.stringContaining('not from 192.0.2.7') } })
})

describe('a front is nobody', () => {
  const FOR_OTHERS = [
    'POST /certificates',
    // For itself: that somebody be signed in whose key it does not know.
    'POST /login/key',
    'GET /whoami',
    'GET /requests',
    'POST /requests',
    'POST /requests/auto',
    'POST /requests/explain',
    'GET /requests/:id',
    'POST /requests/:id/approve',
    'POST /requests/:id/deny',
    'POST /requests/:id/extend',
    'POST /requests/:id/withdraw',
    'POST /grants/:id/release',
    // In the name of those who may.
    'GET /audit',
    'GET /audit/stream',
  ]
  const others = Object.keys(ACCESS).filter(route => !FOR_OTHERS.includes(route))

  test.each(others)('it may not %s, for whomever it says it speaks', async route => {
    const [method = '', path = ''] = route.split(' ')
    const asked = path.replaceAll(/:[a-z]+/g, 'g-0')
    for (const principal of ['root', 'dana', 'service:gate']) {
      const body = method === 'GET' || method === 'DELETE' ? {} : { body: {} }
      const refused = await ask('service:gate', method, asked, { headers: as(principal), ...body })
      expect(refused.status).toBe(403)
    }
  })

  test.each<[string, { [name: string]: string }]>([
    ['nobody', {}],
    ['no address', { 'drawbridge-principal': 'dana' }],
    ['an address that is none', { ...as('dana'), 'drawbridge-address': 'here' }],
    ['a name the gate keeps for itself', as('drawbridge')],
    ['an escape that is none', { ...as('dana'), 'drawbridge-principal': '%zz' }],
    ['a line break', { ...as('dana'), 'drawbridge-principal': 'dana%0aroot' }],
  ])('speaking for %s is refused', async (_, headers) => {
    expect((await ask('service:gate', 'GET', '/requests', { headers })).status).toBe(400)
  })
})

test('whoever has another token and says it speaks for somebody is still themselves', async () => {
  const me = await ask('dana', 'GET', '/whoami', { headers: as('mona') })
  expect(me).toMatchObject({ status: 200, body: { principal: 'dana' } })
  const made = await ask('service:gate', 'POST', '/requests', { headers: as('eve'), body: { ...PUSH, refs: ['x'] } })
  const vote = { headers: as('mona'), body: { digest: made.body.digest } }
  expect((await ask('dana', 'POST', `/requests/${made.body.id}/approve`, vote)).status).toBe(403)
})

test('a front speaks with the roles of nobody: an administrator over ssh sees and ends nothing of others', async () => {
  const made = await ask('dana', 'POST', '/requests', { body: { ...PUSH, refs: ['y'] } })
  const seen = await ask('service:gate', 'GET', `/requests/${made.body.id}`, { headers: as('root') })
  expect(seen.status).toBe(404)
})

describe('the ledger over ssh', () => {
  test('is read to whoever holds a token or a sign-in of an auditor, and to nobody else', async () => {
    for (const reader of ['kim', 'root']) {
      expect((await ask('service:gate', 'GET', '/audit', { headers: as(reader) })).status).toBe(200)
    }
    for (const other of ['dana', 'mona', 'nobody', 'service:gate']) {
      const refused = await ask('service:gate', 'GET', '/audit', { headers: as(other) })
      expect(refused).toMatchObject({ status: 403, body: { code: 'role', detail: expect.stringContaining(other) } })
    }
  })

  test('gives a reader no more than that: what is theirs by another way is not theirs here', async () => {
    for (const route of ['POST /audit/verify', 'GET /audit/export', 'GET /audit/report', 'POST /audit/retain']) {
      const [method = '', path = ''] = route.split(' ')
      const body = method === 'POST' ? { body: {} } : {}
      expect((await ask('service:gate', method, path, { headers: as('root'), ...body })).status).toBe(403)
    }
  })
})

test('nobody is spoken for who is locked', async () => {
  await control.run('root', 'drawbridge', 'lock', 'zoe', '--reason', 'laptop stolen')
  const refused = await ask('service:gate', 'POST', '/requests', { headers: as('zoe'), body: PUSH })
  expect(refused).toMatchObject({ status: 403, body: { code: 'locked' } })
})

test('a token is a front’s or somebody’s, never both', async () => {
  const both = await control.run('root', 'drawbridge', 'token', 'create', '--principal', 'x', '--role', 'front,admin')
  expect(both).toMatchObject({ status: 2, stderr: expect.stringContaining('front stands alone') })
})

test('a machine’s key asks where the policy names it, and has no vote', async () => {
  const made = await ask('dana', 'POST', '/requests', { body: { ...PUSH, refs: ['z'] } })
  const vote = { headers: as('ci:mona'), body: { digest: made.body.digest } }
  expect((await ask('service:gate', 'POST', `/requests/${made.body.id}/approve`, vote)).status).toBeGreaterThan(400)
})
