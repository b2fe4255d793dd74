import { z } from 'zod'
import type { HostHookSettings } from '../../config/hooks.ts'
import type { Incoming } from '../notify/channel.ts'
import { believed, gone, type Heard, hmac, name } from './heard.ts'

/**
 * What Gitea and Forgejo send, as docs.gitea.com/usage/repository/webhooks has it, and what of it ends access. They tell neither
 * who left nor what a repository was called before.
 */

const deleted = z.object({ action: z.literal('deleted'), repository: z.object({ full_name: name }) })

/** Forgejo sends the same under these names beside those of its own. */
export function fromGitea(settings: HostHookSettings, { raw, header }: Incoming): Heard {
  const shown = believed(header('x-gitea-signature'), hmac(settings.secret, raw), raw)
  if ('refused' in shown) return shown
  const id = header('x-gitea-delivery')
  const nothing = { id, effects: [], reason: '' }
  if (header('x-gitea-event') !== 'repository') return nothing
  const { data } = deleted.safeParse(shown.body)
  return data === undefined ? nothing : { id, ...gone(settings, data.repository.full_name, 'was deleted') }
}
