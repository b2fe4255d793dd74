import type { Told } from './told.ts'

/** docs.github.com/en/webhooks/webhook-events-and-payloads, with the examples and schemas that GitHub publishes for it. */
const page = (anchor: string) => `https://docs.github.com/en/webhooks/webhook-events-and-payloads#${anchor}`
const example = (file: string) =>
  `https://github.com/octokit/webhooks/blob/main/payload-examples/api.github.com/${file}.payload.json`
const schema = (file: string) =>
  `https://github.com/octokit/webhooks/blob/main/payload-schemas/api.github.com/${file}.schema.json`

const CODERTOCAT = { login: 'Codertocat', id: 21031067, type: 'User', site_admin: false }
const HELLO_WORLD = {
  id: 186853002,
  name: 'Hello-World',
  full_name: 'Codertocat/Hello-World',
  private: false,
  owner: CODERTOCAT,
  fork: false,
  default_branch: 'master',
}
const OCTOCODERS = { login: 'Octocoders', id: 38302899, type: 'Organization' }
const FORKED = {
  id: 186853261,
  name: 'Hello-World',
  full_name: 'Octocoders/Hello-World',
  owner: OCTOCODERS,
  fork: true,
}

// As the page says of a merge: `merged`, `merged_at` and `merged_by` of the example were false and null.
export const merged: Told = {
  source: example('pull_request/closed'),
  event: 'pull_request',
  places: {
    repository: ['repository.full_name'],
    commit: 'pull_request.merge_commit_sha',
    at: 'pull_request.merged_at',
  },
  body: {
    action: 'closed',
    number: 2,
    pull_request: {
      id: 279147437,
      number: 2,
      state: 'closed',
      title: 'Update the README with new information.',
      user: CODERTOCAT,
      created_at: '2019-05-15T15:20:33Z',
      closed_at: '2019-05-15T15:21:18Z',
      merged: true,
      merged_at: '2019-05-15T15:21:18Z',
      merged_by: CODERTOCAT,
      merge_commit_sha: 'c4295bd74fb0f4fda03689c3df3f2803b658fd85',
      head: {
        label: 'Codertocat:changes',
        ref: 'changes',
        sha: 'ec26c3e57ca3a959ca5aad62de7213c562f8c821',
        repo: HELLO_WORLD,
      },
      base: {
        label: 'Codertocat:master',
        ref: 'master',
        sha: 'f95f852bd8fca8fcc58a9a2d6c842781e32a215e',
        repo: HELLO_WORLD,
      },
    },
    repository: HELLO_WORLD,
    sender: CODERTOCAT,
  },
}

const ACTOR = { login: 'Codertocat', id: 15669918, type: 'User' }
const OCTO_REPO = {
  id: 300029405,
  name: 'octo-repo',
  full_name: 'octo-org/octo-repo',
  owner: { login: 'octo-org', id: 41548062, type: 'Organization' },
  fork: false,
}
/** Without a title of its own, and begun by a call of the API. */
const run = (state: object) => ({
  workflow: { id: 2823525, name: 'test', path: '.github/workflows/test.yml', state: 'active' },
  workflow_run: {
    id: 289782451,
    name: '',
    path: '.github/workflows/test.yml',
    display_title: 'ci(action): update actions/setup-node digest to 8c91899',
    event: 'repository_dispatch',
    head_branch: 'master',
    head_sha: '3484a3fb816e0859fd6e1cea078d76385ff50625',
    head_repository: OCTO_REPO,
    run_number: 163,
    run_attempt: 1,
    run_started_at: '2020-10-05T16:33:49Z',
    created_at: '2020-10-05T16:33:24Z',
    pull_requests: [],
    actor: ACTOR,
    triggering_actor: ACTOR,
    ...state,
  },
  repository: OCTO_REPO,
  organization: OCTO_REPO.owner,
  sender: ACTOR,
})
const ofRun = {
  repository: ['repository.full_name', 'workflow_run.head_repository.full_name'],
  commit: 'workflow_run.head_sha',
  at: 'workflow_run.run_started_at',
}
export const began: Told = {
  source: example('workflow_run/requested'),
  event: 'workflow_run',
  places: ofRun,
  body: { action: 'requested', ...run({ status: 'queued', conclusion: null }) },
}
export const over: Told = {
  source: example('workflow_run/completed'),
  event: 'workflow_run',
  places: ofRun,
  body: { action: 'completed', ...run({ status: 'completed', conclusion: 'success' }) },
}

const job = (state: object) => ({
  workflow_job: {
    id: 289782451,
    run_id: 2202229078,
    run_attempt: 1,
    workflow_name: 'CodeQL',
    head_sha: '3484a3fb816e0859fd6e1cea078d76385ff50625',
    head_branch: 'main',
    runner_name: 'GitHub Actions 5',
    ...state,
  },
  repository: { ...HELLO_WORLD, owner: OCTOCODERS },
  sender: CODERTOCAT,
})
const ofJob = { repository: ['repository.full_name'], commit: 'workflow_job.head_sha', at: 'workflow_job.started_at' }
export const jobBegan: Told = {
  source: example('workflow_job/in_progress'),
  event: 'workflow_job',
  places: ofJob,
  body: {
    action: 'in_progress',
    ...job({
      name: 'Analyze (javascript)',
      status: 'in_progress',
      conclusion: null,
      started_at: '2021-09-13T02:21:13Z',
      completed_at: null,
    }),
  },
}
export const jobOver: Told = {
  source: example('workflow_job/completed.failure.with-organization'),
  event: 'workflow_job',
  places: ofJob,
  body: {
    action: 'completed',
    ...job({
      name: 'linters',
      status: 'completed',
      conclusion: 'failure',
      started_at: '2021-08-05T10:34:58Z',
      completed_at: '2021-08-05T10:38:16Z',
    }),
  },
}

const DEPLOYMENT = {
  id: 145988746,
  sha: 'f95f852bd8fca8fcc58a9a2d6c842781e32a215e',
  ref: 'master',
  task: 'deploy',
  payload: {},
  environment: 'production',
  creator: CODERTOCAT,
  created_at: '2019-05-15T15:20:53Z',
}
const ofDeployment = { repository: ['repository.full_name'], commit: 'deployment.sha', at: 'deployment.created_at' }
const deploying = { deployment: DEPLOYMENT, repository: HELLO_WORLD, sender: CODERTOCAT }
export const deploymentBegan: Told = {
  source: example('deployment/'),
  event: 'deployment',
  places: ofDeployment,
  body: { action: 'created', ...deploying, workflow: null, workflow_run: null },
}
export const deploymentOver: Told = {
  source: example('deployment_status/'),
  event: 'deployment_status',
  places: ofDeployment,
  body: {
    action: 'created',
    deployment_status: { id: 209916254, state: 'success', environment: 'production', creator: CODERTOCAT },
    ...deploying,
  },
}

// The example is of one who was added.
export const memberRemoved: Told = {
  source: schema('organization/member_removed'),
  event: 'organization',
  body: {
    action: 'member_removed',
    membership: { state: 'pending', role: 'member', user: { login: 'hacktocat', id: 39652351, type: 'User' } },
    organization: OCTOCODERS,
    sender: CODERTOCAT,
  },
}
export const organizationRenamed: Told = {
  source: example('organization/renamed'),
  event: 'organization',
  // The new name of the example was the old one.
  body: {
    action: 'renamed',
    changes: { login: { from: 'Octocoders' } },
    membership: null,
    organization: { login: 'Octocoders-2', id: 38302899 },
    sender: CODERTOCAT,
  },
}
export const repositoryDeleted: Told = {
  source: schema('repository/deleted'),
  event: 'repository',
  body: { action: 'deleted', repository: FORKED, organization: OCTOCODERS, sender: CODERTOCAT },
}
// The new name of the example was the old one.
export const repositoryRenamed: Told = {
  source: example('repository/renamed'),
  event: 'repository',
  body: {
    action: 'renamed',
    changes: { repository: { name: { from: 'Hello-World' } } },
    repository: { ...FORKED, name: 'Hello-You', full_name: 'Octocoders/Hello-You' },
    organization: OCTOCODERS,
    sender: CODERTOCAT,
  },
}
export const repositoryTransferred: Told = {
  source: example('repository/transferred'),
  event: 'repository',
  body: {
    action: 'transferred',
    changes: { owner: { from: { user: { login: 'octocat', id: 1, type: 'User' } } } },
    repository: FORKED,
    sender: CODERTOCAT,
  },
}
/** From an organization, which the page names beside the user. */
export const repositoryTransferredFromOrganization: Told = {
  source: page('repository'),
  event: 'repository',
  body: {
    action: 'transferred',
    changes: { owner: { from: { organization: { login: 'octo-org', id: 41548062 } } } },
    repository: FORKED,
    sender: CODERTOCAT,
  },
}
