import { randomBytes } from 'node:crypto'
import fastify, { type FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { emailChannel } from '../../../admin/notify/email.ts'
import { readLink, signLink } from '../../../admin/notify/link.ts'
import { linkRoutes } from '../../../admin/notify/links.ts'
import { linksTo } from '../../../admin/notify/open.ts'
import { listDeliveries } from '../../../admin/notify/outbox.ts'
import { createRefuse } from '../../../admin/notify/refusals.ts'
import { lockPrincipal } from '../../../admin/register/locks.ts'
import { findRequest } from '../../../admin/register/requests.ts'
import type { EmailSettings } from '../../../config/notify.ts'
import { HOUR } from '../control.ts'
import { linkIn, type MailServer, startMail } from './mailserver.ts'
import { type Stage, standing, startStage } from './stage.ts'

const LINK_KEY = randomBytes(32)

let stage: Stage
let mail: MailServer
let settings: EmailSettings
let app: FastifyInstance
let base: string
let clock = Date.now

beforeAll(async () => {
  stage = await startStage()
  app = fastify({ routerOptions: { maxParamLength: 512 } })
  const { sql, telling: act } = stage
  const log = pino({ level: 'silent' })
  const deciding = { sql, act, policy: { standing: () => standing }, now: () => stage.store.now() }
  linkRoutes(app, { ...deciding, linkKey: LINK_KEY, refuse: createRefuse({ act, log }), clock: () => clock() })
  base = await app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  await app?.close()
  await stage?.stop()
})
beforeEach(async () => {
  clock = Date.now
  mail = await startMail()
  settings = {
    type: 'email',
    name: 'mail',
    smtp: mail.url,
    requireTls: false,
    from: 'gate@acme.example',
    unsubscribe: 'mailto:gate@acme.example?subject=unsubscribe',
    also: [],
  }
})
afterEach(async () => {
  await stage.forget()
  await mail.stop()
})

const notify = () => {
  const channel = emailChannel(settings, linksTo(base, LINK_KEY))
  return stage.notify([channel], { channels: [settings] })
}
const stateOf = async (id: string) => (await findRequest(stage.sql, id))?.request.state
const refusals = async () => (await stage.records('channel.refused')).map(({ code }) => code)

async function decide(link: string, says: string, reason = '') {
  const response = await fetch(link, { method: 'POST', body: new URLSearchParams({ says, reason }) })
  return { status: response.status, text: await response.text() }
}

describe('a mail', () => {
  test('asks each approver with a link of their own, and tells the one who asked in the same thread', async () => {
    const sender = notify()
    const id = await stage.ask({ ticket: 'PAY-231' })
    await sender.round()
    expect(mail.mails.map(({ to }) => to[0]).sort()).toEqual(['mona@acme.example', 'raj@acme.example'])
    const [mona] = mail.to('mona@acme.example')
    expect(linkIn(mona)).not.toBe(linkIn(mail.to('raj@acme.example')[0]))
    expect(mona?.text).toContain('PAY-231')
    expect(mona?.html).toContain('PAY-231')
    expect(mona?.headers.find(({ key }) => key === 'list-unsubscribe')?.value).toContain('mailto:gate@acme.example')
    await stage.vote(id, 'mona')
    await sender.round()
    const [, outcome] = mail.to('raj@acme.example')
    const [asked] = mail.to('raj@acme.example')
    expect(outcome?.inReplyTo).toBe(asked?.messageId)
    expect(outcome?.references).toContain(asked?.messageId)
    expect(linkIn(outcome)).toBe('')
    expect(mail.to('dana@acme.example').at(-1)?.text).toContain('Approved by mona')
  })

  test('shows what somebody typed as text, in HTML too', async () => {
    await stage.ask({ reason: '<img src=x onerror=alert(1)> & "quotes"' })
    await notify().round()
    const [mona] = mail.to('mona@acme.example')
    expect(mona?.html).not.toContain('<img')
    expect(mona?.html).toContain('&#60;img')
    expect(mona?.text).toContain('<img src=x onerror=alert(1)> & "quotes"')
  })

  test('to a mailbox that is not there is given up at once; one the server is too busy for waits', async () => {
    mail.refuse = address =>
      address.startsWith('mona') ? { code: 550, text: 'no such user' } : { code: 451, text: 'try later' }
    await stage.ask()
    await notify().round()
    const dead = await listDeliveries(stage.sql, { state: 'dead', limit: 9 })
    expect(dead.map(({ recipient }) => recipient)).toEqual(['mona@acme.example'])
    const waiting = await listDeliveries(stage.sql, { state: 'waiting', limit: 9 })
    expect(waiting.map(({ recipient }) => recipient)).toEqual(['raj@acme.example'])
  })

  test('is not sent where the server offers no encryption and one is wanted', async () => {
    settings = { ...settings, requireTls: true }
    await stage.ask()
    await notify().round()
    expect(mail.mails).toEqual([])
    expect((await listDeliveries(stage.sql, { state: 'waiting', limit: 9 })).length).toBe(2)
  })
})

describe('a link', () => {
  async function asked(over: Parameters<Stage['ask']>[0] = {}) {
    const id = await stage.ask(over)
    await notify().round()
    return { id, link: linkIn(mail.to('mona@acme.example').at(-1)) }
  }

  test('opened by a scanner, any number of times and with any method that only looks, decides nothing', async () => {
    const { id, link } = await asked()
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'GET']) await fetch(link, { method })
    expect(await stateOf(id)).toBe('requested')
    const page = await fetch(link)
    expect(page.status).toBe(200)
    expect(page.headers.get('content-security-policy')).toMatch(
      /^default-src 'none'; style-src 'sha256-[^']+'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'$/,
    )
    expect(page.headers.get('referrer-policy')).toBe('no-referrer')
    expect(page.headers.get('cache-control')).toBe('no-store')
    expect(await page.text()).toContain('You decide as <strong>mona</strong>')
  })

  test('and the button on its page approve, as the person it was sent to, with their words', async () => {
    const { id, link } = await asked()
    expect(await decide(link, 'approve', 'go on')).toMatchObject({ status: 200 })
    const found = await findRequest(stage.sql, id)
    expect(found?.request.state).toBe('approved')
    expect(found?.request.votes).toMatchObject([{ voter: { person: 'mona' }, comment: 'go on', via: 'email' }])
    expect((await stage.records('request.approved')).map(({ by, via }) => [by, via])).toEqual([['mona', 'email']])
  })

  test('is good for one decision, of two clicks at one moment too', async () => {
    const { id, link } = await asked({ repository: 'acme/two' })
    const answers = await Promise.all([decide(link, 'approve'), decide(link, 'approve'), decide(link, 'deny')])
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 404, 404])
    expect((await findRequest(stage.sql, id))?.request.votes).toHaveLength(1)
    expect(await refusals()).toEqual(['used', 'used'])
  })

  test('does not decide about a request that was changed after it was sent', async () => {
    const { id, link } = await asked()
    await stage.ask({ reason: 'and something else as well' })
    expect(await decide(link, 'approve')).toMatchObject({ status: 404 })
    expect(await stateOf(id)).toBe('requested')
    expect(await refusals()).toEqual(['changed'])
  })

  test('does not decide about a request that was denied or withdrawn meanwhile', async () => {
    const { id, link } = await asked()
    await stage.vote(id, 'raj', 'deny')
    expect(await decide(link, 'approve')).toMatchObject({ status: 404 })
    expect(await stateOf(id)).toBe('denied')
    expect(await refusals()).toEqual(['decided'])
  })

  test('ends with its time', async () => {
    const { id, link } = await asked()
    clock = () => Date.now() + 13 * HOUR
    expect(await decide(link, 'approve')).toMatchObject({ status: 404 })
    expect(await stateOf(id)).toBe('requested')
    expect(await refusals()).toEqual(['expired'])
  })

  test('altered in any character, cut, doubled or signed by another key is none; all get the same answer', async () => {
    const { id, link } = await asked()
    const token = link.slice(link.lastIndexOf('/') + 1)
    const [said = '', tag = ''] = token.split('.')
    const claims = readLink(LINK_KEY, token, Date.now())
    const forged = 'person' in claims ? signLink(randomBytes(32), { ...claims, person: 'raj' }) : ''
    const other = Buffer.from(JSON.stringify({ ...claims, request: 'r-other' })).toString('base64url')
    const tries = [
      forged,
      `${other}.${tag}`,
      `${said}.${tag}=`,
      `${said}.`,
      `.${tag}`,
      said,
      `${token}.${tag}`,
      `${said}.${tag.slice(0, -1)}${tag.endsWith('A') ? 'B' : 'A'}`,
      'x'.repeat(90),
    ]
    const answers = new Set<string>()
    for (const attempt of tries) answers.add(JSON.stringify(await decide(`${base}/links/${attempt}`, 'approve')))
    expect(answers.size).toBe(1)
    expect(await stateOf(id)).toBe('requested')
    for (let at = 0; at < token.length; at += 7) {
      const altered = `${token.slice(0, at)}${token[at] === 'x' ? 'y' : 'x'}${token.slice(at + 1)}`
      expect(readLink(LINK_KEY, altered, Date.now())).toHaveProperty('refused')
    }
  })

  test('for the one who asked, made by hand with the right key, approves nothing: the policy has the last word', async () => {
    const id = await stage.ask()
    const { digest = '' } = (await findRequest(stage.sql, id))?.request ?? {}
    const claims = { channel: 'mail', via: 'email' as const, request: id, digest, expires: Date.now() + HOUR }
    for (const person of ['dana', 'kim', 'nobody']) {
      const link = `${base}/links/${signLink(LINK_KEY, { ...claims, person })}`
      expect(await decide(link, 'approve')).toMatchObject({ status: 404 })
    }
    expect(await stateOf(id)).toBe('requested')
    expect(await refusals()).toEqual(['no-vote', 'no-vote', 'no-vote'])
  })

  test('of an approver who was locked out since decides nothing', async () => {
    const { id, link } = await asked()
    await lockPrincipal(stage.telling, { principal: 'mona@acme.example', by: 'kim', reason: 'gone' })
    expect(await decide(link, 'approve')).toMatchObject({ status: 404 })
    expect(await stateOf(id)).toBe('requested')
    expect(await refusals()).toEqual(['locked'])
  })

  test('takes no other form than its own, and nothing large', async () => {
    const { id, link } = await asked()
    expect(await decide(link, 'approve everything')).toMatchObject({ status: 400 })
    const json = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"says":"approve"}' }
    expect((await fetch(link, json)).status).toBe(415)
    expect(await decide(link, 'approve', 'x'.repeat(100_000))).toMatchObject({ status: 413 })
    expect(await stateOf(id)).toBe('requested')
  })

  test('that is wrong a thousand times fills the ledger with no more than sixty records a minute', async () => {
    let now = 0
    const { telling: act } = stage
    const note = createRefuse({ act, log: pino({ level: 'silent' }), clock: () => now })
    const wrong = { channel: 'links', code: 'signature', reason: 'x', address: '127.0.0.1' }
    for (let i = 0; i < 1_000; i++) await note(wrong)
    expect(await refusals()).toHaveLength(60)
    now = 61_000
    await note(wrong)
    const last = (await stage.records('channel.refused')).slice(60)
    expect(last.map(({ code, reason }) => [code, reason])).toEqual([
      ['many', '940 more were refused within a minute'],
      ['signature', 'x'],
    ])
  })
})
