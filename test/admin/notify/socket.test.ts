import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Notify } from '../../../admin/notify/notify.ts'
import { createRefuse } from '../../../admin/notify/refusals.ts'
import { slackChannel } from '../../../admin/notify/slack/slack.ts'
import { findRequest } from '../../../admin/register/requests.ts'
import { until } from '../../support/program.ts'
import { type SlackServer, startSlack } from './slackserver.ts'
import { type Stage, standing, startStage } from './stage.ts'

let stage: Stage
let slack: SlackServer
let sender: Notify

beforeAll(async () => {
  stage = await startStage()
})
afterAll(async () => await stage?.stop())
beforeEach(async () => {
  slack = await startSlack()
  for (const [id, email] of [
    ['UMONA', 'mona@acme.example'],
    ['UOTHER', 'somebody@acme.example'],
  ] as const) {
    slack.members.set(id, { id, team_id: 'T1', is_email_confirmed: true, profile: { email } })
  }
  await open()
})
afterEach(async () => {
  slack.hold = undefined
  await stage.forget()
  await slack.stop()
})

async function open(patience = 30_000): Promise<void> {
  const { token, appToken, url: api } = slack
  const settings = { type: 'slack', name: 'approvals', token, appToken, channel: 'C1', api } as const
  const { sql, telling: act, store } = stage
  const deciding = { sql, act, policy: { standing: () => standing }, now: () => store.now() }
  const log = pino({ level: 'silent' })
  const refuse = createRefuse({ act, log })
  const channel = slackChannel(settings, { people: new Map(), deciding, refuse, log, patience })
  sender = stage.notify([channel], { channels: [settings] })
  await until(() => slack.sockets.length === 1)
}
const refusals = async () => (await stage.records('channel.refused')).map(({ code }) => code)
const requestOf = async (id: string) => (await findRequest(stage.sql, id))?.request

async function asked(over = {}) {
  const id = await stage.ask(over)
  await sender.round()
  return id
}
/** What Slack was answered to this. */
async function answered(envelope: string): Promise<Record<string, unknown> | undefined> {
  const found = () => slack.acknowledged.find(({ envelope_id }) => envelope_id === envelope)
  await until(() => found() !== undefined)
  return found()?.payload
}

test('by the connection the gate opened an approver decides, and somebody it does not know changes nothing', async () => {
  const id = await asked()
  expect(await answered(slack.envelope('interactive', slack.press('UMONA')))).toEqual({})
  await answered(slack.envelope('interactive', slack.press('UOTHER')))
  await answered(slack.envelope('interactive', slack.submit('UOTHER')))
  expect((await requestOf(id))?.state).toBe('requested')
  const answer = await answered(slack.envelope('interactive', slack.submit('UMONA')))
  expect(slack.takesView(answer?.view)).toBe(true)
  expect(JSON.stringify(answer)).toContain('Your approval is counted.')
  expect((await requestOf(id))?.votes).toMatchObject([{ voter: { person: 'mona' }, comment: 'go on' }])
  expect(await refusals()).toEqual(['no-vote'])
})

test('/access is answered there too', async () => {
  const id = slack.envelope('slash_commands', { command: '/access', text: '', user_id: 'UMONA', team_id: 'T1' })
  expect((await answered(id))?.text).toContain('You have no requests.')
})

test('what Slack sends again is acknowledged again and done once', async () => {
  const id = await asked({ repository: 'acme/two' })
  await answered(slack.envelope('interactive', slack.press('UMONA'), 'first'))
  slack.envelope('interactive', slack.press('UMONA'), 'first')
  await until(() => slack.acknowledged.length === 2)
  expect(slack.views).toHaveLength(1)
  const form = slack.submit('UMONA')
  for (let times = 0; times < 3; times++) slack.envelope('interactive', form, 'second')
  await until(() => slack.acknowledged.length === 5)
  expect((await requestOf(id))?.votes).toHaveLength(1)
  expect(await refusals()).toEqual([])
})

test('what failed for a reason of ours is not acknowledged, and is done when Slack sends it again', async () => {
  const id = await asked()
  await answered(slack.envelope('interactive', slack.press('UMONA')))
  const form = slack.submit('UMONA')
  slack.busy = true
  const calls = slack.calls.length
  slack.envelope('interactive', form, 'again')
  await until(() => slack.calls.length > calls)
  await until(async () => (await stage.sql`select from control.link_used where id like '%again'`).length === 0)
  slack.busy = false
  expect(slack.acknowledged.some(({ envelope_id }) => envelope_id === 'again')).toBe(false)
  slack.envelope('interactive', form, 'again')
  expect(JSON.stringify(await answered('again'))).toContain('Your approval is counted.')
  expect((await requestOf(id))?.state).toBe('approved')
})

test('Slack is answered in time although the work takes longer, and the vote counts', async () => {
  await sender.close()
  await open(100)
  const id = await asked()
  await answered(slack.envelope('interactive', slack.press('UMONA')))
  let release = () => {}
  slack.hold = new Promise(resolve => {
    release = resolve
  })
  const answer = await answered(slack.envelope('interactive', slack.submit('UMONA')))
  expect(JSON.stringify(answer)).toContain('The gate is slow just now')
  expect((await requestOf(id))?.state).toBe('requested')
  release()
  await until(async () => (await requestOf(id))?.state === 'approved')
})

describe('the connection', () => {
  test('that Slack is about to end is replaced before it is let go', async () => {
    const first = slack.sockets[0]
    first?.send(JSON.stringify({ type: 'disconnect', reason: 'warning', debug_info: { host: 'x' } }))
    await until(() => slack.sockets.length === 1 && slack.sockets[0] !== first)
    expect(slack.fewest).toBe(1)
    const id = await asked()
    await answered(slack.envelope('interactive', slack.press('UMONA')))
    await answered(slack.envelope('interactive', slack.submit('UMONA')))
    expect((await requestOf(id))?.state).toBe('approved')
  })

  test('that drops is opened again, also after Slack answered nonsense for a while', async () => {
    slack.busy = true
    slack.sockets[0]?.drop()
    const calls = slack.calls.length
    await until(() => slack.calls.length > calls)
    expect(slack.sockets).toHaveLength(0)
    slack.busy = false
    await until(() => slack.sockets.length === 1)
  })

  test('outlives whatever comes over it, and none of that decides anything', async () => {
    const id = await asked()
    const pressed = slack.press('UMONA')
    for (const text of [
      '',
      'null',
      '[]',
      '7',
      '{',
      '{}',
      '{"type":"events_api"}',
      '{"type":1}',
      '{"type":"interactive"}',
    ]) {
      slack.sockets[0]?.send(text)
    }
    const odd = [
      {},
      { ...pressed, actions: [] },
      { ...pressed, type: 'view_closed' },
      { ...pressed, actions: [{ action_id: 'drawbridge_approve', value: '{' }] },
    ]
    for (const payload of odd) expect(await answered(slack.envelope('interactive', payload))).toEqual({})
    expect(slack.views).toEqual([])
    expect((await requestOf(id))?.state).toBe('requested')
    expect(new Set(await refusals())).toEqual(new Set(['malformed']))
    expect(slack.sockets).toHaveLength(1)
  })
})
