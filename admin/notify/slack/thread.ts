import type { WebClient } from '@slack/web-api'
import { z } from 'zod'
import { Problem } from '../../api/problem.ts'
import { requestOfMessage } from '../outbox.ts'
import type { Refuse } from '../refusals.ts'
import { commentByChannel } from '../talk.ts'
import { type Deciding, UNKNOWN } from '../vote.ts'
import type { PersonOf } from './member.ts'

/**
 * Replies below the message about a request are comments on it. Slack tells of every message of the channel, ours as well:
 * https://docs.slack.dev/reference/events/message.channels
 */

const TEXT_CHARACTERS_MAX = 40_000
/** A reply that somebody also sent to the channel is a reply; edited and deleted ones are not: what was said first stands. */
const SUBTYPES: ReadonlySet<string | undefined> = new Set([undefined, 'thread_broadcast'])

const stamp = z.string().regex(/^\d{1,12}\.\d{1,12}$/)
const told = z.object({
  type: z.literal('event_callback'),
  team_id: z.string().max(30),
  event: z.object({
    type: z.literal('message'),
    channel: z.string().max(30),
    ts: stamp,
    thread_ts: stamp.optional(),
    subtype: z.string().max(50).optional(),
    user: z.string().max(30).optional(),
    bot_id: z.string().max(30).optional(),
    text: z.string().max(TEXT_CHARACTERS_MAX).optional(),
  }),
})

/** Takes an event. @throws ZodError on one that we did not subscribe to */
export type TakeEvent = (payload: unknown, address: string | undefined) => Promise<void>

export function threadReplies(options: {
  readonly name: string
  readonly place: string
  readonly web: WebClient
  readonly personOf: PersonOf
  readonly deciding: Deciding
  readonly refuse: Refuse
}): TakeEvent {
  const { name, place, web, personOf, deciding, refuse } = options
  return async (payload, address) => {
    const { team_id, event } = told.parse(payload)
    const { channel, ts, thread_ts, subtype, user, bot_id, text } = event
    if (channel !== place || !SUBTYPES.has(subtype) || bot_id !== undefined || user === undefined) return
    if (thread_ts === undefined || thread_ts === ts || text === undefined) return
    const request = await requestOfMessage(deciding.sql, name, `${channel} ${thread_ts}`)
    if (request === undefined) return
    const whisper = (said: string) =>
      web.chat.postEphemeral({ channel, user, thread_ts, text: `${said} What you wrote is no comment on the request.` })
    const person = await personOf(user, team_id, address)
    if (person === undefined) {
      await whisper(UNKNOWN)
      return
    }
    const message = `${channel} ${ts}`
    try {
      const said = { person, request, content: plainText(text), channel: name, via: 'slack', message } as const
      await commentByChannel(deciding, said)
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      const { code, message: reason } = error
      await refuse({ channel: name, code, reason, address, claimed: `${person} on ${request}` })
      await whisper('The gate does not take that from you.')
    }
  }
}

/** What a reader sees of Slack's markup: names of people and channels, addresses of links, and the three letters it escapes. */
export function plainText(mrkdwn: string): string {
  return mrkdwn
    .replaceAll(
      /<([@#!]?)([^<>|]{0,3000})(?:\|([^<>]{0,3000}))?>/g,
      (_, sign: string, name: string, label?: string) => {
        if (sign !== '') return `${sign === '!' ? '@' : sign}${label ?? name}`
        return label === undefined || label === name ? name : `${label} (${name})`
      },
    )
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&')
}
