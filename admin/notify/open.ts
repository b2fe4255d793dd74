import type { Log } from '../../audit/emit.ts'
import type { ChannelSettings, NotifySettings } from '../../config/notify.ts'
import type { Settings } from '../../config/settings.ts'
import type { Channel } from './channel.ts'
import { emailChannel } from './email.ts'
import { type LinkFor, signLink } from './link.ts'
import { type Notify, type NotifyOptions, startNotify } from './notify.ts'
import type { Refuse } from './refusals.ts'
import { slackChannel } from './slack/slack.ts'
import { teamsChannel } from './teams/teams.ts'
import type { Deciding } from './vote.ts'
import { webhookChannel } from './webhook.ts'

/** However long a request waits. */
const LINK_MILLISECONDS_MAX = 12 * 3_600_000
/** As many as a part of a path may have, see `api.ts`. */
const LINK_CHARACTERS_MAX = 500

/** What channels need beside what sending does. */
export interface Opening extends Deciding {
  readonly linkKey: Buffer
  readonly refuse: Refuse
  readonly log: Log
}

/** What tells people, as the settings say; nothing where they name no channel. */
export function openNotify(
  { notify, publicAdmin }: Settings,
  options: Omit<NotifyOptions, 'settings' | 'channels'> & Opening,
): Notify | undefined {
  if (notify === undefined || notify.channels.length === 0) return undefined
  const linkFor = linksTo(publicAdmin, options.linkKey)
  return startNotify({
    ...options,
    settings: notify,
    channels: notify.channels.map(said => openChannel(said, notify.people, linkFor, options)),
  })
}

/** One-time links for people outside; none where the settings do not say how the gate is reached from there. */
export function linksTo(publicAdmin: string | undefined, key: Buffer, clock: () => number = Date.now): LinkFor {
  return ({ lapses, ...decision }) => {
    if (publicAdmin === undefined) return undefined
    const token = signLink(key, { ...decision, expires: Math.min(lapses, clock() + LINK_MILLISECONDS_MAX) })
    return token.length > LINK_CHARACTERS_MAX ? undefined : `${publicAdmin}/links/${token}`
  }
}

/** The channel that these settings describe. */
function openChannel(
  settings: ChannelSettings,
  people: NotifySettings['people'],
  linkFor: LinkFor,
  options: Opening,
): Channel {
  switch (settings.type) {
    case 'webhook':
      return webhookChannel(settings)
    case 'email':
      return emailChannel(settings, linkFor)
    case 'teams':
      return teamsChannel(settings, linkFor, { people, deciding: options, refuse: options.refuse })
    case 'slack':
      return slackChannel(settings, { people, deciding: options, refuse: options.refuse, log: options.log })
  }
}
