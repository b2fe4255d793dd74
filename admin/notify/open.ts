import type { ChannelSettings } from '../../config/notify.ts'
import type { Settings } from '../../config/settings.ts'
import type { Channel } from './channel.ts'
import { type Notify, type NotifyOptions, startNotify } from './notify.ts'
import { webhookChannel } from './webhook.ts'

/** What tells people, as the settings say; nothing where they name no channel. */
export function openNotify(
  { notify }: Settings,
  options: Omit<NotifyOptions, 'settings' | 'channels'>,
): Notify | undefined {
  if (notify === undefined || notify.channels.length === 0) return undefined
  return startNotify({ ...options, settings: notify, channels: notify.channels.map(openChannel) })
}

/** The channel that these settings describe. */
function openChannel(settings: ChannelSettings): Channel {
  switch (settings.type) {
    case 'webhook':
      return webhookChannel(settings)
  }
}

/** What must never stand in a record. */
export function notifySecrets({ notify }: Settings): string[] {
  return notify?.channels.flatMap(secretsOf) ?? []
}

function secretsOf(settings: ChannelSettings): string[] {
  switch (settings.type) {
    case 'webhook':
      return [settings.secret]
  }
}
