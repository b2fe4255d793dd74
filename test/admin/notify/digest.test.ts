import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { comment } from '../../../admin/comment.ts'
import { digestLines, gatheredAt } from '../../../admin/notify/digest.ts'
import { emailChannel } from '../../../admin/notify/email.ts'
import type { Notify } from '../../../admin/notify/notify.ts'
import { claimDigest } from '../../../admin/notify/outbox.ts'
import { sampleNotice } from '../../../admin/notify/sample.ts'
import { teamsChannel } from '../../../admin/notify/teams/teams.ts'
import type { DigestSettings, EmailSettings } from '../../../config/notify.ts'
import { weekly } from '../../../config/policy/hours.ts'
import { type MailServer, startMail } from './mailserver.ts'
import { type Stage, standing, startStage } from './stage.ts'
import { startTeams } from './teamsserver.ts'

// What needs nobody at once is told together; what somebody has to answer or hear of is not.

const MONDAY_NOON = Date.UTC(2026, 0, 5, 12)
const HOUR = 3_600_000
const atNine: DigestSettings = {
  every: 'day',
  at: weekly('UTC', [{ days: [0, 1, 2, 3, 4, 5, 6], from: 540, to: 541 }]),
}

let stage: Stage
let mail: MailServer
let now: number

beforeAll(async () => {
  stage = await startStage()
})
afterAll(async () => await stage?.stop())
beforeEach(async () => {
  mail = await startMail()
  now = MONDAY_NOON
})
afterEach(async () => {
  await stage.forget()
  await mail.stop()
})

/** One of several control planes. */
function plane(over: Partial<EmailSettings> = {}): Notify {
  const plain = { type: 'email', name: 'mail', smtp: mail.url, requireTls: false, from: 'gate@acme.example' } as const
  const settings: EmailSettings = {
    ...plain,
    unsubscribe: 'mailto:gate@acme.example',
    also: [],
    digest: atNine,
    ...over,
  }
  return stage.notify([emailChannel(settings, () => undefined)], { channels: [settings] }, () => now)
}
const subjects = (to: string) => mail.to(to).map(({ subject = '' }) => subject)

async function talk(id: string, ...words: string[]): Promise<void> {
  for (const content of words)
    await comment(stage.telling, { request: id, by: 'mona', via: 'cli', content }, Date.now())
}

test('is told once to each, by whichever of two control planes, after an hour without a mail server too', async () => {
  const planes = [plane(), plane()]
  const round = () => Promise.all(planes.map(one => one.round()))
  const id = await stage.ask()
  await round()
  await talk(id, 'why?', 'and <b>when</b>?')
  await stage.vote(id, 'mona')
  await round()
  // The question and its outcome come at once.
  expect(subjects('raj@acme.example').sort()).toEqual([
    expect.stringMatching(/^Re: dana: .* \[r-/),
    expect.stringMatching(/^dana: .* \[r-/),
  ])
  expect(subjects('dana@acme.example')).toEqual([expect.stringMatching(/^dana: .* \[r-/)])
  now = Date.UTC(2026, 0, 6, 9, 0, 9)
  await round()
  expect(subjects('dana@acme.example')).toHaveLength(1)

  mail.refuse = () => ({ code: 450, text: 'busy' })
  for (const minute of [1, 20, 40, 59]) {
    now = Date.UTC(2026, 0, 6, 9, minute)
    await round()
  }
  mail.refuse = () => undefined
  now = Date.UTC(2026, 0, 6, 12)
  await round()
  await round()
  expect(subjects('dana@acme.example').slice(1)).toEqual(['2 notices of the gate'])
  const digest = mail.to('dana@acme.example').at(-1)
  expect(digest?.text).toMatch(/Z {2}mona says: why\?\n.*mona says: and <b>when<\/b>\?/)
  expect(digest?.html).not.toContain('<b>when')
  expect(digest?.headers.find(({ key }) => key === 'list-unsubscribe')?.value).toContain('mailto:gate@acme.example')
  const states = await stage.sql`select distinct state from control.delivery`
  expect(states).toEqual([{ state: 'delivered' }])
})

test('at the opening of the hours, what waited for it; a question comes by itself, broken glass at once', async () => {
  const hours = weekly('UTC', [{ days: [0, 1, 2, 3, 4], from: 480, to: 600 }])
  const one = plane({ hours })
  const id = await stage.ask()
  await stage.ask({ repository: 'acme/prod', breakGlass: true })
  await stage.vote(await stage.ask({ repository: 'acme/web' }), 'mona', 'deny')
  await stage.vote(await stage.ask({ repository: 'acme/other' }), 'mona', 'deny')
  await one.round()
  expect(subjects('dana@acme.example')).toEqual([expect.stringContaining('acme/prod')])
  now = Date.UTC(2026, 0, 6, 8, 0, 11)
  await one.round()
  expect(subjects('dana@acme.example').slice(1)).toEqual(['2 notices of the gate'])
  expect(subjects('raj@acme.example').filter(subject => subject.includes(id))).toHaveLength(1)
})

test('of several senders that reach for it at one moment one has all of it', async () => {
  const id = await stage.ask()
  await talk(id, ...Array.from({ length: 20 }, (_, at) => `and ${at}?`))
  await plane().round()
  const claim = { channel: 'mail', now: Date.UTC(2026, 0, 6, 9, 1), lease: Date.UTC(2026, 0, 6, 9, 2), limit: 500 }
  const reach = () => claimDigest(stage.sql, claim)
  const recipients = (await Promise.all([reach(), reach(), reach(), reach(), reach()])).flatMap(taken => {
    return taken.length === 0 ? [] : [`${taken[0]?.recipient} ${taken.length}`]
  })
  expect(recipients.toSorted()).toEqual([...new Set(recipients)].toSorted())
  expect(recipients[0]).toMatch(/ 20$/)
})

test('what a control plane had taken that died is told by the next one', async () => {
  const id = await stage.ask()
  await talk(id, 'why?')
  const one = plane()
  await one.round()
  now = Date.UTC(2026, 0, 6, 9, 1)
  await stage.sql`update control.delivery set due = ${new Date(now + 60_000)}, attempts = 1 where digest`
  await one.round()
  expect(subjects('dana@acme.example')).toEqual([])
  now += 80_000
  await one.round()
  expect(subjects('dana@acme.example')).toEqual([expect.stringContaining('mona says: why?')])
})

test('a workflow of Teams gets one card of them', async () => {
  const teams = await startTeams()
  const { sql, telling: act, store } = stage
  const deciding = { sql, act, policy: { standing: () => standing }, now: () => store.now() }
  const settings = { type: 'teams', name: 'team', url: teams.url, digest: { every: 'hour' } } as const
  const channel = teamsChannel(settings, () => undefined, { people: new Map(), deciding, refuse: async () => {} })
  const one = stage.notify([channel], { channels: [settings] }, () => now)
  const id = await stage.ask()
  await talk(id, 'why?', 'when?')
  await one.round()
  now += HOUR + 11_000
  await one.round()
  expect(teams.posted.map(({ text }) => text.split('\n')[0])).toEqual([
    expect.stringContaining('dana asks'),
    '2 notices of the gate',
  ])
  expect(teams.posted[1]?.text).toContain('mona says: when?')
  await teams.stop()
})

test('questions, outcomes, coming ends and broken glass are gathered only where the settings name them', () => {
  const loud = { asks: false, opens: MONDAY_NOON }
  for (const type of ['request.approved', 'request.denied', 'window.ending', 'request.break-glass'] as const) {
    expect(gatheredAt(atNine, { type, ...loud }, MONDAY_NOON)).toBeUndefined()
    expect(gatheredAt({ ...atNine, events: [type] }, { type, ...loud }, MONDAY_NOON)).toBe(Date.UTC(2026, 0, 6, 9))
  }
  const question = { type: 'request.vote', asks: true, opens: MONDAY_NOON + HOUR } as const
  expect(gatheredAt(atNine, question, MONDAY_NOON)).toBeUndefined()
  const glass = { type: 'request.break-glass', asks: false, opens: MONDAY_NOON + HOUR } as const
  expect(gatheredAt(atNine, glass, MONDAY_NOON)).toBeUndefined()
  expect(gatheredAt({ every: 'hour' }, { type: 'window.ended', ...loud }, MONDAY_NOON + 1)).toBe(MONDAY_NOON + HOUR)
  expect(gatheredAt(undefined, { type: 'window.ended', ...loud }, MONDAY_NOON)).toBeUndefined()
})

test('a digest lists so many, and counts the rest', () => {
  const { title, lines } = digestLines(Array.from({ length: 300 }, () => sampleNotice(MONDAY_NOON)))
  expect([title, lines.length, lines.at(-1)]).toEqual([
    '300 notices of the gate',
    201,
    'And 100 more: drawbridge audit list',
  ])
})
