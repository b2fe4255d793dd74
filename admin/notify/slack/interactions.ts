import { setTimeout as sleep } from 'node:timers/promises'
import type { View, WebClient } from '@slack/web-api'
import { z } from 'zod'
import type { Log } from '../../../audit/emit.ts'
import type { SlackSettings } from '../../../config/notify.ts'
import { Problem } from '../../api/problem.ts'
import type { Refuse } from '../refusals.ts'
import { type Deciding, UNKNOWN, voteByChannel } from '../vote.ts'
import { accessCommand } from './access.ts'
import { APPROVE, DECIDE, DENY, decisionModal, escapeMrkdwn, lastModal } from './blocks.ts'
import { createMembers } from './member.ts'
import { threadReplies } from './thread.ts'

/** What people do in Slack: press a button, send the form it opens, type `/access`, reply below a message. */

/** After three seconds Slack tells the person that it did not work. */
const PATIENCE_MILLISECONDS = 2_000

const user = z.object({ id: z.string().max(30) })
const team = z.object({ id: z.string().max(30) })
const about = z.strictObject({ request: z.string().max(50), digest: z.string().max(100) })
const decision = about.extend({ says: z.enum(['approve', 'deny']) })

const pressed = z.object({
  type: z.literal('block_actions'),
  user,
  team,
  trigger_id: z.string().max(200),
  channel: z.object({ id: z.string().max(30) }),
  actions: z.array(z.object({ action_id: z.enum([APPROVE, DENY]), value: z.string().max(500) })).length(1),
})
const submitted = z.object({
  type: z.literal('view_submission'),
  user,
  team,
  view: z.object({
    callback_id: z.literal(DECIDE),
    private_metadata: z.string().max(500),
    state: z.object({
      values: z.object({ reason: z.object({ text: z.object({ value: z.string().max(500).nullish() }) }) }),
    }),
  }),
})
const command = z.object({ user_id: z.string().max(30), team_id: z.string().max(30), text: z.string().max(500) })

/** What Slack is answered; nothing: that it has come. */
export type SlackReply =
  | { readonly response_action: 'update'; readonly view: View }
  | { readonly text: string }
  | undefined

export interface Interactions {
  /** @throws ZodError on what is none of ours */
  interact(payload: unknown, address: string | undefined): Promise<SlackReply>
  command(payload: unknown, address: string | undefined): Promise<SlackReply>
  /** What Slack tells of by itself. @throws ZodError on what is none of ours */
  event(payload: unknown, address: string | undefined): Promise<SlackReply>
}

export function slackInteractions(options: {
  readonly settings: SlackSettings
  readonly people: ReadonlyMap<string, { readonly slack?: string | undefined }>
  readonly web: WebClient
  readonly deciding: Deciding
  readonly refuse: Refuse
  readonly log: Log
  readonly patience?: number
}): Interactions {
  const { settings, people, web, deciding, refuse, log } = options
  const { policy } = deciding
  const { name, channel: place } = settings
  const patience = options.patience ?? PATIENCE_MILLISECONDS
  const personOf = createMembers({ channel: name, people, web, policy, refuse })
  const reply = threadReplies({ name, place, web, personOf, deciding, refuse })

  /** Slack is answered in time, however long the work takes; that goes on. */
  async function inTime(work: Promise<SlackReply>, late: SlackReply): Promise<SlackReply> {
    const waiting = new AbortController()
    const patient = sleep(patience, undefined, { signal: waiting.signal }).catch(() => {})
    const first = await Promise.race([work.then(reply => ({ reply })), patient])
    waiting.abort()
    if (first !== undefined) return first.reply
    work.catch(error => log.warn({ err: error }, 'what somebody did in Slack was not carried through'))
    return late
  }

  async function press(payload: z.infer<typeof pressed>, address: string | undefined): Promise<SlackReply> {
    const [{ action_id, value }] = payload.actions as [(typeof payload.actions)[number]]
    const asked = about.parse(JSON.parse(value))
    const person = await personOf(payload.user.id, payload.team.id, address)
    if (person === undefined) {
      await web.chat.postEphemeral({ channel: payload.channel.id, user: payload.user.id, text: UNKNOWN })
      return undefined
    }
    const says = action_id === APPROVE ? 'approve' : 'deny'
    const view = decisionModal(says, `${asked.request}, as ${person}`, JSON.stringify({ ...asked, says }))
    await web.views.open({ trigger_id: payload.trigger_id, view })
    return undefined
  }

  async function submit(payload: z.infer<typeof submitted>, address: string | undefined): Promise<SlackReply> {
    const { view } = payload
    const { says, request, digest } = decision.parse(JSON.parse(view.private_metadata))
    const comment = (view.state.values.reason.text.value ?? '').replaceAll(/\p{Cc}+/gu, ' ').trim()
    const person = await personOf(payload.user.id, payload.team.id, address)
    if (person === undefined) return { response_action: 'update', view: lastModal(UNKNOWN) }
    const { name: channel, type: via } = settings
    try {
      const vote = { person, request, digest, says, channel, via, ...(comment !== '' && { comment }) }
      await voteByChannel(deciding, vote)
      return {
        response_action: 'update',
        view: lastModal(says === 'approve' ? 'Your approval is counted.' : 'It is denied.'),
      }
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      const { code, message: reason } = error
      await refuse({ channel, code, reason, address, claimed: `${person} on ${request}` })
      return { response_action: 'update', view: lastModal(`That does not count: ${reason}.`) }
    }
  }

  async function typed(
    { user_id, team_id, text }: z.infer<typeof command>,
    address: string | undefined,
  ): Promise<SlackReply> {
    const person = await personOf(user_id, team_id, address)
    if (person === undefined) return { text: UNKNOWN }
    return { text: escapeMrkdwn(await accessCommand(deciding, { person, channel: settings.name, text })) }
  }

  return {
    interact: async (payload, address) => {
      const read = z.discriminatedUnion('type', [pressed, submitted]).parse(payload)
      if (read.type === 'block_actions') return await inTime(press(read, address), undefined)
      return await inTime(submit(read, address), { response_action: 'update', view: lastModal(LATE) })
    },
    command: async (payload, address) => await inTime(typed(command.parse(payload), address), { text: LATE }),
    event: async (payload, address) => {
      await inTime(
        reply(payload, address).then(() => undefined),
        undefined,
      )
      return undefined
    },
  }
}

const LATE = 'The gate is slow just now. What comes of it stands in the message; or try again in a minute.'
