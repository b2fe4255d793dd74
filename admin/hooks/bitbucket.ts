import { z } from 'zod'
import type { HostHookSettings } from '../../config/hooks.ts'
import type { Incoming } from '../notify/channel.ts'
import { believed, gone, type Heard, hmac, name } from './heard.ts'

/**
 * What Bitbucket sends, and what of it ends access. Cloud: support.atlassian.com/bitbucket-cloud/docs/event-payloads; Data Center:
 * confluence.atlassian.com/bitbucketserver/event-payload-938025882.html. Neither tells by a webhook who left.
 */

const cloudRepository = z.object({ full_name: name })
const cloudUpdated = z.object({
  repository: cloudRepository,
  changes: z.object({ full_name: z.object({ old: name, new: name }) }),
})
const cloudDeleted = z.object({ repository: cloudRepository })
/** The clone address is `/scm/KEY/slug.git`, with the upstream's address ending in `/scm/`. */
const serverRepository = z
  .object({ slug: name, project: z.object({ key: name }) })
  .transform(({ slug, project }) => `${project.key}/${slug}`)
const serverModified = z.object({ old: serverRepository, new: serverRepository })

/** Both sign the same way: support.atlassian.com/bitbucket-cloud/docs/manage-webhooks, "Secure webhooks". */
export function fromBitbucket(settings: HostHookSettings, { raw, header }: Incoming): Heard {
  const shown = believed(header('x-hub-signature'), `sha256=${hmac(settings.secret, raw)}`, raw)
  if ('refused' in shown) return shown
  const id = header('x-request-uuid') ?? header('x-request-id')
  const nothing = { id, effects: [], reason: '' }
  switch (header('x-event-key')) {
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
    default:
      return nothing
  }
}
