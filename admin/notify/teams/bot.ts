import { z } from 'zod'
import type { Reach, TeamsBotSettings } from '../../../config/notify.ts'
import { Problem } from '../../api/problem.ts'
import { personBehind } from '../../voter.ts'
import { type Delivery, type Incoming, type Reply, RINGS } from '../channel.ts'
import { isFirst } from '../once.ts'
import type { Refuse } from '../refusals.ts'
import { type Deciding, UNKNOWN, voteByChannel } from '../vote.ts'
import { APPROVE, type Below, DENY, fittingMessage, remark } from './card.ts'
import { connectTeams } from './connector.ts'
import { createProof } from './proof.ts'

/**
 * A bot in a Teams channel: one card for each request, edited as decisions come, with buttons while it is open. Whoever presses them
 * is a person of the tenant whom the gate knows, and decides by the same rules as everywhere.
 */

const LOOKUP_MILLISECONDS_MAX = 8_000

const id = z.string().min(1).max(500)
const outside = z.object({ type: z.string().max(50), channelId: z.string().max(50), serviceUrl: z.url().max(500) })
/** https://learn.microsoft.com/adaptive-cards/authoring-cards/universal-action-model */
const pressed = z.object({
  type: z.literal('invoke'),
  name: z.literal('adaptiveCard/action'),
  id,
  from: z.object({ id, aadObjectId: z.guid() }),
  conversation: z.object({ id }),
  channelData: z.object({ tenant: z.object({ id: z.guid() }) }),
  value: z.object({
    action: z.object({
      type: z.literal('Action.Execute'),
      verb: z.enum([APPROVE, DENY]),
      data: z.object({
        request: z.string().max(50),
        digest: z.string().max(100),
        reason: z
          .string()
          .max(500)
          .default('')
          .transform(text => text.replaceAll(/\p{Cc}+/gu, ' ').trim()),
      }),
    }),
  }),
})
type Pressed = z.infer<typeof pressed>

const started = z.object({ id, activityId: id })
/** https://learn.microsoft.com/microsoftteams/platform/bots/how-to/get-teams-context */
const member = z.object({
  id,
  objectId: z.guid().optional(),
  aadObjectId: z.guid().optional(),
  userPrincipalName: z.string().max(320),
  tenantId: z.guid(),
  userRole: z.literal('user'),
})

export interface BotOptions {
  readonly people: ReadonlyMap<string, Pick<Reach, 'teams' | 'teamsId'>>
  readonly deciding: Deciding
  readonly refuse: Refuse
  readonly clock?: () => number
}

export interface TeamsBot {
  send(delivery: Delivery, signal: AbortSignal): Promise<string>
  receive(incoming: Incoming): Promise<Reply>
}

export function teamsBot(name: string, settings: TeamsBotSettings, options: BotOptions): TeamsBot {
  const { people, deciding, refuse } = options
  const { sql, policy } = deciding
  const clock = options.clock ?? Date.now
  const connector = connectTeams(settings, clock)
  const prove = createProof(settings)

  async function send({ content, first }: Delivery, signal: AbortSignal): Promise<string> {
    const { request } = content.data
    const below: Below =
      request?.state === 'requested'
        ? { kind: 'decide', request: request.id, digest: request.digest }
        : { kind: 'nothing' }
    const [conversation, activity] = first?.split(' ') ?? []
    if (conversation === undefined || activity === undefined) {
      const body = fittingMessage({ content }, below, card => {
        const channelData = { channel: { id: settings.channel } }
        return { isGroup: true, tenantId: settings.tenant, channelData, activity: message(card) }
      })
      const made = started.parse(await connector.call('POST', 'v3/conversations', body, signal))
      return `${made.id} ${made.activityId}`
    }
    const thread = `v3/conversations/${encodeURIComponent(conversation)}/activities`
    const isComment = content.type === 'request.comment'
    if (!isComment) {
      const body = fittingMessage({ content }, below, message)
      await connector.call('PUT', `${thread}/${encodeURIComponent(activity)}`, body, signal)
    }
    if (isComment || RINGS.has(content.type)) {
      await connector.call('POST', thread, JSON.stringify(message(remark(content))), signal)
    }
    return `${conversation} ${activity}`
  }

  async function receive({ raw, header, address }: Incoming): Promise<Reply> {
    const unbelieved = async (code: string, reason: string): Promise<Reply> => {
      await refuse({ channel: name, code, reason, address })
      return { status: 404 }
    }
    const activity = parsed(raw)
    const read = outside.safeParse(activity)
    if (!read.success) return await unbelieved('malformed', 'no activity of the Bot Framework')
    const proof = await prove(header('authorization'), read.data, clock())
    if ('refused' in proof) return await unbelieved(proof.refused, proof.reason)
    if (read.data.channelId !== 'msteams')
      return await unbelieved('channel', 'an activity of another channel than Teams')
    // Whoever adds the bot or writes to it is told nothing: it has only its buttons.
    if (read.data.type !== 'invoke') return { status: 200 }
    const press = pressed.safeParse(activity)
    if (!press.success) return await unbelieved('malformed', 'proved, and not understood')
    if (!(await isFirst(sql, `teams:${press.data.id}`, proof.until)))
      return await unbelieved('replayed', 'it has come before')
    return said(await decide(press.data, address))
  }

  /** What the one who pressed is told. */
  async function decide(press: Pressed, address: string | undefined): Promise<string> {
    const { verb, data } = press.value.action
    const { request, digest, reason } = data
    const person = await personOf(press, address)
    if (person === undefined) return UNKNOWN
    const says = verb === APPROVE ? 'approve' : 'deny'
    try {
      const vote = {
        person,
        request,
        digest,
        says,
        channel: name,
        via: 'teams',
        ...(reason && { comment: reason }),
      } as const
      await voteByChannel(deciding, vote)
      return says === 'approve' ? 'Your approval is counted.' : 'It is denied.'
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      const { code, message: why } = error
      await refuse({ channel: name, code, reason: why, address, claimed: `${person} on ${request}` })
      return `That does not count: ${why}.`
    }
  }

  /**
   * The person behind a member of the tenant: whom the settings name, else whoever signs in by the member's user principal name, which
   * only the tenant's administrators give. The `email` of a member anybody may have set, so nobody is told by it. Guests, bots and
   * people of other tenants are nobody.
   */
  async function personOf(press: Pressed, address: string | undefined): Promise<string | undefined> {
    const { from, conversation, channelData } = press
    const nobody = async (code: string, reason: string) => {
      await refuse({ channel: name, code, reason, address, claimed: from.aadObjectId })
      return undefined
    }
    if (!same(channelData.tenant.id, settings.tenant)) return await nobody('tenant', 'a member of another tenant')
    const path = `v3/conversations/${encodeURIComponent(conversation.id)}/members/${encodeURIComponent(from.id)}`
    const found = member.safeParse(
      await connector.call('GET', path, undefined, AbortSignal.timeout(LOOKUP_MILLISECONDS_MAX)),
    )
    if (!found.success || found.data.id !== from.id || !same(found.data.tenantId, settings.tenant)) {
      return await nobody('member', 'no person of this tenant')
    }
    const { objectId, aadObjectId, userPrincipalName } = found.data
    if (!same(aadObjectId ?? objectId ?? '', from.aadObjectId))
      return await nobody('member', 'somebody else by the roster')
    const named = [...people].find(([, { teams, teamsId }]) => {
      return same(teamsId ?? '', from.aadObjectId) || same(teams ?? '', userPrincipalName)
    })?.[0]
    return personBehind(policy.standing(), named ?? userPrincipalName)
  }

  return { send, receive }
}

const message = (card: object) => ({ type: 'message', attachments: [card] })

/** An answer to the press of a button; the card itself is edited for everybody by the notice that follows. */
const said = (value: string): Reply => ({
  status: 200,
  body: { statusCode: 200, type: 'application/vnd.microsoft.activity.message', value },
})

const same = (one: string, other: string) => one.toLowerCase() === other.toLowerCase()

function parsed(raw: Buffer): unknown {
  try {
    return JSON.parse(raw.toString('utf8'))
  } catch {
    return undefined
  }
}
