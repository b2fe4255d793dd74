import { z } from 'zod'
import type { HostHookSettings } from '../../config/hooks.ts'
import type { Incoming } from '../notify/channel.ts'
import { actionsHappening, repository } from './actions.ts'
import { branch, commit, fullRef, type Happening, moment, number } from './happening.ts'
import { believed, gone, type Heard, hmac, name } from './heard.ts'

/**
 * What Gitea and Forgejo send, as docs.gitea.com/usage/repository/webhooks has it, and what of it concerns access. They tell neither
 * who left nor what a repository was called before.
 */

const deleted = z.object({ action: z.literal('deleted'), repository: z.object({ full_name: name }) })

/** Of Forgejo, which tells of its runs only that they are over: forgejo.org/docs/latest/user/webhooks. */
const runOver = z.object({
  action: z.enum(['success', 'failure', 'recover']),
  run: z.object({
    id: number,
    commit_sha: commit,
    prettyref: z.union([fullRef, branch]),
    workflow_id: name,
    is_fork_pull_request: z.literal(false),
    trigger_user: z.object({ id: number, login: name }),
    stopped: moment,
    repository,
  }),
})

function happeningOf(event: string | undefined, body: unknown): Happening | undefined {
  if (!/^action_run_(success|failure|recover)$/.test(event ?? '')) return actionsHappening(event, body)
  const { data } = runOver.safeParse(body)
  if (data === undefined) return undefined
  const { run } = data
  return {
    phase: 'over',
    event: { kind: 'pipeline', name: run.workflow_id, ref: run.prettyref },
    run: `pipeline/${run.id}`,
    repository: run.repository.full_name,
    commit: run.commit_sha,
    actor: run.trigger_user,
    at: run.stopped,
  }
}

/** Forgejo sends the same under these names beside those of its own. */
export function fromGitea(settings: HostHookSettings, { raw, header }: Incoming): Heard {
  const shown = believed(header('x-gitea-signature'), hmac(settings.secret, raw), raw)
  if ('refused' in shown) return shown
  const id = header('x-gitea-delivery')
  const nothing = { id, effects: [], reason: '' }
  const event = header('x-gitea-event')
  if (event !== 'repository') return { ...nothing, happening: happeningOf(event, shown.body) }
  const { data } = deleted.safeParse(shown.body)
  return data === undefined ? nothing : { id, ...gone(settings, data.repository.full_name, 'was deleted') }
}
