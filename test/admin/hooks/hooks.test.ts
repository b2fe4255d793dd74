import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import fastify, { type FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { Webhook } from 'standardwebhooks'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { hookRoutes } from '../../../admin/hooks/routes.ts'
import { createRefuse } from '../../../admin/notify/refusals.ts'
import { findGrant, issueGrant } from '../../../admin/register/grants.ts'
import { registerKey } from '../../../admin/register/keys.ts'
import { findLock, unlockPrincipal } from '../../../admin/register/locks.ts'
import type { HookSettings } from '../../../config/hooks.ts'
import { type Engines, HOUR, startEngines } from '../control.ts'
import * as fromBitbucket from './payloads/bitbucket.ts'
import * as fromGitea from './payloads/gitea.ts'
import * as fromGithub from './payloads/github.ts'
import * as fromGitlab from './payloads/gitlab.ts'

const WATCHER = `whsec_${Buffer.alloc(32, 3).toString('base64')}`
const GITHUB = 'a secret of the github hook'
const GITLAB = 'a token of the gitlab hook'
const BITBUCKET = 'a secret of the bitbucket hook'
const GITEA = 'a secret of the gitea hook'
const actors = new Map<string, string>()
const hooks: HookSettings[] = [
  { type: 'revoke', name: 'siem', secret: WATCHER },
  {
    type: 'github',
    name: 'github',
    secret: GITHUB,
    upstream: 'acme',
    actors,
    organization: 'octocoders',
    principal: '{login}@acme.example',
  },
  {
    type: 'gitlab',
    name: 'gitlab',
    secret: GITLAB,
    upstream: 'forge',
    actors,
    organization: 'storecloud',
    principal: '{login}',
  },
  { type: 'bitbucket', name: 'bitbucket', secret: BITBUCKET, upstream: 'bucket', actors },
  { type: 'gitea', name: 'gitea', secret: GITEA, upstream: 'tea', actors },
]

let engines: Engines
let app: FastifyInstance
let base: string
beforeAll(async () => {
  engines = await startEngines()
  app = fastify()
  const { sql, act, store } = engines
  // A minute has room for so many records: each refusal has one of its own.
  let minutes = 0
  const refuse = createRefuse({ act, log: pino({ level: 'silent' }), clock: () => ++minutes * 60_000 })
  const standing = () => ({ kind: 'none' }) as const
  hookRoutes(app, { sql, act, refuse, hooks: () => hooks, standing, now: () => store.now() })
  base = await app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  await app?.close()
  await engines?.stop()
})
afterEach(async () => {
  await engines.reset()
  await engines.sql`truncate control.link_used`
})

type Headers = Record<string, string>

async function post(name: string, body: string, headers: Headers): Promise<number> {
  const response = await fetch(`${base}/hooks/${name}`, { method: 'POST', headers, body })
  expect(await response.text()).toBe('')
  return response.status
}

const hmac = (secret: string, body: string) => createHmac('sha256', secret).update(body).digest('hex')
const bitbucket = (event: string, body: string): Headers => ({
  'content-type': 'application/json',
  'x-event-key': event,
  'x-request-uuid': `bb-${++deliveries}`,
  'x-hub-signature': `sha256=${hmac(BITBUCKET, body)}`,
})
const gitea = (event: string, body: string): Headers => ({
  'content-type': 'application/json',
  'x-gitea-event': event,
  'x-gitea-delivery': `tea-${++deliveries}`,
  'x-gitea-signature': hmac(GITEA, body),
})

let deliveries = 0
const github = (event: string, body: string): Headers => ({
  'content-type': 'application/json',
  'x-github-event': event,
  'x-github-delivery': `72d3162e-cc78-11e3-81ab-${++deliveries}`,
  'x-hub-signature-256': `sha256=${hmac(GITHUB, body)}`,
})
const gitlab = (): Headers => ({
  'content-type': 'application/json',
  'x-gitlab-event': 'System Hook',
  'x-gitlab-token': GITLAB,
  'idempotency-key': `key-${++deliveries}`,
})
const watcher = (body: string, at = new Date(), id = `msg_${++deliveries}`): Headers => ({
  'content-type': 'application/json',
  'webhook-id': id,
  'webhook-timestamp': String(Math.floor(at.getTime() / 1_000)),
  'webhook-signature': new Webhook(WATCHER).sign(id, at, body),
})

async function grant(repository: string): Promise<string> {
  const one = await engines.grant({ repository })
  await issueGrant(engines.act, one, 'test')
  return one.id
}
const ended = async (id: string) => (await findGrant(engines.sql, id))?.ended
const isLocked = async (principal: string) => (await findLock(engines.sql, principal))?.locked === true
const refusals = async () => (await engines.records('channel.refused')).map(({ channel, code }) => `${channel} ${code}`)

describe('GitHub', () => {
  test('says that a member was removed: they are locked out, and the record says by whom', async () => {
    const body = JSON.stringify(fromGithub.memberRemoved.body)
    expect(await post('github', body, github('organization', body))).toBe(204)
    expect(await isLocked('hacktocat@acme.example')).toBe(true)
    expect(await engines.records('principal.locked')).toMatchObject([
      { by: 'hook:github', principal: 'hacktocat@acme.example', reason: 'hacktocat left octocoders, says github' },
    ])
  })

  test('says that a member left another organization, and nobody is locked', async () => {
    const body = JSON.stringify({ ...fromGithub.memberRemoved.body, organization: { login: 'elsewhere' } })
    expect(await post('github', body, github('organization', body))).toBe(204)
    expect(await isLocked('hacktocat@acme.example')).toBe(false)
  })

  test.each([
    ['deleted', 'acme/octocoders/hello-world', fromGithub.repositoryDeleted],
    ['renamed', 'acme/Octocoders/Hello-World', fromGithub.repositoryRenamed],
    ['transferred', 'acme/octocat/Hello-World', fromGithub.repositoryTransferred],
  ] as const)('says that a repository was %s: its windows end, and no other', async (_, repository, told) => {
    const own = await grant(repository)
    const other = await grant('acme/Octocoders/other')
    const wide = await grant('acme/**')
    const body = JSON.stringify(told.body)
    expect(await post('github', body, github('repository', body))).toBe(204)
    expect(await ended(own)).toMatchObject({ how: 'revoked', by: 'hook:github' })
    expect([await ended(other), await ended(wide)]).toEqual([undefined, undefined])
  })

  test('says that the organization has another name: every window below the old one ends, and no other', async () => {
    const below = [await grant('acme/octocoders/api'), await grant('acme/Octocoders/**')]
    const others = [await grant('acme/octocoders-2/api'), await grant('acme/**')]
    const body = JSON.stringify(fromGithub.organizationRenamed.body)
    expect(await post('github', body, github('organization', body))).toBe(204)
    for (const id of below)
      expect(await ended(id)).toMatchObject({ how: 'revoked', reason: 'Octocoders was renamed, says github' })
    for (const id of others) expect(await ended(id)).toBeUndefined()
  })

  test('says something once more, and an unlock in between stays', async () => {
    const body = JSON.stringify(fromGithub.memberRemoved.body)
    const headers = github('organization', body)
    expect(await post('github', body, headers)).toBe(204)
    await unlockPrincipal(engines.act, { principal: 'hacktocat@acme.example', by: 'root', reason: 'back' })
    expect(await post('github', body, headers)).toBe(204)
    expect(await isLocked('hacktocat@acme.example')).toBe(false)
  })

  test('is not who signs wrong, with SHA-1, not at all, or for the same JSON in other bytes', async () => {
    const body = JSON.stringify(fromGithub.memberRemoved.body)
    const good = github('organization', body)
    const { 'x-hub-signature-256': signature = '', ...unsigned } = good
    const sha1 = `sha1=${createHmac('sha1', GITHUB).update(body).digest('hex')}`
    for (const headers of [
      unsigned,
      { ...unsigned, 'x-hub-signature': sha1 },
      { ...good, 'x-hub-signature-256': sha1 },
      { ...good, 'x-hub-signature-256': signature.slice(7) },
      { ...good, 'x-hub-signature-256': `sha256=${'0'.repeat(64)}` },
    ]) {
      expect(await post('github', body, headers)).toBe(404)
    }
    expect(await post('github', JSON.stringify(JSON.parse(body), null, 1), good)).toBe(404)
    expect(await isLocked('hacktocat@acme.example')).toBe(false)
    expect(await refusals()).toEqual([
      'github unsigned',
      'github unsigned',
      ...Array.from({ length: 4 }, () => 'github signature'),
    ])
  })
})

describe('GitLab', () => {
  test('says that a member of the group was removed, and that projects moved', async () => {
    const [destroyed, renamed] = [await grant('forge/jsmith/underscore'), await grant('forge/jsmith/overscore')]
    for (const { body } of [fromGitlab.projectDestroyed, fromGitlab.projectRenamed, fromGitlab.removedFromGroup]) {
      expect(await post('gitlab', JSON.stringify(body), gitlab())).toBe(204)
    }
    expect(await ended(destroyed)).toMatchObject({ reason: 'jsmith/underscore was deleted, says gitlab' })
    expect(await ended(renamed)).toMatchObject({ reason: 'jsmith/overscore was renamed, says gitlab' })
    expect(await isLocked('johnsmith')).toBe(true)
  })

  test('is not who has no token or another one', async () => {
    const body = JSON.stringify(fromGitlab.removedFromGroup.body)
    const { 'x-gitlab-token': _, ...without } = gitlab()
    expect(await post('gitlab', body, without)).toBe(404)
    expect(await post('gitlab', body, { ...without, 'x-gitlab-token': `${GITLAB}x` })).toBe(404)
    expect(await isLocked('johnsmith')).toBe(false)
    expect(await refusals()).toEqual(['gitlab unsigned', 'gitlab signature'])
  })
})

describe.each([
  ['Bitbucket Cloud', 'bitbucket', fromBitbucket.repositoryRenamed, 'bucket/teamawesome/repository_name', 'renamed'],
  ['Bitbucket Cloud', 'bitbucket', fromBitbucket.repositoryDeleted, 'bucket/team_name/repo_name', 'deleted'],
  [
    'Bitbucket Data Center',
    'bitbucket',
    fromBitbucket.serverRepositoryModified,
    'bucket/project_1/repository',
    'renamed',
  ],
  ['Bitbucket Data Center', 'bitbucket', fromBitbucket.serverProjectModified, 'bucket/project_1/api', 'renamed'],
  ['Gitea', 'gitea', fromGitea.repositoryDeleted, 'tea/gitea/webhooks', 'deleted'],
] as const)('%s (%s) says %#', (_, hook, { event, body: payload }, repository, what) => {
  const sign = { bitbucket, gitea }[hook]
  const body = JSON.stringify(payload)

  test('the windows of the name that is no more end, and no other, however often it says so', async () => {
    const own = await grant(repository)
    const other = await grant(repository.replace(/^(\w+)\//, '$1/other-'))
    const headers = sign(event, body)
    expect(await post(hook, body, headers)).toBe(204)
    expect(await ended(own)).toMatchObject({ how: 'revoked', by: `hook:${hook}` })
    expect((await ended(own))?.reason).toMatch(new RegExp(`was ${what}, says ${hook}$`))
    expect(await ended(other)).toBeUndefined()
    const again = await grant(repository)
    expect(await post(hook, body, headers)).toBe(204)
    expect(await ended(again)).toBeUndefined()
  })

  test('nothing ends where the signature is wrong, missing or of other bytes', async () => {
    const own = await grant(repository)
    const good = sign(event, body)
    const proof = hook === 'gitea' ? 'x-gitea-signature' : 'x-hub-signature'
    const { [proof]: signature = '', ...unsigned } = good
    expect(await post(hook, body, unsigned)).toBe(404)
    expect(
      await post(hook, body, { ...good, [proof]: signature.replace(/.$/, end => (end === '0' ? '1' : '0')) }),
    ).toBe(404)
    expect(await post(hook, JSON.stringify(payload, null, 1), good)).toBe(404)
    expect(await ended(own)).toBeUndefined()
    expect(await refusals()).toEqual([`${hook} unsigned`, `${hook} signature`, `${hook} signature`])
  })
})

describe('a watcher', () => {
  test('ends access by person, by repository and by key, at once', async () => {
    const wide = await grant('acme/prod-*')
    const other = await grant('acme/docs')
    const fingerprint = `SHA256:${'a'.repeat(43)}`
    const key = { fingerprint, principal: 'alice', algorithm: 'ssh-ed25519', publicKey: 'AAAA', title: 'laptop' }
    await registerKey(engines.act, { ...key, expires: new Date(Date.now() + HOUR) }, 'alice')
    const body = JSON.stringify({ principal: 'alice', repository: 'acme/prod-1', key: fingerprint, reason: 'malware' })
    expect(await post('siem', body, watcher(body))).toBe(204)
    expect(await isLocked('alice')).toBe(true)
    expect(await ended(wide)).toMatchObject({ how: 'revoked', by: 'hook:siem', reason: 'malware' })
    expect(await ended(other)).toBeUndefined()
    expect(await engines.records('key.revoked')).toMatchObject([{ by: 'hook:siem', fingerprint }])
  })

  test('locks a network out, which is on record and on the list of locks', async () => {
    const body = JSON.stringify({ network: '203.0.113.0/24', reason: 'an infected office' })
    expect(await post('siem', body, watcher(body))).toBe(204)
    expect(await isLocked('network:203.0.113.0/24')).toBe(true)
    expect(await engines.records('principal.locked')).toMatchObject([
      { by: 'hook:siem', principal: 'network:203.0.113.0/24', reason: 'an infected office' },
    ])
  })

  test('is not who signs wrong, long ago, for another id or other bytes', async () => {
    const body = JSON.stringify({ principal: 'alice', reason: 'malware' })
    const good = watcher(body)
    for (const [sent, headers] of [
      [body, { 'content-type': 'application/json' }],
      [body, { ...good, 'webhook-id': 'msg_other' }],
      [body, watcher(body, new Date(Date.now() - 6 * 60_000))],
      [body, watcher(body, new Date(Date.now() + 6 * 60_000))],
      [`${body} `, good],
    ] as const) {
      expect(await post('siem', sent, headers)).toBe(404)
    }
    expect(await isLocked('alice')).toBe(false)
    expect(await refusals()).toEqual(['siem unsigned', ...Array.from({ length: 4 }, () => 'siem signature')])
  })

  test('who signs what is not understood changes nothing', async () => {
    const odd = [
      {},
      { reason: 'x' },
      { principal: 'drawbridge', reason: 'x' },
      { principal: 'a\nb', reason: 'x' },
      { principal: 'alice' },
      { principal: 'alice', reason: 'x', grant: 'everything' },
      { repository: '../x', reason: 'x' },
      { network: 'office', reason: 'x' },
      // Everybody, by a slip or not.
      { network: '0.0.0.0/0', reason: 'x' },
      { network: '::/0', reason: 'x' },
      { principal: 'network:0.0.0.0/0', reason: 'x' },
    ]
    for (const one of odd) {
      const body = JSON.stringify(one)
      expect(await post('siem', body, watcher(body))).toBe(404)
    }
    expect(new Set(await refusals())).toEqual(new Set(['siem malformed']))
    expect(await isLocked('alice')).toBe(false)
  })
})

test('no payload, signed and of any form, opens anything', async () => {
  await fc.assert(
    fc.asyncProperty(fc.jsonValue(), fc.constantFrom('organization', 'repository', 'push'), async (value, event) => {
      const body = JSON.stringify(value)
      expect([204, 404]).toContain(await post('github', body, github(event, body)))
      expect([204, 404]).toContain(await post('gitlab', body, gitlab()))
      expect([204, 404]).toContain(await post('siem', body, watcher(body)))
    }),
    { numRuns: 15 },
  )
  expect(await engines.sql`select from control.grant`).toHaveLength(0)
  expect(await engines.sql`select from control.request`).toHaveLength(0)
})

test('a hook nobody set up looks like one that does not believe', async () => {
  expect(await post('nowhere', '{}', { 'content-type': 'application/json' })).toBe(404)
  expect(await post('github', '', { 'content-type': 'application/json' })).toBe(404)
  expect(await refusals()).toEqual(['github unsigned'])
})

test('more than a megabyte is answered like nothing at all, however well signed, and is on record', async () => {
  const body = JSON.stringify({ ...fromGithub.memberRemoved.body, more: 'x'.repeat(1 << 20) })
  expect(await post('github', body, github('organization', body))).toBe(404)
  expect(await post('nowhere', body, github('organization', body))).toBe(404)
  expect(await refusals()).toEqual(['github too-large'])
  expect(await isLocked('hacktocat@acme.example')).toBe(false)
})
