import { randomBytes } from 'node:crypto'
import { SignJWT } from 'jose'
import postgres, { type Sql } from 'postgres'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ProviderError } from '../../../admin/login/provider.ts'
import { startRecheck } from '../../../admin/login/recheck.ts'
import { createSeal } from '../../../admin/login/seal.ts'
import type { Act } from '../../../admin/register/act.ts'
import type { LoginSettings } from '../../../config/settings.ts'
import { CLIENT, startProvider, type TestProvider } from '../../../deploy/trial/provider.ts'
import { connectRedis } from '../../../grant/redis.ts'
import { createStore, type Store } from '../../../grant/store.ts'
import { type ControlPlane, startControlPlane } from '../../support/control.ts'
import { type Postgres, startPostgres } from '../../support/postgres.ts'
import { until } from '../../support/program.ts'
import { type Redis, startRedis } from '../../support/redis.ts'
import { quiet } from '../../support/stand.ts'
import { createWalker, throughProvider } from '../../support/walker.ts'

let engines: [Redis, Postgres]
let provider: TestProvider
let gate: ControlPlane
let sql: Sql
let redis: ReturnType<typeof connectRedis>
let store: Store

const POLICY = `version: 1
requests:
  - { name: push, trigger: push, repositories: acme/*, approvers: leads, mfa: 15m }
  - { name: read, trigger: clone, repositories: acme/*, approvers: leads }
`

beforeAll(async () => {
  engines = await Promise.all([startRedis(), startPostgres()])
  provider = await startProvider(() => gate.url)
  const login: LoginSettings = {
    issuer: provider.issuer,
    clientId: CLIENT.id,
    clientSecret: CLIENT.secret,
    scopes: ['openid', 'profile', 'email'],
    principal: 'preferred_username',
    groups: 'groups',
    domains: [],
    require: new Map(),
    roles: new Map([['approver', ['leads']]]),
    mfa: { amr: ['mfa'], acr: [], required: false },
    lasts: 3_600_000,
    token: 300_000,
    recheck: 1_000,
  }
  const [{ url }, database] = engines
  gate = await startControlPlane({ redis: url, postgres: database.url }, { root: 'admin' }, POLICY, { login })
  sql = postgres(database.url, { max: 2, onnotice: () => {} })
  redis = connectRedis(url, () => {})
  store = createStore({ redis })
  provider.people.set('alice', { groups: ['payments', 'role:admin'] })
  provider.people.set('bob', { groups: ['leads'], amr: ['pwd', 'mfa'] })
})

afterAll(async () => {
  redis?.disconnect()
  await sql?.end()
  await gate?.close()
  await provider?.close()
  await Promise.all(engines?.map(engine => engine.stop()) ?? [])
})

async function api(method: string, path: string, body?: object, token?: string) {
  const answer = await fetch(`${gate.url}/api/v1${path}`, {
    method,
    headers: {
      ...(body && { 'content-type': 'application/json' }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    ...(body && { body: JSON.stringify(body) }),
  })
  return { status: answer.status, body: JSON.parse(await answer.text()) }
}

const begin = async (more = {}) => (await api('POST', '/login/device', { client: 'a test', ...more })).body

/** From the terminal's first question to its token, with somebody at the browser who agrees. */
async function signIn(account: string, walker = createWalker()) {
  const device = await begin()
  const asked = await throughProvider(walker, device.verification_uri_complete, account)
  if (asked.form === undefined) throw new Error(`${asked.status}: ${asked.text}`)
  await walker.go(asked.form.action, { ...asked.form.fields, answer: 'allow' })
  const { body } = await api('POST', '/login/token', { device_code: device.device_code })
  return { device, asked, ...body }
}

const records = async (kind: string) =>
  (
    await sql<
      { body: string }[]
    >`select body from audit.inbox where kind = ${kind} union all select body from audit.record where kind = ${kind}`
  ).map(row => JSON.parse(row.body))

describe('a sign-in', () => {
  test('goes from the terminal to the provider, is confirmed there, and gives the terminal a token for that person', async () => {
    const { asked, device, ...done } = await signIn('alice')
    expect(asked.text).toContain(device.user_code)
    expect(asked.text).toContain('alice')
    expect(asked.text).toContain('a test')
    expect(asked.headers.get('content-security-policy')).toMatch(/default-src 'none'.*form-action 'self'/)
    expect(done).toMatchObject({
      state: 'done',
      signin: { principal: 'alice', roles: ['developer'], groups: ['payments'] },
    })
    const { body: me } = await api('GET', '/whoami', undefined, done.token)
    expect(me).toMatchObject({ principal: 'alice', roles: ['developer'] })
    expect(await records('signin.made')).toContainEqual(
      expect.objectContaining({ signin: done.signin.id, principal: 'alice', by: 'alice', address: '127.0.0.1' }),
    )
  })

  test('takes roles from groups and the second factor from amr and auth_time; no provider gives the gate its own groups', async () => {
    const bob = await signIn('bob')
    expect(bob.signin).toMatchObject({ roles: ['developer', 'approver'], mfa_at: expect.stringMatching(/^20/) })
    const alice = await signIn('alice')
    expect(alice.signin).not.toHaveProperty('mfa_at')
    expect(alice.signin.groups).toEqual(['payments'])
  })

  test('is collected once: the device code opens nothing a second time', async () => {
    const { device } = await signIn('alice')
    expect((await api('POST', '/login/token', { device_code: device.device_code })).body).toEqual({ state: 'over' })
  })

  test('keeps neither device code nor secret anywhere in the database', async () => {
    const { device, secret } = await signIn('alice')
    const waiting = await begin()
    const rows = JSON.stringify([await sql`select * from control.signin`, await sql`select * from control.login`])
    for (const hidden of [device.device_code, secret, waiting.device_code]) expect(rows).not.toContain(hidden)
  })

  test('is refused when the person says no, and the terminal hears it', async () => {
    const [walker, device] = [createWalker(), await begin()]
    const asked = await throughProvider(walker, device.verification_uri_complete, 'alice')
    await walker.go(asked.form!.action, { ...asked.form!.fields, answer: 'refuse' })
    expect((await api('POST', '/login/token', { device_code: device.device_code })).body).toMatchObject({
      state: 'denied',
      reason: expect.stringContaining('refused at the browser'),
    })
  })

  // RFC 8628, section 5.4: somebody sends a link to a person whom the provider recognises without a question.
  test('of a link somebody else sent waits for the person to confirm, and says whose terminal it is', async () => {
    const walker = createWalker()
    await signIn('alice', walker)
    const device = await begin({ client: 'mallory <script>' })
    const asked = await walker.go(device.verification_uri_complete)
    expect(asked.text).toContain('mallory &#60;script&#62;')
    expect((await sql`select from control.signin where client = 'mallory <script>'`).length).toBe(0)
  })

  test('cannot be confirmed by a form from elsewhere, by another browser, or without the cookie', async () => {
    const [walker, device] = [createWalker(), await begin()]
    const asked = await throughProvider(walker, device.verification_uri_complete, 'alice')
    const { action, fields } = asked.form!
    expect((await walker.go(action, { answer: 'allow' })).status).toBe(400)
    expect((await walker.go(action, { answer: 'allow', proof: 'x'.repeat(43) })).status).toBe(400)
    expect((await createWalker().go(action, { ...fields, answer: 'allow' })).status).toBe(400)
    expect((await walker.go(action, { ...fields, answer: 'allow' })).status).toBe(200)
  })

  // Login CSRF: the attacker's own answer of the provider, slipped into the victim's browser.
  test('takes no answer of the provider in another browser than the one that was sent, and none twice', async () => {
    const [walker, other, device] = [createWalker(), createWalker(), await begin()]
    const { url } = await throughProvider(walker, device.verification_uri_complete, 'alice')
    expect(url.pathname).toBe('/login/confirm')
    const callback = new URL('/login/callback?code=stolen&state=any', gate.url)
    expect((await other.go(callback)).status).toBe(400)
    expect((await walker.go(callback)).status).toBe(400)
  })

  test('of somebody locked is refused', async () => {
    provider.people.set('locked', {})
    await sql`insert into control.lock (principal, locked, version, reason, changed_by) values ('locked', true, 1, 'stolen', 'root')`
    const [walker, device] = [createWalker(), await begin()]
    const asked = await throughProvider(walker, device.verification_uri_complete, 'locked')
    const answer = await walker.go(asked.form!.action, { ...asked.form!.fields, answer: 'allow' })
    expect(answer.status).toBe(403)
    expect(await records('signin.refused')).toContainEqual(
      expect.objectContaining({ code: 'locked', claimed: 'locked' }),
    )
  })

  test('of a code that nobody was given leads nowhere', async () => {
    const page = await createWalker().go(`${gate.url}/login?code=BBBB-BBBB`)
    expect(page.text).toContain('not known')
    expect(page.url.origin).toBe(gate.url)
  })
})

describe('somebody who has signed in', () => {
  const ask = (token: string, actions: string[]) =>
    api(
      'POST',
      '/requests',
      { repository: 'acme/app', actions, refs: actions.includes('fetch') ? [] : ['main'], for: '1h' },
      token,
    )

  test('approves what the policy gives their group of the provider, and nobody else does', async () => {
    provider.people.set('carol', { groups: ['other'] })
    const [alice, bob, carol] = [await signIn('alice'), await signIn('bob'), await signIn('carol')]
    const { body: asked } = await ask(alice.token, ['fetch'])
    expect(asked).toMatchObject({ state: 'requested', principal: 'alice' })
    const vote = (token: string) => api('POST', `/requests/${asked.id}/approve`, { digest: asked.digest }, token)
    expect((await vote(carol.token)).status).toBe(403)
    expect(await vote(bob.token)).toMatchObject({ status: 200, body: { state: 'approved' } })
  })

  test('passes a rule that wants a second factor only with one', async () => {
    const [alice, bob] = [await signIn('alice'), await signIn('bob')]
    expect(await ask(alice.token, ['update'])).toMatchObject({
      status: 403,
      body: { detail: expect.stringContaining('second factor') },
    })
    expect(await ask(bob.token, ['update'])).toMatchObject({ status: 201 })
  })
})

describe('the end of a sign-in', () => {
  const ended = async (principal: string, signin: string) => {
    const ask = {
      operation: 'op-1',
      principal,
      credentials: [`signin:${signin}`],
      repository: 'acme/app',
      actions: ['fetch'] as const,
    }
    return (await store.ask(ask)).kind
  }

  test('by its own secret refuses its tokens at the API and at the gate at once', async () => {
    const { token, secret, signin } = await signIn('alice')
    expect(await ended('alice', signin.id)).not.toBe('barred')
    expect((await api('POST', '/logout', { secret })).body).toEqual({ id: signin.id, enacted: true })
    expect(await api('GET', '/whoami', undefined, token)).toMatchObject({ status: 401, body: { code: 'signed-out' } })
    expect((await api('POST', '/login/refresh', { secret })).status).toBe(401)
    expect(await ended('alice', signin.id)).toBe('barred')
    expect(await records('signin.ended')).toContainEqual(expect.objectContaining({ signin: signin.id, by: 'alice' }))
  })

  test('by the provider ends every sign-in of that account and nobody else’s', async () => {
    const [alice, bob] = [await signIn('alice'), await signIn('bob')]
    await provider.logOut('alice')
    expect((await api('GET', '/whoami', undefined, alice.token)).status).toBe(401)
    expect(await ended('alice', alice.signin.id)).toBe('barred')
    expect((await api('GET', '/whoami', undefined, bob.token)).status).toBe(200)
  })

  test('comes for somebody disabled at the provider without a word from there: it is asked, and nobody else’s ends', async () => {
    provider.people.set('mallory', {})
    const [gone, stays] = [await signIn('mallory'), await signIn('bob')]
    const refreshOf = async ({ id }: { id: string }) =>
      (await sql<{ refresh: string | null }[]>`select refresh from control.signin where id = ${id}`)[0]?.refresh
    const first = await refreshOf(gone.signin)
    await until(async () => (await refreshOf(gone.signin)) !== first, 'the provider to be asked')
    expect((await api('GET', '/whoami', undefined, gone.token)).status).toBe(200)

    provider.people.delete('mallory')
    await until(async () => (await refreshOf(gone.signin)) === null, 'the end of the sign-in')
    expect((await api('GET', '/whoami', undefined, gone.token)).status).toBe(401)
    await until(async () => (await ended('mallory', gone.signin.id)) === 'barred', 'the gate to hear of it')
    expect(await records('signin.ended')).toContainEqual(
      expect.objectContaining({ signin: gone.signin.id, reason: 'the identity provider ended the session' }),
    )
    expect((await api('GET', '/whoami', undefined, stays.token)).status).toBe(200)
  })

  test('does not come of a provider that does not answer, or of what the database alone would give away', async () => {
    const { signin, token } = await signIn('bob')
    const [row] = await sql<{ refresh: string }[]>`select refresh from control.signin where id = ${signin.id}`
    const [seal, other] = [createSeal(randomBytes(32)), createSeal(randomBytes(32))]
    expect(seal.open(seal.close('a refresh token'))).toBe('a refresh token')
    for (const sealed of [row?.refresh ?? '', other.close('a refresh token'), 'x', ''])
      expect(seal.open(sealed)).toBeUndefined()

    let asked = 0
    const silent = { renew: () => Promise.reject(new ProviderError('unreachable', `no answer ${asked++}`)) }
    const act: Act = () => Promise.reject(new Error('nothing is to be ended'))
    const every = 50
    const open = { ...seal, open: () => 'a refresh token' }
    const recheck = startRecheck({ sql, act, provider: silent, seal: open, every, log: quiet })
    await until(() => asked > 2, 'several questions')
    await recheck.close()
    expect((await api('GET', '/whoami', undefined, token)).status).toBe(200)
  })

  test('by another is for administrators, and a stranger’s sign-in is not even there', async () => {
    const [alice, bob] = [await signIn('alice'), await signIn('bob')]
    expect((await api('DELETE', `/signins/${bob.signin.id}`, undefined, alice.token)).status).toBe(404)
    expect((await api('DELETE', `/signins/${alice.signin.id}`, undefined, alice.token)).status).toBe(200)
    expect((await api('GET', '/whoami', undefined, alice.token)).status).toBe(401)
  })

  test('is not needed for somebody locked: their tokens are refused, and not renewed', async () => {
    const { token, secret } = await signIn('bob')
    await sql`insert into control.lock (principal, locked, version, reason, changed_by) values ('bob', true, 1, 'x', 'root')`
    expect((await api('GET', '/whoami', undefined, token)).status).toBe(403)
    expect((await api('POST', '/login/refresh', { secret })).status).toBe(403)
    await sql`delete from control.lock where principal = 'bob'`
  })
})

describe('a logout token', () => {
  const EVENTS = { 'http://schemas.openid.net/event/backchannel-logout': {} }
  const now = () => Math.floor(Date.now() / 1000)
  const claims = () => ({
    iss: provider.issuer.origin,
    aud: CLIENT.id,
    iat: now(),
    jti: `j-${Math.random()}`,
    events: EVENTS,
    sub: 'alice',
  })
  const sign = (payload: object, header = {}) =>
    new SignJWT(payload as never)
      .setProtectedHeader({ alg: 'RS256', kid: provider.key.kid, typ: 'logout+jwt', ...header })
      .sign(provider.key.privateKey)
  const send = async (token: string) =>
    (
      await fetch(`${gate.url}/login/backchannel`, {
        method: 'POST',
        body: new URLSearchParams({ logout_token: token }),
      })
    ).status

  test('that holds is taken once; replayed it ends nothing', async () => {
    const token = await sign(claims())
    expect(await send(token)).toBe(200)
    const { token: after } = await signIn('alice')
    expect(await send(token)).toBe(400)
    expect((await api('GET', '/whoami', undefined, after)).status).toBe(200)
  })

  test('of a session of the provider ends the sign-ins of that session alone', async () => {
    const [one, two] = [await signIn('alice'), await signIn('alice')]
    const [row] = await sql<{ session: string }[]>`select session from control.signin where id = ${one.signin.id}`
    const { sub: _, ...rest } = claims()
    expect(await send(await sign({ ...rest, sid: row?.session }))).toBe(200)
    expect((await api('GET', '/whoami', undefined, one.token)).status).toBe(401)
    expect((await api('GET', '/whoami', undefined, two.token)).status).toBe(200)
  })

  test.each([
    ['an ID token in its place', () => ({ ...claims(), nonce: 'n' })],
    ['no event', () => ({ ...claims(), events: {} })],
    ['another audience', () => ({ ...claims(), aud: 'other' })],
    ['another issuer', () => ({ ...claims(), iss: 'https://evil.example' })],
    ['nobody named', () => ({ ...claims(), sub: undefined })],
    ['an hour old', () => ({ ...claims(), iat: now() - 3_600 })],
    ['of the future', () => ({ ...claims(), iat: now() + 3_600 })],
    ['no jti', () => ({ ...claims(), jti: undefined })],
  ])('with %s is refused', async (_what, payload) => {
    const { token } = await signIn('alice')
    expect(await send(await sign(payload()))).toBe(400)
    expect((await api('GET', '/whoami', undefined, token)).status).toBe(200)
  })

  test('by another key, with no signature, or by a MAC of the client’s secret is refused', async () => {
    const mac = new SignJWT(claims() as never).setProtectedHeader({ alg: 'HS256', kid: provider.key.kid })
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    expect(await send(await mac.sign(Buffer.from(CLIENT.secret)))).toBe(400)
    expect(await send(`${encode({ alg: 'none' })}.${encode(claims())}.`)).toBe(400)
    expect(await send(`${(await sign(claims())).slice(0, -8)}AAAAAAAA`)).toBe(400)
    expect(await send('nonsense')).toBe(400)
  })
})
