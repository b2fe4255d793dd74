import { z } from 'zod'
import type { MembersHostHookSettings } from '../../config/hooks.ts'
import type { Incoming } from '../notify/channel.ts'
import { branch, commit, type Happening, moment, number, repositoryPath } from './happening.ts'
import { believed, gone, goneBelow, type Heard, left, name } from './heard.ts'

/**
 * What GitLab sends, and what of it concerns access. Persons and projects: docs.gitlab.com/administration/system_hooks; merges,
 * pipelines, jobs and deployments: docs.gitlab.com/user/project/integrations/webhook_events.
 */

const systemEvent = z.discriminatedUnion('event_name', [
  z.object({ event_name: z.literal('project_destroy'), path_with_namespace: name }),
  z.object({ event_name: z.enum(['project_rename', 'project_transfer']), old_path_with_namespace: name }),
  z.object({ event_name: z.literal('group_rename'), old_full_path: name }),
  z.object({ event_name: z.literal('user_rename'), old_username: name }),
  z.object({ event_name: z.literal('user_destroy'), username: name }),
  z.object({
    event_name: z.literal('user_remove_from_group'),
    user_username: name,
    group_path: name,
    group_id: number,
  }),
])

/** Of a job's there is a name and no username. */
const user = z.object({ id: number, username: name.optional(), name })
const project = z.object({ path_with_namespace: repositoryPath })
const OVER = ['success', 'failed', 'canceled', 'skipped'] as const
const status = z.enum(['running', ...OVER])
/** Runs of what is in the project itself. What a merge request brings opens nothing. */
const OWN = ['push', 'web', 'trigger', 'schedule', 'api', 'pipeline', 'parent_pipeline', 'ondemand_dast_scan'] as const
const event = z.discriminatedUnion('object_kind', [
  z.object({
    object_kind: z.literal('merge_request'),
    user,
    project,
    object_attributes: z.object({
      id: number,
      action: z.literal('merge'),
      target_branch: branch,
      merge_commit_sha: commit.nullish(),
      last_commit: z.object({ id: commit }).nullish(),
      updated_at: moment,
    }),
  }),
  z.object({
    object_kind: z.literal('pipeline'),
    user,
    project,
    object_attributes: z.object({
      id: number,
      name: name.nullish(),
      ref: branch,
      tag: z.boolean(),
      sha: commit,
      source: z.enum(OWN),
      status,
      created_at: moment,
    }),
  }),
  z.object({
    object_kind: z.literal('build'),
    user,
    project,
    ref: branch,
    tag: z.boolean(),
    sha: commit,
    build_id: number,
    build_name: name,
    build_status: status,
    build_started_at: moment.nullish(),
    build_created_at: moment,
    pipeline_id: number,
  }),
  z.object({
    object_kind: z.literal('deployment'),
    user,
    project,
    status,
    status_changed_at: moment,
    deployment_id: number,
    environment: name,
    commit_url: z.string().max(1_000).nullish(),
  }),
])

const COMMIT_AT_THE_END = /\/commit\/([0-9a-f]{40}(?:[0-9a-f]{24})?)$/

function happeningOf(body: unknown): Happening | undefined {
  const { data } = event.safeParse(body)
  if (data === undefined) return undefined
  const common = {
    repository: data.project.path_with_namespace,
    actor: { id: data.user.id, login: data.user.username ?? data.user.name },
  }
  const phase = (now: z.infer<typeof status>) => (now === 'running' ? 'began' : 'over')
  // GitLab names tags and branches alike, and says beside it which it is.
  const refOf = (ref: string, tag: boolean) => (tag ? ref.replace('refs/heads/', 'refs/tags/') : ref)
  switch (data.object_kind) {
    case 'merge_request': {
      const { id, target_branch: ref, merge_commit_sha, last_commit, updated_at: at } = data.object_attributes
      const merged = { phase: 'began', event: { kind: 'merge', ref }, run: `merge/${id}`, at } as const
      return { ...common, ...merged, commit: merge_commit_sha ?? last_commit?.id }
    }
    case 'pipeline': {
      const { id, name, ref, tag, sha, status, created_at: at } = data.object_attributes
      const named = { kind: 'pipeline', ref: refOf(ref, tag), ...(name && { name }) } as const
      return { ...common, phase: phase(status), event: named, run: `pipeline/${id}`, commit: sha, at }
    }
    case 'build': {
      const { build_id, build_name: name, ref, tag, sha, build_status, build_started_at, build_created_at } = data
      return {
        ...common,
        phase: phase(build_status),
        event: { kind: 'job', name, ref: refOf(ref, tag) },
        run: `job/${build_id}`,
        commit: sha,
        at: build_started_at ?? build_created_at,
        pipeline: `pipeline/${data.pipeline_id}`,
      }
    }
    case 'deployment': {
      const { deployment_id, environment: name, status, status_changed_at: at, commit_url } = data
      const event = { kind: 'deployment', name } as const
      const commit = COMMIT_AT_THE_END.exec(commit_url ?? '')?.[1]
      return { ...common, phase: phase(status), event, run: `deployment/${deployment_id}`, commit, at }
    }
  }
}

/** https://docs.gitlab.com/user/project/integrations/webhooks: the secret itself is the proof, in a header. */
export function fromGitlab(settings: MembersHostHookSettings, { raw, header }: Incoming): Heard {
  const shown = believed(header('x-gitlab-token'), settings.secret, raw)
  if ('refused' in shown) return shown
  const id = header('idempotency-key') ?? header('x-gitlab-event-uuid')
  const { data } = systemEvent.safeParse(shown.body)
  switch (data?.event_name) {
    case 'project_destroy':
      return { id, ...gone(settings, data.path_with_namespace, 'was deleted') }
    case 'project_rename':
    case 'project_transfer':
      return { id, ...gone(settings, data.old_path_with_namespace, 'was renamed') }
    case 'group_rename':
      return { id, ...goneBelow(settings, data.old_full_path, 'was renamed') }
    case 'user_rename':
      return { id, ...goneBelow(settings, data.old_username, 'was renamed') }
    case 'user_remove_from_group':
      return { id, ...left(settings, [data.group_path, data.group_id], data.user_username) }
    case 'user_destroy':
      return { id, ...left(settings, [settings.organization ?? ''], data.username) }
    default:
      return { id, effects: [], reason: '', happening: happeningOf(shown.body) }
  }
}
