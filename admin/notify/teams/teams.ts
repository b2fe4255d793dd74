import type { TeamsSettings } from '../../../config/notify.ts'
import { type Channel, ChannelError, eachPerson } from '../channel.ts'
import { digestLines } from '../digest.ts'
import { type LinkFor, linkOf } from '../link.ts'
import { post, requireTaken } from '../outward.ts'
import { type BotOptions, teamsBot } from './bot.ts'
import { type Attachment, type Below, fittingDigest, fittingMessage } from './card.ts'

/**
 * Microsoft Teams: by workflow webhooks, which carry Adaptive Cards and nothing back, so that what is asked goes to each approver's
 * own chat with a link that is theirs alone; and by a bot where one is set up, whose card in the channel has buttons.
 */
export function teamsChannel(settings: TeamsSettings, linkFor: LinkFor, options: BotOptions): Channel {
  const { name, url, chat } = settings
  const bot = settings.bot && teamsBot(name, settings.bot, options)
  return {
    name,
    recipients: async (_, audience) => [
      ...(url === undefined && bot === undefined ? [] : [{ address: '', edited: bot !== undefined }]),
      ...(chat === undefined ? [] : eachPerson(audience, ({ teams, email }) => teams ?? email)),
    ],
    send: async (delivery, signal) => {
      const { id, recipient } = delivery
      if (recipient === '' && bot !== undefined) return await bot.send(delivery, signal)
      const link = linkOf(linkFor, { name, via: 'teams' }, delivery)
      const below: Below = link === undefined ? { kind: 'nothing' } : { kind: 'link', url: link }
      await postTo(recipient, fittingMessage(delivery, below, forWorkflow(id, recipient)), signal)
      return undefined
    },
    digest: async ({ id, recipient, contents }, signal) => {
      await postTo(recipient, fittingDigest(digestLines(contents), forWorkflow(id, recipient)), signal)
    },
    ...(bot && { receive: bot.receive }),
  }

  async function postTo(recipient: string, body: string, signal: AbortSignal): Promise<void> {
    const to = recipient === '' ? url : chat
    if (to === undefined) {
      const missing = recipient === '' ? 'an address is needed: --to ADDRESS' : 'the settings name no chat'
      throw new ChannelError(missing, { lasting: true })
    }
    const headers = { 'content-type': 'application/json', 'user-agent': 'drawbridge' }
    requireTaken(await post(to, headers, body, signal), to.host)
  }
}

/** What a workflow gets: `recipient` is whom it is to post to, `id` the same on every attempt. */
const forWorkflow = (id: string, recipient: string) => (card: Attachment) => {
  return { type: 'message', id, ...(recipient !== '' && { recipient }), attachments: [card] }
}
