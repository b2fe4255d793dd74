import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../admin/notify/receiver.ts'
import { type SlackServer, startSlack } from '../admin/notify/slackserver.ts'
import { startTeams, type TeamsServer } from '../admin/notify/teamsserver.ts'
import { type ControlPlane, startControlPlane } from '../support/control.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { until } from '../support/program.ts'
import { type Redis, startRedis } from '../support/redis.ts'

// A whole control plane, its commands, "Slack", "Teams" and a receiver of webhooks.

const POLICY = `
version: 1
people: { dana: [dana], mona: [mona, mona@acme.example], raj: [raj, raj@acme.example] }
groups: { leads: [mona] }
requests:
  - { name: push, trigger: push, repositories: acme/**, approvers: leads, revoke_on_idle: 10m }
`
let redis: Redis
let database: Postgres
let slack: SlackServer
let teams: TeamsServer
let receiver: Receiver
let gate: ControlPlane

beforeAll(async () => {
  ;[redis, database, slack, teams, receiver] = await Promise.all([
    startRedis(),
    startPostgres(),
    startSlack(),
    startTeams(),
    startReceiver(),
  ])
  for (const [id, email] of [
    ['UMONA', 'mona@acme.example'],
    ['URAJ', 'raj@acme.example'],
  ] as const) {
    slack.members.set(id, { id, team_id: 'T1', is_email_confirmed: true, profile: { email } })
  }
  const { token, signingSecret, appToken, url: api } = slack
  const notify = {
    ending: 600_000,
    giveUp: 86_400_000,
    people: new Map(),
    channels: [
      { type: 'slack', name: 'approvals', token, channel: 'C1', signingSecret, appToken, api },
      { type: 'teams', name: 'team', chat: teams.chat },
      { type: 'webhook', name: 'siem', url: receiver.url, secret: receiver.secret },
    ] as const,
  }
  const people = { dana: 'developer', mona: 'approver', root: 'admin' }
  gate = await startControlPlane({ redis: redis.url, postgres: database.url }, people, POLICY, {
    notify,
    publicAdmin: 'https://access.acme.example',
  })
})
afterAll(async () => {
  await gate?.close()
  await Promise.all([redis?.stop(), database?.stop(), slack?.stop(), teams?.stop(), receiver?.stop()])
})

const message = () => JSON.stringify([...slack.messages.values()])

/** What Slack sends when somebody presses Approve below the last message, and then sends the form. */
async function approve(user: string): Promise<void> {
  const actions = [...slack.messages.values()].at(-1)?.blocks.find(({ type }) => type === 'actions')
  const button = actions?.type === 'actions' ? actions.elements[0] : undefined
  const common = { user: { id: user }, team: { id: 'T1' } }
  const press = { action_id: button?.action_id, value: button?.value }
  await deliver({
    ...common,
    type: 'block_actions',
    trigger_id: slack.trigger(),
    channel: { id: 'C1' },
    actions: [press],
  })
  const view = slack.views.at(-1)
  const state = { values: { reason: { text: { value: 'go on' } } } }
  const { callback_id, private_metadata } = view ?? {}
  await deliver({ ...common, type: 'view_submission', view: { callback_id, private_metadata, state } })
}

async function deliver(payload: object): Promise<void> {
  const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString()
  const answer = await fetch(`${gate.url}/channels/approvals`, { method: 'POST', headers: slack.sign(body), body })
  expect(answer.status).toBe(200)
}

test('a request made in a terminal appears in Slack; a stranger changes nothing; the approver lets the one who waits go on', async () => {
  const asked = gate.start('dana', 'git-access', 'request', 'acme/api', '--push', '--for', '30m', '--reason', 'PAY-1')
  await until(() => message().includes('PAY-1'))
  await approve('URAJ')
  expect(message()).toContain('Approve')
  await approve('UMONA')
  await until(() => message().includes('Approved by mona'))
  expect(message()).toContain('Approved by mona. Ends in 30 minutes, or when idle for 10. dana:')
  const program = await asked
  await program.stop()
  const list = await gate.run('dana', 'git-access', 'status', '--json')
  expect(JSON.parse(list.stdout).grants).toMatchObject([
    { principal: 'dana', repository: 'acme/api', state: 'live', issued_by: 'mona' },
  ])
})

test("the same by Teams: the link in the approver's chat lets the one who waits go on", async () => {
  const asked = await gate.start('dana', 'git-access', 'request', 'acme/web', '--push', '--for', '30m', '--wait')
  const chat = () => teams.posted.filter(({ to, text }) => to === 'mona@acme.example' && text.includes('acme/web'))
  const { link = '' } = await until(() => chat()[0])
  const { origin, pathname } = new URL(link)
  expect(origin).toBe('https://access.acme.example')
  expect(await (await fetch(`${gate.url}${pathname}`)).text()).toContain('You decide as <strong>mona</strong>')
  const answer = await fetch(`${gate.url}${pathname}`, {
    method: 'POST',
    body: new URLSearchParams({ says: 'approve' }),
  })
  expect(answer.status).toBe(200)
  expect(await asked.ended).toBe(0)
  expect(asked.output()).toContain('is approved')
})

test('what is typed in Slack comes by its socket', async () => {
  await until(() => slack.sockets.length === 1)
  const id = slack.envelope('slash_commands', { text: '', user_id: 'UMONA', team_id: 'T1' })
  await until(() => slack.acknowledged.some(({ envelope_id }) => envelope_id === id))
  expect(slack.acknowledged.at(-1)?.payload?.text).toContain('You have no requests.')
})

test('and the receiver of webhooks hears the same, in order', async () => {
  await until(() => receiver.taken.length >= 3)
  expect(receiver.taken.slice(0, 3).map(({ body }) => JSON.parse(body).type)).toEqual([
    'request.made',
    'request.vote',
    'request.approved',
  ])
})

test('a channel is tried, and what it did not take is listed and sent again, by the command line', async () => {
  const tried = await gate.run('root', 'drawbridge', 'notify', 'test', 'siem')
  expect(tried).toMatchObject({ status: 0 })
  expect(receiver.taken.at(-1)?.body).toContain('a test of this channel')
  receiver.answer = { status: 410 }
  await gate.run('root', 'drawbridge', 'lock', 'raj', '--reason', 'gone')
  const dead = async () => (await gate.run('root', 'drawbridge', 'notify', 'list', '--json')).stdout
  await until(async () => (await dead()).includes('principal.locked'))
  receiver.answer = { status: 200 }
  const [row] = JSON.parse(await dead())
  expect(await gate.run('root', 'drawbridge', 'notify', 'retry', row.id)).toMatchObject({ status: 0 })
  await until(() => receiver.taken.some(({ id }) => id === row.id))
  expect(await gate.run('mona', 'drawbridge', 'notify', 'retry', '--channel', 'siem')).toMatchObject({ status: 4 })
  expect(await gate.run('root', 'drawbridge', 'notify', 'test', 'nowhere')).toMatchObject({ status: 1 })
})
