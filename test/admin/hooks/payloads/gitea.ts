import type { Told } from './told.ts'

const PAGE = 'https://docs.gitea.com/usage/repository/webhooks'
/** What the page's names of payloads have in them. */
const STRUCTS = 'https://github.com/go-gitea/gitea/blob/main/modules/structs'
const FORGEJO = 'https://forgejo.org/docs/latest/user/webhooks/'

const GITEA = { id: 1, login: 'gitea', full_name: 'Gitea', email: 'someone@gitea.io', username: 'gitea' }
const WEBHOOKS = { id: 140, owner: GITEA, name: 'webhooks', full_name: 'gitea/webhooks', default_branch: 'master' }
const BFFEB = 'bffeb74224043ba2feb48d137756c8a9331c449a'

export const merged: Told = {
  source: `${STRUCTS}/hook.go (PullRequestPayload), pull.go (PullRequest)`,
  event: 'pull_request',
  places: {
    repository: ['repository.full_name'],
    commit: 'pull_request.merge_commit_sha',
    at: 'pull_request.merged_at',
  },
  body: {
    action: 'closed',
    number: 5,
    pull_request: {
      id: 12,
      number: 5,
      user: GITEA,
      title: 'Webhooks Yay!',
      state: 'closed',
      mergeable: true,
      merged: true,
      merged_at: '2017-03-13T13:52:11-04:00',
      merge_commit_sha: BFFEB,
      merged_by: GITEA,
      base: { label: 'master', ref: 'master', sha: '28e1879d029cb852e4844d9c718537df08844e03', repo: WEBHOOKS },
      head: { label: 'changes', ref: 'changes', sha: BFFEB, repo: WEBHOOKS },
    },
    repository: WEBHOOKS,
    sender: GITEA,
    commit_id: '',
    review: null,
  },
}

const run = (action: string, state: object): Told => ({
  source: `${STRUCTS}/hook.go (WorkflowRunPayload), repo_actions.go (ActionWorkflowRun)`,
  event: 'workflow_run',
  places: {
    repository: ['repository.full_name', 'workflow_run.head_repository.full_name'],
    commit: 'workflow_run.head_sha',
    at: 'workflow_run.started_at',
  },
  body: {
    action,
    workflow: { id: 'deploy.yml', name: 'deploy', path: '.gitea/workflows/deploy.yml', state: 'active' },
    workflow_run: {
      id: 7,
      display_title: 'Webhooks Yay!',
      path: 'deploy.yml@refs/heads/master',
      event: 'push',
      run_attempt: 1,
      run_number: 3,
      head_sha: BFFEB,
      head_branch: 'master',
      started_at: '2017-03-13T13:52:30-04:00',
      trigger_actor: GITEA,
      head_repository: WEBHOOKS,
      ...state,
    },
    repository: WEBHOOKS,
    sender: GITEA,
  },
})
/** What waits for a runner has not started, which Gitea writes as the first moment there is. */
export const waiting = run('requested', { status: 'queued', started_at: '1970-01-01T00:00:00Z' })
export const began = run('in_progress', { status: 'in_progress' })
export const over = run('completed', { status: 'completed', conclusion: 'success' })

const job = (action: string, state: object): Told => ({
  source: `${STRUCTS}/hook.go (WorkflowJobPayload), repo_actions.go (ActionWorkflowJob)`,
  event: 'workflow_job',
  places: { repository: ['repository.full_name'], commit: 'workflow_job.head_sha', at: 'workflow_job.started_at' },
  body: {
    action,
    workflow_job: {
      id: 11,
      run_id: 7,
      name: 'deploy',
      labels: ['ubuntu-latest'],
      run_attempt: 1,
      head_sha: BFFEB,
      head_branch: 'master',
      started_at: '2017-03-13T13:52:40-04:00',
      ...state,
    },
    repository: WEBHOOKS,
    sender: GITEA,
  },
})
export const jobBegan = job('in_progress', { status: 'in_progress' })
export const jobOver = job('completed', { status: 'completed', conclusion: 'cancelled' })

export const repositoryDeleted: Told = {
  source: `${PAGE} (repository), ${STRUCTS}/hook.go (RepositoryPayload)`,
  event: 'repository',
  body: { action: 'deleted', repository: WEBHOOKS, organization: GITEA, sender: GITEA },
}

export const forgejoOver: Told = {
  source: FORGEJO,
  event: 'action_run_failure',
  places: { repository: ['run.repository.full_name'], commit: 'run.commit_sha', at: 'run.stopped' },
  body: {
    action: 'failure',
    run: {
      id: 7,
      title: 'Webhooks Yay!',
      repository: WEBHOOKS,
      workflow_id: 'deploy.yml',
      index_in_repo: 3,
      trigger_user: GITEA,
      prettyref: 'master',
      is_ref_deleted: false,
      commit_sha: BFFEB,
      is_fork_pull_request: false,
      event: 'push',
      trigger_event: 'push',
      status: 'failure',
      started: '2017-03-13T13:52:30-04:00',
      stopped: '2017-03-13T13:55:30-04:00',
    },
    prior_status: 'running',
  },
}
