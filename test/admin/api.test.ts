import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ACCESS, OPEN } from '../../admin/api/access.ts'
import type { Control } from '../../admin/api/control.ts'
import { createApi } from '../../admin/api.ts'
import type { Enact } from '../../admin/enact.ts'
import { controlMetrics } from '../../admin/metrics.ts'
import { lockPrincipal } from '../../admin/register/locks.ts'
import { endSignins, writeSignin } from '../../admin/register/signins.ts'
import { registerToken, revokeToken } from '../../admin/register/tokens.ts'
import { newId } from '../../audit/id.ts'
import { HEADS_FILE, type Ledger, startLedger } from '../../audit/main.ts'
import {
  issueToken,
  loadOrCreateTokenKey,
  publicKeySet,
  type Role,
  type TokenKey,
  verifyToken,
} from '../../ca/token.ts'
import { createSessionBoard } from '../../grant/sessions.ts'
import { watchCuts } from '../../grant/watch.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Engines, HOUR, startEngines } from './control.ts'

const ours = { audience: 'drawbridge', issuer: 'drawbridge' }
const log = pino({ level: 'silent' })

let engines: Engines
let ledger: Ledger
let enact: Enact
let key: TokenKey
let control: Control
let api: FastifyInstance
let base: string
const tokens = new Map<string, string>()

beforeAll(async () => {
  engines = await startEngines()
  const state = temporaryFolder('state')
  ledger = await startLedger({
    sql: engines.sql,
    state,
    boot: 'test',
    log,
    headEvery: { records: 10, milliseconds: 100 },
  })
  enact = engines.enact()
  key = await loadOrCreateTokenKey(join(state, 'tokens'))
  const keys = publicKeySet(key)
  const { sql, redis, store, act } = engines
  control = {
    sql,
    redis,
    store,
    act,
    enact,
    policy: { standing: () => ({ kind: 'none' }) },
    tail: ledger.tail,
    heartbeatEvery: 50,
    ledgerFault: () => ledger.writer.state().fault?.message,
    heads: { file: join(state, HEADS_FILE), keys: [ledger.key.publicKey] },
    metrics: controlMetrics({
      ...{ sql, store, enact },
      ledgerSeq: () => ledger.writer.state().seq,
      readers: () => ['forward siem', 'anomalies'],
    }),
    places: { admin: () => base, upstreams: [] },
    verifyToken: async token => {
      const result = await verifyToken(token, { keys, ...ours, now: Date.now() })
      if (!result.ok) return { refused: result.reason }
      const { principal, roles, id, expires } = result.claims
      return { principal, roles, token: { id, expires } }
    },
    issueToken: content => issueToken(key, { ...content, ...ours, now: Date.now() }),
  }
  api = await createApi(control, { log, requestsPerMinute: 100_000 })
  base = await api.listen({ host: '127.0.0.1', port: 0 })
  await until(() => engines.store.confirmed())
  for (const role of ['developer', 'approver', 'auditor', 'admin'] as const) tokens.set(role, await token(role, [role]))
})

afterAll(async () => {
  await api?.close()
  await enact?.close()
  await ledger?.close()
  await engines?.stop()
})

async function token(principal: string, roles: Role[], expires = Date.now() + HOUR): Promise<string> {
  const id = newId('t')
  await registerToken(engines.act, { id, principal, roles, expires: new Date(expires) }, 'test')
  return await issueToken(key, { id, principal, roles, expires, now: Date.now(), ...ours })
}

interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: { readonly [name: string]: unknown }
}

async function call(as: string | undefined, method: string, path: string, body?: unknown): Promise<Answer> {
  const bearer = as === undefined ? undefined : (tokens.get(as) ?? as)
  const response = await fetch(`${base}${path.startsWith('/api') ? '' : '/api/v1'}${path}`, {
    method,
    headers: {
      ...(bearer && { authorization: `Bearer ${bearer}` }),
      ...(body !== undefined && { 'content-type': 'application/json' }),
    },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  const json = /json/.test(response.headers.get('content-type') ?? '') && !text.includes('\n') ? JSON.parse(text) : {}
  return { status: response.status, headers: response.headers, body: json }
}

const issue = (over: object = {}) =>
  call('admin', 'POST', '/grants', {
    principal: 'developer',
    repository: 'acme/*',
    actions: ['fetch', 'update'],
    for: '2h',
    reason: 'PAY-231',
    ...over,
  })

const ledgerHas = (record: object) =>
  until(async () => {
    const { body } = await call('auditor', 'GET', '/audit?limit=500')
    return (body.records as { record: object }[]).some(({ record: found }) =>
      Object.entries(record).every(([name, value]) => Reflect.get(found, name) === value),
    )
  })

// What a role may not call it is refused before anything is looked up; what it may call answers something else.
const PATHS: Record<string, [string, unknown?]> = {
  'POST /grants': ['/grants', {}],
  'GET /grants/:id': ['/grants/g-0'],
  'POST /grants/:id/revoke': ['/grants/g-0/revoke', {}],
  'POST /grants/:id/extend': ['/grants/g-0/extend', { for: '1h', reason: 'more' }],
  'POST /grants/:id/release': ['/grants/g-0/release', {}],
  'POST /sessions/:operation/cut': ['/sessions/op-0/cut', {}],
  'PUT /locks/:principal': ['/locks/nobody', {}],
  'DELETE /locks/:principal': ['/locks/nobody'],
  'POST /tokens': ['/tokens', {}],
  'DELETE /tokens/:id': ['/tokens/t-0'],
  'POST /keys': ['/keys', {}],
  'DELETE /keys/:fingerprint': [`/keys/SHA256:${'a'.repeat(43)}`],
}

describe('every route, for every role', () => {
  const everyone = ['developer', 'approver', 'auditor', 'admin'] as const
  test.each(Object.entries(ACCESS))('%s is for %j', async (route, roles) => {
    const [method = '', pattern = ''] = route.split(' ')
    const [path, body] = PATHS[route] ?? [pattern]
    for (const role of everyone) {
      const answer = await (pattern === '/audit/stream' ? head(role, path) : call(role, method, path, body))
      if (roles.includes(role)) expect([401, 403], `${role} ${route}`).not.toContain(answer.status)
      else expect(answer, `${role} ${route}`).toMatchObject({ status: 403, body: { code: 'role' } })
    }
    expect(await call(undefined, method, path, body)).toMatchObject({ status: 401, body: { code: 'no-token' } })
  })

  test('the table has every route there is', () => {
    const document = api.swagger() as { paths: Record<string, object> }
    const served = Object.entries(document.paths)
      .filter(([path]) => path.startsWith('/api/v1/'))
      .flatMap(([path, methods]) => Object.keys(methods).map(m => `${m.toUpperCase()} ${path.slice(7)}`))
    const listed = [...Object.keys(ACCESS), ...OPEN].map(route => route.replace(/:(\w+)/g, '{$1}'))
    expect(served.sort()).toEqual(listed.sort())
  })

  async function head(role: string, path: string): Promise<Answer> {
    const gone = new AbortController()
    const response = await fetch(`${base}/api/v1${path}`, {
      headers: { authorization: `Bearer ${tokens.get(role)}` },
      signal: gone.signal,
    })
    const body = response.ok ? {} : ((await response.json()) as Answer['body'])
    gone.abort()
    return { status: response.status, headers: response.headers, body }
  }
})

describe('tokens', () => {
  test('that are none, of another key, expired, unknown, revoked or of a locked principal are refused at once', async () => {
    const foreign = await loadOrCreateTokenKey(join(temporaryFolder('foreign'), 'tokens'))
    const content = {
      id: 't-1',
      principal: 'admin',
      roles: ['admin'] as Role[],
      expires: Date.now() + HOUR,
      now: Date.now(),
    }
    const unsigned = `${btoa('{"alg":"none"}')}.${btoa('{"sub":"admin","roles":["admin"]}')}.`.replaceAll('=', '')
    for (const bad of ['x', 'x'.repeat(5_000), unsigned, await issueToken(foreign, { ...content, ...ours })]) {
      expect(await call(bad, 'GET', '/whoami')).toMatchObject({ status: 401, body: { code: 'bad-token' } })
    }
    expect(await call(await issueToken(key, { ...content, ...ours }), 'GET', '/whoami')).toMatchObject({ status: 401 })
    expect(await call(await token('late', ['admin'], Date.now() - 1_000), 'GET', '/whoami')).toMatchObject({
      status: 401,
    })

    const eve = await call('admin', 'POST', '/tokens', { principal: 'eve', roles: ['auditor'], for: '1 hour' })
    expect(eve).toMatchObject({ status: 201, body: { principal: 'eve', roles: ['auditor'], created_by: 'admin' } })
    const bearer = String(eve.body.token)
    expect(await call(bearer, 'GET', '/whoami')).toMatchObject({ status: 200, body: { principal: 'eve' } })
    await call('admin', 'PUT', '/locks/eve', { reason: 'left' })
    expect(await call(bearer, 'GET', '/whoami')).toMatchObject({ status: 403, body: { code: 'locked' } })
    await call('admin', 'DELETE', '/locks/eve')
    expect(await call(bearer, 'GET', '/whoami')).toMatchObject({ status: 200 })
    expect(await call(bearer, 'DELETE', `/tokens/${eve.body.id}`)).toMatchObject({
      status: 200,
      body: { enacted: true },
    })
    expect(await call(bearer, 'GET', '/whoami')).toMatchObject({
      status: 401,
      body: { detail: 'the token was revoked' },
    })
    const asked = {
      principal: 'eve',
      credentials: [`token:${eve.body.id}`],
      repository: 'a/b',
      actions: ['fetch'] as const,
    }
    expect(await engines.store.ask(asked)).toMatchObject({ kind: 'barred' })
    await ledgerHas({ kind: 'token.created', by: 'admin', principal: 'eve' })
    await ledgerHas({ kind: 'token.revoked', by: 'eve', principal: 'eve' })
  })

  test('are in no list, record or log', async () => {
    const made = await call('admin', 'POST', '/tokens', { principal: 'zoe', roles: ['developer'] })
    const secret = String(made.body.token)
    expect(made.headers.get('cache-control')).toBe('no-store')
    const listed = await call('admin', 'GET', '/tokens?principal=zoe')
    const rows = await engines.sql`select * from control.token`
    const records = await engines.sql`select body from audit.inbox union all select body from audit.record`
    for (const place of [listed.body, rows, records]) {
      expect(JSON.stringify(place)).toContain(String(made.body.id))
      expect(JSON.stringify(place)).not.toContain(secret.split('.')[2])
    }
  })

  test('for names the gate keeps for itself are not made', async () => {
    for (const principal of ['local', 'drawbridge', ' admin', 'a\nb', '']) {
      expect(await call('admin', 'POST', '/tokens', { principal, roles: ['admin'] })).toMatchObject({ status: 400 })
    }
  })
})

describe('grants', () => {
  test('are issued, seen, extended and revoked, each with its record, and Redis knows at once', async () => {
    const issued = await issue({ refs: ['release/*'], idle: '30m', uses: 3, paths: ['docs/**'] })
    expect(issued).toMatchObject({
      status: 201,
      body: {
        state: 'live',
        enacted: true,
        idle: '30m',
        uses: 3,
        uses_left: 3,
        issued_by: 'admin',
        refs: ['release/*'],
        paths: [['docs/**']],
      },
    })
    const id = String(issued.body.id)
    expect(issued.headers.get('location')).toBe(`/api/v1/grants/${id}`)
    expect((await engines.store.live('developer')).map(grant => grant.id)).toContain(id)

    const extended = await call('admin', 'POST', `/grants/${id}/extend`, { for: '1h', reason: 'takes longer' })
    expect(extended.status).toBe(200)
    expect(Date.parse(String(extended.body.expires_at)) - Date.parse(String(issued.body.expires_at))).toBe(HOUR)

    expect(await call('approver', 'POST', `/grants/${id}/revoke`, { reason: 'enough' })).toMatchObject({
      status: 200,
      body: { state: 'revoked', enacted: true, ended: { by: 'approver', reason: 'enough' } },
    })
    expect((await engines.store.live('developer')).map(grant => grant.id)).not.toContain(id)
    for (const path of ['revoke', 'extend', 'release']) {
      const answer = await call(
        path === 'release' ? 'developer' : 'admin',
        'POST',
        `/grants/${id}/${path}`,
        path === 'extend' ? { for: '1h', reason: 'x' } : {},
      )
      expect(answer).toMatchObject({ status: 409, body: { code: 'grant-over' } })
    }
    for (const kind of ['grant.issued', 'grant.extended', 'grant.ended']) await ledgerHas({ kind, grant: id })
  })

  test('of others are not there for a developer, who may release their own', async () => {
    const mine = String((await issue()).body.id)
    const other = String((await issue({ principal: 'somebody' })).body.id)
    expect(await call('developer', 'GET', `/grants/${other}`)).toMatchObject({ status: 404 })
    expect(await call('developer', 'POST', `/grants/${other}/release`)).toMatchObject({ status: 404 })
    expect(await call('admin', 'POST', `/grants/${mine}/release`)).toMatchObject({ status: 404 })
    expect(await call('developer', 'GET', '/grants?principal=somebody')).toMatchObject({ status: 403 })
    const seen = (await call('developer', 'GET', '/grants?open=true')).body.grants as {
      id: string
      principal: string
    }[]
    expect(seen.map(grant => grant.id)).toContain(mine)
    expect(new Set(seen.map(grant => grant.principal))).toEqual(new Set(['developer']))
    const all = (await call('auditor', 'GET', '/grants')).body.grants as { id: string }[]
    expect(all.map(grant => grant.id)).toEqual(expect.arrayContaining([mine, other]))
    expect(await call('developer', 'POST', `/grants/${mine}/release`)).toMatchObject({
      status: 200,
      body: { state: 'released' },
    })
  })

  test('are given to nobody by themselves', async () => {
    expect(await issue({ principal: 'admin' })).toMatchObject({ status: 403, body: { code: 'own-grant' } })
  })

  test.each([
    [{ repository: 'acme/**x' }, /repository: "\*\*" stands/],
    [{ repository: 'acme' }, /repository: .*names no repository/],
    [{ refs: ['tags/v1'] }, /refs.0: say "refs\/tags\/v1"/],
    [{ paths: ['docs//x'] }, /paths.0: .*two in a row/],
    [{ actions: [] }, /actions: needs at least one/],
    [{ actions: ['push'] }, /actions.0/],
    [{ for: 'soon' }, /for: is a duration/],
    [{ for: '0s' }, /for/],
    [{ for: undefined }, /give "for"/],
    [{ for: '2h', expires_at: '2030-01-01T00:00:00Z' }, /not both/],
    [{ for: undefined, expires_at: '2020-01-01T00:00:00Z' }, /over before it begins/],
    [{ for: '200 days' }, /at most 90 days/],
    [{ starts_at: '2020-01-01T00:00:00Z' }, /over before it begins/],
    [{ uses: 0 }, /uses/],
    [{ reason: '' }, /reason: cannot be empty/],
    [{ reason: 'a\u001b[31mb' }, /reason: is one line/],
    [{ reason: 'x'.repeat(501) }, /reason: has at most 500/],
    [{ role: 'admin' }, /role/],
    [{ __proto__x: 1 }, /__proto__x/],
  ])('that make no sense are refused with the field and the reason: %j', async (over, reason) => {
    const answer = await issue(over)
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid', detail: expect.stringMatching(reason) } })
    expect(answer.headers.get('content-type')).toContain('application/problem+json')
  })
})

describe('bad requests', () => {
  test('of every kind are a problem, and the server lives', async () => {
    expect(await call('admin', 'POST', '/grants', '{"a":')).toMatchObject({
      status: 400,
      body: { code: 'bad-request' },
    })
    expect(await call('admin', 'POST', '/grants', '{"__proto__":{"a":1}}')).toMatchObject({ status: 400 })
    expect(await call('admin', 'POST', '/grants', `"${'x'.repeat(70_000)}"`)).toMatchObject({
      status: 413,
      body: { code: 'too-large' },
    })
    expect(await call('admin', 'GET', '/nothing')).toMatchObject({ status: 404, body: { code: 'not-found' } })
    expect(await call('admin', 'GET', "/grants/g-0'; drop table control.grant")).toMatchObject({ status: 400 })
    expect(await call('admin', 'GET', '/audit?limit=999999999')).toMatchObject({ status: 400 })
    expect(await call('admin', 'GET', '/audit?after=1&before=2')).toMatchObject({ status: 400 })
    expect(await call('admin', 'GET', '/whoami')).toMatchObject({ status: 200 })
  })

  test('too many of them are told to wait', async () => {
    const strict = await createApi(control, { log, requestsPerMinute: 5 })
    const statuses = []
    for (let i = 0; i < 7; i++) statuses.push((await strict.inject({ url: '/api/v1/whoami' })).statusCode)
    expect(statuses).toEqual([401, 401, 401, 401, 401, 429, 429])
    await strict.close()
  })
})

describe('sessions', () => {
  test('that run are listed, and one can be cut', async () => {
    const board = createSessionBoard({ redis: engines.redis, proxy: 'one' })
    const running = {
      principal: 'developer',
      repository: 'acme/api',
      service: 'upload-pack',
      action: 'fetch',
      grants: ['g-1'],
      transport: 'ssh',
      address: '::1',
      started: Date.now(),
    }
    board.open({ ...running, operation: 'op-1' })
    board.open({ ...running, operation: 'op-2', principal: 'somebody' })
    const listening = engines.redis.duplicate()
    await until(() => listening.status === 'ready')
    const cuts: object[] = []
    const watch = watchCuts({ redis: listening, onCut: cut => cuts.push(cut), onSilence: () => {}, onBack: () => {} })
    const seen = async (role: string) =>
      ((await call(role, 'GET', '/sessions')).body.sessions as { operation: string }[]).map(s => s.operation)
    await until(async () => (await seen('admin')).length === 2)
    expect(await seen('developer')).toEqual(['op-1'])
    expect(await call('approver', 'POST', '/sessions/op-2/cut', { reason: 'too large' })).toMatchObject({ status: 202 })
    expect(await call('approver', 'POST', '/sessions/op-9/cut')).toMatchObject({ status: 404 })
    await until(() => cuts.length > 0)
    expect(cuts).toEqual([{ operation: 'op-2', principal: 'somebody', reason: 'too large' }])
    await ledgerHas({ kind: 'session.cut', operation: 'op-2', by: 'approver' })
    await board.stop()
    await watch.close()
    listening.disconnect()
  })
})

describe('keys', () => {
  test('are registered by their owner, found by the gate, and revoked for good', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'db-key-'))
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'laptop', '-f', join(folder, 'id')])
    const line = readFileSync(join(folder, 'id.pub'), 'utf8')
    const made = await call('developer', 'POST', '/keys', { public_key: line, for: '30 days' })
    expect(made).toMatchObject({ status: 201, body: { principal: 'developer', title: 'laptop', enacted: true } })
    const fingerprint = String(made.body.fingerprint)
    expect(execFileSync('ssh-keygen', ['-l', '-f', join(folder, 'id.pub')], { encoding: 'utf8' })).toContain(
      fingerprint,
    )
    expect(await engines.store.findKey(fingerprint)).toMatchObject({ principal: 'developer' })

    expect(await call('auditor', 'POST', '/keys', { public_key: line })).toMatchObject({
      status: 409,
      body: { code: 'key-taken' },
    })
    expect(await call('developer', 'POST', '/keys', { public_key: line, principal: 'admin' })).toMatchObject({
      status: 403,
    })
    expect(await call('auditor', 'DELETE', `/keys/${encodeURIComponent(fingerprint)}`)).toMatchObject({ status: 404 })
    expect(await call('developer', 'DELETE', `/keys/${encodeURIComponent(fingerprint)}`)).toMatchObject({ status: 200 })
    expect(await engines.store.findKey(fingerprint)).toBeUndefined()
    expect(await call('developer', 'POST', '/keys', { public_key: line })).toMatchObject({
      status: 409,
      body: { code: 'key-revoked' },
    })
    for (const bad of ['', 'ssh-ed25519', 'ssh-ed25519 AAAA', `command="x" ${line}`, `${line}${line}`]) {
      expect(await call('developer', 'POST', '/keys', { public_key: bad })).toMatchObject({ status: 400 })
    }
    await ledgerHas({ kind: 'key.registered', fingerprint })
    await ledgerHas({ kind: 'key.revoked', fingerprint })
  })
})

describe('the ledger', () => {
  test('is followed without gap or repeat, across a break', async () => {
    const first = (await call('auditor', 'GET', '/audit?limit=1')).body.records as { seq: number }[]
    let last = first[0]?.seq ?? 0
    const seen: number[] = []
    for (let round = 0; round < 3; round++) {
      const gone = new AbortController()
      const response = await fetch(`${base}/api/v1/audit/stream`, {
        headers: { authorization: `Bearer ${tokens.get('auditor')}`, 'last-event-id': String(last) },
        signal: gone.signal,
      })
      expect(response.headers.get('content-type')).toContain('text/event-stream')
      for (let i = 0; i < 3; i++) await issue()
      let text = ''
      for await (const chunk of response.body!) {
        text += Buffer.from(chunk).toString()
        if ((text.match(/^id: \d+$/gm) ?? []).length >= 3) break
      }
      gone.abort()
      const ids = [...text.matchAll(/^id: (\d+)$/gm)].map(match => Number(match[1])).slice(0, 3)
      seen.push(...ids)
      last = ids.at(-1)!
    }
    expect(seen).toEqual(Array.from({ length: 9 }, (_, i) => (first[0]?.seq ?? 0) + 1 + i))
  })

  /** Follows until it is ended from there; what was said at last. */
  async function lastOf(headers: { readonly [name: string]: string }, end: () => Promise<unknown>): Promise<string> {
    const answer = await fetch(`${base}/api/v1/audit/stream`, { headers })
    expect(answer.status).toBe(200)
    await end()
    return (await answer.text()).trim().split('\n\n').at(-1) ?? ''
  }
  const by = (bearer: string, principal?: string) => ({
    authorization: `Bearer ${bearer}`,
    ...(principal && { 'drawbridge-principal': principal, 'drawbridge-address': '192.0.2.7' }),
  })
  const over = (sentence: string) => `event: end\ndata: ${sentence}`

  test('is read to nobody any longer who was locked out, or whose token was revoked', async () => {
    const lock = () => lockPrincipal(engines.act, { principal: 'lee', by: 'root', reason: 'laptop stolen' })
    expect(await lastOf(by(await token('lee', ['auditor'])), lock)).toBe(over('lee is locked'))
    const bearer = await token('max', ['auditor'])
    const [row] = await engines.sql<{ id: string }[]>`select id from control.token where principal = 'max'`
    const revoke = () => revokeToken(engines.act, row!.id, 'root')
    expect(await lastOf(by(bearer), revoke)).toBe(over('the token was revoked'))
  })

  test('is read over ssh for as long as somebody is an auditor, by a token or a sign-in, and not locked', async () => {
    const front = await token('service:gate', ['front'])
    await token('pat', ['auditor'])
    const lock = () => lockPrincipal(engines.act, { principal: 'pat', by: 'root', reason: 'laptop stolen' })
    expect(await lastOf(by(front, 'pat'), lock)).toBe(over('pat is locked'))

    const person = {
      principal: 'ann',
      groups: [],
      roles: ['auditor'] as const,
      issuer: 'https://idp.example',
      subject: '1',
    }
    const place = { address: '192.0.2.7', client: 'test', expires: new Date(Date.now() + HOUR) }
    await engines.act(change => writeSignin(change, { id: 's-1', ...person, ...place }))
    const signOut = () => endSignins(engines.act, { id: 's-1' }, { how: 'logout', by: 'ann' })
    const lacking = 'ann has no token and no sign-in with the role auditor or admin'
    expect(await lastOf(by(front, 'ann'), signOut)).toBe(over(lacking))

    const ours = () => engines.sql`update control.token set revoked = now() where principal = 'service:gate'`
    await token('joe', ['admin'])
    expect(await lastOf(by(front, 'joe'), ours)).toBe(over('the token was revoked'))
  })

  test('is paged, filtered, exported and verified', async () => {
    const id = String((await issue({ principal: 'somebody' })).body.id)
    await ledgerHas({ kind: 'grant.issued', grant: id })
    const found = await call('auditor', 'GET', `/audit?grant=${id}`)
    expect(found.body.records).toMatchObject([{ record: { kind: 'grant.issued', by: 'admin' } }])
    const older = await call('auditor', 'GET', '/audit?after=0&limit=2')
    expect((older.body.records as { seq: number }[]).map(record => record.seq)).toEqual([1, 2])
    const response = await fetch(`${base}/api/v1/audit/export`, {
      headers: { authorization: `Bearer ${tokens.get('auditor')}` },
    })
    const lines = (await response.text()).trim().split('\n')
    expect(lines.map(line => JSON.parse(line).seq)).toEqual(Array.from({ length: lines.length }, (_, i) => i + 1))
    await until(async () => ((await call('auditor', 'GET', '/audit/heads')).body.heads as object[]).length > 0)
    expect(await call('auditor', 'POST', '/audit/verify')).toMatchObject({ status: 200, body: { ok: true } })
  })
})

describe('for machines', () => {
  test('OpenAPI 3.1 names every route, and the docs page is there', async () => {
    const document = await fetch(`${base}/api/v1/openapi.json`).then(response => response.json())
    expect(document).toMatchObject({ openapi: '3.1.0', paths: { '/api/v1/grants': { post: { requestBody: {} } } } })
    const docs = await fetch(`${base}/docs/`)
    expect(docs.status).toBe(200)
    expect(docs.headers.get('content-security-policy')).toContain("'self'")
    expect((await call('admin', 'GET', '/whoami')).headers.get('content-security-policy')).toContain(
      "default-src 'none'",
    )
  })

  test('health, readiness and metrics need no token and name nobody', async () => {
    expect((await fetch(`${base}/healthz`)).status).toBe(200)
    const ready = await fetch(`${base}/readyz`)
    expect([ready.status, await ready.json()]).toMatchObject([
      200,
      { ready: true, checks: { redis: 'ok', postgres: 'ok' } },
    ])
    const metrics = await fetch(`${base}/metrics`).then(response => response.text())
    expect(metrics).toContain('drawbridge_outbox_waiting 0')
    const { seq } = ledger.writer.state()
    await engines.sql`
      insert into audit.reader (name, seq, succeeded, failing, fault)
      values ('forward siem', ${seq - 2}, to_timestamp(1000), now(), 'away'), ('forward old', 0, null, now(), 'away')`
    const told = await fetch(`${base}/metrics`).then(response => response.text())
    expect(told).toMatch(/drawbridge_forward_behind_records\{forwarder="siem"\} [2-9]\n/)
    expect(told).toContain('drawbridge_forward_success_timestamp_seconds{forwarder="siem"} 1000\n')
    expect(told).toContain('drawbridge_forward_failing{forwarder="siem"} 1\n')
    expect(told).not.toContain('forwarder="old"')
    expect(told).not.toContain('away')
    expect(metrics).toContain('drawbridge_redis_confirmed 1')
  })

  test('the local socket is for the operator alone, and makes the first token', async () => {
    const local = await createApi(control, { log, everybody: { principal: 'local', roles: ['admin'] } })
    const path = join(temporaryFolder('sock'), 's')
    await local.listen({ path })
    const body = JSON.stringify({ principal: 'root', roles: ['admin'] })
    const made = await new Promise<string>((resolve, reject) => {
      const sent = request(
        { socketPath: path, method: 'POST', path: '/api/v1/tokens', headers: { 'content-type': 'application/json' } },
        answer => {
          answer.setEncoding('utf8')
          let text = ''
          answer
            .on('data', chunk => {
              text += chunk
            })
            .on('end', () => resolve(text))
        },
      )
      sent.on('error', reject)
      sent.end(body)
    })
    expect(JSON.parse(made)).toMatchObject({ created_by: 'local' })
    expect(await call(JSON.parse(made).token, 'GET', '/whoami')).toMatchObject({
      status: 200,
      body: { principal: 'root' },
    })
    await local.close()
  })
})

test('a database that hangs is an answer in time, not silence', async () => {
  const impatient = await createApi(control, { log, answerWithin: 300 })
  const held = Promise.withResolvers<void>()
  const holding = Promise.withResolvers<void>()
  const holder = engines.sql.begin(async transaction => {
    await transaction`lock table control.grant in access exclusive mode`
    holding.resolve()
    await held.promise
  })
  await holding.promise
  const authorization = `Bearer ${tokens.get('admin')}`
  const answer = await impatient.inject({ url: '/api/v1/grants', headers: { authorization } })
  expect([answer.statusCode, answer.json()]).toMatchObject([503, { code: 'timeout' }])
  held.resolve()
  await holder
  await impatient.close()
})

// Last: they take Redis and Postgres away.
test('with Redis away a revocation is durable and says that it is not enacted; a grant is refused', async () => {
  const id = String((await issue()).body.id)
  await engines.server.kill()
  expect(await call('admin', 'POST', `/grants/${id}/revoke`)).toMatchObject({
    status: 200,
    body: { state: 'revoked', enacted: false },
  })
  expect(await issue()).toMatchObject({ status: 503 })
  expect((await fetch(`${base}/readyz`)).status).toBe(503)
  expect((await fetch(`${base}/healthz`)).status).toBe(200)
  await engines.server.restart()
  await until(async () => (await fetch(`${base}/readyz`)).status === 200)
  expect((await engines.store.live('developer')).map(grant => grant.id)).not.toContain(id)
})

test('with Postgres away nothing is done, and says so', async () => {
  await engines.database.kill()
  expect(await issue()).toMatchObject({ status: 503, body: { code: 'postgres-unreachable' } })
  expect(await call('admin', 'PUT', '/locks/mallory', { reason: 'x' })).toMatchObject({ status: 503 })
  expect((await fetch(`${base}/readyz`)).status).toBe(503)
  await engines.database.restart()
  await until(async () => (await fetch(`${base}/readyz`)).status === 200)
  expect(await issue()).toMatchObject({ status: 201, body: { enacted: true } })
})
