import type { Told } from './told.ts'

const CLOUD = 'https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/'
const DATA_CENTER = 'https://confluence.atlassian.com/bitbucketserver/event-payload-938025882.html'

const EMMA = {
  type: 'user',
  nickname: 'emmap1',
  display_name: 'Emma',
  uuid: '{a54f16da-24e9-4d7f-a3a7-b1ba2cd98aa3}',
}
const REPO_NAME = {
  type: 'repository',
  uuid: '{673a6070-3421-46c9-9d48-90745f7bfe8e}',
  full_name: 'team_name/repo_name',
  name: 'repo_name',
  is_private: true,
}

// The page's pull request has all its states at once: `OPEN|MERGED|DECLINED`.
export const merged: Told = {
  source: CLOUD,
  event: 'pullrequest:fulfilled',
  places: {
    repository: ['repository.full_name'],
    commit: 'pullrequest.merge_commit.hash',
    at: 'pullrequest.updated_on',
  },
  body: {
    actor: EMMA,
    pullrequest: {
      id: 1,
      title: 'Title of pull request',
      state: 'MERGED',
      author: EMMA,
      source: { branch: { name: 'branch2' }, commit: { hash: 'd3022fc0ca3d' }, repository: REPO_NAME },
      destination: { branch: { name: 'master' }, commit: { hash: 'ce5965ddd289' }, repository: REPO_NAME },
      merge_commit: { hash: '764413d85e29' },
      closed_by: EMMA,
      created_on: '2015-04-06T15:23:38.179678+00:00',
      updated_on: '2015-04-06T15:23:38.205705+00:00',
    },
    repository: REPO_NAME,
  },
}

const status = (event: string, says: object): Told => ({
  source: CLOUD,
  event,
  places: {
    repository: ['repository.full_name'],
    commit: 'commit_status.links.commit.href',
    at: 'commit_status.created_on',
  },
  body: {
    actor: EMMA,
    repository: REPO_NAME,
    commit_status: {
      name: 'Unit Tests (Python)',
      key: 'mybuildtool',
      type: 'build',
      created_on: '2015-11-19T20:37:35.547563+00:00',
      links: {
        commit: {
          href: 'http://api.bitbucket.org/2.0/repositories/tk/test/commit/9fec847784abb10b2fa567ee63b85bd238955d0e',
        },
      },
      ...says,
    },
  },
})
export const began = status('repo:commit_status_created', {
  description: 'Build started',
  state: 'INPROGRESS',
  url: 'https://my-build-tool.com/builds/MY-PROJECT/BUILD-777',
  updated_on: '2015-11-19T20:37:35.547563+00:00',
})
/** Of the same build, under another address. */
export const over = status('repo:commit_status_updated', {
  description: 'All tests passed',
  state: 'SUCCESSFUL',
  url: 'https://my-build-tool.com/builds/MY-PROJECT/BUILD-792',
  updated_on: '2015-11-20T08:01:16.433108+00:00',
})

export const repositoryRenamed: Told = {
  source: CLOUD,
  event: 'repo:updated',
  body: {
    actor: EMMA,
    repository: REPO_NAME,
    changes: {
      name: { new: 'repository', old: 'repository_name' },
      full_name: { new: 'teamawesome/repository', old: 'teamawesome/repository_name' },
      description: { new: 'This is a better description.', old: 'This is a description.' },
    },
  },
}
export const repositoryDeleted: Told = {
  source: CLOUD,
  event: 'repo:deleted',
  body: { actor: EMMA, repository: REPO_NAME },
}

const ADMIN = { name: 'admin', emailAddress: 'admin@example.com', id: 1, displayName: 'Administrator', type: 'NORMAL' }
const PROJECT_1 = { key: 'PROJECT_1', id: 1, name: 'Project 1', public: false, type: 'NORMAL' }
const REPOSITORY = {
  slug: 'repository',
  id: 84,
  name: 'repository',
  scmId: 'git',
  state: 'AVAILABLE',
  project: PROJECT_1,
}

export const serverMerged: Told = {
  source: DATA_CENTER,
  event: 'pr:merged',
  places: { commit: 'pullRequest.properties.mergeCommit.id', at: 'date' },
  body: {
    eventKey: 'pr:merged',
    date: '2017-09-19T10:39:36+1000',
    actor: { name: 'user', emailAddress: 'user@example.com', id: 2, displayName: 'User', type: 'NORMAL' },
    pullRequest: {
      id: 9,
      version: 2,
      title: 'file edited online with Bitbucket',
      state: 'MERGED',
      open: false,
      closed: true,
      fromRef: { id: 'refs/heads/admin/file-1505781548644', repository: REPOSITORY },
      toRef: { id: 'refs/heads/master', displayId: 'master', repository: REPOSITORY },
      properties: { mergeCommit: { displayId: '7e48f426f0a', id: '7e48f426f0a6e47c5b5e862c31be6ca965f82c9c' } },
    },
  },
}
export const serverRepositoryModified: Told = {
  source: DATA_CENTER,
  event: 'repo:modified',
  body: {
    eventKey: 'repo:modified',
    date: '2017-09-19T09:51:06+1000',
    actor: ADMIN,
    old: REPOSITORY,
    new: { ...REPOSITORY, slug: 'new-name', name: 'new name' },
  },
}
export const serverProjectModified: Told = {
  source: DATA_CENTER,
  event: 'project:modified',
  body: {
    eventKey: 'project:modified',
    actor: ADMIN,
    old: PROJECT_1,
    new: { ...PROJECT_1, key: 'PROJECT_2', name: 'Project 2' },
  },
}
