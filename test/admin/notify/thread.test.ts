import fc from 'fast-check'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { COMMENTS_MAX, comment } from '../../../admin/comment.ts'
import type { Notify } from '../../../admin/notify/notify.ts'
import { createRefuse } from '../../../admin/notify/refusals.ts'
import { slackChannel } from '../../../admin/notify/slack/slack.ts'
import { plainText } from '../../../admin/notify/slack/thread.ts'
import { listComments } from '../../../admin/register/comments.ts'
import { lockPrincipal } from '../../../admin/register/locks.ts'
import { findRequest } from '../../../admin/register/requests.ts'
import { until } from '../../support/program.ts'
import { type SlackServer, startSlack } from './slackserver.ts'
import { type Stage, standing, startStage } from './stage.ts'

// Replies below a request's message are comments on it, and comments are replies: over HTTP and over the socket.

const JSON_TYPE = 'application/json'

let stage: Stage
let slack: SlackServer
let sender: Notify
let id: string
let thread: string
/** How far the sender's clock is ahead of this machine's; milliseconds. */
let ahead = 0

beforeAll(async () => {
  stage = await startStage()
})
afterAll(async () => {
  await stage?.stop()
  await slack?.stop()
})
beforeEach(async () => {
  await stage.forget()
  await slack?.stop()
  slack = await startSlack()
  for (const [member, email, more] of [
    ['UDANA', 'dana@acme.example', {}],
    ['UMONA', 'mona@acme.example', {}],
    ['UOTHER', 'somebody@acme.example', {}],
    ['UUNSURE', 'raj@acme.example', { is_email_confirmed: false }],
  ] as const) {
    slack.members.set(member, { id: member, team_id: 'T1', is_email_confirmed: true, profile: { email }, ...more })
  }
  const { token, signingSecret, appToken, url: api } = slack
  const settings = { type: 'slack', name: 'approvals', token, signingSecret, appToken, channel: 'C1', api } as const
  const { sql, telling: act, store } = stage
  const deciding = { sql, act, policy: { standing: () => standing }, now: () => store.now() }
  const log = pino({ level: 'silent' })
  const refuse = createRefuse({ act, log })
  const channel = slackChannel(settings, { people: new Map(), deciding, refuse, log, patience: 30_000 })
  ahead = 0
  sender = stage.notify([channel], { channels: [settings] }, () => Date.now() + ahead)
  id = await stage.ask()
  await sender.round()
  thread = [...slack.messages.keys()].at(-1) ?? ''
})

const mona = { id: 'UMONA', team_id: 'T1', is_email_confirmed: true, profile: { email: 'mona@acme.example' } }

let count = 0
/** What Slack sends when somebody writes in the channel: https://docs.slack.dev/reference/events/message.channels */
function message(user: string | undefined, text: string, more: object = {}) {
  const ts = `1700000100.${String(++count).padStart(6, '0')}`
  const event = {
    type: 'message',
    channel: 'C1',
    user,
    text,
    ts,
    thread_ts: thread,
    event_ts: ts,
    channel_type: 'channel',
  }
  const outside = { token: 'x', team_id: 'T1', api_app_id: 'A1', event_id: `Ev${count}`, event_time: 1_700_000_100 }
  return { ...outside, type: 'event_callback', event: { ...event, ...more } }
}
async function deliver(payload: object, headers = slack.sign(JSON.stringify(payload), Date.now(), JSON_TYPE)) {
  const [raw, header] = [Buffer.from(JSON.stringify(payload)), (name: string) => headers[name]]
  return await sender.channel('approvals')?.receive?.({ raw, header, address: '192.0.2.1' })
}
const said = async () => (await listComments(stage.sql, id)).map(({ by, via, content }) => [by, via, content])
const refusals = async () => (await stage.records('channel.refused')).map(({ code }) => code)

test('a reply of the approver is a comment: recorded, told to who asked, and no vote whatever it says', async () => {
  const bare = 'approve. Why not <https://ci.acme.example/1|the pipeline>, <@UDANA> &amp; co?\n\u202Eexe.txt'
  const heard = 'approve. Why not the pipeline (https://ci.acme.example/1), @UDANA & co? exe.txt'
  expect(await deliver(message('UMONA', bare))).toEqual({ status: 200 })
  expect(await said()).toEqual([['mona', 'slack', heard]])
  expect(await stage.records('request.comment')).toMatchObject([
    { by: 'mona', request: id, principal: 'dana', reason: heard, via: 'slack', channel: 'approvals' },
  ])
  const found = await findRequest(stage.sql, id)
  expect([found?.request.state, found?.request.votes]).toEqual(['requested', []])
  await sender.round()
  // It stands in the thread already.
  expect(slack.replies).toEqual([])
})

test('the same over the socket; what comes again, by either way, is one comment', async () => {
  await until(() => slack.sockets.length === 1)
  const reply = message('UDANA', 'the rounding is wrong since March', { subtype: 'thread_broadcast' })
  const envelope = slack.envelope('events_api', reply)
  await until(() => slack.acknowledged.some(({ envelope_id }) => envelope_id === envelope))
  slack.envelope('events_api', reply, 'another')
  await until(() => slack.acknowledged.length === 2)
  expect(await deliver({ ...reply, event_id: 'EvAgain' })).toEqual({ status: 200 })
  expect(await said()).toEqual([['dana', 'slack', 'the rounding is wrong since March']])
  expect(await stage.records('request.comment')).toHaveLength(1)
})

test('a comment from elsewhere goes into the thread as text, once, also when the answer got lost', async () => {
  const content = '<!channel> *why* not <https://evil.example|the pipeline>?'
  await comment(stage.telling, { request: id, by: 'mona', via: 'cli', content }, Date.now())
  slack.deaf = true
  await sender.round()
  slack.deaf = false
  ahead = 60_000
  await sender.round()
  expect(slack.replies).toMatchObject([
    { thread, broadcast: false, blocks: [{ text: { type: 'plain_text', text: `mona says: ${content}` } }] },
  ])
  expect(slack.replies[0]?.text).not.toMatch(/[<>]/)
  expect(slack.messages.size).toBe(1)
})

test('those whom the gate does not know, who have no part in it or are locked out say nothing, and are told so', async () => {
  await lockPrincipal(stage.act, { principal: 'mona', by: 'root', reason: 'gone' })
  for (const user of ['UOTHER', 'UUNSURE', 'UMONA']) await deliver(message(user, 'looks fine to me'))
  expect(await said()).toEqual([])
  expect(slack.whispers.map(({ user, thread: in_ }) => [user, in_])).toEqual(
    ['UOTHER', 'UUNSURE', 'UMONA'].map(user => [user, thread]),
  )
  expect(slack.whispers[0]?.text).toContain('no comment on the request')
  expect(await refusals()).toEqual(['no-part', 'address', 'locked'])
})

test('messages of programs, edits, messages outside a thread, of another channel or thread are passed over', async () => {
  for (const more of [
    { bot_id: 'B1' },
    { subtype: 'bot_message', user: undefined },
    { subtype: 'message_changed', user: undefined, message: { text: 'approve' } },
    { thread_ts: undefined },
    { thread_ts: '1600000000.000100' },
    { channel: 'C2' },
  ]) {
    expect(await deliver(message('UMONA', 'approve', more))).toEqual({ status: 200 })
  }
  expect([await said(), await refusals(), slack.whispers]).toEqual([[], [], []])
})

test('an event unsigned, signed by another, stale, re-serialised or sent twice is no comment; the address is proved to Slack', async () => {
  const reply = message('UMONA', 'approve')
  const body = JSON.stringify(reply)
  const signed = (at?: number) => slack.sign(body, at, JSON_TYPE)
  for (const headers of [
    { 'content-type': JSON_TYPE },
    { ...signed(), 'x-slack-signature': `v0=${'0'.repeat(64)}` },
    signed(Date.now() - 301_000),
    // With its keys in another order it means the same, and is not what was signed.
    slack.sign(JSON.stringify(Object.fromEntries(Object.entries(reply).reverse())), Date.now(), JSON_TYPE),
  ]) {
    expect(await deliver(reply, headers as Record<string, string>)).toEqual({ status: 404 })
  }
  expect(await said()).toEqual([])
  const good = signed()
  expect(await deliver(reply, good)).toEqual({ status: 200 })
  expect(await deliver(reply, good)).toEqual({ status: 404 })
  expect(await said()).toHaveLength(1)
  expect(await refusals()).toEqual(['unsigned', 'signature', 'stale', 'signature', 'replayed'])
  const asked = {
    token: 'x',
    type: 'url_verification',
    challenge: '3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P',
  }
  expect(await deliver(asked)).toEqual({ status: 200, body: { challenge: asked.challenge } })
})

test('an event that failed for a reason of ours is taken when Slack sends it again', async () => {
  const reply = message('UMONA', 'why?')
  const signed = slack.sign(JSON.stringify(reply), Date.now(), JSON_TYPE)
  slack.members.delete('UMONA')
  await expect(deliver(reply, signed)).rejects.toThrow('user_not_found')
  slack.members.set('UMONA', mona)
  expect(await deliver(reply, signed)).toEqual({ status: 200 })
  expect(await said()).toHaveLength(1)
})

test('an event that is signed and whatever else opens nothing and breaks nothing', async () => {
  await fc.assert(
    fc.asyncProperty(fc.object({ maxDepth: 2, maxKeys: 3 }), fc.boolean(), async (noise, inside) => {
      const reply = message('UMONA', 'approve')
      const mixed = inside ? { ...reply, event: { ...reply.event, ...noise } } : { ...reply, ...noise }
      expect([200, 404]).toContain((await deliver(mixed))?.status)
    }),
    { numRuns: 30 },
  )
  expect((await findRequest(stage.sql, id))?.request).toMatchObject({ state: 'requested', votes: [] })
})

test('a request has room for so many comments', async () => {
  await stage.sql`
    insert into control.comment (id, request, at, by, content)
    select 'c-' || n, ${id}, now(), 'mona', 'x' from generate_series(1, ${COMMENTS_MAX}) as n`
  await deliver(message('UMONA', 'one more'))
  expect(await said()).toHaveLength(COMMENTS_MAX)
  expect(await refusals()).toEqual(['too-many-comments'])
})

test('what people wrote is read as Slack shows it', () => {
  expect(plainText('<!here> <#C1|general> <https://a.example> 1 &lt; 2 &amp;amp;')).toBe(
    '@here #general https://a.example 1 < 2 &amp;',
  )
})
