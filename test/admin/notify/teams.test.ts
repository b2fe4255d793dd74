import { randomBytes } from 'node:crypto'
import fastify, { type FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { linkRoutes } from '../../../admin/notify/links.ts'
import type { Notify } from '../../../admin/notify/notify.ts'
import { linksTo } from '../../../admin/notify/open.ts'
import { deliveryCounts, listDeliveries } from '../../../admin/notify/outbox.ts'
import { createRefuse } from '../../../admin/notify/refusals.ts'
import { sampleNotice } from '../../../admin/notify/sample.ts'
import { teamsChannel } from '../../../admin/notify/teams/teams.ts'
import { findRequest } from '../../../admin/register/requests.ts'
import { type Stage, standing, startStage } from './stage.ts'
import { startTeams, type TeamsServer } from './teamsserver.ts'

const LINK_KEY = randomBytes(32)

let stage: Stage
let teams: TeamsServer
let app: FastifyInstance
let base: string
let sender: Notify

beforeAll(async () => {
  stage = await startStage()
  app = fastify({ routerOptions: { maxParamLength: 512 } })
  const { sql, telling: act, store } = stage
  const deciding = { sql, act, policy: { standing: () => standing }, now: () => store.now() }
  linkRoutes(app, { ...deciding, linkKey: LINK_KEY, refuse: createRefuse({ act, log: pino({ level: 'silent' }) }) })
  base = await app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  await app?.close()
  await stage?.stop()
})
beforeEach(async () => {
  teams = await startTeams()
  sender = open()
})
afterEach(async () => {
  await stage.forget()
  await teams.stop()
})

function open(people = new Map<string, { teams?: string }>()): Notify {
  const channel = teamsChannel(settings(), linksTo(base, LINK_KEY), bot())
  return stage.notify([channel], { channels: [settings()], people })
}
const settings = () => ({ type: 'teams', name: 'team', url: teams.url, chat: teams.chat }) as const
/** What a bot would need; none is set up here. */
const bot = () => {
  const { sql, telling: act, store } = stage
  const deciding = { sql, act, policy: { standing: () => standing }, now: () => store.now() }
  return { people: new Map(), deciding, refuse: async () => {} }
}
const requestOf = async (id: string) => (await findRequest(stage.sql, id))?.request
const refusals = async () => (await stage.records('channel.refused')).map(({ code }) => code)
const postedTo = (to: string) => teams.posted.filter(one => one.to === to)
async function asked(over = {}) {
  const id = await stage.ask({ ticket: 'PAY-231', ...over })
  await sender.round()
  return { id, link: postedTo('mona@acme.example').at(-1)?.link ?? '' }
}
async function decide(link: string, says: string): Promise<number> {
  return (await fetch(link, { method: 'POST', body: new URLSearchParams({ says, reason: 'go on' }) })).status
}

describe('a request', () => {
  test('is asked in the chat of each approver by a link of their own; the click decides, and the outcome is posted', async () => {
    const { id, link } = await asked()
    expect(teams.posted.map(({ to }) => to).sort()).toEqual(['mona@acme.example', 'raj@acme.example', 'the channel'])
    for (const part of ['dana', 'acme/api', 'refs/heads/main', 'PAY-231', 'one of leads', '1h']) {
      expect(postedTo('mona@acme.example')[0]?.text).toContain(part)
    }
    expect(await (await fetch(link)).text()).toContain('You decide as <strong>mona</strong>')
    expect((await requestOf(id))?.state).toBe('requested')
    expect(await decide(link, 'approve')).toBe(200)
    expect((await requestOf(id))?.votes).toMatchObject([{ voter: { person: 'mona' }, comment: 'go on', via: 'teams' }])
    await sender.round()
    for (const to of ['the channel', 'raj@acme.example', 'dana@acme.example']) {
      expect(postedTo(to).at(-1)?.text).toContain('Approved by mona. Ends in 1 hour, or when idle for 10 minutes.')
      expect(postedTo(to).at(-1)?.text).toContain('mona, from Teams: go on')
      expect(postedTo(to).at(-1)?.link).toBeUndefined()
    }
  })

  test('has no link in the channel, where whoever reads it could be anybody', async () => {
    const { id } = await asked()
    expect(postedTo('the channel')[0]?.link).toBeUndefined()
    expect(postedTo('the channel')[0]?.text).toContain(`drawbridge request approve ${id}`)
    expect(JSON.stringify(postedTo('the channel'))).not.toContain('/links/')
  })

  test('goes to the name somebody has there, where the settings say it', async () => {
    sender = open(new Map([['mona', { teams: 'm.lisa@acme.example' }]]))
    await stage.ask()
    await sender.round()
    expect(postedTo('m.lisa@acme.example')).toHaveLength(1)
    expect(postedTo('mona@acme.example')).toEqual([])
  })

  test('is decided by its link once, about what it showed, and not when it is over', async () => {
    const { id, link } = await asked({ repository: 'acme/two' })
    const answers = await Promise.all([decide(link, 'approve'), decide(link, 'approve')])
    expect(answers.sort()).toEqual([200, 404])
    expect((await requestOf(id))?.votes).toHaveLength(1)
    const changed = await asked({ reason: 'one thing' })
    await stage.ask({ ticket: 'PAY-231', reason: 'another thing' })
    expect(await decide(changed.link, 'approve')).toBe(404)
    const denied = await asked({ repository: 'acme/other' })
    await stage.vote(denied.id, 'raj', 'deny')
    expect(await decide(denied.link, 'approve')).toBe(404)
    const cut = `${denied.link.slice(0, -1)}${denied.link.endsWith('A') ? 'B' : 'A'}`
    expect(await decide(cut, 'approve')).toBe(404)
    expect(await refusals()).toEqual(['used', 'changed', 'decided', 'signature'])
  })
})

test('what people typed is text: no markup, no mention, no link', async () => {
  const reason = '[click](https://evil.example) <at>everyone</at> **bold**'
  await asked({ reason })
  // The server of these tests takes text runs only, which Teams does not read as Markdown.
  expect(postedTo('the channel')[0]?.text).toContain(reason)
})

test('a request of the largest size is cut to what Teams takes, and says so', async () => {
  const content = sampleNotice(Date.now())
  const { request } = content.data
  const refs = Array.from({ length: 64 }, () => 'ü'.repeat(255))
  if (request) request.targets = Array.from({ length: 20 }, () => ({ repository: 'a/b', actions: ['update'], refs }))
  const delivery = { id: 'n-1', thread: 'r-1', content, recipient: 'mona@acme.example', person: 'mona', attempt: 1 }
  const link = `${base}/links/x`
  expect(Buffer.byteLength(JSON.stringify(content))).toBeGreaterThan(100_000)
  await teamsChannel(settings(), () => link, bot()).send(delivery, AbortSignal.timeout(5_000))
  expect(teams.posted[0]?.text).toContain('And more: drawbridge request show')
  expect(teams.posted[0]?.link).toBe(link)
})

test('while Teams says to wait nothing is lost, and the address with its secret is in no fault', async () => {
  teams.busy = true
  await stage.ask()
  await sender.round()
  expect(await deliveryCounts(stage.sql)).toEqual({ waiting: 3, dead: 0 })
  const faults = (await listDeliveries(stage.sql, { state: 'waiting', limit: 9 })).map(({ fault }) => fault)
  expect(new Set(faults)).toEqual(new Set([`${teams.url.host} answers 429`]))
})
