import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import fastify, { type FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { hookRoutes } from '../../../admin/hooks/routes.ts'
import { createRefuse } from '../../../admin/notify/refusals.ts'
import type { Standing } from '../../../admin/policy.ts'
import { listGrants } from '../../../admin/register/grants.ts'
import { lockPrincipal } from '../../../admin/register/locks.ts'
import type { HookSettings } from '../../../config/hooks.ts'
import { loadPolicy } from '../../../config/policy/load.ts'
import { type Engines, startEngines } from '../control.ts'
import { BITBUCKET, BITBUCKET_SERVER, FORGEJO, GITEA, GITHUB, GITLAB, type Told } from './happenings.ts'

const SECRET = 'a secret all of them share'
const MINUTE = 60_000
type Host = 'github' | 'gitlab' | 'bitbucket' | 'gitea'
const HOSTS = {
  github: { upstream: 'acme', actors: new Map([['21031067', 'mona']]) },
  gitlab: { upstream: 'forge', actors: new Map([['1', 'mona']]) },
  bitbucket: {
    upstream: 'bucket',
    actors: new Map([
      ['{a54f16da-24e9-4d7f-a3a7-b1ba2cd98aa3}', 'mona'],
      ['2', 'mona'],
    ]),
  },
  gitea: { upstream: 'tea', actors: new Map([['1', 'mona']]) },
} as const
const hookOf = (host: Host): HookSettings =>
  host === 'github' || host === 'gitlab'
    ? { type: host, name: host, secret: SECRET, principal: '{login}', ...HOSTS[host] }
    : { type: host, name: host, secret: SECRET, ...HOSTS[host] }
let hooks: HookSettings[] = []

const MERGED = `
requests:
  - { name: merged, trigger: pull request merged into master, opens: [clone, push], automatic: true, window: 30m }
  - { name: everybody, trigger: everything, approvers: leads }`

let standing: Standing = { kind: 'none' }
const rules = (text: string) => {
  standing = { kind: 'policy', policy: loadPolicy([{ file: 'policy.yaml', text: `version: 1\n${text}` }]) }
}

let engines: Engines
let app: FastifyInstance
let base: string
let now = 0
beforeAll(async () => {
  engines = await startEngines()
  app = fastify()
  const { sql, act } = engines
  const refuse = createRefuse({ act, log: pino({ level: 'silent' }) })
  hookRoutes(app, { sql, act, refuse, hooks: () => hooks, standing: () => standing, now: async () => now })
  base = await app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  await app?.close()
  await engines?.stop()
})
afterEach(async () => {
  await engines.reset()
  await engines.sql`delete from control.link_used`
  await engines.sql`delete from control.run`
  hooks = (['github', 'gitlab', 'bitbucket', 'gitea'] as const).map(hookOf)
})
hooks = (['github', 'gitlab', 'bitbucket', 'gitea'] as const).map(hookOf)

let deliveries = 0
function headersOf(host: Host, event: string, body: string, secret: string): Record<string, string> {
  const id = `delivery-${++deliveries}`
  const proof = createHmac('sha256', secret).update(body).digest('hex')
  const by = {
    github: { 'x-github-event': event, 'x-github-delivery': id, 'x-hub-signature-256': `sha256=${proof}` },
    gitlab: { 'x-gitlab-event': event, 'idempotency-key': id, 'x-gitlab-token': secret },
    bitbucket: { 'x-event-key': event, 'x-request-uuid': id, 'x-hub-signature': `sha256=${proof}` },
    gitea: { 'x-gitea-event': event, 'x-gitea-delivery': id, 'x-gitea-signature': proof },
  }[host]
  return { 'content-type': 'application/json', ...by }
}

async function tell(host: Host, { event, body }: Told, secret = SECRET): Promise<number> {
  const text = JSON.stringify(body)
  const headers = headersOf(host, event, text, secret)
  const response = await fetch(`${base}/hooks/${host}`, { method: 'POST', headers, body: text })
  expect(await response.text()).toBe('')
  return response.status
}

const open = async () => (await listGrants(engines.sql, { limit: 50 })).filter(({ ended }) => ended === undefined)
const reasons = async () => (await engines.records('trigger.refused')).map(({ reason }) => reason)

/** The same message with something else in one place. */
function changed(told: Told, path: readonly string[], value: unknown): Told {
  const body = structuredClone(told.body) as Record<string, unknown>
  const last = path.slice(0, -1).reduce((part, key) => part[key] as Record<string, unknown>, body)
  last[path.at(-1) ?? ''] = value
  return { ...told, body }
}

const STORIES = [
  ['GitHub', 'github', '2019-05-15T15:21:00Z', 'acme/Codertocat/Hello-World', GITHUB.merged, GITHUB.over],
  ['GitLab', 'gitlab', '2016-08-12T15:27:00Z', 'forge/gitlab-org/gitlab-test', GITLAB.merged, GITLAB.over],
  ['Bitbucket', 'bitbucket', '2015-11-19T20:38:00Z', 'bucket/team_name/repo_name', BITBUCKET.merged, BITBUCKET.over],
  ['Gitea', 'gitea', '2017-03-13T17:53:00Z', 'tea/gitea/webhooks', GITEA.merged, GITEA.over],
  ['Forgejo', 'gitea', '2017-03-13T17:53:00Z', 'tea/gitea/webhooks', GITEA.merged, FORGEJO.over],
] as const

describe.each(STORIES)('%s', (_, host, at, repository, merged, over) => {
  test('a merge opens its window for who merged, and the end of its pipeline ends it, with nobody doing anything', async () => {
    now = Date.parse(at)
    rules(MERGED)
    expect(await tell(host, merged)).toBe(204)
    expect(await open()).toMatchObject([
      { principal: 'mona', repository, refs: ['refs/heads/master'], starts: now, expires: now + 30 * MINUTE },
    ])
    const [fired] = await engines.records('trigger.fired')
    const delivery = `hook:${host}:delivery-${deliveries}`
    expect(fired).toMatchObject({
      by: `hook:${host}`,
      event: 'merge',
      repository,
      principal: 'mona',
      rule: 'merged',
      delivery,
    })
    expect(fired?.request).toMatch(/^r-/)

    now += MINUTE
    expect(await tell(host, over)).toBe(204)
    expect(await open()).toEqual([])
    const [ended] = await engines.records('grant.ended')
    expect(ended).toMatchObject({
      how: 'revoked',
      by: `hook:${host}`,
      reason: expect.stringMatching(/^pipeline .*is over/),
    })
    expect(await engines.records('trigger.ended')).toMatchObject([{ event: 'pipeline', principal: 'mona' }])
  })

  test('said again, under other numbers and after it was over, it opens nothing more', async () => {
    now = Date.parse(at)
    rules(MERGED)
    for (let i = 0; i < 3; i++) expect(await tell(host, merged)).toBe(204)
    expect(await open()).toHaveLength(1)
    await tell(host, over)
    for (let i = 0; i < 3; i++) expect(await tell(host, merged)).toBe(204)
    expect(await open()).toEqual([])
    expect(await engines.records('trigger.fired')).toHaveLength(1)
  })

  test('the end that overtakes the merge leaves nothing to open', async () => {
    now = Date.parse(at)
    rules(MERGED)
    await tell(host, over)
    await tell(host, merged)
    expect(await open()).toEqual([])
    expect(await reasons()).toEqual(['the pipeline of its commit is over'])
  })

  test('not signed by the host, of an account nobody named, or old, it opens nothing and is on record', async () => {
    now = Date.parse(at)
    rules(MERGED)
    expect(await tell(host, merged, 'another secret than theirs')).toBe(404)
    expect(await engines.records('channel.refused')).toMatchObject([{ channel: host, code: 'signature' }])

    // The login is that of somebody whose principal it is: logins are given to others.
    hooks = [{ ...hookOf(host), actors: new Map([['mona', 'mona']]) } as HookSettings]
    await tell(host, merged)
    await tell(host, merged)
    await engines.sql`delete from control.run`
    hooks = [hookOf(host)]
    now += 120 * MINUTE
    await tell(host, merged)
    expect(await open()).toEqual([])
    expect(await reasons()).toEqual([
      expect.stringMatching(/has no principal for .* add .* to its actors/),
      expect.stringContaining('which is long ago'),
    ])
  })
})

test('Bitbucket Data Center: a merge opens its window', async () => {
  now = Date.parse('2017-09-19T00:40:00Z')
  rules(MERGED)
  await tell('bitbucket', BITBUCKET_SERVER.merged)
  expect(await open()).toMatchObject([{ principal: 'mona', repository: 'bucket/PROJECT_1/repository' }])
})

describe.each([
  ['a pipeline of GitHub', 'github', '2019-05-15T15:21:00Z', 'pipeline Octo on master', [GITHUB.began], GITHUB.over],
  [
    'a job of GitHub',
    'github',
    '2019-05-15T15:21:00Z',
    'job deploy on master',
    [GITHUB.began, GITHUB.job],
    GITHUB.jobOver,
  ],
  [
    'a job of GitHub, by the end of its pipeline',
    'github',
    '2019-05-15T15:21:00Z',
    'job',
    [GITHUB.began, GITHUB.job],
    GITHUB.over,
  ],
  [
    'a deployment of GitHub',
    'github',
    '2019-05-15T15:21:00Z',
    'deployment to production on master',
    [GITHUB.deployment],
    GITHUB.deploymentOver,
  ],
  ['a pipeline of GitLab', 'gitlab', '2016-08-12T15:27:00Z', 'pipeline on master', [GITLAB.began], GITLAB.over],
  [
    'a job of GitLab',
    'gitlab',
    '2016-08-12T15:27:00Z',
    'job deploy on master',
    [GITLAB.began, GITLAB.job],
    GITLAB.jobOver,
  ],
  [
    'a deployment of GitLab',
    'gitlab',
    '2016-08-12T15:27:00Z',
    'deployment to production',
    [GITLAB.deployment],
    GITLAB.deploymentOver,
  ],
  [
    'a pipeline of Bitbucket',
    'bitbucket',
    '2015-11-19T20:38:00Z',
    'pipeline Unit Tests (Python) on master',
    [BITBUCKET.began],
    BITBUCKET.over,
  ],
  ['a pipeline of Gitea', 'gitea', '2017-03-13T17:53:00Z', 'pipeline deploy on master', [GITEA.began], GITEA.over],
] as const)('%s', (_, host, at, waited, began, over) => {
  const rule = (more: string) =>
    rules(`requests: [{ name: runs, trigger: "${waited}", opens: clone, refs: master, ${more} }]`)

  test('opens a window when it starts, or only asks where people approve, and its end ends either', async () => {
    now = Date.parse(at)
    rule('automatic: true')
    for (const told of began) await tell(host, told)
    expect(await open()).toMatchObject([{ principal: 'mona', actions: ['fetch', 'lfs-download'], refs: ['master'] }])
    await tell(host, over)
    expect(await open()).toEqual([])

    await engines.sql`delete from control.run`
    rule('approvers: leads, timeout: 2 hours')
    const states = async () => (await engines.sql`select state from control.request order by id`).map(row => row.state)
    for (const told of began) await tell(host, told)
    expect(await states()).toEqual(['approved', 'requested'])
    await tell(host, over)
    expect(await states()).toEqual(['approved', 'withdrawn'])
    expect(await open()).toEqual([])
  })
})

describe('what a rule and the settings say', () => {
  const GITHUB_NOW = Date.parse('2019-05-15T15:21:00Z')

  test('of another branch, another repository or another person is nothing opened', async () => {
    now = GITHUB_NOW
    for (const rule of [
      'trigger: pull request merged into main, opens: clone, automatic: true',
      'trigger: pull request merged into master, opens: clone, repositories: acme/other/*, automatic: true',
      'trigger: pull request merged into master, opens: clone, who: [raj@acme.example], automatic: true',
      'trigger: push, automatic: true',
    ]) {
      rules(`requests: [{ ${rule} }]`)
      await tell('github', GITHUB.merged)
      await engines.sql`delete from control.run`
    }
    expect(await open()).toEqual([])
    expect(await reasons()).toEqual(['no rule that waits for this names mona'])
  })

  test('a class that wants people is not opened without them', async () => {
    now = GITHUB_NOW
    rules(`classes: { critical: { automatic: false } }
repositories: [{ match: acme/**, class: critical }]${MERGED}`)
    await tell('github', GITHUB.merged)
    expect(await open()).toEqual([])
    expect(await reasons()).toEqual([expect.stringContaining('never opened without people')])
  })

  test('somebody who is locked out gets nothing by way of a host', async () => {
    now = GITHUB_NOW
    rules(MERGED)
    await lockPrincipal(engines.act, { principal: 'mona', by: 'root', reason: 'left' })
    await tell('github', GITHUB.merged)
    expect(await open()).toEqual([])
    expect(await reasons()).toEqual(['mona is locked'])
  })

  test('the pipeline named by until is the one that ends it', async () => {
    now = GITHUB_NOW
    rules('requests: [{ trigger: merge into master, opens: push, until: Release, automatic: true }]')
    await tell('github', GITHUB.merged)
    await tell('github', GITHUB.over)
    expect(await open()).toHaveLength(1)
    const release = changed(changed(GITHUB.over, ['workflow_run', 'name'], 'Release'), ['workflow_run', 'id'], 4)
    await tell('github', release)
    expect(await open()).toEqual([])
  })

  test('code of a fork or a pull request runs under the name of any branch, and opens nothing', async () => {
    now = GITHUB_NOW
    rules('requests: [{ trigger: [pipeline on master, job on master], opens: push, automatic: true }]')
    const fork = { full_name: 'stranger/Hello-World' }
    for (const [path, value] of [
      [['workflow_run', 'head_repository'], fork],
      [['workflow_run', 'event'], 'pull_request_target'],
      [['workflow_run', 'event'], 'workflow_run'],
    ] as const) {
      await tell('github', changed(GITHUB.began, path, value))
    }
    await tell('github', GITHUB.job)
    expect(await open()).toEqual([])
    expect(await reasons()).toEqual(['its pipeline is not known to run what is in the repository itself'])
    await tell('gitlab', changed(GITLAB.began, ['object_attributes', 'source'], 'merge_request_event'))
    expect(await open()).toEqual([])
  })

  test('a repository or branch with a star in its name is nobody and opens no pattern', async () => {
    now = GITHUB_NOW
    rules(MERGED.replace('into master', 'into **'))
    await tell('github', changed(GITHUB.merged, ['repository', 'full_name'], '**/*'))
    await tell('github', changed(GITHUB.merged, ['pull_request', 'base', 'ref'], '**'))
    expect(await open()).toEqual([])
  })

  test('a request that the person made alone is not taken over, and not taken back', async () => {
    now = GITHUB_NOW
    rules('requests: [{ trigger: merge into master, opens: clone, approvers: leads }]')
    await tell('github', GITHUB.merged)
    await tell('github', changed(GITHUB.merged, ['pull_request', 'id'], 5))
    expect(await engines.sql`select state from control.request`).toEqual([{ state: 'requested' }])
    expect(await reasons()).toEqual([expect.stringMatching(/^mona asked for the same already, in r-/)])
  })
})

test('whatever is sent without the secret, and whatever a secret signs that is no merge, opens nothing', async () => {
  now = Date.parse('2019-05-15T15:21:00Z')
  rules(
    'requests: [{ trigger: [merge into **, pipeline, job, deployment], opens: everything, refs: "**", automatic: true }]',
  )
  const real = STORIES.map(([, host, , , merged]) => [host, merged] as const)
  const mangled = fc.constantFrom(...real).chain(([host, told]) =>
    fc.tuple(fc.constantFrom(...Object.keys(told.body)), fc.jsonValue()).map(([key, value]) => {
      return { host, told: changed(told, [key], value), signed: key === 'repository' || key === 'pull_request' }
    }),
  )
  await fc.assert(
    fc.asyncProperty(mangled, async ({ host, told, signed }) => {
      expect([204, 404]).toContain(await tell(host, told, signed ? SECRET : 'x'.repeat(20)))
    }),
    { numRuns: 40 },
  )
  expect(await open()).toEqual([])
  expect(await engines.sql`select from control.request`).toHaveLength(0)
})
