import fc from 'fast-check'
import { generateKeyPair } from 'jose'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { comment } from '../../../admin/comment.ts'
import type { Notify } from '../../../admin/notify/notify.ts'
import { createRefuse } from '../../../admin/notify/refusals.ts'
import { teamsChannel } from '../../../admin/notify/teams/teams.ts'
import { announceEndings } from '../../../admin/notify/watch.ts'
import { findRequest } from '../../../admin/register/requests.ts'
import type { Reach } from '../../../config/notify.ts'
import { type BotServer, startBot } from './botserver.ts'
import { type Stage, standing, startStage } from './stage.ts'

// A bot in a Teams channel: its card is edited, its buttons decide, and what comes in is proved by the connector's token.

let stage: Stage
let bot: BotServer
let sender: Notify
const people = new Map<string, Reach>()
/** How far the sender's clock is ahead of this machine's; milliseconds. */
let ahead = 0

beforeAll(async () => {
  stage = await startStage()
})
afterAll(async () => await stage?.stop())
beforeEach(async () => {
  bot = await startBot()
  people.clear()
  ahead = 0
  const { tenant } = bot.settings
  const member = (id: string, objectId: string, userPrincipalName: string, more = {}) =>
    bot.members.set(id, { id, objectId, userPrincipalName, tenantId: tenant, userRole: 'user', ...more })
  member('29:mona', '00000000-0000-4000-8000-000000000001', 'Mona@acme.example')
  member('29:dana', '00000000-0000-4000-8000-000000000002', 'dana@acme.example')
  member('29:lisa', '00000000-0000-4000-8000-000000000003', 'lisa@acme.example', { email: 'raj@acme.example' })
  member('29:guest', '00000000-0000-4000-8000-000000000004', 'raj@acme.example', { userRole: 'guest' })
  member('29:other', '00000000-0000-4000-8000-000000000005', 'raj@acme.example', { tenantId: bot.settings.appId })
  const settings = { type: 'teams', name: 'team', bot: bot.settings } as const
  const { sql, telling: act, store } = stage
  const deciding = { sql, act, policy: { standing: () => standing }, now: () => store.now() }
  const refuse = createRefuse({ act, log: pino({ level: 'silent' }) })
  const channel = teamsChannel(settings, () => undefined, { people, deciding, refuse })
  sender = stage.notify([channel], { channels: [settings], people }, () => Date.now() + ahead)
})
afterEach(async () => {
  await stage.forget()
  await bot.stop()
})

async function asked(over = {}) {
  const id = await stage.ask({ ticket: 'PAY-231', ...over })
  await sender.round()
  return id
}
async function deliver(activity: object, authorization?: string) {
  const raw = Buffer.from(JSON.stringify(activity))
  const given = authorization ?? (await bot.authorize())
  const header = (name: string) => (name === 'authorization' && given !== '' ? given : undefined)
  return await sender.channel('team')?.receive?.({ raw, header, address: '192.0.2.1' })
}
const requestOf = async (id: string) => (await findRequest(stage.sql, id))?.request
const refusals = async () => (await stage.records('channel.refused')).map(({ code }) => code)
const told = (text: string) => ({
  status: 200,
  body: { statusCode: 200, type: 'application/vnd.microsoft.activity.message', value: expect.stringContaining(text) },
})

describe('a request', () => {
  test('appears with all it takes to decide; the button decides as its presser; the card then says who and until when', async () => {
    const id = await asked({ reason: 'fix rounding' })
    for (const part of ['dana', 'acme/api', 'refs/heads/main', 'PAY-231', 'fix rounding', 'one of leads']) {
      expect(bot.text()).toContain(part)
    }
    expect(await deliver(bot.press('29:mona', 'Approve'))).toEqual(told('Your approval is counted.'))
    expect(await requestOf(id)).toMatchObject({
      state: 'approved',
      votes: [{ voter: { person: 'mona' }, via: 'teams', comment: 'go on' }],
    })
    await sender.round()
    expect(bot.cards.size).toBe(1)
    expect(bot.text()).toContain('Approved by mona')
    expect(JSON.stringify([...bot.cards.values()])).not.toContain('Action.Execute')
    expect(bot.tokens).toBe(1)
    await announceEndings(stage.sql, 3_600_000, (await stage.store.now()) + 1_800_000)
    await comment(stage.telling, { request: id, by: 'mona', via: 'cli', content: 'well done' }, Date.now())
    await sender.round()
    expect(bot.replies.map(({ text }) => text)).toContain('mona says: well done')
  })

  test('is denied by the other button, and decided by whom the settings name by their object id', async () => {
    people.set('raj', { teamsId: '00000000-0000-4000-8000-000000000003' })
    const id = await asked()
    expect(await deliver(bot.press('29:lisa', 'Deny'))).toEqual(told('It is denied.'))
    expect(await requestOf(id)).toMatchObject({ state: 'denied', votes: [{ voter: { person: 'raj' } }] })
  })

  test('of somebody who asked for it, or that was changed since, is not decided: they are told, and it is recorded', async () => {
    const id = await asked()
    expect(await deliver(bot.press('29:dana', 'Approve'))).toEqual(
      told('nobody approves or denies what they asked for'),
    )
    const late = bot.press('29:mona', 'Approve')
    await stage.ask({ ticket: 'PAY-231', reason: 'and more' })
    expect(await deliver(late)).toEqual(told('That does not count'))
    expect(await requestOf(id)).toMatchObject({ state: 'requested', votes: [] })
    expect(await refusals()).toEqual(['no-vote', 'request-over'])
  })

  test.each([
    ['somebody the policy does not know, whose email is an approver’s', '29:lisa', {}, 'no-vote'],
    ['a guest', '29:guest', {}, 'member'],
    ['a member of another tenant', '29:other', {}, 'member'],
    [
      'a member who says so of another tenant',
      '29:mona',
      { channelData: { tenant: { id: crypto.randomUUID() } } },
      'tenant',
    ],
    [
      'somebody who is not in the channel',
      '29:nobody',
      { from: { id: '29:nobody', aadObjectId: crypto.randomUUID() } },
      'member',
    ],
    [
      'a member under the object id of another',
      '29:mona',
      { from: { id: '29:mona', aadObjectId: crypto.randomUUID() } },
      'member',
    ],
  ])('is not decided by %s', async (_, presser, over, code) => {
    const id = await asked()
    const answer = told(code === 'no-vote' ? 'not among those who are asked' : 'does not know who you are')
    expect(await deliver(bot.press(presser, 'Approve', over))).toEqual(answer)
    expect(await requestOf(id)).toMatchObject({ state: 'requested', votes: [] })
    expect(await refusals()).toEqual([code])
  })
})

test('an activity without a token, or with one that is wrong in anything, decides nothing; all get the same answer', async () => {
  const id = await asked()
  const { privateKey: strange } = await generateKeyPair('RS256')
  const good = await bot.authorize()
  const unsigned = `Bearer ${Buffer.from('{"alg":"none"}').toString('base64url')}.${good.split('.')[1]}.`
  const wrong: [string, string][] = [
    ['unsigned', ''],
    ['unsigned', good.replace('Bearer', 'Basic')],
    ['signature', unsigned],
    ['signature', await bot.authorize({ key: strange })],
    ['signature', await bot.authorize({ kid: 'another' })],
    ['signature', await bot.authorize({ kid: 'webchat' })],
    ['signature', await bot.authorize({ aud: crypto.randomUUID() })],
    ['signature', await bot.authorize({ iss: 'https://sts.windows.net/x/' })],
    ['signature', await bot.authorize({ serviceurl: 'https://evil.example/' })],
    ['signature', await bot.authorize({ lasts: '-301s' })],
    // The last character carries unused bits, so one in the middle.
    ['signature', good.replace(/\.([^.]+)\.(.)/, (_, body, first) => `.${body}.${first === 'A' ? 'B' : 'A'}`)],
  ]
  for (const [, authorization] of wrong) {
    expect(await deliver(bot.press('29:mona', 'Approve'), authorization)).toEqual({ status: 404 })
  }
  expect(await deliver(bot.press('29:mona', 'Approve', { serviceUrl: 'https://evil.example/' }))).toEqual({
    status: 404,
  })
  expect(await deliver(bot.press('29:mona', 'Approve', { channelId: 'webchat' }))).toEqual({ status: 404 })
  expect(await requestOf(id)).toMatchObject({ state: 'requested', votes: [] })
  expect(await refusals()).toEqual([...wrong.map(([code]) => code), 'signature', 'channel'])
})

test('a press that comes again is one press', async () => {
  const id = await asked({ repository: 'acme/two' })
  const press = bot.press('29:mona', 'Approve')
  const answers = await Promise.all([deliver(press), deliver(press)])
  expect(answers.map(answer => answer?.status).sort()).toEqual([200, 404])
  expect((await requestOf(id))?.votes).toHaveLength(1)
  expect(await refusals()).toEqual(['replayed'])
})

test('what is proved and whatever else decides nothing and breaks nothing', async () => {
  const id = await asked()
  expect(
    await deliver({ type: 'message', channelId: 'msteams', serviceUrl: bot.settings.service.href, text: 'approve' }),
  ).toEqual({
    status: 200,
  })
  const authorization = await bot.authorize()
  await fc.assert(
    fc.asyncProperty(
      fc.object({ maxDepth: 2, maxKeys: 3 }),
      fc.constantFrom('', 'value', 'from'),
      async (noise, where) => {
        const press = bot.press('29:mona', 'Nothing')
        const mixed = where === '' ? { ...press, ...noise } : { ...press, [where]: noise }
        expect((await deliver(mixed, authorization))?.status).toBe(404)
      },
    ),
    { numRuns: 30 },
  )
  expect(await requestOf(id)).toMatchObject({ state: 'requested', votes: [] })
})

test('a token that is not taken any more is asked for anew; with the connector away nothing is lost, and no secret told', async () => {
  await asked()
  bot.revoke()
  await asked({ repository: 'acme/web' })
  expect(bot.cards.size).toBe(1)
  ahead += 60_000
  await sender.round()
  expect([bot.cards.size, bot.tokens]).toEqual([2, 2])
  await bot.stop()
  await asked({ repository: 'acme/other' })
  const [row] = await stage.sql`select fault from control.delivery where state = 'waiting'`
  expect(row?.fault).toMatch(/does not answer/)
  expect(row?.fault).not.toContain(bot.settings.secret)
})
