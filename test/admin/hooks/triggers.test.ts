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
import * as bitbucket from './payloads/bitbucket.ts'
import * as gitea from './payloads/gitea.ts'
import * as github from './payloads/github.ts'
import * as gitlab from './payloads/gitlab.ts'
import { about, changed, type Told } from './payloads/told.ts'
import { type Host, headersOf } from './signing.ts'

const SECRET = 'a secret all of them share'
const MINUTE = 60_000
const HOSTS = {
  github: {
    upstream: 'acme',
    actors: new Map([
      ['21031067', 'mona'],
      ['15669918', 'mona'],
    ]),
  },
  gitlab: {
    upstream: 'forge',
    actors: new Map([
      ['1', 'mona'],
      ['3', 'mona'],
    ]),
  },
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
async function tell(host: Host, { event, body }: Told, secret = SECRET): Promise<number> {
  const text = JSON.stringify(body)
  const headers = headersOf(host, { event, body: text, id: `delivery-${++deliveries}` }, secret)
  const response = await fetch(`${base}/hooks/${host}`, { method: 'POST', headers, body: text })
  expect(await response.text()).toBe('')
  return response.status
}

const open = async () => (await listGrants(engines.sql, { limit: 50 })).filter(({ ended }) => ended === undefined)
const reasons = async () => (await engines.records('trigger.refused')).map(({ reason }) => reason)

/** Of one commit, told a minute ago: what belongs together, out of pages that tell no story. */
const COMMIT = '9fec847784abb10b2fa567ee63b85bd238955d0e'
const AT = '2026-03-02T10:00:00Z'
const NOW = Date.parse(AT) + MINUTE
const together = (told: Told): Told => about(told, { repository: 'acme/api', commit: COMMIT, at: AT })

const GITHUB = { merged: together(github.merged), began: together(github.began), over: together(github.over) }
const GITLAB = { merged: together(gitlab.merged), over: together(gitlab.over) }
const BITBUCKET = { merged: together(bitbucket.merged), over: together(bitbucket.over) }
const GITEA = { merged: together(gitea.merged), over: together(gitea.over) }
const STORIES = [
  ['GitHub', 'github', 'acme/acme/api', GITHUB],
  ['GitLab', 'gitlab', 'forge/acme/api', GITLAB],
  ['Bitbucket', 'bitbucket', 'bucket/acme/api', BITBUCKET],
  ['Gitea', 'gitea', 'tea/acme/api', GITEA],
  ['Forgejo', 'gitea', 'tea/acme/api', { ...GITEA, over: together(gitea.forgejoOver) }],
] as const

describe.each(STORIES)('%s', (_, host, repository, { merged, over }) => {
  test('a merge opens its window for who merged, and the end of its pipeline ends it, with nobody doing anything', async () => {
    now = NOW
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
      commit: expect.stringMatching(COMMIT.slice(0, 12)),
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
    now = NOW
    rules(MERGED)
    for (let i = 0; i < 3; i++) expect(await tell(host, merged)).toBe(204)
    expect(await open()).toHaveLength(1)
    await tell(host, over)
    for (let i = 0; i < 3; i++) expect(await tell(host, merged)).toBe(204)
    expect(await open()).toEqual([])
    expect(await engines.records('trigger.fired')).toHaveLength(1)
  })

  test('the end that overtakes the merge leaves nothing to open', async () => {
    now = NOW
    rules(MERGED)
    await tell(host, over)
    await tell(host, merged)
    expect(await open()).toEqual([])
    expect(await reasons()).toEqual(['the pipeline of its commit is over'])
  })

  test('not signed by the host, of an account nobody named, or old, it opens nothing and is on record', async () => {
    now = NOW
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
  now = NOW
  rules(MERGED)
  await tell('bitbucket', together(bitbucket.serverMerged))
  expect(await open()).toMatchObject([{ principal: 'mona', repository: 'bucket/PROJECT_1/repository' }])
})

/** The pipelines that the pages' jobs are of, which are other examples. */
const githubPipeline = (told: Told) =>
  changed(changed(told, 'workflow_run.id', 2202229078), 'workflow_run.head_branch', 'main')
const gitlabPipeline = changed(gitlab.began, 'object_attributes.id', 2366)
const githubJob = [githubPipeline(github.began), github.jobBegan]

describe.each([
  ['a pipeline of GitHub', 'github', 'pipeline test on master', [github.began], github.over],
  ['a job of GitHub', 'github', 'job Analyze (javascript) on main', githubJob, github.jobOver],
  ['a job of GitHub, by the end of its pipeline', 'github', 'job', githubJob, githubPipeline(github.over)],
  [
    'a deployment of GitHub',
    'github',
    'deployment to production on master',
    [github.deploymentBegan],
    github.deploymentOver,
  ],
  ['a pipeline of GitLab', 'gitlab', 'pipeline on master', [gitlab.began], gitlab.over],
  ['a job of GitLab', 'gitlab', 'job test on gitlab-script-trigger', [gitlabPipeline, gitlab.jobBegan], gitlab.jobOver],
  ['a deployment of GitLab', 'gitlab', 'deployment to staging', [gitlab.deploymentBegan], gitlab.deploymentOver],
  ['a pipeline of Bitbucket', 'bitbucket', 'pipeline Unit Tests (Python)', [bitbucket.began], bitbucket.over],
  ['a pipeline of Gitea', 'gitea', 'pipeline deploy on master', [gitea.waiting, gitea.began], gitea.over],
  ['a job of Gitea', 'gitea', 'job deploy on master', [gitea.began, gitea.jobBegan], gitea.jobOver],
] as const)('%s', (_, host, waited, began, over) => {
  const [begun, ended] = [began.map(together), together(over)]
  const rule = (more: string) =>
    rules(`requests: [{ name: runs, trigger: "${waited}", opens: clone, refs: master, ${more} }]`)

  test('opens a window when it starts, or only asks where people approve, and its end ends either', async () => {
    now = NOW
    rule('automatic: true')
    for (const told of begun) await tell(host, told)
    expect(await open()).toMatchObject([{ principal: 'mona', actions: ['fetch', 'lfs-download'], refs: ['master'] }])
    await tell(host, ended)
    expect(await open()).toEqual([])

    await engines.sql`delete from control.run`
    rule('approvers: leads, timeout: 2 hours')
    const states = async () => (await engines.sql`select state from control.request order by id`).map(row => row.state)
    for (const told of begun) await tell(host, told)
    expect(await states()).toEqual(['approved', 'requested'])
    await tell(host, ended)
    expect(await states()).toEqual(['approved', 'withdrawn'])
    expect(await open()).toEqual([])
  })
})

describe('what a rule and the settings say', () => {
  test('of another branch, another repository or another person is nothing opened', async () => {
    now = NOW
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
    now = NOW
    rules(`classes: { critical: { automatic: false } }
repositories: [{ match: acme/**, class: critical }]${MERGED}`)
    await tell('github', GITHUB.merged)
    expect(await open()).toEqual([])
    expect(await reasons()).toEqual([expect.stringContaining('never opened without people')])
  })

  test('somebody who is locked out gets nothing by way of a host', async () => {
    now = NOW
    rules(MERGED)
    await lockPrincipal(engines.act, { principal: 'mona', by: 'root', reason: 'left' })
    await tell('github', GITHUB.merged)
    expect(await open()).toEqual([])
    expect(await reasons()).toEqual(['mona is locked'])
  })

  test('the pipeline named by until is the one that ends it', async () => {
    now = NOW
    rules('requests: [{ trigger: merge into master, opens: push, until: Release, automatic: true }]')
    await tell('github', GITHUB.merged)
    await tell('github', GITHUB.over)
    expect(await open()).toHaveLength(1)
    const release = changed(changed(GITHUB.over, 'workflow_run.name', 'Release'), 'workflow_run.id', 4)
    await tell('github', release)
    expect(await open()).toEqual([])
  })

  test('code of a fork or a pull request runs under the name of any branch, and opens nothing', async () => {
    now = NOW
    rules('requests: [{ trigger: [pipeline on master, job on master], opens: push, automatic: true }]')
    const fork = { full_name: 'stranger/Hello-World' }
    for (const [path, value] of [
      ['workflow_run.head_repository', fork],
      ['workflow_run.event', 'pull_request_target'],
      ['workflow_run.event', 'workflow_run'],
    ] as const) {
      await tell('github', changed(GITHUB.began, path, value))
    }
    await tell('github', changed(together(github.jobBegan), 'workflow_job.head_branch', 'master'))
    expect(await open()).toEqual([])
    expect(await reasons()).toEqual(['its pipeline is not known to run what is in the repository itself'])
    await tell('gitlab', changed(together(gitlab.began), 'object_attributes.source', 'merge_request_event'))
    expect(await open()).toEqual([])
  })

  test('a repository or branch with a star in its name is nobody and opens no pattern', async () => {
    now = NOW
    rules(MERGED.replace('into master', 'into **'))
    await tell('github', changed(GITHUB.merged, 'repository.full_name', '**/*'))
    await tell('github', changed(GITHUB.merged, 'pull_request.base.ref', '**'))
    expect(await open()).toEqual([])
  })

  test('a request that the person made alone is not taken over, and not taken back', async () => {
    now = NOW
    rules('requests: [{ trigger: merge into master, opens: clone, approvers: leads }]')
    await tell('github', GITHUB.merged)
    await tell('github', changed(GITHUB.merged, 'pull_request.id', 5))
    expect(await engines.sql`select state from control.request`).toEqual([{ state: 'requested' }])
    expect(await reasons()).toEqual([expect.stringMatching(/^mona asked for the same already, in r-/)])
  })
})

describe('a fuzzed payload', () => {
  const EVERYTHING =
    'requests: [{ trigger: [merge into master, pipeline, job, deployment], opens: everything, refs: master, automatic: true }]'
  const told = Object.entries({ github, gitlab, bitbucket, gitea }).flatMap(([host, all]) =>
    Object.values(all).map(one => ({ host: host as Host, told: together(one) })),
  )

  test('in other bytes than were signed, or with another secret, opens nothing and is answered like nothing at all', async () => {
    now = NOW
    rules(EVERYTHING)
    // GitLab signs no bytes: its proof is the secret itself.
    const forged = fc.record({
      one: fc.constantFrom(...told),
      at: fc.nat(),
      byte: fc.integer({ min: 1, max: 255 }),
      proof: fc.constantFrom('of other bytes', 'of another secret', 'none'),
    })
    await fc.assert(
      fc.asyncProperty(forged, async ({ one: { host, told }, at, byte, proof }) => {
        const body = Buffer.from(JSON.stringify(told.body))
        const other = proof === 'of another secret' || (proof === 'of other bytes' && host === 'gitlab')
        const id = `delivery-${++deliveries}`
        const secret = other ? `${SECRET}.` : SECRET
        const all = Object.entries(headersOf(host, { event: told.event, body: body.toString(), id }, secret))
        const headers = all.filter(([name]) => proof !== 'none' || !/signature|token/.test(name))
        if (proof === 'of other bytes') body[at % body.length]! ^= byte
        const response = await fetch(`${base}/hooks/${host}`, { method: 'POST', headers, body })
        expect([response.status, await response.text()]).toEqual([404, ''])
      }),
      { numRuns: 60 },
    )
    expect(await engines.sql`select from control.request`).toHaveLength(0)
    expect(await engines.sql`select from control.run`).toHaveLength(0)
  })

  test('of any form, signed, under the name of any event, opens nothing', async () => {
    now = NOW
    rules(EVERYTHING)
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...told), fc.jsonValue(), async ({ host, told }, body) => {
        expect(await tell(host, { ...told, body: body as object })).toBe(204)
      }),
      { numRuns: 60 },
    )
    expect(await engines.sql`select from control.request`).toHaveLength(0)
  })

  test('with anything in one place, signed, opens no more than the rule says, for nobody else and nowhere else', async () => {
    now = NOW
    rules(EVERYTHING.replace('refs:', 'repositories: "*/acme/api", refs:'))
    const mangled = fc
      .constantFrom(...told)
      .chain(({ host, told }) =>
        fc
          .tuple(
            fc.constantFrom(...pathsOf(told.body)),
            fc.oneof(fc.jsonValue(), fc.constantFrom('**', 'acme/*', -1, '')),
          )
          .map(([path, value]) => ({ host, told: changed(told, path, value) })),
      )
    await fc.assert(
      fc.asyncProperty(mangled, async ({ host, told }) => {
        expect(await tell(host, told)).toBe(204)
      }),
      { numRuns: 80 },
    )
    const repositories = Object.values(HOSTS).map(({ upstream }) => `${upstream}/acme/api`)
    const opened = await listGrants(engines.sql, { limit: 500 })
    expect(opened.length).toBeGreaterThan(0)
    for (const { principal, repository, refs } of opened) {
      expect([principal, refs]).toEqual(['mona', ['master']])
      expect(repositories).toContain(repository)
    }
  })
})

/** Every place in a body: `pull_request`, `pull_request.id`, `pull_request.base` … */
function pathsOf(body: object, above = ''): string[] {
  return Object.entries(body).flatMap(([name, value]) => {
    const path = `${above}${name}`
    return typeof value === 'object' && value !== null ? [path, ...pathsOf(value, `${path}.`)] : [path]
  })
}
