import type { TeamsSettings } from '../../config/notify.ts'
import { type Channel, ChannelError, type Delivery, eachPerson } from './channel.ts'
import { type LinkFor, linkOf } from './link.ts'
import { post, requireTaken } from './outward.ts'
import { details, headline } from './words.ts'

/**
 * Microsoft Teams by its workflow webhooks, which carry Adaptive Cards and nothing back. So what is asked goes to each approver's own
 * chat with a link that is theirs alone; the channel, which many read, gets cards without one.
 */

/** Teams refuses larger messages: https://learn.microsoft.com/microsoftteams/limits-specifications-teams */
const MESSAGE_BYTES_MAX = 28 << 10
const HEADLINE_CHARACTERS_MAX = 500
const VALUE_CHARACTERS_MAX = 2_000

export function teamsChannel(settings: TeamsSettings, linkFor: LinkFor): Channel {
  const { name, url, chat } = settings
  return {
    name,
    recipients: async (_, audience) => [
      ...(url === undefined ? [] : [{ address: '' }]),
      ...(chat === undefined ? [] : eachPerson(audience, ({ teams, email }) => teams ?? email)),
    ],
    send: async (delivery, signal) => {
      const to = delivery.recipient === '' ? url : chat
      if (to === undefined) {
        const missing = delivery.recipient === '' ? 'an address is needed: --to ADDRESS' : 'the settings name no chat'
        throw new ChannelError(missing, { lasting: true })
      }
      const body = teamsMessage(delivery, linkOf(linkFor, { name, via: 'teams' }, delivery))
      const headers = { 'content-type': 'application/json', 'user-agent': 'drawbridge' }
      requireTaken(await post(to, headers, body, signal), to.host)
      return undefined
    },
  }
}

/**
 * What the workflow gets: `recipient` is whom it is to post to, `id` the same on every attempt. Of a request that is too large for
 * Teams the last lines are left out, and it says so: who decides sees all of it on the page behind the link.
 */
export function teamsMessage({ id, content, recipient }: Delivery, link: string | undefined): string {
  const { request } = content.data
  const rows = details(content).map(([name, value]) => line(name, value))
  if (link === undefined && request?.state === 'requested') {
    rows.push(line('To decide', `drawbridge request approve ${request.id}`))
  }
  const cut = line('And more', `drawbridge request show ${request?.id ?? ''}`)
  for (let shown = rows.length; ; shown--) {
    const body = [title(headline(content)), ...rows.slice(0, shown), ...(shown < rows.length ? [cut] : [])]
    const message = JSON.stringify({
      type: 'message',
      id,
      ...(recipient !== '' && { recipient }),
      attachments: [
        {
          contentType: 'application/vnd.microsoft.card.adaptive',
          contentUrl: null,
          content: {
            $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
            type: 'AdaptiveCard',
            version: '1.4',
            msteams: { width: 'Full' },
            body,
            ...(link !== undefined && {
              actions: [{ type: 'Action.OpenUrl', title: 'Look at it and decide', url: link }],
            }),
          },
        },
      ],
    })
    if (Buffer.byteLength(message) <= MESSAGE_BYTES_MAX || shown === 0) return message
  }
}

/** Text runs, since Teams reads every other text as Markdown: a reason could be a link with another name, or mention everybody. */
const run = (text: string, more = {}) => ({ type: 'TextRun', text, ...more })

const title = (text: string) => ({
  type: 'RichTextBlock',
  inlines: [run(clip(text, HEADLINE_CHARACTERS_MAX), { weight: 'Bolder', size: 'Medium' })],
})

const line = (name: string, value: string) => ({
  type: 'RichTextBlock',
  spacing: 'Small',
  inlines: [run(`${name}: `, { isSubtle: true }), run(clip(value, VALUE_CHARACTERS_MAX))],
})

const clip = (text: string, most: number) => (text.length > most ? `${text.slice(0, most - 1)}…` : text)
