/**
 * What Git hosts document that they send when something begins or is over: the members that are read, and some that are not. Each
 * host's merge is of the commit that its pipeline runs, so that together they are a story.
 */

export interface Told {
  /** As the host's header names the event. */
  readonly event: string
  readonly body: object
}

// docs.github.com/en/webhooks/webhook-events-and-payloads: pull_request, workflow_run, workflow_job, deployment, deployment_status.
const CODERTOCAT = { login: 'Codertocat', id: 21031067, type: 'User' }
const HELLO_WORLD = { id: 186853002, name: 'Hello-World', full_name: 'Codertocat/Hello-World', owner: CODERTOCAT }
const HEAD = 'c4295bd74fb0f4fda03689c3df3f2803b658fd85'
const octoRun = {
  id: 289782451,
  name: 'Octo',
  head_branch: 'master',
  head_sha: HEAD,
  path: '.github/workflows/octo.yml',
  run_number: 1,
  run_attempt: 1,
  event: 'push',
  actor: CODERTOCAT,
  triggering_actor: CODERTOCAT,
  created_at: '2019-05-15T15:20:40Z',
  run_started_at: '2019-05-15T15:20:40Z',
  head_repository: HELLO_WORLD,
}
const octoJob = {
  id: 2832853555,
  run_id: 289782451,
  run_attempt: 1,
  name: 'deploy',
  head_branch: 'master',
  head_sha: HEAD,
  started_at: '2019-05-15T15:20:50Z',
}
const octoDeployment = {
  id: 145988746,
  sha: HEAD,
  ref: 'master',
  task: 'deploy',
  environment: 'production',
  creator: CODERTOCAT,
  created_at: '2019-05-15T15:20:53Z',
}
const github = { repository: HELLO_WORLD, sender: CODERTOCAT }
export const GITHUB = {
  merged: {
    event: 'pull_request',
    body: {
      ...github,
      action: 'closed',
      number: 2,
      pull_request: {
        id: 279147437,
        number: 2,
        state: 'closed',
        title: 'Update the README with new information.',
        user: CODERTOCAT,
        merged: true,
        merged_at: '2019-05-15T15:20:33Z',
        merge_commit_sha: HEAD,
        merged_by: CODERTOCAT,
        head: { ref: 'changes', sha: 'ec26c3e57ca3a959ca5aad62de7213c562f8c821', repo: HELLO_WORLD },
        base: { ref: 'master', sha: 'f95f852bd8fca8fcc58a9a2d6c842781e32a215e', repo: HELLO_WORLD },
      },
    },
  },
  began: {
    event: 'workflow_run',
    body: { ...github, action: 'requested', workflow_run: { ...octoRun, status: 'queued' } },
  },
  over: {
    event: 'workflow_run',
    body: { ...github, action: 'completed', workflow_run: { ...octoRun, status: 'completed', conclusion: 'failure' } },
  },
  job: { event: 'workflow_job', body: { ...github, action: 'in_progress', workflow_job: octoJob } },
  jobOver: {
    event: 'workflow_job',
    body: { ...github, action: 'completed', workflow_job: { ...octoJob, conclusion: 'cancelled' } },
  },
  deployment: { event: 'deployment', body: { ...github, action: 'created', deployment: octoDeployment } },
  deploymentOver: {
    event: 'deployment_status',
    body: { ...github, action: 'created', deployment_status: { state: 'success' }, deployment: octoDeployment },
  },
} satisfies Record<string, Told>

// docs.gitlab.com/user/project/integrations/webhook_events: merge request, pipeline, job and deployment events.
const ROOT = { id: 1, name: 'Administrator', username: 'root', email: 'admin@example.com' }
const GITLAB_TEST = {
  id: 1,
  name: 'Gitlab Test',
  path_with_namespace: 'gitlab-org/gitlab-test',
  default_branch: 'master',
}
const SHA = 'bcbb5ec396a2c0f828686f14fac9b80b780504f2'
const gitlab = { user: ROOT, project: GITLAB_TEST }
const gitlabPipeline = (status: string) => ({
  ...gitlab,
  object_kind: 'pipeline',
  object_attributes: {
    id: 31,
    iid: 3,
    name: null,
    ref: 'master',
    tag: false,
    sha: SHA,
    before_sha: '0000000000000000000000000000000000000000',
    source: 'push',
    status,
    created_at: '2016-08-12 15:23:28 UTC',
  },
  merge_request: null,
})
const gitlabJob = (status: string) => ({
  ...gitlab,
  object_kind: 'build',
  ref: 'master',
  tag: false,
  sha: SHA,
  build_id: 1977,
  build_name: 'deploy',
  build_stage: 'deploy',
  build_status: status,
  build_created_at: '2016-08-12 15:23:28 UTC',
  build_started_at: '2016-08-12 15:26:12 UTC',
  pipeline_id: 31,
})
const gitlabDeployment = (status: string) => ({
  ...gitlab,
  object_kind: 'deployment',
  status,
  status_changed_at: '2016-08-12 17:26:30 +0200',
  deployment_id: 15,
  deployable_id: 796,
  environment: 'production',
  short_sha: 'bcbb5ec3',
})
export const GITLAB = {
  merged: {
    event: 'Merge Request Hook',
    body: {
      ...gitlab,
      object_kind: 'merge_request',
      object_attributes: {
        id: 99,
        iid: 1,
        action: 'merge',
        state: 'merged',
        source_branch: 'ms-viewport',
        target_branch: 'master',
        merge_commit_sha: SHA,
        last_commit: { id: 'da1560886d4f094c3e6c9ef40349f7d38b5d27d7' },
        updated_at: '2016-08-12T15:23:20Z',
      },
    },
  },
  began: { event: 'Pipeline Hook', body: gitlabPipeline('running') },
  over: { event: 'Pipeline Hook', body: gitlabPipeline('success') },
  job: { event: 'Job Hook', body: gitlabJob('running') },
  jobOver: { event: 'Job Hook', body: gitlabJob('failed') },
  deployment: { event: 'Deployment Hook', body: gitlabDeployment('running') },
  deploymentOver: { event: 'Deployment Hook', body: gitlabDeployment('canceled') },
} satisfies Record<string, Told>

// support.atlassian.com/bitbucket-cloud/docs/event-payloads: pull request merged, build status created and updated.
const EMMA = { display_name: 'Emma', nickname: 'emmap1', uuid: '{a54f16da-24e9-4d7f-a3a7-b1ba2cd98aa3}', type: 'user' }
const REPO_NAME = {
  full_name: 'team_name/repo_name',
  name: 'repo_name',
  uuid: '{673a6070-3421-46c9-9d48-90745f7bfe8e}',
}
const API = 'https://api.bitbucket.org/2.0/repositories/team_name/repo_name'
const bitbucketStatus = (state: string) => ({
  actor: EMMA,
  repository: REPO_NAME,
  commit_status: {
    name: 'Unit Tests (Python)',
    description: 'Build started',
    state,
    key: 'mybuildtool',
    url: 'https://my-build-tool.com/builds/MY-PROJECT/BUILD-777',
    type: 'build',
    refname: 'master',
    created_on: '2015-11-19T20:37:35.547563+00:00',
    updated_on: '2015-11-19T20:37:35.547563+00:00',
    links: { commit: { href: `${API}/commit/764413d85e29e5e5e5e5e5e5e5e5e5e5e5e5e5e5` } },
  },
})
export const BITBUCKET = {
  merged: {
    event: 'pullrequest:fulfilled',
    body: {
      actor: EMMA,
      repository: REPO_NAME,
      pullrequest: {
        id: 1,
        title: 'Title of pull request',
        state: 'MERGED',
        author: EMMA,
        source: { branch: { name: 'branch2' }, commit: { hash: 'd3022fc0ca3d' }, repository: REPO_NAME },
        destination: { branch: { name: 'master' }, commit: { hash: 'ce5965ddd289' }, repository: REPO_NAME },
        merge_commit: { hash: '764413d85e29' },
        closed_by: EMMA,
        updated_on: '2015-11-19T20:36:33.240305+00:00',
      },
    },
  },
  began: { event: 'repo:commit_status_created', body: bitbucketStatus('INPROGRESS') },
  over: { event: 'repo:commit_status_updated', body: bitbucketStatus('STOPPED') },
} satisfies Record<string, Told>

// confluence.atlassian.com/bitbucketserver/event-payload-938025882.html: pull request merged.
const SERVER_REPOSITORY = { slug: 'repository', id: 84, name: 'repository', project: { key: 'PROJECT_1', id: 1 } }
export const BITBUCKET_SERVER = {
  merged: {
    event: 'pr:merged',
    body: {
      eventKey: 'pr:merged',
      date: '2017-09-19T10:39:36+1000',
      actor: { name: 'user', emailAddress: 'user@example.com', id: 2, displayName: 'User', type: 'NORMAL' },
      pullRequest: {
        id: 9,
        title: 'file edited online with Bitbucket',
        state: 'MERGED',
        fromRef: { id: 'refs/heads/admin/file-1505781548644', displayId: 'admin/file-1505781548644' },
        toRef: { id: 'refs/heads/master', displayId: 'master', repository: SERVER_REPOSITORY },
        properties: { mergeCommit: { displayId: '7e48f426f0a', id: '7e48f426f0a6e47c5b5e862c31be6ca965f82c9c' } },
      },
    },
  },
} satisfies Record<string, Told>

// docs.gitea.com/usage/repository/webhooks: pull_request, workflow_run, workflow_job.
const GITEA_USER = { id: 1, login: 'gitea', full_name: 'Gitea', username: 'gitea' }
const WEBHOOKS = { id: 140, name: 'webhooks', full_name: 'gitea/webhooks', owner: GITEA_USER }
const BFFEB = 'bffeb74224043ba2feb48d137756c8a9331c449a'
const gitea = { repository: WEBHOOKS, sender: GITEA_USER }
const giteaRun = {
  id: 7,
  path: 'deploy.yml@refs/heads/master',
  event: 'push',
  run_attempt: 1,
  run_number: 3,
  head_sha: BFFEB,
  head_branch: 'master',
  trigger_actor: GITEA_USER,
  head_repository: WEBHOOKS,
  started_at: '2017-03-13T13:52:30-04:00',
}
export const GITEA = {
  merged: {
    event: 'pull_request',
    body: {
      ...gitea,
      action: 'closed',
      number: 5,
      pull_request: {
        id: 12,
        number: 5,
        state: 'closed',
        merged: true,
        merged_at: '2017-03-13T13:52:11-04:00',
        merge_commit_sha: BFFEB,
        merged_by: GITEA_USER,
        base: { label: 'master', ref: 'master', repo: WEBHOOKS },
        head: { label: 'changes', ref: 'changes', repo: WEBHOOKS },
      },
    },
  },
  began: {
    event: 'workflow_run',
    body: {
      ...gitea,
      action: 'requested',
      workflow: { name: 'deploy' },
      workflow_run: { ...giteaRun, status: 'queued' },
    },
  },
  over: {
    event: 'workflow_run',
    body: {
      ...gitea,
      action: 'completed',
      workflow: { name: 'deploy' },
      workflow_run: { ...giteaRun, status: 'completed', conclusion: 'success' },
    },
  },
} satisfies Record<string, Told>

// forgejo.org/docs/latest/user/webhooks: action run events.
export const FORGEJO = {
  over: {
    event: 'action_run_failure',
    body: {
      action: 'failure',
      run: {
        id: 7,
        title: 'Webhooks Yay!',
        repository: WEBHOOKS,
        workflow_id: 'deploy.yml',
        index_in_repo: 3,
        trigger_user: GITEA_USER,
        prettyref: 'master',
        commit_sha: BFFEB,
        is_fork_pull_request: false,
        event: 'push',
        status: 'failure',
        started: '2017-03-13T13:52:30-04:00',
        stopped: '2017-03-13T13:55:30-04:00',
      },
      prior_status: 'running',
    },
  },
} satisfies Record<string, Told>
