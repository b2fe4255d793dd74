import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Channel, Delivery } from '../../../admin/notify/channel.ts'
import { deliveryCounts } from '../../../admin/notify/outbox.ts'
import { payload, payloadSchema } from '../../../admin/notify/payload.ts'
import { sampleNotice } from '../../../admin/notify/sample.ts'
import { webhookChannel } from '../../../admin/notify/webhook.ts'
import type { WebhookSettings } from '../../../config/notify.ts'
import { HOUR } from '../control.ts'
import { type Receiver, startReceiver } from './receiver.ts'
import { type Stage, startStage } from './stage.ts'

let stage: Stage
let receiver: Receiver
beforeAll(async () => {
  stage = await startStage()
})
afterAll(async () => await stage?.stop())
beforeEach(async () => {
  receiver = await startReceiver()
})
afterEach(async () => {
  await stage.forget()
  await receiver.stop()
})

const settings = (): WebhookSettings => ({
  type: 'webhook',
  name: 'hook',
  url: receiver.url,
  secret: receiver.secret,
})
const sample = (): Delivery => ({
  id: 'n-1',
  thread: 'r-1',
  content: sampleNotice(Date.now()),
  recipient: '',
  attempt: 1,
})
const send = (channel: Channel, signal = AbortSignal.timeout(5_000)) => channel.send(sample(), signal)

test('a request and its approval reach the receiver signed, in order, in the published form', async () => {
  const notify = stage.notify([webhookChannel(settings())], { channels: [settings()] })
  const id = await stage.ask({ refs: ['refs/heads/main'], ticket: 'PAY-231' })
  await stage.vote(id, 'mona', 'approve', 'go on')
  await notify.round()
  const told = receiver.taken.map(({ body }) => payload.parse(JSON.parse(body)))
  expect(told.map(({ type }) => type)).toEqual(['request.made', 'request.vote', 'request.approved'])
  expect(told[2]?.data.request).toMatchObject({
    id,
    state: 'approved',
    targets: [{ repository: 'acme/api', actions: ['create', 'update'], refs: ['refs/heads/main'] }],
    ticket: 'PAY-231',
    votes: [{ by: 'mona', says: 'approve', comment: 'go on' }],
  })
})

test('a repeated delivery has the same id and another signature', async () => {
  let now = Date.now()
  const channel = webhookChannel(settings(), () => now)
  const notify = stage.notify([channel], { channels: [settings()] }, () => now)
  receiver.answer = { status: 503 }
  await stage.ask()
  await notify.round()
  now += 60_000
  receiver.answer = { status: 200 }
  await notify.round()
  const [first, second] = receiver.attempts
  expect(second?.id).toBe(first?.id)
  expect(second?.body).toBe(first?.body)
  expect(second?.headers['webhook-timestamp']).not.toBe(first?.headers['webhook-timestamp'])
  expect(second?.headers['webhook-signature']).not.toBe(first?.headers['webhook-signature'])
  expect(receiver.taken).toHaveLength(1)
})

test('a receiver that knows another secret takes nothing, and the notice waits', async () => {
  const other = { ...settings(), secret: `whsec_${Buffer.alloc(32, 7).toString('base64')}` }
  await expect(send(webhookChannel(other))).rejects.toThrow('answers 401')
  expect(receiver.taken).toHaveLength(0)
})

describe('what the other side may do to us', () => {
  test('a redirect to an address of our own network is not followed', async () => {
    let reached = 0
    const inner = createServer((_, response) => {
      reached++
      response.end()
    })
    await new Promise<void>(resolve => inner.listen(0, '127.0.0.1', resolve))
    const location = `http://127.0.0.1:${(inner.address() as AddressInfo).port}/latest/meta-data`
    for (const status of [301, 302, 303, 307, 308]) {
      receiver.answer = { status, headers: { location } }
      await expect(send(webhookChannel(settings()))).rejects.toThrow('redirects are not followed')
    }
    expect(reached).toBe(0)
    inner.close()
  })

  test('an endless answer is read no further than 64 KiB', async () => {
    let sent = 0
    const server = createServer((_, response) => {
      const block = Buffer.alloc(16_384, 'x')
      const pour = () => {
        while (!response.destroyed && sent < 64 << 20) {
          sent += block.length
          if (!response.write(block)) return void response.once('drain', pour)
        }
      }
      pour()
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
    await expect(send(webhookChannel({ ...settings(), url }))).resolves.toBeUndefined()
    expect(sent).toBeLessThan(16 << 20)
    server.closeAllConnections()
    server.close()
  })

  test('an answer that never comes ends with the time allowed', async () => {
    receiver.answer = { status: 200, hang: true }
    await expect(send(webhookChannel(settings()), AbortSignal.timeout(100))).rejects.toThrow('does not answer')
  })

  test('410 is the end of a delivery; 429 says when to come back, within bounds', async () => {
    receiver.answer = { status: 410 }
    await expect(send(webhookChannel(settings()))).rejects.toMatchObject({ lasting: true })
    receiver.answer = { status: 429, headers: { 'retry-after': '120' } }
    await expect(send(webhookChannel(settings()))).rejects.toMatchObject({ lasting: false, pause: 120_000 })
    receiver.answer = { status: 429, headers: { 'retry-after': '999999999' } }
    await expect(send(webhookChannel(settings()))).rejects.toMatchObject({ pause: HOUR })
  })

  test('what it answers is in no fault that is kept', async () => {
    receiver.answer = { status: 500, body: 'internal: password=hunter2' }
    const notify = stage.notify([webhookChannel(settings())], { channels: [settings()] })
    await stage.ask()
    await notify.round()
    expect(await stage.sql`select fault from control.delivery`).toEqual([{ fault: `${receiver.url.host} answers 500` }])
    expect((await deliveryCounts(stage.sql)).waiting).toBe(1)
  })
})

test('the published schema is the one that is sent', () => {
  const file = new URL('../../../config/notice.schema.json', import.meta.url)
  expect(readFileSync(file, 'utf8')).toBe(payloadSchema())
})
