import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type BotServer, startBot } from '../admin/notify/botserver.ts'
import { linkIn, type MailServer, startMail } from '../admin/notify/mailserver.ts'
import { type Receiver, startReceiver } from '../admin/notify/receiver.ts'
import { type SlackServer, startSlack } from '../admin/notify/slackserver.ts'
import { startTeams, type TeamsServer } from '../admin/notify/teamsserver.ts'
import { type ControlPlane, startControlPlane } from '../support/control.ts'
import { cloneRepository, commitFile, gitEnvironment, makeRepository, refsOf } from '../support/git.ts'
import { type Program, startProgram, until } from '../support/program.ts'
import { type Stand, type StartedProxy, startStand } from '../support/stand.ts'

// Where people already are: a push that is refused asks by itself and waits, and goes on when somebody approves in "Slack", by mail
// or in "Teams". Git, the proxy, the control plane, Redis and Postgres are real.

const POLICY = `
version: 1
people: { dana: [dana, dana@acme.example], mona: [mona, mona@acme.example], raj: [raj, raj@acme.example] }
groups: { leads: [mona] }
requests:
  - name: push
    trigger: push
    repositories: local/acme/**
    window: 30m
    auto_request: { wait: 2m }
    approvers: leads
    revoke_on_idle: 10m
`
let stand: Stand
let proxy: StartedProxy
let slack: SlackServer
let teams: TeamsServer
let bot: BotServer
let mail: MailServer
let receiver: Receiver
let gate: ControlPlane

beforeAll(async () => {
  ;[stand, slack, teams, bot, mail, receiver] = await Promise.all([
    startStand({ proxies: 0 }),
    startSlack(),
    startTeams(),
    startBot(),
    startMail(),
    startReceiver(),
  ])
  await stand.store.doubt()
  for (const [id, email, confirmed] of [
    ['UMONA', 'mona@acme.example', true],
    ['URAJ', 'raj@acme.example', true],
    ['UEVE', 'mona@acme.example', false],
  ] as const) {
    slack.members.set(id, { id, team_id: 'T1', is_email_confirmed: confirmed, profile: { email } })
  }
  for (const [name, userRole] of [
    ['mona', 'user'],
    ['eve', 'guest'],
  ] as const) {
    const [id, userPrincipalName] = [`29:${name}`, 'mona@acme.example']
    const tenantId = bot.settings.tenant
    bot.members.set(id, { id, objectId: crypto.randomUUID(), userPrincipalName, tenantId, userRole })
  }
  const { token, signingSecret, appToken, url: api } = slack
  const list = 'mailto:gate@acme.example?subject=unsubscribe'
  const post = { smtp: mail.url, requireTls: false, from: 'gate@acme.example', unsubscribe: list, also: [] }
  const notify = {
    ending: 600_000,
    giveUp: 86_400_000,
    people: new Map(),
    channels: [
      { type: 'slack', name: 'approvals', token, channel: 'C1', signingSecret, appToken, api },
      { type: 'teams', name: 'chats', chat: teams.chat },
      { type: 'teams', name: 'team', bot: bot.settings },
      { type: 'email', name: 'mail', ...post },
      { type: 'webhook', name: 'siem', url: receiver.url, secret: receiver.secret },
    ] as const,
  }
  const people = { dana: 'developer', mona: 'approver', root: 'admin', 'service:gate': 'front' }
  const engines = { redis: stand.redis.url, postgres: stand.postgres.url }
  gate = await startControlPlane(engines, people, POLICY, { notify, publicAdmin: 'https://access.acme.example' })
  proxy = await stand.startProxy({ control: { url: gate.url, tokenFile: join(gate.folder, 'service:gate') } })
})
afterAll(async () => {
  await gate?.close()
  await Promise.all([slack, teams, bot, mail, receiver].map(server => server?.stop()))
  await stand?.close()
})

/** A push that waits for its window. */
async function push(
  name: string,
): Promise<{ readonly git: Program; readonly repository: string; landed(): Promise<boolean> }> {
  const repository = `local/acme/${name}`
  const target = await makeRepository(join(stand.folder, 'acme', `${name}.git`))
  const work = await cloneRepository(target)
  const tip = await commitFile(work, `${name}.ts`, 'export {}\n')
  const url = new URL(`${proxy.urls.http}/${repository}.git`)
  url.username = 'dana'
  url.password = readFileSync(join(gate.folder, 'dana'), 'utf8').trim()
  const args = ['-C', work, 'push', url.href, 'HEAD:refs/heads/main']
  const git = await startProgram('git', args, { env: gitEnvironment({}) })
  return { git, repository, landed: async () => (await refsOf(target))['refs/heads/main'] === tip }
}

async function wentOn({ git, landed }: Awaited<ReturnType<typeof push>>): Promise<void> {
  expect([await git.ended, git.output()]).toEqual([0, expect.stringContaining('let through by')])
  expect(await landed()).toBe(true)
}

/** The message in Slack about a repository. */
const message = (repository: string) =>
  JSON.stringify([...slack.messages.values()].filter(one => JSON.stringify(one).includes(repository)))

/** Hands over what Slack sends. */
async function deliver(payload: object): Promise<string> {
  const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString()
  const answer = await fetch(`${gate.url}/channels/approvals`, { method: 'POST', headers: slack.sign(body), body })
  expect(answer.status).toBe(200)
  return await answer.text()
}

test('a refused push appears in Slack; strangers change nothing; the approver lets it go on; the message says who and until when', async () => {
  const pushing = await push('slack')
  await until(() => message(pushing.repository) !== '[]')
  expect(message(pushing.repository)).toContain('nothing on record here')
  const stale = slack.press('UEVE')
  await deliver(stale)
  expect(slack.whispers).toMatchObject([{ user: 'UEVE', text: expect.stringContaining('does not know who you are') }])
  await deliver(slack.press('URAJ'))
  expect(await deliver(slack.submit('URAJ'))).toContain('not among those who are asked')
  expect(await pushing.landed()).toBe(false)
  await deliver(slack.press('UMONA'))
  expect(await deliver(slack.submit('UMONA'))).toContain('Your approval is counted.')
  await wentOn(pushing)
  await until(() =>
    message(pushing.repository).includes('Approved by mona. Ends in 30 minutes, or when idle for 10. dana:'),
  )
  expect(message(pushing.repository)).not.toContain('drawbridge_approve')
  await deliver({ ...stale, trigger_id: slack.trigger() })
  expect(slack.whispers).toHaveLength(2)
})

test('the same by email: scanners that open the link change nothing, the click on its page does, once', async () => {
  const pushing = await push('mail')
  const asked = () => mail.to('mona@acme.example').find(({ text }) => text?.includes(pushing.repository))
  const { origin, pathname } = new URL(linkIn(await until(asked)))
  expect(origin).toBe('https://access.acme.example')
  // The push before is what they did last.
  expect(asked()?.text).toMatch(/Did last: +push to local\/acme\/slack, ok/)
  for (const method of ['GET', 'HEAD', 'GET']) await fetch(`${gate.url}${pathname}`, { method })
  expect(await (await fetch(`${gate.url}${pathname}`)).text()).toContain('You decide as <strong>mona</strong>')
  expect(await pushing.landed()).toBe(false)
  const click = () =>
    fetch(`${gate.url}${pathname}`, { method: 'POST', body: new URLSearchParams({ says: 'approve' }) })
  expect(await (await click()).text()).toContain('Your approval is counted.')
  await wentOn(pushing)
  const heard = () => mail.to('dana@acme.example').find(({ text }) => text?.includes('Approved by mona'))
  expect((await until(heard)).text).toContain('Approved by mona. Ends in 30 minutes, or when idle for 10.')
  const again = await click()
  expect([again.status, await again.text()]).toEqual([404, expect.stringContaining('There is nothing to decide here')])
})

test("the same by Teams: the link in the approver's chat lets the push go on", async () => {
  const pushing = await push('chat')
  const chat = () =>
    teams.posted.filter(({ to, text }) => to === 'mona@acme.example' && text.includes(pushing.repository))
  const { link = '' } = await until(() => chat()[0])
  const { pathname } = new URL(link)
  expect(await (await fetch(`${gate.url}${pathname}`)).text()).toContain('You decide as <strong>mona</strong>')
  const body = new URLSearchParams({ says: 'approve' })
  expect((await fetch(`${gate.url}${pathname}`, { method: 'POST', body })).status).toBe(200)
  await wentOn(pushing)
  const heard = () => teams.posted.filter(({ to }) => to === 'dana@acme.example').at(-1)?.text
  await until(() => heard()?.includes('Approved by mona. Ends in 30 minutes, or when idle for 10. dana: '))
})

test('and by the bot in a Teams channel: a guest changes nothing and is told so, the approver presses, the card says so', async () => {
  const pushing = await push('bot')
  await until(() => bot.text().includes(pushing.repository))
  const deliver = async (activity: object) => {
    const headers = { 'content-type': 'application/json', authorization: await bot.authorize() }
    const answer = await fetch(`${gate.url}/channels/team`, { method: 'POST', headers, body: JSON.stringify(activity) })
    return await answer.json()
  }
  expect(await deliver(bot.press('29:eve', 'Approve'))).toMatchObject({
    value: expect.stringContaining('does not know who'),
  })
  expect(await pushing.landed()).toBe(false)
  const stale = bot.press('29:eve', 'Approve')
  expect(await deliver(bot.press('29:mona', 'Approve'))).toMatchObject({ value: 'Your approval is counted.' })
  await wentOn(pushing)
  const said = () =>
    bot
      .text()
      .split('\n')
      .filter(line => line.includes(pushing.repository))
      .join()
  await until(() => said().includes('Approved by mona. Ends in 30 minutes, or when idle for 10.'))
  expect(await deliver(stale)).toMatchObject({ value: expect.stringContaining('does not know who') })
})

test('a terminal shows what waits, and what came of it; what is said goes from there into the thread, and back', async () => {
  const watching = await gate.start('mona', 'git-access', 'pending', '--watch')
  const asked = await gate.run('dana', 'git-access', 'request', 'local/acme/talk', '--push', '--reason', 'PAY-1')
  const id = asked.stdout.trim()
  await until(() => watching.output().includes(`drawbridge request approve ${id}, or deny`))
  expect(watching.output()).toContain(
    `${id}  dana  create,update local/acme/talk (every branch and tag)  for 30m  PAY-1`,
  )
  await until(() => message('local/acme/talk') !== '[]')
  expect(await gate.run('mona', 'drawbridge', 'request', 'comment', id, 'which', 'ticket?')).toMatchObject({
    status: 0,
  })
  await until(() => slack.replies.some(({ text }) => text === 'mona says: which ticket?'))
  const [thread = ''] = [...slack.messages.keys()].slice(-1)
  await until(() => slack.sockets.length === 1)
  const event = {
    type: 'message',
    channel: 'C1',
    user: 'UMONA',
    text: 'never mind',
    ts: '1700000200.000001',
    thread_ts: thread,
  }
  const envelope = slack.envelope('events_api', { type: 'event_callback', team_id: 'T1', event })
  await until(() => slack.acknowledged.some(({ envelope_id }) => envelope_id === envelope))
  const shown = await gate.run('dana', 'git-access', 'status', id)
  await gate.run('mona', 'drawbridge', 'request', 'deny', id, '--reason', 'which ticket?')
  await until(() => watching.output().includes(`${id} is denied by mona: which ticket?`))
  await watching.stop('SIGINT')
  expect(shown.stdout).toMatch(/mona .* cli +which ticket\?\n.*mona .* slack +never mind/)
  expect(await gate.run('root', 'drawbridge', 'request', 'comment', 'r-0none', 'x')).toMatchObject({ status: 1 })
})

test('what is typed in Slack comes by its socket', async () => {
  const id = slack.envelope('slash_commands', { text: '', user_id: 'UMONA', team_id: 'T1' })
  await until(() => slack.acknowledged.some(({ envelope_id }) => envelope_id === id))
  expect(slack.acknowledged.at(-1)?.payload?.text).toContain('You have no requests.')
})

test('and the receiver of webhooks hears the same, in order', async () => {
  const bodies = () => receiver.taken.map(({ body }) => JSON.parse(body))
  const first = () => bodies().filter(({ data }) => data.request?.id === bodies()[0].data.request.id)
  await until(() => first().length >= 3)
  expect(
    first()
      .map(({ type }) => type)
      .slice(0, 3),
  ).toEqual(['request.made', 'request.vote', 'request.approved'])
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
