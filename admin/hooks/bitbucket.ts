import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { HostHookSettings } from '../../config/hooks.ts'
import type { Incoming } from '../notify/channel.ts'
import { branch, commit, fullRef, type Happening, moment, number, repositoryPath } from './happening.ts'
import { believed, gone, goneBelow, type Heard, hmac, name } from './heard.ts'

/**
 * What Bitbucket sends, and what of it concerns access. Cloud: support.atlassian.com/bitbucket-cloud/docs/event-payloads; Data Center:
 * confluence.atlassian.com/bitbucketserver/event-payload-938025882.html. Neither tells by a webhook who left.
 */

const cloudRepository = z.object({ full_name: repositoryPath })
const cloudUpdated = z.object({
  repository: cloudRepository,
  changes: z.object({ full_name: z.object({ old: name, new: name }) }),
})
const cloudDeleted = z.object({ repository: cloudRepository })
/** The clone address is `/scm/KEY/slug.git`, with the upstream's address ending in `/scm/`. */
const serverRepository = z
  .object({ slug: repositoryPath, project: z.object({ key: repositoryPath }) })
  .transform(({ slug, project }) => `${project.key}/${slug}`)
const serverModified = z.object({ old: serverRepository, new: serverRepository })
const serverProject = z.object({ key: repositoryPath })
const serverProjectModified = z.object({ old: serverProject, new: serverProject })

const cloudActor = z.object({ uuid: number, nickname: name.optional(), display_name: name })
const cloudMerged = z.object({
  pullrequest: z.object({
    id: number,
    state: z.literal('MERGED'),
    destination: z.object({ branch: z.object({ name: branch }) }),
    // Twelve digits of it.
    merge_commit: z.object({ hash: z.string().regex(/^[0-9a-f]{12,40}$/) }).nullish(),
    closed_by: cloudActor,
    updated_on: moment,
  }),
  repository: cloudRepository,
})
const COMMIT_AT_THE_END = /\/commit\/([0-9a-f]{40})$/
/** What a pipeline, or any other program, says of a commit. */
const cloudStatus = z.object({
  commit_status: z.object({
    state: z.enum(['INPROGRESS', 'SUCCESSFUL', 'FAILED', 'STOPPED']),
    key: name,
    name,
    refname: branch.nullish(),
    created_on: moment,
    links: z.object({ commit: z.object({ href: z.string().max(1_000).regex(COMMIT_AT_THE_END) }) }),
  }),
  repository: cloudRepository,
  actor: cloudActor,
})
const serverMerged = z.object({
  date: moment,
  actor: z.object({ id: number, name }),
  pullRequest: z.object({
    id: number,
    state: z.literal('MERGED'),
    toRef: z.object({ id: fullRef, repository: serverRepository }),
    properties: z.object({ mergeCommit: z.object({ id: commit }) }).nullish(),
  }),
})

function happeningOf(event: string | undefined, body: unknown): Happening | undefined {
  switch (event) {
    case 'pullrequest:fulfilled':
      return cloudMerge(cloudMerged.safeParse(body).data)
    case 'repo:commit_status_created':
    case 'repo:commit_status_updated':
      return cloudPipeline(cloudStatus.safeParse(body).data)
    case 'pr:merged':
      return serverMerge(serverMerged.safeParse(body).data)
    default:
      return undefined
  }
}

const cloudAccount = ({ uuid, nickname, display_name }: z.infer<typeof cloudActor>) => {
  return { id: uuid, login: nickname ?? display_name }
}

function cloudMerge(data: z.infer<typeof cloudMerged> | undefined): Happening | undefined {
  if (data === undefined) return undefined
  const { id, destination, merge_commit, closed_by, updated_on } = data.pullrequest
  return {
    phase: 'began',
    event: { kind: 'merge', ref: destination.branch.name },
    run: `merge/${data.repository.full_name}/${id}`,
    repository: data.repository.full_name,
    commit: merge_commit?.hash,
    actor: cloudAccount(closed_by),
    at: updated_on,
  }
}

function cloudPipeline(data: z.infer<typeof cloudStatus> | undefined): Happening | undefined {
  if (data === undefined) return undefined
  const { state, key, name, refname, created_on, links } = data.commit_status
  const hash = COMMIT_AT_THE_END.exec(links.commit.href)?.[1]
  return {
    phase: state === 'INPROGRESS' ? 'began' : 'over',
    event: { kind: 'pipeline', name, ...(refname && { ref: refname }) },
    // By these two a status is found again; its address may change between the start and the end.
    run: `pipeline/${createHash('sha256')
      .update(JSON.stringify([hash, key]))
      .digest('hex')}`,
    repository: data.repository.full_name,
    commit: hash,
    actor: cloudAccount(data.actor),
    at: created_on,
  }
}

function serverMerge(data: z.infer<typeof serverMerged> | undefined): Happening | undefined {
  if (data === undefined) return undefined
  const { id, toRef, properties } = data.pullRequest
  return {
    phase: 'began',
    event: { kind: 'merge', ref: toRef.id },
    run: `merge/${toRef.repository}/${id}`,
    repository: toRef.repository,
    commit: properties?.mergeCommit.id,
    actor: { id: data.actor.id, login: data.actor.name },
    at: data.date,
  }
}

/** Both sign the same way: support.atlassian.com/bitbucket-cloud/docs/manage-webhooks, "Secure webhooks". */
export function fromBitbucket(settings: HostHookSettings, { raw, header }: Incoming): Heard {
  const shown = believed(header('x-hub-signature'), `sha256=${hmac(settings.secret, raw)}`, raw)
  if ('refused' in shown) return shown
  const id = header('x-request-uuid') ?? header('x-request-id')
  const nothing = { id, effects: [], reason: '' }
  const event = header('x-event-key')
  switch (event) {
    case 'repo:updated': {
      const { data } = cloudUpdated.safeParse(shown.body)
      const { old, new: now } = data?.changes.full_name ?? {}
      return old === undefined || old === now ? nothing : { id, ...gone(settings, old, 'was renamed') }
    }
    case 'repo:deleted': {
      const { data } = cloudDeleted.safeParse(shown.body)
      return data === undefined ? nothing : { id, ...gone(settings, data.repository.full_name, 'was deleted') }
    }
    case 'repo:modified': {
      const { data } = serverModified.safeParse(shown.body)
      return data === undefined || data.old === data.new ? nothing : { id, ...gone(settings, data.old, 'was renamed') }
    }
    case 'project:modified': {
      const { data } = serverProjectModified.safeParse(shown.body)
      const moved = data !== undefined && data.old.key !== data.new.key
      return moved ? { id, ...goneBelow(settings, data.old.key, 'was renamed') } : nothing
    }
    default:
      return { ...nothing, happening: happeningOf(event, shown.body) }
  }
}
