import { z } from 'zod'
import type { MembersHostHookSettings } from '../../config/hooks.ts'
import type { Incoming } from '../notify/channel.ts'
import { believed, gone, type Heard, hmac, left, name } from './heard.ts'

/** What GitHub sends, as docs.github.com/en/webhooks/webhook-events-and-payloads has it, and what of it ends access. */

const account = z.object({ login: name })

const memberRemoved = z.object({
  action: z.literal('member_removed'),
  membership: z.object({ user: account }),
  organization: account,
})
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

/** https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries */
export function fromGithub(settings: MembersHostHookSettings, { raw, header }: Incoming): Heard {
  const shown = believed(header('x-hub-signature-256'), `sha256=${hmac(settings.secret, raw)}`, raw)
  if ('refused' in shown) return shown
  const id = header('x-github-delivery')
  const nothing = { id, effects: [], reason: '' }
  if (header('x-github-event') === 'organization') {
    const { data } = memberRemoved.safeParse(shown.body)
    if (data === undefined) return nothing
    return { ...nothing, ...left(settings, data.organization.login, data.membership.user.login) }
  }
  if (header('x-github-event') !== 'repository') return nothing
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
