import { z } from 'zod'
import type { MembersHostHookSettings } from '../../config/hooks.ts'
import type { Incoming } from '../notify/channel.ts'
import { believed, gone, type Heard, left, name } from './heard.ts'

/** What GitLab sends, as docs.gitlab.com/administration/system_hooks has it, and what of it ends access. */

const systemEvent = z.discriminatedUnion('event_name', [
  z.object({ event_name: z.literal('project_destroy'), path_with_namespace: name }),
  z.object({ event_name: z.enum(['project_rename', 'project_transfer']), old_path_with_namespace: name }),
  z.object({ event_name: z.literal('user_destroy'), username: name }),
  z.object({ event_name: z.literal('user_remove_from_group'), user_username: name, group_path: name }),
])

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
    case 'user_remove_from_group':
      return { id, ...left(settings, data.group_path, data.user_username) }
    case 'user_destroy':
      return { id, ...left(settings, settings.organization, data.username) }
    default:
      return { id, effects: [], reason: '' }
  }
}
