import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Channel, Delivery } from '../../../admin/notify/channel.ts'
import { ChannelError, eachPerson } from '../../../admin/notify/channel.ts'
import { deliveryCounts, listDeliveries, retryDeliveries } from '../../../admin/notify/outbox.ts'
import type { Payload } from '../../../admin/notify/payload.ts'
import { announceEndings } from '../../../admin/notify/watch.ts'
import { details, headline } from '../../../admin/notify/words.ts'
import { writeGrant } from '../../../admin/register/grants.ts'
import { lockPrincipal } from '../../../admin/register/locks.ts'
import { writeSignin } from '../../../admin/register/signins.ts'
import { registerToken } from '../../../admin/register/tokens.ts'
import { sweepRequests } from '../../../admin/sweep.ts'
import type { Record } from '../../../audit/record.ts'
import { weekly } from '../../../config/policy/hours.ts'
import { HOUR } from '../control.ts'
import { type Stage, startStage } from './stage.ts'

const MINUTE = 60_000

let stage: Stage
beforeAll(async () => {
  stage = await startStage()
})
afterAll(async () => await stage?.stop())
afterEach(async () => await stage.forget())

/** A channel that remembers what it took. */
function recorder(name = 'wall', refuse: (delivery: Delivery) => ChannelError | undefined = () => undefined) {
  const taken: Delivery[] = []
  const tried: Delivery[] = []
  const channel: Channel = {
    name,
    recipients: async () => [{ address: '' }],
    send: async delivery => {
      tried.push(delivery)
      const refusal = refuse(delivery)
      if (refusal !== undefined) throw refusal
      taken.push(delivery)
      return `ref-${taken.length}`
    },
  }
  return { channel, taken, tried, events: () => taken.map(({ content }) => content.type) }
}

/** A channel that tells persons. */
function mailing() {
  const sent: { to: string; type: Payload['type']; asked: boolean }[] = []
  const channel: Channel = {
    name: 'mail',
    recipients: async (_, { asked, told }) =>
      [...asked.map(person => ({ person, asked: true })), ...told.map(person => ({ person, asked: false }))].map(
        ({ person, asked }) => ({ address: `${person}${asked ? '?' : ''}`, person }),
      ),
    send: async ({ recipient, content }) => {
      sent.push({ to: recipient.replace('?', ''), type: content.type, asked: recipient.endsWith('?') })
      return undefined
    },
  }
  const heard = (type: Payload['type']) =>
    sent
      .filter(one => one.type === type)
      .map(({ to, asked }) => (asked ? `${to} is asked` : to))
      .sort()
  return { channel, heard }
}

describe('a notice', () => {
  test('is written in the commit of the fact, and with it undone', async () => {
    const undone = stage.telling(async change => {
      await writeGrant(change, await stage.grant(), 'test')
      throw new Error('the disk is full')
    })
    await expect(undone).rejects.toThrow('the disk is full')
    expect(await stage.sql`select from control.notice`).toHaveLength(0)
    await stage.telling(async change => await writeGrant(change, await stage.grant(), 'test'))
    expect(await stage.sql`select event from control.notice`).toEqual([{ event: 'window.issued' }])
  })

  test('says the facts as they were, whatever came afterwards', async () => {
    const id = await stage.ask()
    await stage.vote(id, 'mona', 'approve', 'fine')
    const wall = recorder()
    await stage.notify([wall.channel]).round()
    expect(wall.taken.map(({ content }) => [content.type, content.data.request?.state])).toEqual([
      ['request.made', 'requested'],
      ['request.vote', 'approved'],
      ['request.approved', 'approved'],
    ])
    const [made, , approved] = wall.taken.map(({ content }) => content)
    expect(made?.data).toMatchObject({ by: 'dana', reason: 'PAY-1', request: { id, waiting_for: 'one of leads' } })
    expect(approved?.data.request?.windows).toMatchObject([{ repository: 'acme/api', idle: 10 * MINUTE }])
  })

  test('tells of a lock and of a window nobody asked for', async () => {
    await lockPrincipal(stage.telling, { principal: 'dana', by: 'mona', reason: 'lost laptop' })
    const wall = recorder()
    await stage.notify([wall.channel]).round()
    expect(wall.taken[0]?.content).toMatchObject({
      type: 'principal.locked',
      data: { by: 'mona', principal: 'dana', reason: 'lost laptop' },
    })
  })

  test('of breaking glass says so, and asks nobody', async () => {
    await stage.ask({ repository: 'acme/prod', breakGlass: true })
    const wall = recorder()
    await stage.notify([wall.channel]).round()
    expect(wall.events()).toEqual(['request.break-glass'])
  })

  test('that cannot be spread holds up no other', async () => {
    await stage.ask({ repository: 'acme/bad' })
    await stage.ask({ repository: 'acme/good' })
    const wall = recorder()
    const picky: Channel = {
      ...wall.channel,
      recipients: async content => {
        if (content.data.request?.targets[0]?.repository === 'acme/bad') throw new Error('a bug')
        return [{ address: '' }]
      },
    }
    await stage.notify([picky]).round()
    expect(wall.taken.map(({ content }) => content.data.request?.targets[0]?.repository)).toEqual(['acme/good'])
    expect(await stage.sql`select from control.notice where not spread`).toHaveLength(1)
  })
})

describe('who hears', () => {
  test('the approvers are asked, never the one who asks although she is a lead; all of them hear the outcome', async () => {
    const mail = mailing()
    const notify = stage.notify([mail.channel])
    const id = await stage.ask()
    await notify.round()
    expect(mail.heard('request.made')).toEqual(['mona is asked', 'raj is asked'])
    await stage.vote(id, 'mona', 'deny')
    await notify.round()
    expect(mail.heard('request.denied')).toEqual(['dana', 'raj'])
  })

  test('the second step is asked when the first is done, and not before', async () => {
    const mail = mailing()
    const notify = stage.notify([mail.channel])
    const id = await stage.ask({ repository: 'acme/two' })
    await notify.round()
    expect(mail.heard('request.made')).toEqual(['mona is asked', 'raj is asked'])
    await stage.vote(id, 'raj')
    await notify.round()
    expect(mail.heard('request.vote')).toEqual(['dana', 'kim is asked'])
  })

  test('nobody is asked about what is decided by the time the notice goes out', async () => {
    const mail = mailing()
    const id = await stage.ask()
    await stage.vote(id, 'raj')
    await stage.notify([mail.channel]).round()
    expect(mail.heard('request.made')).toEqual([])
  })

  test('the vote that decides is told by its outcome, once', async () => {
    const mail = mailing()
    const notify = stage.notify([mail.channel])
    const id = await stage.ask()
    await notify.round()
    await stage.vote(id, 'raj')
    await notify.round()
    expect(mail.heard('request.vote')).toEqual([])
    expect(mail.heard('request.approved')).toEqual(['dana', 'mona'])
  })

  test('reviewers hear of broken glass at once', async () => {
    const mail = mailing()
    await stage.ask({ repository: 'acme/prod', breakGlass: true })
    await stage.notify([mail.channel]).round()
    expect(mail.heard('request.break-glass')).toEqual(['dana', 'kim'])
  })

  test('after silence those who join are asked, once', async () => {
    const mail = mailing()
    const notify = stage.notify([mail.channel])
    await stage.ask({ repository: 'acme/slow' })
    const now = await stage.store.now()
    await sweepRequests(stage.sql, stage.telling, now + 9 * MINUTE, 10)
    await Promise.all([1, 2, 3].map(() => sweepRequests(stage.sql, stage.telling, now + 11 * MINUTE, 10)))
    await notify.round()
    expect(mail.heard('request.escalated')).toEqual(['dana', 'kim is asked', 'mona is asked', 'raj is asked'])
  })

  test('the coming end is told to whoever holds the window and whoever approved it', async () => {
    const mail = mailing()
    const notify = stage.notify([mail.channel])
    await stage.vote(await stage.ask(), 'mona')
    await announceEndings(stage.sql, 10 * MINUTE, (await stage.store.now()) + 55 * MINUTE)
    await notify.round()
    expect(mail.heard('window.ending')).toEqual(['dana', 'mona'])
  })

  test('whoever is on call is asked, and nobody else on the rota', async () => {
    const mail = mailing()
    await stage.ask({ repository: 'acme/night' })
    await stage.notify([mail.channel]).round()
    expect(mail.heard('request.made')).toEqual(['kim is asked'])
  })

  test('a person is told within their own hours and those of the channel; broken glass keeps neither', async () => {
    const at = (from: number, to: number) => weekly('UTC', [{ days: [0, 1, 2, 3, 4], from: from * 60, to: to * 60 }])
    let now = Date.UTC(2026, 0, 5, 6)
    const told: string[] = []
    const mail: Channel = {
      name: 'wall',
      recipients: async (_, audience) => eachPerson(audience, ({ email }) => email),
      send: async ({ recipient, content }) => {
        told.push(`${content.type} to ${recipient}`)
        return undefined
      },
    }
    const rules = { type: 'webhook', name: 'wall', url: new URL('https://x.example'), secret: '' } as const
    const people = new Map([
      ['mona', { hours: at(10, 16) }],
      ['kim', { email: 'kim@acme.example', hours: at(10, 16) }],
    ])
    const notify = stage.notify([mail], { people, channels: [{ ...rules, hours: at(8, 18) }] }, () => now)
    await stage.ask()
    await stage.ask({ repository: 'acme/prod', breakGlass: true })
    await notify.round()
    const glass = ['request.break-glass to dana@acme.example', 'request.break-glass to kim@acme.example']
    expect(told.splice(0).sort()).toEqual(glass)
    now = Date.UTC(2026, 0, 5, 8, 0, 1)
    await notify.round()
    expect(told.splice(0)).toEqual(['request.made to raj@acme.example'])
    now = Date.UTC(2026, 0, 5, 10, 0, 1)
    await notify.round()
    expect(told).toEqual(['request.made to mona@acme.example'])
  })

  test('the coming end is told once, and once more when the window was made longer', async () => {
    const now = await stage.store.now()
    const grant = await stage.grant({ starts: now, expires: now + HOUR })
    await stage.telling(async change => await writeGrant(change, grant, 'test'))
    const endings = async () => (await stage.sql`select from control.notice where event = 'window.ending'`).length
    await announceEndings(stage.sql, 10 * MINUTE, now + 40 * MINUTE)
    expect(await endings()).toBe(0)
    for (let i = 0; i < 3; i++) await announceEndings(stage.sql, 10 * MINUTE, now + 51 * MINUTE)
    expect(await endings()).toBe(1)
    await stage.sql`update control.grant set expires = ${new Date(now + 2 * HOUR)} where id = ${grant.id}`
    await announceEndings(stage.sql, 10 * MINUTE, now + 111 * MINUTE)
    expect(await endings()).toBe(2)
  })

  test('a channel tells only the events, repositories and hours it was given; broken glass keeps no hours', async () => {
    const wall = recorder()
    const night = weekly('UTC', [{ days: [0, 1, 2, 3, 4], from: 9 * 60, to: 17 * 60 }])
    const saturday = Date.UTC(2026, 0, 3, 12)
    let now = saturday
    const rules = {
      type: 'webhook',
      name: 'wall',
      url: new URL('https://x.example'),
      secret: '',
      hours: night,
    } as const
    const only = { ...rules, repositories: ['acme/*'], events: ['request.made', 'request.break-glass'] as const }
    const notify = stage.notify([wall.channel], { channels: [only] }, () => now)
    const id = await stage.ask()
    await stage.vote(id, 'mona', 'deny')
    await stage.ask({ repository: 'acme/prod', breakGlass: true })
    await stage.ask({ repository: 'acme/far/away' })
    await notify.round()
    expect(wall.events()).toEqual(['request.break-glass'])
    now = Date.UTC(2026, 0, 5, 9, 0, 1)
    await notify.round()
    expect(wall.events()).toEqual(['request.break-glass', 'request.made'])
  })
})

describe('a channel that is down', () => {
  test('for an hour under 1,000 notices loses none, doubles none, and keeps the order of each request', async () => {
    let now = Date.UTC(2026, 0, 5)
    const start = now
    const back = start + HOUR
    // Every tenth arrives although we hear nothing of it: the other side knows it again by its id.
    let count = 0
    const wall = recorder('wall', () => (now < back && count++ % 10 !== 0 ? new ChannelError('no answer') : undefined))
    const other = recorder('other')
    const seen = new Set<string>()
    const down: Channel = {
      ...wall.channel,
      send: async (delivery, signal) => {
        const reference = await wall.channel.send(delivery, signal)
        seen.add(delivery.id)
        if (now < back) throw new ChannelError('the answer was lost')
        return reference
      },
    }
    const content = (at: number, n: number): Payload => ({
      type: 'request.vote',
      timestamp: new Date(at).toISOString(),
      data: { by: 'mona', principal: 'dana', reason: `${n}` },
    })
    const rows = Array.from({ length: 1_000 }, (_, n) => ({
      event: 'request.vote',
      thread: `r-${n % 100}`,
      at: new Date(start).toISOString(),
      content: content(start, n),
    }))
    await stage.sql`
      insert into control.notice (event, thread, at, content)
      select event, thread, at, content from jsonb_to_recordset(${JSON.stringify(rows)}::text::jsonb)
        as row (event text, thread text, at timestamptz, content jsonb)`
    const notify = stage.notify([down, other.channel], {}, () => now)
    await notify.round()
    // The other channel is not held up.
    expect(other.taken).toHaveLength(1_000)
    for (; now < back; now += MINUTE) await notify.round()
    // It was left alone: with one attempt for each notice and pause it would have been asked thousands of times.
    expect(wall.tried.length).toBeLessThan(150)
    for (; (await deliveryCounts(stage.sql)).waiting > 0; now += MINUTE) {
      await notify.round()
      if (now > back + 3 * HOUR) break
    }
    expect(await deliveryCounts(stage.sql)).toEqual({ waiting: 0, dead: 0 })
    const once = [...new Map(wall.taken.map(delivery => [delivery.id, delivery])).values()]
    expect(once).toHaveLength(1_000)
    for (const [, own] of Map.groupBy(once, ({ thread }) => thread)) {
      const order = own.map(({ content }) => Number(content.data.reason))
      expect(order).toEqual([...order].sort((a, b) => a - b))
    }
  })

  test('does not hold up other requests for the sake of one notice it cannot take', async () => {
    let now = Date.now()
    const wall = recorder('wall', ({ content }) =>
      content.data.request?.reason === 'bad' ? new ChannelError('500') : undefined,
    )
    const notify = stage.notify([wall.channel], {}, () => now)
    const bad = await stage.ask({ repository: 'acme/a', reason: 'bad' })
    await stage.vote(bad, 'mona')
    for (let i = 0; i < 5; i++) await stage.ask({ repository: `acme/b${i}` })
    for (let i = 0; i < 30; i++) {
      await notify.round()
      now += 5_000
    }
    expect(wall.events()).toEqual(Array.from({ length: 5 }, () => 'request.made'))
    const growing = wall.tried.filter(({ content }) => content.data.request?.reason === 'bad')
    expect(growing.length).toBeLessThan(10)
    expect(new Set(growing.map(({ id }) => id)).size).toBe(1)
  })

  test('for longer than a day leaves dead letters, which can be sent again', async () => {
    let now = Date.now()
    let down = true
    const wall = recorder('wall', () => (down ? new ChannelError('connection refused') : undefined))
    const notify = stage.notify([wall.channel], {}, () => now)
    await stage.ask()
    for (let i = 0; i < 60; i++) {
      await notify.round()
      now += HOUR / 2
    }
    const [dead, ...more] = await listDeliveries(stage.sql, { state: 'dead', limit: 10 })
    expect(more).toEqual([])
    expect(dead).toMatchObject({ event: 'request.made', fault: 'connection refused', channel: 'wall' })
    down = false
    expect(await retryDeliveries(stage.sql, { id: dead?.id ?? '' }, now)).toBe(1)
    await notify.round()
    expect(wall.taken.map(({ id }) => id)).toEqual([dead?.id])
  })

  test('is asked no sooner than it said', async () => {
    let now = Date.now()
    let busy = true
    const wall = recorder('wall', () => (busy ? new ChannelError('429', { pause: 10 * MINUTE }) : undefined))
    const notify = stage.notify([wall.channel], {}, () => now)
    await stage.ask()
    await notify.round()
    busy = false
    now += 9 * MINUTE
    await notify.round()
    expect(wall.tried).toHaveLength(1)
    now += 2 * MINUTE
    await notify.round()
    expect(wall.taken).toHaveLength(1)
  })

  test('gives what a sender that died had taken to the next one', async () => {
    let now = Date.now()
    const hanging: Channel = {
      name: 'wall',
      recipients: async () => [{ address: '' }],
      send: (_, signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    }
    const first = stage.notify([hanging], {}, () => now)
    await stage.ask()
    void first.round()
    for (let waited = 0; waited < 100; waited++) {
      const [row] = await stage.sql<{ attempts: number }[]>`select attempts from control.delivery`
      if (row?.attempts === 1) break
      await new Promise(resolve => setTimeout(resolve, 20))
    }
    await first.close()
    const wall = recorder()
    const second = stage.notify([wall.channel], {}, () => now)
    await second.round()
    expect(wall.taken).toHaveLength(0)
    now += 2 * MINUTE
    await second.round()
    expect(wall.taken).toHaveLength(1)
  })
})

test('later notices of a request know what the first was called', async () => {
  const wall = recorder()
  const notify = stage.notify([wall.channel])
  const id = await stage.ask()
  await notify.round()
  await stage.vote(id, 'mona')
  await notify.round()
  expect(wall.taken.map(({ first }) => first)).toEqual([undefined, 'ref-1', 'ref-1'])
})

describe('what the record shows', () => {
  const unusual = (over: object = {}): Record => ({
    kind: 'anomaly.found',
    by: 'drawbridge',
    anomaly: 'volume',
    principal: 'dana',
    repository: 'acme/api',
    operation: 'op-1',
    reason: '900 MiB were fetched, where 3 MiB are usual',
    ...over,
  })
  const bypass: Record = {
    kind: 'bypass.suspected',
    by: 'drawbridge',
    repository: 'acme/api',
    ref: 'refs/heads/main',
    left: '1'.repeat(40),
    found: '2'.repeat(40),
    operation: 'op-2',
    principal: 'dana',
    reason: 'refs/heads/main stood where no recorded push had put it',
  }
  const write = (record: Record) => stage.telling(async change => change.record(record))
  const reader = (principal: string, role: 'auditor' | 'admin' | 'approver') =>
    registerToken(
      stage.telling,
      { id: `t-${principal}`, principal, roles: [role], expires: new Date(Date.now() + HOUR) },
      'test',
    )

  test('is told to those who read the ledger, and not to the one it is about', async () => {
    await reader('kim', 'auditor')
    await reader('dana', 'admin')
    await reader('mona', 'approver')
    const place = { address: '192.0.2.7', client: 'test', expires: new Date(Date.now() + HOUR) }
    const person = {
      principal: 'raj',
      groups: [],
      roles: ['auditor'] as const,
      issuer: 'https://idp.example',
      subject: '1',
    }
    await stage.telling(change => writeSignin(change, { id: 's-raj', ...person, ...place }))
    await write(unusual())
    await write(bypass)
    const mail = mailing()
    await stage.notify([mail.channel]).round()
    expect(mail.heard('anomaly.found')).toEqual(['kim', 'raj'])
    // Whose push came upon it did no wrong.
    expect(mail.heard('bypass.suspected')).toEqual(['dana', 'kim', 'raj'])
    await stage.sql`truncate control.signin cascade`
  })

  test('says what was found, and how to look at it', async () => {
    await write(bypass)
    const wall = recorder()
    await stage.notify([wall.channel]).round()
    const [told] = wall.taken
    expect(told?.content.data.finding).toEqual({
      repository: 'acme/api',
      ref: 'refs/heads/main',
      left: '1'.repeat(40),
      found: '2'.repeat(40),
      operation: 'op-2',
    })
    expect(headline(told!.content)).toMatch(/^acme\/api may have been pushed to past the gate: refs\/heads\/main stood/)
    expect(details(told!.content)).toContainEqual(['Look at it', 'drawbridge audit list --operation op-2'])
  })

  test('again and again is told once an hour, and another thing at once', async () => {
    for (const operation of ['op-1', 'op-2', 'op-3']) await write(unusual({ operation }))
    await write(unusual({ anomaly: 'network' }))
    await write(bypass)
    await write(bypass)
    // As long as names may be: an index would not take it.
    await write({ ...bypass, ref: `refs/heads/${'é€漢'.repeat(900)}` })
    const wall = recorder()
    await stage.notify([wall.channel]).round()
    expect(wall.events()).toEqual(['anomaly.found', 'anomaly.found', 'bypass.suspected', 'bypass.suspected'])
    // Each by itself: an alarm that edits an old message is not seen.
    expect(new Set(wall.taken.map(({ thread }) => thread)).size).toBe(4)
  })

  test('keeps to the repositories and hours of a channel, but for a bypass, which waits for no morning', async () => {
    await write(unusual())
    await write(unusual({ anomaly: 'network', repository: 'acme/other' }))
    await write(bypass)
    const [wall, narrow] = [recorder('closed'), recorder('narrow')]
    const settings = { type: 'webhook', url: new URL('https://hooks.acme.example/'), secret: '' } as const
    const hours = weekly('UTC', [{ days: [0, 1, 2, 3, 4], from: 9 * 60, to: 17 * 60 }])
    const closed = { ...settings, name: 'closed', hours }
    const channels = [closed, { ...settings, name: 'narrow', repositories: ['acme/api'] }]
    const saturday = Date.UTC(2026, 0, 3, 12)
    await stage.notify([wall.channel, narrow.channel], { channels }, () => saturday).round()
    expect(narrow.events()).toEqual(['anomaly.found', 'bypass.suspected'])
    expect(wall.events()).toEqual(['bypass.suspected'])
  })
})
