import { describe, expect, test } from 'vitest'
import { fromBitbucket } from '../../../admin/hooks/bitbucket.ts'
import { fromGitea } from '../../../admin/hooks/gitea.ts'
import { fromGithub } from '../../../admin/hooks/github.ts'
import { fromGitlab } from '../../../admin/hooks/gitlab.ts'
import type { Happening } from '../../../admin/hooks/happening.ts'
import type { Heard } from '../../../admin/hooks/heard.ts'
import * as bitbucket from './payloads/bitbucket.ts'
import * as gitea from './payloads/gitea.ts'
import * as github from './payloads/github.ts'
import * as gitlab from './payloads/gitlab.ts'
import { changed, type Told } from './payloads/told.ts'
import { type Host, headersOf } from './signing.ts'

const SECRET = 'a secret all of them share'
const own = { secret: SECRET, upstream: 'up', actors: new Map<string, string>() }
const members = { ...own, principal: '{login}@acme.example' }

function hear(host: Host, told: Told, organization?: string): Exclude<Heard, { refused: string }> {
  const raw = Buffer.from(JSON.stringify(told.body))
  const headers = headersOf(host, { event: told.event, body: raw.toString(), id: 'd-1' }, SECRET)
  const incoming = { raw, header: (name: string) => headers[name], address: '127.0.0.1' }
  const heard = {
    github: () => fromGithub({ ...members, type: 'github', name: host, organization }, incoming),
    gitlab: () => fromGitlab({ ...members, type: 'gitlab', name: host, organization }, incoming),
    bitbucket: () => fromBitbucket({ ...own, type: 'bitbucket', name: host }, incoming),
    gitea: () => fromGitea({ ...own, type: 'gitea', name: host }, incoming),
  }[host]()
  if ('refused' in heard) throw new Error(`not believed: ${heard.refused}`)
  expect(heard.id).toBe('d-1')
  return heard
}

type Meant = Omit<Happening, 'at' | 'phase'> & { readonly at: string }
type Row = readonly [Host, string, Told, Meant & Pick<Happening, 'phase'>]
const began = (host: Host, what: string, told: Told, meant: Meant): Row => [
  host,
  `${what} began`,
  told,
  { ...meant, phase: 'began' },
]
const over = (host: Host, what: string, told: Told, meant: Meant): Row => [
  host,
  `${what} is over`,
  told,
  { ...meant, phase: 'over' },
]
const both = (host: Host, what: string, [start, end]: readonly [Told, Told], meant: Meant): Row[] => [
  began(host, what, start, meant),
  over(host, what, end, meant),
]

const MASTER = 'refs/heads/master'
const CODERTOCAT = { id: '21031067', login: 'Codertocat' }
const ROOT = { id: '1', login: 'root' }
const EMMA = { id: '{a54f16da-24e9-4d7f-a3a7-b1ba2cd98aa3}', login: 'emmap1' }
const octocatJob = {
  run: 'job/289782451',
  repository: 'Codertocat/Hello-World',
  commit: '3484a3fb816e0859fd6e1cea078d76385ff50625',
  actor: CODERTOCAT,
  pipeline: 'pipeline/2202229078/1',
}
const giteaWebhooks = {
  repository: 'gitea/webhooks',
  commit: 'bffeb74224043ba2feb48d137756c8a9331c449a',
  actor: { id: '1', login: 'gitea' },
}

const HAPPENINGS: readonly Row[] = [
  began('github', 'merge', github.merged, {
    event: { kind: 'merge', ref: MASTER },
    run: 'merge/279147437',
    repository: 'Codertocat/Hello-World',
    commit: 'c4295bd74fb0f4fda03689c3df3f2803b658fd85',
    actor: CODERTOCAT,
    at: '2019-05-15T15:21:18Z',
  }),
  ...both('github', 'workflow run', [github.began, github.over], {
    event: { kind: 'pipeline', name: 'test', ref: MASTER },
    run: 'pipeline/289782451/1',
    repository: 'octo-org/octo-repo',
    commit: '3484a3fb816e0859fd6e1cea078d76385ff50625',
    actor: { id: '15669918', login: 'Codertocat' },
    at: '2020-10-05T16:33:49Z',
  }),
  began('github', 'job', github.jobBegan, {
    ...octocatJob,
    event: { kind: 'job', name: 'Analyze (javascript)', ref: 'refs/heads/main' },
    at: '2021-09-13T02:21:13Z',
  }),
  over('github', 'job', github.jobOver, {
    ...octocatJob,
    event: { kind: 'job', name: 'linters', ref: 'refs/heads/main' },
    at: '2021-08-05T10:34:58Z',
  }),
  ...both('github', 'deployment', [github.deploymentBegan, github.deploymentOver], {
    event: { kind: 'deployment', name: 'production', ref: MASTER },
    run: 'deployment/145988746',
    repository: 'Codertocat/Hello-World',
    commit: 'f95f852bd8fca8fcc58a9a2d6c842781e32a215e',
    actor: CODERTOCAT,
    at: '2019-05-15T15:20:53Z',
  }),
  began('gitlab', 'merge', gitlab.merged, {
    event: { kind: 'merge', ref: MASTER },
    run: 'merge/99',
    repository: 'gitlabhq/gitlab-test',
    commit: 'da1560886d4f094c3e6c9ef40349f7d38b5d27d7',
    actor: ROOT,
    at: '2013-12-03T17:23:34Z',
  }),
  ...both('gitlab', 'pipeline', [gitlab.began, gitlab.over], {
    event: { kind: 'pipeline', name: 'Pipeline for branch: master', ref: MASTER },
    run: 'pipeline/31',
    repository: 'gitlab-org/gitlab-test',
    commit: 'bcbb5ec396a2c0f828686f14fac9b80b780504f2',
    actor: ROOT,
    at: '2016-08-12T15:23:28Z',
  }),
  ...both('gitlab', 'job', [gitlab.jobBegan, gitlab.jobOver], {
    event: { kind: 'job', name: 'test', ref: 'refs/heads/gitlab-script-trigger' },
    run: 'job/1977',
    repository: 'gitlab-org/gitlab-test',
    commit: '2293ada6b400935a1378653304eaf6221e0fdb8f',
    actor: { id: '3', login: 'User' },
    at: '2021-02-23T02:41:40.112Z',
    pipeline: 'pipeline/2366',
  }),
  ...both('gitlab', 'deployment', [gitlab.deploymentBegan, gitlab.deploymentOver], {
    event: { kind: 'deployment', name: 'staging' },
    run: 'deployment/15',
    repository: 'root/test-deployment-webhooks',
    commit: '279484c09fbe69ededfced8c1bb6e6d24616b468',
    actor: ROOT,
    at: '2021-04-28T19:50:00Z',
  }),
  began('bitbucket', 'merge', bitbucket.merged, {
    event: { kind: 'merge', ref: MASTER },
    run: 'merge/team_name/repo_name/1',
    repository: 'team_name/repo_name',
    commit: '764413d85e29',
    actor: EMMA,
    at: '2015-04-06T15:23:38.205Z',
  }),
  // One build, though its address is another when it is over.
  ...both('bitbucket', 'build', [bitbucket.began, bitbucket.over], {
    event: { kind: 'pipeline', name: 'Unit Tests (Python)' },
    run: 'pipeline/89a77021267b793250e7c1b4e64799ce6d4a93a9b5bb4474dd7a95712e6d55b3',
    repository: 'team_name/repo_name',
    commit: '9fec847784abb10b2fa567ee63b85bd238955d0e',
    actor: EMMA,
    at: '2015-11-19T20:37:35.547Z',
  }),
  began('bitbucket', 'merge at a Data Center', bitbucket.serverMerged, {
    event: { kind: 'merge', ref: MASTER },
    run: 'merge/PROJECT_1/repository/9',
    repository: 'PROJECT_1/repository',
    commit: '7e48f426f0a6e47c5b5e862c31be6ca965f82c9c',
    actor: { id: '2', login: 'user' },
    at: '2017-09-19T00:39:36Z',
  }),
  began('gitea', 'merge', gitea.merged, {
    ...giteaWebhooks,
    event: { kind: 'merge', ref: MASTER },
    run: 'merge/12',
    at: '2017-03-13T17:52:11Z',
  }),
  ...both('gitea', 'workflow run', [gitea.began, gitea.over], {
    ...giteaWebhooks,
    event: { kind: 'pipeline', name: 'deploy', ref: MASTER },
    run: 'pipeline/7/1',
    at: '2017-03-13T17:52:30Z',
  }),
  ...both('gitea', 'job', [gitea.jobBegan, gitea.jobOver], {
    ...giteaWebhooks,
    event: { kind: 'job', name: 'deploy', ref: MASTER },
    run: 'job/11',
    at: '2017-03-13T17:52:40Z',
    pipeline: 'pipeline/7/1',
  }),
  over('gitea', 'run at Forgejo', gitea.forgejoOver, {
    ...giteaWebhooks,
    event: { kind: 'pipeline', name: 'deploy.yml', ref: MASTER },
    run: 'pipeline/7',
    at: '2017-03-13T17:55:30Z',
  }),
]

test.each(HAPPENINGS)('what %s documents of "%s" is read as it is meant', (host, _, told, { at, ...meant }) => {
  const { happening, effects } = hear(host, told)
  expect(happening).toEqual({ ...meant, at: Date.parse(at) })
  expect(effects).toEqual([])
})

test.each([
  ['github', github.memberRemoved, 'octocoders', { kind: 'lock', principal: 'hacktocat@acme.example' }],
  ['github', github.organizationRenamed, undefined, { kind: 'gone-below', path: 'up/Octocoders' }],
  ['github', github.repositoryDeleted, undefined, { kind: 'gone', repository: 'up/Octocoders/Hello-World' }],
  ['github', github.repositoryRenamed, undefined, { kind: 'gone', repository: 'up/Octocoders/Hello-World' }],
  ['github', github.repositoryTransferred, undefined, { kind: 'gone', repository: 'up/octocat/Hello-World' }],
  [
    'github',
    github.repositoryTransferredFromOrganization,
    undefined,
    { kind: 'gone', repository: 'up/octo-org/Hello-World' },
  ],
  ['gitlab', gitlab.removedFromGroup, 'storecloud', { kind: 'lock', principal: 'johnsmith@acme.example' }],
  // By its number, which no other group has.
  ['gitlab', gitlab.removedFromGroup, '78', { kind: 'lock', principal: 'johnsmith@acme.example' }],
  ['gitlab', gitlab.memberRemoved, 'webhook-test', { kind: 'lock', principal: 'test_user@acme.example' }],
  ['gitlab', gitlab.userDestroyed, 'storecloud', { kind: 'lock', principal: 'js@acme.example' }],
  ['gitlab', gitlab.projectDestroyed, undefined, { kind: 'gone', repository: 'up/jsmith/underscore' }],
  ['gitlab', gitlab.projectRenamed, undefined, { kind: 'gone', repository: 'up/jsmith/overscore' }],
  ['gitlab', gitlab.projectTransferred, undefined, { kind: 'gone', repository: 'up/jsmith/overscore' }],
  ['gitlab', gitlab.groupRenamed, undefined, { kind: 'gone-below', path: 'up/parent-group/old-name' }],
  ['gitlab', gitlab.userRenamed, undefined, { kind: 'gone-below', path: 'up/old-boring-name' }],
  ['bitbucket', bitbucket.repositoryRenamed, undefined, { kind: 'gone', repository: 'up/teamawesome/repository_name' }],
  ['bitbucket', bitbucket.repositoryDeleted, undefined, { kind: 'gone', repository: 'up/team_name/repo_name' }],
  ['bitbucket', bitbucket.serverRepositoryModified, undefined, { kind: 'gone', repository: 'up/PROJECT_1/repository' }],
  ['bitbucket', bitbucket.serverProjectModified, undefined, { kind: 'gone-below', path: 'up/PROJECT_1' }],
  ['gitea', gitea.repositoryDeleted, undefined, { kind: 'gone', repository: 'up/gitea/webhooks' }],
] as const)('what %s documents of an end ends what it should: %#', (host, told, organization, effect) => {
  const { effects, happening } = hear(host, told, organization)
  expect(effects).toEqual([effect])
  expect(happening).toBeUndefined()
})

test('of another organization nobody is locked', () => {
  expect(hear('github', github.memberRemoved, 'octo-org').effects).toEqual([])
  expect(hear('github', github.memberRemoved).effects).toEqual([])
  expect(hear('gitlab', gitlab.removedFromGroup, 'store').effects).toEqual([])
  expect(hear('gitlab', gitlab.userDestroyed).effects).toEqual([])
})

describe('a run that has not started', () => {
  test('is passed over, so that its start is not known already when it starts', () => {
    expect(hear('gitea', gitea.waiting).happening).toBeUndefined()
  })

  test('is over all the same when it was cancelled', () => {
    const unstarted = [
      ['gitea', changed(gitea.over, 'workflow_run.started_at', '1970-01-01T00:00:00Z')],
      ['gitea', changed(gitea.jobOver, 'workflow_job.started_at', '1970-01-01T00:00:00Z')],
      ['github', changed(github.over, 'workflow_run.run_started_at', null)],
      ['github', changed(github.jobOver, 'workflow_job.started_at', null)],
    ] as const
    for (const [host, told] of unstarted) expect(hear(host, told).happening?.phase).toBe('over')
  })
})

test('every payload names the page it is from, and is the host’s own', () => {
  const all = Object.entries({ github, gitlab, bitbucket, gitea }).flatMap(([host, told]) =>
    Object.values(told).map(({ source }) => [host, source] as const),
  )
  const pages = {
    github: /^https:\/\/(docs\.github\.com|github\.com\/octokit\/webhooks)\//,
    gitlab: /^https:\/\/docs\.gitlab\.com\//,
    bitbucket: /^https:\/\/(support|confluence)\.atlassian\.com\//,
    gitea: /^https:\/\/(docs\.gitea\.com|github\.com\/go-gitea\/gitea|forgejo\.org)\//,
  }
  for (const [host, source] of all) expect(source).toMatch(pages[host as Host])
  expect(all.length).toBeGreaterThan(35)
})
