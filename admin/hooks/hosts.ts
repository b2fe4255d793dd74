import { createHmac, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import type { HostHookSettings } from '../../config/hooks.ts'
import type { Incoming } from '../notify/channel.ts'
import type { Effect } from './effect.ts'

/** What Git hosts send, as their documentation has it: how it is proved, and what of it ends access. */

/** What a host said: nothing that concerns us is an empty list. */
export type Heard =
  | { readonly id: string | undefined; readonly effects: readonly Effect[]; readonly reason: string }
  | { readonly refused: 'unsigned' | 'signature' | 'malformed' }

// What ends up in names of ours is one line.
const name = z.string().regex(/^\P{Cc}{1,255}$/u)
const account = z.object({ login: name })

// docs.github.com/en/webhooks/webhook-events-and-payloads
const githubOrganization = z.object({
  action: z.literal('member_removed'),
  membership: z.object({ user: account }),
  organization: account,
})
const githubRepository = z.object({
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
export function fromGithub(settings: HostHookSettings, { raw, header }: Incoming): Heard {
  const signature = header('x-hub-signature-256')
  if (signature === undefined) return { refused: 'unsigned' }
  const right = `sha256=${createHmac('sha256', settings.secret).update(raw).digest('hex')}`
  if (!same(signature, right)) return { refused: 'signature' }
  const body = json(raw)
  if (body === undefined) return { refused: 'malformed' }
  const id = header('x-github-delivery')
  const nothing = { id, effects: [], reason: '' }
  if (header('x-github-event') === 'organization') {
    const { data } = githubOrganization.safeParse(body)
    if (data === undefined) return nothing
    return { ...nothing, ...left(settings, data.organization.login, data.membership.user.login) }
  }
  if (header('x-github-event') !== 'repository') return nothing
  const { data } = githubRepository.safeParse(body)
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

// docs.gitlab.com/administration/system_hooks
const gitlab = z.discriminatedUnion('event_name', [
  z.object({ event_name: z.literal('project_destroy'), path_with_namespace: name }),
  z.object({ event_name: z.enum(['project_rename', 'project_transfer']), old_path_with_namespace: name }),
  z.object({ event_name: z.literal('user_destroy'), username: name }),
  z.object({ event_name: z.literal('user_remove_from_group'), user_username: name, group_path: name }),
])

/** https://docs.gitlab.com/user/project/integrations/webhooks: the secret itself is the proof, in a header. */
export function fromGitlab(settings: HostHookSettings, { raw, header }: Incoming): Heard {
  const token = header('x-gitlab-token')
  if (token === undefined) return { refused: 'unsigned' }
  if (!same(token, settings.secret)) return { refused: 'signature' }
  const body = json(raw)
  if (body === undefined) return { refused: 'malformed' }
  const id = header('idempotency-key') ?? header('x-gitlab-event-uuid')
  const { data } = gitlab.safeParse(body)
  switch (data?.event_name) {
    case 'project_destroy':
      return { id, ...gone(settings, data.path_with_namespace, 'was deleted') }
    case 'project_rename':
    case 'project_transfer':
      return { id, ...gone(settings, data.old_path_with_namespace, 'was renamed') }
    case 'user_remove_from_group':
      return { id, ...left(settings, data.group_path, data.user_username) }
    case 'user_destroy':
      return { id, ...left(settings, settings.organization, data.username) }
    default:
      return { id, effects: [], reason: '' }
  }
}

function left(settings: HostHookSettings, organization: string | undefined, login: string) {
  const { organization: own, principal, name: hook } = settings
  if (own === undefined || own.toLowerCase() !== organization?.toLowerCase()) return { effects: [], reason: '' }
  const effects: Effect[] = [{ kind: 'lock', principal: principal.replaceAll('{login}', login) }]
  return { effects, reason: `${login} left ${own}, says ${hook}` }
}

function gone({ upstream, name: hook }: HostHookSettings, path: string, what: string) {
  const effects: Effect[] = [{ kind: 'gone', repository: `${upstream}/${path}` }]
  return { effects, reason: `${path} ${what}, says ${hook}` }
}

/** In constant time; which of the two is longer may be seen. */
function same(given: string, right: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(right)]
  return a.length === b.length && timingSafeEqual(a, b)
}

function json(raw: Buffer): unknown {
  try {
    return JSON.parse(raw.toString('utf8'))
  } catch {
    return undefined
  }
}
