import { z } from 'zod'
import type { MembersHostHookSettings } from '../../config/hooks.ts'
import type { Incoming } from '../notify/channel.ts'
import { actionsHappening, repository } from './actions.ts'
import { branch, commit, type Happening, moment, number } from './happening.ts'
import { believed, gone, goneBelow, type Heard, hmac, left, name } from './heard.ts'

/** What GitHub sends, as docs.github.com/en/webhooks/webhook-events-and-payloads has it, and what of it concerns access. */

const account = z.object({ login: name })

const organizationChanged = z.discriminatedUnion('action', [
  z.object({
    action: z.literal('member_removed'),
    membership: z.object({ user: account }),
    organization: account,
  }),
  z.object({ action: z.literal('renamed'), changes: z.object({ login: z.object({ from: name }) }) }),
])
const repositoryMoved = z.object({
  action: z.string(),
  repository: z.object({ name, full_name: name, owner: account }),
  changes: z
    .object({
      repository: z.object({ name: z.object({ from: name }) }).optional(),
      owner: z.object({ from: z.object({ user: account.optional(), organization: account.optional() }) }).optional(),
    })
    .optional(),
})

const deployment = z.object({
  action: z.literal('created'),
  deployment: z.object({
    id: number,
    sha: commit,
    ref: branch,
    environment: name,
    creator: z.object({ id: number, login: name }),
    created_at: moment,
  }),
  repository,
})
const ENDED = ['success', 'failure', 'error', 'inactive'] as const
const deploymentStatus = deployment.extend({ deployment_status: z.object({ state: z.enum(ENDED) }) })

function happeningOf(event: string | undefined, body: unknown): Happening | undefined {
  if (event !== 'deployment' && event !== 'deployment_status') return actionsHappening(event, body)
  const over = event === 'deployment_status'
  const { data } = (over ? deploymentStatus : deployment).safeParse(body)
  if (data === undefined) return undefined
  const { id, sha, ref, environment, creator, created_at } = data.deployment
  return {
    phase: over ? 'over' : 'began',
    event: { kind: 'deployment', name: environment, ref },
    run: `deployment/${id}`,
    repository: data.repository.full_name,
    commit: sha,
    actor: creator,
    at: created_at,
  }
}

/** https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries */
export function fromGithub(settings: MembersHostHookSettings, { raw, header }: Incoming): Heard {
  const shown = believed(header('x-hub-signature-256'), `sha256=${hmac(settings.secret, raw)}`, raw)
  if ('refused' in shown) return shown
  const id = header('x-github-delivery')
  const nothing = { id, effects: [], reason: '' }
  const event = header('x-github-event')
  if (event === 'organization') {
    const { data } = organizationChanged.safeParse(shown.body)
    if (data === undefined) return nothing
    if (data.action === 'renamed') return { id, ...goneBelow(settings, data.changes.login.from, 'was renamed') }
    return { id, ...left(settings, [data.organization.login], data.membership.user.login) }
  }
  if (event !== 'repository') return { ...nothing, happening: happeningOf(event, shown.body) }
  const { data } = repositoryMoved.safeParse(shown.body)
  if (data === undefined) return nothing
  const { action, repository, changes } = data
  const before = changes?.owner?.from.organization?.login ?? changes?.owner?.from.user?.login
  const renamed = changes?.repository?.name.from
  if (action === 'deleted') return { id, ...gone(settings, repository.full_name, 'was deleted') }
  if (action === 'renamed' && renamed)
    return { id, ...gone(settings, `${repository.owner.login}/${renamed}`, 'was renamed') }
  if (action === 'transferred' && before)
    return { id, ...gone(settings, `${before}/${repository.name}`, 'was transferred') }
  return nothing
}
