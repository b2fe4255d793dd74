import type { Told } from './told.ts'

const webhook = (anchor: string) => `https://docs.gitlab.com/user/project/integrations/webhook_events/#${anchor}-events`
const SYSTEM = 'https://docs.gitlab.com/administration/system_hooks/#hooks-request-example'

const ROOT = { id: 1, name: 'Administrator', username: 'root', email: 'admin@example.com' }

// The example is of one that was opened: `action` and `state` are those of the page's list for a merge.
export const merged: Told = {
  source: webhook('merge-request'),
  event: 'Merge Request Hook',
  places: {
    repository: ['project.path_with_namespace'],
    commit: 'object_attributes.last_commit.id',
    at: 'object_attributes.updated_at',
  },
  body: {
    object_kind: 'merge_request',
    event_type: 'merge_request',
    user: ROOT,
    project: { id: 1, name: 'Gitlab Test', path_with_namespace: 'gitlabhq/gitlab-test', default_branch: 'master' },
    object_attributes: {
      id: 99,
      iid: 1,
      target_branch: 'master',
      source_branch: 'ms-viewport',
      author_id: 51,
      title: 'MS-Viewport',
      created_at: '2013-12-03T17:23:34Z',
      updated_at: '2013-12-03T17:23:34Z',
      state: 'merged',
      last_commit: { id: 'da1560886d4f094c3e6c9ef40349f7d38b5d27d7', message: 'fixed readme' },
      action: 'merge',
      detailed_merge_status: 'mergeable',
    },
  },
}

const GITLAB_TEST = {
  id: 1,
  name: 'Gitlab Test',
  path_with_namespace: 'gitlab-org/gitlab-test',
  default_branch: 'master',
}
// The example is of a merge request's pipeline: `source` and `merge_request` are those of a push.
const pipeline = (status: string): Told => ({
  source: webhook('pipeline'),
  event: 'Pipeline Hook',
  places: {
    repository: ['project.path_with_namespace'],
    commit: 'object_attributes.sha',
    at: 'object_attributes.created_at',
  },
  body: {
    object_kind: 'pipeline',
    object_attributes: {
      id: 31,
      iid: 3,
      name: 'Pipeline for branch: master',
      ref: 'master',
      tag: false,
      sha: 'bcbb5ec396a2c0f828686f14fac9b80b780504f2',
      before_sha: 'bcbb5ec396a2c0f828686f14fac9b80b780504f2',
      source: 'push',
      status,
      stages: ['build', 'test', 'deploy'],
      created_at: '2016-08-12 15:23:28 UTC',
      finished_at: '2016-08-12 15:26:29 UTC',
      url: 'http://example.com/gitlab-org/gitlab-test/-/pipelines/31',
    },
    merge_request: null,
    user: { ...ROOT, email: 'user_email@gitlab.com' },
    project: GITLAB_TEST,
  },
})
export const began = pipeline('running')
export const over = pipeline('success')

// The example is of one that was created. Its user has a number and no username.
const job = (build_status: string, build_started_at: string | null): Told => ({
  source: webhook('job'),
  event: 'Job Hook',
  places: { repository: ['project.path_with_namespace'], commit: 'sha', at: 'build_started_at' },
  body: {
    object_kind: 'build',
    ref: 'gitlab-script-trigger',
    tag: false,
    sha: '2293ada6b400935a1378653304eaf6221e0fdb8f',
    build_id: 1977,
    build_name: 'test',
    build_stage: 'test',
    build_status,
    build_created_at: '2021-02-23T02:41:37.886Z',
    build_started_at,
    build_finished_at: null,
    pipeline_id: 2366,
    project_id: 380,
    project_name: 'gitlab-org/gitlab-test',
    user: { id: 3, name: 'User', email: 'user@gitlab.com' },
    commit: { id: 2366, name: 'Build pipeline', sha: '2293ada6b400935a1378653304eaf6221e0fdb8f' },
    project: { ...GITLAB_TEST, id: 380 },
  },
})
export const jobBegan = job('running', '2021-02-23T02:41:40.112Z')
export const jobOver = job('failed', '2021-02-23T02:41:40.112Z')

const COMMIT = 'http://10.126.0.2:3000/root/test-deployment-webhooks/-/commit/279484c09fbe69ededfced8c1bb6e6d24616b468'
const deployment = (status: string): Told => ({
  source: webhook('deployment'),
  event: 'Deployment Hook',
  places: { repository: ['project.path_with_namespace'], at: 'status_changed_at' },
  body: {
    object_kind: 'deployment',
    status,
    status_changed_at: '2021-04-28 21:50:00 +0200',
    deployment_id: 15,
    deployable_id: 796,
    environment: 'staging',
    environment_tier: 'staging',
    project: { id: 30, path_with_namespace: 'root/test-deployment-webhooks', default_branch: 'master' },
    short_sha: '279484c0',
    user: ROOT,
    commit_url: COMMIT,
    commit_title: 'Add new file',
  },
})
export const deploymentBegan = deployment('running')
export const deploymentOver = deployment('success')

const system = (body: object): Told => ({ source: SYSTEM, event: 'System Hook', body })
const UNDERSCORE = {
  created_at: '2012-07-21T07:30:58Z',
  updated_at: '2012-07-21T07:38:22Z',
  name: 'Underscore',
  path: 'underscore',
  project_id: 73,
  owner_name: 'John Smith',
  project_visibility: 'internal',
}
export const projectDestroyed = system({
  event_name: 'project_destroy',
  ...UNDERSCORE,
  path_with_namespace: 'jsmith/underscore',
})
export const projectRenamed = system({
  event_name: 'project_rename',
  ...UNDERSCORE,
  path_with_namespace: 'jsmith/underscore',
  old_path_with_namespace: 'jsmith/overscore',
})
export const projectTransferred = system({
  event_name: 'project_transfer',
  ...UNDERSCORE,
  path_with_namespace: 'scores/underscore',
  old_path_with_namespace: 'jsmith/overscore',
})
export const groupRenamed = system({
  event_name: 'group_rename',
  name: 'Better Name',
  path: 'better-name',
  full_path: 'parent-group/better-name',
  group_id: 64,
  old_path: 'old-name',
  old_full_path: 'parent-group/old-name',
})
export const userRenamed = system({
  event_name: 'user_rename',
  name: 'new-name',
  user_id: 58,
  username: 'new-exciting-name',
  old_username: 'old-boring-name',
})
export const userDestroyed = system({
  event_name: 'user_destroy',
  email: 'js@gitlabhq.com',
  name: 'John Smith',
  username: 'js',
  user_id: 41,
})
export const removedFromGroup = system({
  event_name: 'user_remove_from_group',
  group_access: 'Maintainer',
  group_id: 78,
  group_name: 'StoreCloud',
  group_path: 'storecloud',
  user_name: 'John Smith',
  user_username: 'johnsmith',
  user_id: 41,
})
/** The same of a group's own webhook. */
export const memberRemoved: Told = {
  source: webhook('group-member'),
  event: 'Member Hook',
  body: {
    event_name: 'user_remove_from_group',
    group_name: 'webhook-test',
    group_path: 'webhook-test',
    group_id: 100,
    user_username: 'test_user',
    user_name: 'Test User',
    user_id: 64,
    group_access: 'Guest',
    expires_at: '2020-12-14T00:00:00Z',
  },
}
