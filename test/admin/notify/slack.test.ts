import fc from 'fast-check'
import fastify, { type FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { inboundRoutes } from '../../../admin/notify/inbound.ts'
import type { Notify } from '../../../admin/notify/notify.ts'
import { deliveryCounts } from '../../../admin/notify/outbox.ts'
import { createRefuse } from '../../../admin/notify/refusals.ts'
import { sampleNotice } from '../../../admin/notify/sample.ts'
import { messageBlocks } from '../../../admin/notify/slack/blocks.ts'
import { signatureFault } from '../../../admin/notify/slack/signature.ts'
import { slackChannel } from '../../../admin/notify/slack/slack.ts'
import { announceEndings } from '../../../admin/notify/watch.ts'
import { lockPrincipal } from '../../../admin/register/locks.ts'
import { findRequest, listRequests } from '../../../admin/register/requests.ts'
import { writeToken } from '../../../admin/register/tokens.ts'
import type { Role } from '../../../ca/token.ts'
import type { Reach, SlackSettings } from '../../../config/notify.ts'
import { type SlackServer, startSlack } from './slackserver.ts'
import { type Stage, standing, startStage } from './stage.ts'

let stage: Stage
let slack: SlackServer
let app: FastifyInstance
let base: string
let sender: Notify
const people = new Map<string, Reach>()
/** How far the sender's clock is ahead of this machine's; milliseconds. */
let ahead = 0

beforeAll(async () => {
  stage = await startStage()
  app = fastify()
  inboundRoutes(app, () => sender)
  base = await app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  await app?.close()
  await stage?.stop()
})
beforeEach(async () => {
  slack = await startSlack()
  people.clear()
  ahead = 0
  const member = (id: string, email: string, more = {}) =>
    slack.members.set(id, { id, team_id: 'T1', is_email_confirmed: true, profile: { email }, ...more })
  member('UMONA', 'Mona@acme.example')
  member('UDANA', 'dana@acme.example')
  member('UOTHER', 'somebody@acme.example')
  member('UUNSURE', 'raj@acme.example', { is_email_confirmed: false })
  member('UGONE', 'raj@acme.example', { deleted: true })
  member('UBOT', 'raj@acme.example', { is_bot: true })
  member('UGUEST', 'raj@acme.example', { team_id: 'T2' })
  const settings: SlackSettings = {
    type: 'slack',
    name: 'approvals',
    token: slack.token,
    channel: 'C1',
    signingSecret: slack.signingSecret,
    api: slack.url,
  }
  const { sql, telling: act, store } = stage
  const deciding = { sql, act, policy: { standing: () => standing }, now: () => store.now() }
  const log = pino({ level: 'silent' })
  const refuse = createRefuse({ act, log })
  sender = stage.notify(
    [slackChannel(settings, { people, deciding, refuse, log })],
    { channels: [settings] },
    () => Date.now() + ahead,
  )
})
afterEach(async () => {
  await stage.forget()
  await slack.stop()
})

const refusals = async () => (await stage.records('channel.refused')).map(({ code }) => code)
const stateOf = async (id: string) => (await findRequest(stage.sql, id))?.request.state
const shown = () => JSON.stringify([...slack.messages.values()].at(-1))

async function deliver(body: string, headers = slack.sign(body)) {
  const response = await fetch(`${base}/channels/approvals`, { method: 'POST', headers, body })
  const text = await response.text()
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text) }
}
const form = (payload: object) => new URLSearchParams({ payload: JSON.stringify(payload) }).toString()

const press = (title: string, user: string, team = 'T1') => form({ ...slack.press(user, title), team: { id: team } })
const submit = (user: string, reason: string | null) => form(slack.submit(user, reason))

describe('a request', () => {
  test('appears with all it takes to decide; the approver decides with a reason; the message says who and until when', async () => {
    const id = await stage.ask({ ticket: 'PAY-231', reason: 'fix rounding' })
    await sender.round()
    for (const part of ['dana', 'acme/api', 'refs/heads/main', 'PAY-231', 'fix rounding', 'one of leads', '1h']) {
      expect(shown()).toContain(part)
    }
    expect(await deliver(press('Approve', 'UMONA'))).toEqual({ status: 200, body: undefined })
    expect(await stateOf(id)).toBe('requested')
    const answer = await deliver(submit('UMONA', 'go on'))
    expect(slack.takesView(answer.body.view)).toBe(true)
    expect(JSON.stringify(answer.body)).toContain('Your approval is counted.')
    const found = await findRequest(stage.sql, id)
    expect(found?.request.votes).toMatchObject([{ voter: { person: 'mona' }, says: 'approve', comment: 'go on' }])
    await sender.round()
    expect(slack.messages.size).toBe(1)
    expect(shown()).toContain(
      'Approved by mona. Ends in 1 hour, or when idle for 10 minutes. dana: create, update on acme/api',
    )
    expect(shown()).toContain('mona, in Slack: go on')
    expect((await stage.records('request.vote')).map(({ by, via }) => [by, via])).toEqual([['mona', 'slack']])
    expect(shown()).not.toContain('drawbridge_approve')
  })

  test('is denied by the other button', async () => {
    const id = await stage.ask()
    await sender.round()
    await deliver(press('Deny', 'UMONA'))
    await deliver(submit('UMONA', null))
    expect(await stateOf(id)).toBe('denied')
  })

  test('of somebody who asked for it is not decided by them: they are told, and it is recorded', async () => {
    const id = await stage.ask()
    await sender.round()
    await deliver(press('Approve', 'UDANA'))
    const answer = await deliver(submit('UDANA', null))
    expect(JSON.stringify(answer.body)).toContain('nobody approves or denies what they asked for themselves')
    expect(await stateOf(id)).toBe('requested')
    expect(await refusals()).toEqual(['no-vote'])
  })

  test.each([
    ['an address Slack has not confirmed', 'UUNSURE', 'T1', 'address'],
    ['a member who left', 'UGONE', 'T1', 'member'],
    ['a bot', 'UBOT', 'T1', 'member'],
    ['a guest by their own workspace', 'UGUEST', 'T2', 'workspace'],
    ['a guest who says they are of ours', 'UGUEST', 'T1', 'member'],
  ])('is not decided by %s', async (_, user, team, code) => {
    const id = await stage.ask()
    await sender.round()
    await deliver(press('Approve', user, team))
    expect(slack.views).toEqual([])
    expect(slack.whispers).toMatchObject([{ user, text: expect.stringContaining('does not know who you are') }])
    expect(await stateOf(id)).toBe('requested')
    expect(await refusals()).toEqual([code])
  })

  test('whose button is pressed by one and whose form is sent by another counts for the other', async () => {
    const id = await stage.ask()
    await sender.round()
    await deliver(press('Approve', 'UMONA'))
    await deliver(submit('UOTHER', null))
    expect(await stateOf(id)).toBe('requested')
    expect(await refusals()).toEqual(['no-vote'])
  })

  test('that was changed since the message was sent is not decided by the old button', async () => {
    const id = await stage.ask()
    await sender.round()
    await deliver(press('Approve', 'UMONA'))
    await stage.ask({ reason: 'and more' })
    await deliver(submit('UMONA', null))
    expect(await stateOf(id)).toBe('requested')
    expect(await refusals()).toEqual(['request-over'])
  })

  test('is decided by whom the settings map, whatever their address there', async () => {
    people.set('raj', { slack: 'UOTHER' })
    const id = await stage.ask()
    await sender.round()
    await deliver(press('Approve', 'UOTHER'))
    await deliver(submit('UOTHER', null))
    expect((await findRequest(stage.sql, id))?.request.votes).toMatchObject([{ voter: { person: 'raj' } }])
  })
})

describe('what is not from Slack', () => {
  async function pressed() {
    const id = await stage.ask()
    await sender.round()
    return { id, body: press('Approve', 'UMONA') }
  }
  const nothing = async (id: string) => {
    expect(slack.views).toEqual([])
    expect(await stateOf(id)).toBe('requested')
  }

  test('unsigned, signed wrong, for another body or by another version is refused; all get the same answer', async () => {
    const { id, body } = await pressed()
    const good = slack.sign(body)
    const { 'x-slack-signature': signature = '', ...unsigned } = good
    const answers = new Set<string>()
    for (const headers of [
      unsigned,
      { ...good, 'x-slack-signature': signature.replace(/.$/, last => (last === '0' ? '1' : '0')) },
      { ...good, 'x-slack-signature': signature.slice(0, -1) },
      { ...good, 'x-slack-signature': signature.toUpperCase() },
      { ...good, 'x-slack-signature': signature.replace('v0', 'v1') },
      { ...good, 'x-slack-request-timestamp': String(Number(good['x-slack-request-timestamp']) + 1) },
      { ...slack.sign(`${body}&x=1`) },
    ]) {
      answers.add(JSON.stringify(await deliver(body, headers)))
    }
    expect([...answers]).toEqual(['{"status":404}'])
    await nothing(id)
    expect(await refusals()).toEqual(['unsigned', ...Array.from({ length: 6 }, () => 'signature')])
  })

  test('older than five minutes, or as far ahead, is refused', async () => {
    const { id, body } = await pressed()
    expect((await deliver(body, slack.sign(body, Date.now() - 301_000))).status).toBe(404)
    expect((await deliver(body, slack.sign(body, Date.now() + 302_000))).status).toBe(404)
    await nothing(id)
    expect(await refusals()).toEqual(['stale', 'stale'])
  })

  test('sent a second time with its good signature is refused', async () => {
    const id = await stage.ask({ repository: 'acme/two' })
    await sender.round()
    await deliver(press('Approve', 'UMONA'))
    const body = submit('UMONA', null)
    const headers = slack.sign(body)
    expect((await deliver(body, headers)).status).toBe(200)
    expect((await deliver(body, headers)).status).toBe(404)
    expect((await findRequest(stage.sql, id))?.request.votes).toHaveLength(1)
    expect(await refusals()).toEqual(['replayed'])
  })

  test('read and written again is refused: the signature is over the bytes', async () => {
    const { id, body } = await pressed()
    const payload = JSON.parse(new URLSearchParams(body).get('payload') ?? '')
    const again = new URLSearchParams({ payload: JSON.stringify(payload, null, 1) }).toString()
    expect((await deliver(again, slack.sign(body))).status).toBe(404)
    await nothing(id)
    expect(await refusals()).toEqual(['signature'])
  })

  test('signed, and whatever else it is, decides nothing', async () => {
    const { id, body } = await pressed()
    const payload = JSON.parse(new URLSearchParams(body).get('payload') ?? '')
    const odd = [
      '',
      'payload=',
      'payload=%7B',
      'payload=null',
      form({}),
      form({ ...payload, actions: [] }),
      form({ ...payload, actions: [...payload.actions, ...payload.actions] }),
      form({ ...payload, actions: [{ ...payload.actions[0], value: '{"request":1}' }] }),
      form({ ...payload, actions: [{ ...payload.actions[0], action_id: 'other' }] }),
      form({ ...payload, type: 'view_closed' }),
    ]
    for (const one of odd) expect((await deliver(one)).status).toBe(404)
    await nothing(id)
    expect(new Set(await refusals())).toEqual(new Set(['malformed']))
  })

  test('of any bytes, with any headers, is never taken for signed', () => {
    const secret = 'a signing secret nobody has'
    fc.assert(
      fc.property(fc.uint8Array(), fc.string(), fc.integer({ min: -400, max: 400 }), (bytes, signature, age) => {
        const now = Date.now()
        const timestamp = String(Math.floor(now / 1_000) + age)
        expect(signatureFault(secret, { signature, timestamp }, Buffer.from(bytes), now)).toBeDefined()
      }),
    )
  })
})

describe('/access', () => {
  const command = async (user: string, text = ''): Promise<string> => {
    const said = { command: '/access', text, user_id: user, team_id: 'T1', trigger_id: slack.trigger() }
    return (await deliver(new URLSearchParams(said).toString())).body.text
  }
  const token = (principal: string, roles: Role[], id = `t-${principal}`) =>
    stage.telling(async change => {
      const expires = new Date(Date.now() + 3_600_000)
      await writeToken(change, { id, principal, roles, expires }, 'root')
    })
  const requests = async () => (await listRequests(stage.sql, { limit: 9 })).map(({ request }) => request)

  test("lists what is one's own, and nothing to a stranger", async () => {
    const id = await stage.ask()
    expect(await command('UDANA')).toContain(id)
    expect(await command('UMONA')).toContain('You have no requests.')
    expect(await command('UBOT', 'request acme/api --push')).toContain('does not know who you are')
    expect(await requests()).toHaveLength(1)
  })

  test('asks, under the name its person showed the gate last, by the rules of the policy', async () => {
    await token('dana@acme.example', ['developer'])
    const text =
      'request acme/api.git —push --ref main,release/1 --for 30 minutes --ticket PAY-7 --reason fix <!channel> it'
    const answer = await command('UDANA', text)
    const [request] = await requests()
    expect(answer).toBe(`${request?.id} waits for approval.`)
    expect(request?.asked).toMatchObject({
      principal: 'dana@acme.example',
      targets: [
        { repository: 'acme/api', actions: ['create', 'update'], refs: ['refs/heads/main', 'refs/heads/release/1'] },
      ],
      window: 1_800_000,
      ticket: 'PAY-7',
      reason: 'fix <!channel> it',
    })
    expect(await command('UDANA', text)).toContain('already')
    expect((await stage.records('request.made')).map(({ by, via }) => [by, via])).toEqual([
      ['dana@acme.example', 'slack'],
    ])
    // Whoever asked by one name approves by none.
    await sender.round()
    await deliver(press('Approve', 'UDANA'))
    await deliver(submit('UDANA', null))
    expect(await stateOf(request?.id ?? '')).toBe('requested')
    expect(await command('UDANA', 'request acme/else --fetch')).toMatch(/approved .*acme\/else {2}to 20/)
  })

  test.each([
    ['nothing to ask for', 'request acme/api', 'actions'],
    ['no repository', 'request --push', 'name one repository'],
    ['two', 'request acme/a acme/b --push', 'name one repository'],
    ['an option there is none of', 'request acme/api --sudo', 'there is no --sudo'],
    ['a window longer than the rule has', 'request acme/api --push --for 90h', '4h'],
    ['a repository the policy knows nothing of', 'request other/api --push', 'no rule'],
    ['a repository that is none', 'request ../etc --push', 'repository'],
    ['another word', 'approve r-1', '/access request REPOSITORY'],
  ])('with %s files nothing and says what is wrong', async (_, text, said) => {
    await token('dana', ['developer'])
    expect(await command('UDANA', text)).toContain(said)
    expect(await requests()).toEqual([])
  })

  test('asks for nobody who has no sign-in, token or key, may not ask, or is locked out', async () => {
    const ask = () => command('UDANA', 'request acme/api --push')
    expect(await ask()).toContain('knows no sign-in, token or key')
    await token('dana', ['auditor'])
    expect(await ask()).toContain('knows no sign-in, token or key')
    await token('dana', ['developer'], 't-more')
    await lockPrincipal(stage.telling, { principal: 'dana@acme.example', by: 'kim', reason: 'gone' })
    expect(await ask()).toContain('dana is locked')
    expect(await requests()).toEqual([])
  })
})

test('what people typed is no link, no mention and no markup', async () => {
  await stage.ask({ reason: '<!channel> <https://evil.example|click> *bold*' })
  await sender.round()
  const message = [...slack.messages.values()][0]
  expect(message?.text).not.toContain('<')
  expect(JSON.stringify(message?.blocks)).not.toContain('mrkdwn')
})

test("a request of the largest size still fits Slack's limits", async () => {
  const content = sampleNotice(Date.now())
  const target = {
    repository: `acme/${'x'.repeat(500)}`,
    actions: ['update' as const],
    refs: Array.from({ length: 64 }, () => 'r'.repeat(500)),
  }
  const { request } = content.data
  if (request) request.targets = Array.from({ length: 20 }, () => target)
  if (request)
    request.votes = Array.from({ length: 60 }, () => ({
      by: 'm',
      says: 'approve' as const,
      at: content.timestamp,
      comment: 'c'.repeat(500),
    }))
  const blocks = messageBlocks(content)
  expect(blocks.length).toBeLessThanOrEqual(50)
  expect(slack.takesView({ type: 'modal', title: { type: 'plain_text', text: 'x' }, blocks })).toBe(true)
})

test('while Slack says to wait nothing is lost, and nothing is asked again too soon', async () => {
  slack.busy = true
  await stage.ask()
  await sender.round()
  await sender.round()
  expect(slack.calls).toHaveLength(1)
  expect(await deliveryCounts(stage.sql)).toEqual({ waiting: 1, dead: 0 })
})

test('a message that was taken although the answer was lost is not sent a second time, and is edited afterwards', async () => {
  slack.deaf = true
  const id = await stage.ask()
  await sender.round()
  expect(slack.messages.size).toBe(1)
  slack.deaf = false
  ahead = 60_000
  await sender.round()
  await stage.vote(id, 'mona')
  ahead = 120_000
  await sender.round()
  expect(slack.messages.size).toBe(1)
  expect(shown()).toContain('Approved by mona')
})

test('the coming end is told once below the message and into the channel, also when the answer got lost', async () => {
  await stage.vote(await stage.ask(), 'mona')
  await sender.round()
  slack.deaf = true
  // The rule gives an hour; the warning comes within the last ten minutes.
  await announceEndings(stage.sql, 600_000, (await stage.store.now()) + 3_300_000)
  await sender.round()
  slack.deaf = false
  ahead = 60_000
  await sender.round()
  expect(await deliveryCounts(stage.sql)).toEqual({ waiting: 0, dead: 0 })
  expect(slack.replies).toMatchObject([
    { text: expect.stringMatching(/^The window of dana ends soon/), broadcast: true },
  ])
})
