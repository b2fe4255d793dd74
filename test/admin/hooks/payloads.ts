/** What Git hosts document that they send: the members that are read, and some that are not. */

// After the examples of docs.github.com/en/webhooks/webhook-events-and-payloads.
export const GITHUB_PAYLOADS = {
  memberRemoved: {
    action: 'member_removed',
    membership: {
      url: 'https://api.github.com/orgs/octo-org/memberships/hubot',
      state: 'active',
      role: 'member',
      user: { login: 'hubot', id: 1, type: 'User' },
    },
    organization: { login: 'octo-org', id: 33435682 },
    sender: { login: 'codertocat', id: 21031067 },
  },
  deleted: {
    action: 'deleted',
    repository: { id: 118, name: 'Hello-World', full_name: 'Codertocat/Hello-World', owner: { login: 'Codertocat' } },
    sender: { login: 'Codertocat' },
  },
  renamed: {
    action: 'renamed',
    changes: { repository: { name: { from: 'old-name' } } },
    repository: { id: 118, name: 'new-name', full_name: 'Codertocat/new-name', owner: { login: 'Codertocat' } },
  },
  transferred: {
    action: 'transferred',
    changes: { owner: { from: { organization: { login: 'before' } } } },
    repository: { id: 118, name: 'Hello-World', full_name: 'after/Hello-World', owner: { login: 'after' } },
  },
}
// After the examples of docs.gitlab.com/administration/system_hooks.
export const GITLAB_PAYLOADS = {
  destroyed: {
    created_at: '2012-07-21T07:30:58Z',
    event_name: 'project_destroy',
    name: 'Underscore',
    path: 'underscore',
    path_with_namespace: 'jsmith/underscore',
    project_id: 73,
  },
  renamed: {
    event_name: 'project_rename',
    path: 'underscore',
    path_with_namespace: 'jsmith/underscore',
    project_id: 73,
    old_path_with_namespace: 'jsmith/overscore',
  },
  removed: {
    event_name: 'user_remove_from_group',
    group_access: 'Maintainer',
    group_id: 78,
    group_name: 'StoreCloud',
    group_path: 'storecloud',
    user_email: 'johnsmith@gitlab.com',
    user_name: 'John Smith',
    user_username: 'johnsmith',
    user_id: 41,
  },
}

// After the examples of support.atlassian.com/bitbucket-cloud/docs/event-payloads, and for `modified` of
// confluence.atlassian.com/bitbucketserver/event-payload-938025882.html.
const EMMA = { display_name: 'Emma', nickname: 'emmap1', uuid: '{a54f16da-24e9-4d7f-a3a7-b1ba2cd98aa3}', type: 'user' }
const PROJECT = { key: 'PROJECT_1', id: 1, name: 'Project 1', public: false, type: 'NORMAL' }
export const BITBUCKET_PAYLOADS = {
  updated: {
    actor: EMMA,
    repository: { full_name: 'team_name/repo_name', name: 'repo_name', uuid: '{673a6070-3421-46c9-9d48-90745f7bfe8e}' },
    changes: {
      name: { new: 'repo_name', old: 'old_name' },
      full_name: { new: 'team_name/repo_name', old: 'team_name/old_name' },
    },
  },
  deleted: {
    actor: EMMA,
    repository: {
      full_name: 'team_name/other_name',
      name: 'other_name',
      uuid: '{673a6070-3421-46c9-9d48-90745f7bfe8f}',
    },
  },
  modified: {
    eventKey: 'repo:modified',
    date: '2017-09-19T09:51:06+1000',
    actor: { name: 'admin', emailAddress: 'admin@example.com', id: 1, displayName: 'Administrator', type: 'NORMAL' },
    old: { slug: 'repository', id: 84, name: 'repository', scmId: 'git', state: 'AVAILABLE', project: PROJECT },
    new: { slug: 'new-name', id: 84, name: 'new name', scmId: 'git', state: 'AVAILABLE', project: PROJECT },
  },
}
// After docs.gitea.com/usage/repository/webhooks.
export const GITEA_PAYLOADS = {
  deleted: {
    action: 'deleted',
    repository: { id: 140, owner: { id: 1, login: 'gitea' }, name: 'webhooks', full_name: 'gitea/webhooks' },
    organization: { id: 1, login: 'gitea' },
    sender: { id: 1, login: 'gitea', username: 'gitea' },
  },
}
