import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import postgres, { type Sql } from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ControlPlane, startControlPlane } from '../support/control.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { until } from '../support/program.ts'
import { type Redis, startRedis } from '../support/redis.ts'

// A proxy has refused somebody and asks whether the policy has a request filed for it.

const POLICY = `version: 1
groups: { leads: [mona] }
requests:
  - { name: main, trigger: push, repositories: acme/*, refs: [main], auto_request: { wait: 90s }, approvers: leads }
  - { name: read, trigger: clone, repositories: acme/*, auto_request: true, approvers: leads }
  - { name: why, trigger: push, repositories: why/*, auto_request: true, reason: true, approvers: leads }
  - { name: plain, trigger: push, repositories: plain/*, approvers: leads }
  - { name: staff, trigger: push, repositories: staff/*, who: group:staff, auto_request: true, approvers: leads }
  - { name: build, trigger: push, repositories: build/*, who: "ci:github:acme/build:refs/heads/*", auto_request: true, approvers: leads }
  - { name: open, trigger: clone, repositories: open/*, auto_request: true, automatic: true }
`

let redis: Redis
let database: Postgres
let control: ControlPlane
let sql: Sql

beforeAll(async () => {
  ;[redis, database] = await Promise.all([startRedis(), startPostgres()])
  control = await startControlPlane(
    { redis: redis.url, postgres: database.url },
    { 'service:gate': 'front', dana: 'developer', mona: 'approver', root: 'admin' },
    POLICY,
  )
  sql = postgres(database.url, { max: 1 })
})
afterAll(async () => {
  await sql?.end()
  await control?.close()
  await Promise.all([redis?.stop(), database?.stop()])
})

async function call(token: string, path: string, body: object, headers: { [name: string]: string } = {}) {
  const answer = await fetch(`${control.url}/api/v1${path}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${readFileSync(join(control.folder, token), 'utf8').trim()}`,
      'content-type': 'application/json',
      ...headers,
    },
    body: JSON.stringify(body),
  })
  return { status: answer.status, body: (await answer.json()) as Filed }
}

interface Filed {
  readonly wait_seconds?: number
  readonly request?: { readonly id: string; readonly digest: string; readonly state: string }
}

/** The proxy refused this person. Everybody is another one, so that no test stands in another's way. */
const refused = (
  principal: string,
  repository: string,
  service = 'receive-pack',
  more: { [name: string]: string } = {},
) =>
  call(
    'service:gate',
    '/requests/auto',
    { repository, service, operation: 'op-1' },
    {
      'drawbridge-principal': principal,
      'drawbridge-address': '192.0.2.7',
      ...more,
    },
  )

test('a refused push is asked for as far as a rule gives it, and the record says how it came', async () => {
  expect((await refused('ann', 'acme/api')).body).toMatchObject({
    wait_seconds: 90,
    request: {
      state: 'requested',
      principal: 'ann',
      actions: ['create', 'update'],
      refs: ['refs/heads/main'],
      reason: 'asked for by itself: git push was refused (op-1)',
    },
  })
  await until(async () => {
    const listed = await control.run('root', 'drawbridge', 'audit', 'list', '--kind', 'request.made', '--json')
    return listed.stdout.includes('"via":"refusal"')
  }, 'the record to be in the ledger')
})

test('refused again, it is the same request; one that a person made is left as it is', async () => {
  const first = await refused('bob', 'acme/api', 'upload-pack')
  const again = await refused('bob', 'acme/api', 'upload-pack')
  expect(again.body.request).toEqual(first.body.request)

  const wish = { repository: 'acme/api', actions: ['fetch'], for: '2h', reason: 'PAY-231' }
  const made = (await call('dana', '/requests', wish)).body as NonNullable<Filed['request']>
  expect((await refused('dana', 'acme/api', 'upload-pack')).body.request).toMatchObject({
    id: made.id,
    digest: made.digest,
  })
})

test('what they asked for by hand is waited for: with a reason that only they can give, several repositories, or a tag', async () => {
  const wish = { repository: 'other/api', actions: ['fetch'], reason: 'PAY-7' }
  const why = { repository: 'why/api', actions: ['create', 'update'], refs: ['main'] }
  const first = (await call('dana', '/requests', { ...why, reason: 'PAY-231' })).body as NonNullable<Filed['request']>
  const found = await refused('dana', 'why/api')
  expect(found.body).toMatchObject({ wait_seconds: 300, request: { id: first.id, digest: first.digest } })
  // Not for reading, which it would not open.
  expect((await refused('dana', 'why/api', 'upload-pack')).body).toEqual({ wait_seconds: 0 })

  const both = { repository: 'why/a', actions: ['tag'], also: [{ repository: 'why/b', actions: ['update'] }] }
  const bundle = (await call('dana', '/requests', { ...both, reason: 'PAY-8' })).body as NonNullable<Filed['request']>
  for (const repository of ['why/a', 'why/b']) {
    expect((await refused('dana', repository)).body.request?.id).toBe(bundle.id)
  }
  expect((await call('dana', '/requests', wish)).status).toBe(403)
})

test('where a rule of a pending request does not say so, nothing waits for it', async () => {
  await call('dana', '/requests', { repository: 'plain/waits', actions: ['update'] })
  expect((await refused('dana', 'plain/waits')).body).toEqual({ wait_seconds: 0 })
})

test('a job’s request is that job’s alone, and what it opens as well', async () => {
  const job = 'ci:github:acme/build:refs/heads/main'
  const tokens = ['t-1', 't-2']
  for (const id of tokens) {
    await sql`
      insert into control.token (id, principal, roles, created_by, expires)
      values (${id}, ${job}, '{developer}', ${job}, now() + interval '1 hour')`
  }
  const by = (id: string) => refused(job, 'build/app', 'receive-pack', { 'drawbridge-token': id })
  const [one, other] = [(await by('t-1')).body.request!, (await by('t-2')).body.request!]
  expect(other.id).not.toBe(one.id)
  expect((await by('t-1')).body.request?.id).toBe(one.id)
  await call('mona', `/requests/${one.id}/approve`, { digest: one.digest })
  const granted = await sql`select bounds from control.grant where request = ${one.id}`
  expect(granted).toMatchObject([{ bounds: { token: 't-1' } }])
  expect((await by('t-2')).body.request?.state).toBe('requested')

  await sql`update control.token set revoked = now() where id = 't-1'`
  expect(await by('t-1')).toMatchObject({ status: 403, body: { code: 'signed-out' } })
  expect(await refused('ci:other', 'build/app', 'receive-pack', { 'drawbridge-token': 't-2' })).toMatchObject({
    status: 403,
  })
})

test('after a denial nothing is filed by itself for as long as the denied one would have waited', async () => {
  const { id, digest } = (await refused('cleo', 'acme/api')).body.request!
  await call('mona', `/requests/${id}/deny`, { digest, reason: 'not now' })
  expect((await refused('cleo', 'acme/api')).body).toMatchObject({ request: { id, state: 'denied' } })
  await sql`update control.request set lapses = now() - interval '1 second' where id = ${id}`
  expect((await refused('cleo', 'acme/api')).body.request?.id).not.toBe(id)
})

test('a refusal that was under way while the window opened finds the window, and files nothing for it', async () => {
  const { id, digest } = (await refused('jon', 'acme/api')).body.request!
  await call('mona', `/requests/${id}/approve`, { digest })
  expect((await refused('jon', 'acme/api')).body).toMatchObject({ request: { id, state: 'approved', enacted: true } })
})

test.each([
  ['by a rule that does not say so', 'plain/api'],
  ['where a person has to say why', 'why/api'],
  ['where no rule lets them ask', 'staff/api'],
  ['for a repository nobody speaks of', 'nowhere/api'],
])('nothing is filed %s', async (_, repository) => {
  expect(await refused('dora', repository)).toEqual({ status: 200, body: { wait_seconds: 0 } })
})

test('groups of the identity provider count where the sign-in is named, and only that person’s own', async () => {
  const signin = `s-${randomUUID().replaceAll('-', '')}`
  await sql`
    insert into control.signin (id, principal, groups, roles, issuer, subject, address, client, expires)
    values (${signin}, 'erin', ${['staff']}, ${['developer']}, 'https://id', 'e', '192.0.2.7', 'test', now() + interval '1 hour')`
  const by = { 'drawbridge-signin': signin }
  expect((await refused('erin', 'staff/api', 'receive-pack', by)).body.request).toMatchObject({
    state: 'requested',
  })
  expect(await refused('fay', 'staff/api', 'receive-pack', by)).toMatchObject({ status: 403 })
  await sql`update control.signin set ended = now(), ended_how = 'logout', ended_by = 'erin' where id = ${signin}`
  expect(await refused('erin', 'staff/api', 'receive-pack', by)).toMatchObject({ status: 403 })
})

test('a repository with a star in its name is no way to a window on many', async () => {
  expect((await refused('gus', 'acme/*')).status).toBe(400)
})

test('nobody’s approvers are buried: with ten pending, none is filed by itself', async () => {
  for (let i = 0; i < 10; i++) expect((await refused('hal', `acme/r${i}`)).body.request).toBeDefined()
  expect((await refused('hal', 'acme/r10')).body.request).toBeUndefined()
  expect((await refused('hal', 'acme/r9')).body.request).toBeDefined()
})

test('a rule that approves by itself opens the window at once', async () => {
  expect((await refused('ida', 'open/api', 'upload-pack')).body).toMatchObject({
    request: { state: 'approved', enacted: true, grants: [{ state: 'live' }] },
  })
})
