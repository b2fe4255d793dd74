import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { onCallNow } from '../../admin/oncall.ts'
import { type Schedules, startSchedules } from '../../admin/schedules.ts'
import type { OnCallSettings } from '../../config/oncall.ts'
import { loadPolicy } from '../../config/policy/load.ts'

const TOKEN = 'y_NbAkKc66ryYTWUXYEu'
const EARL = 'earline@acme.example'

/** What the services' API references give as an answer, and 400 or 401 for what they would not take. */
let status = 200
let answer: string
let asked = 0
let server: Server
let schedules: Schedules | undefined
let logged: string
beforeEach(async () => {
  ;[status, asked, logged] = [200, 0, '']
  server = createServer((request, response) => {
    asked++
    const fault = wrongWith(request)
    response.writeHead(fault ?? status, { location: '/elsewhere' }).end(fault ? '{}' : answer)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
})
afterEach(async () => {
  schedules?.close()
  server.closeAllConnections()
  await new Promise(resolve => server.close(resolve))
})

function wrongWith({ url = '', headers, method }: IncomingMessage): number | undefined {
  const { pathname, searchParams } = new URL(url, 'http://service')
  if (pathname === '/oncalls') {
    if (headers.authorization !== `Token token=${TOKEN}`) return 401
    const asksRight =
      searchParams.getAll('schedule_ids[]').join() === 'PI7DH85' && searchParams.has('include[]', 'users')
    return method === 'GET' && asksRight && headers.accept === 'application/vnd.pagerduty+json;version=2'
      ? undefined
      : 400
  }
  if (headers.authorization !== `GenieKey ${TOKEN}`) return 401
  return pathname === '/v2/schedules/d875e654/on-calls' && searchParams.get('flat') === 'true' ? undefined : 400
}

const pagerduty = (end: string | null, email = EARL, schedule = 'PI7DH85') =>
  JSON.stringify({
    oncalls: [
      {
        escalation_policy: { id: 'PT20YPA', type: 'escalation_policy_reference', summary: 'Another Escalation Policy' },
        user: { id: 'PXPGF42', type: 'user', name: 'Earline Greenholt', email },
        schedule: { id: schedule, type: 'schedule_reference', summary: 'Daily Engineering Rotation' },
        escalation_level: 2,
        start: '2015-03-06T15:28:51-05:00',
        end,
      },
    ],
    limit: 100,
    offset: 0,
    more: false,
    total: null,
  })
const opsgenie = JSON.stringify({
  data: {
    _parent: { id: 'd875e654', name: 'ops_schedule', enabled: true },
    onCallRecipients: [EARL, 'raj@acme.example'],
  },
  took: 0.101,
  requestId: '20dcf939',
})

function start(type: OnCallSettings['type'], over: { stale?: number; token?: string } = {}): Schedules {
  const { port } = server.address() as AddressInfo
  const schedule = type === 'pagerduty' ? 'PI7DH85' : 'd875e654'
  const api = new URL(`http://127.0.0.1:${port}/`)
  const lines = new Writable({
    write: (line, _encoding, done) => {
      logged += String(line)
      done()
    },
  })
  const log = pino({}, lines)
  const source = { type, name: 'payments', token: over.token ?? TOKEN, schedule, api }
  schedules = startSchedules([source], { log, askEvery: 20, ...(over.stale && { stale: over.stale }) })
  return schedules
}

const people = () => [...(schedules?.now() ?? [])]
const askedAgain = async () => {
  const before = asked
  await vi.waitFor(() => expect(asked).toBeGreaterThan(before + 1))
}

test('PagerDuty says who is on call until when, and after that nobody is', async () => {
  answer = pagerduty('2999-01-01T00:00:00Z')
  start('pagerduty')
  await vi.waitFor(() => expect(people()).toEqual([['payments', [EARL]]]))
  answer = pagerduty('2015-03-07T15:28:51-05:00')
  await vi.waitFor(() => expect(people()).toEqual([['payments', []]]))
  answer = pagerduty(null)
  await vi.waitFor(() => expect(people()).toEqual([['payments', [EARL]]]))
  answer = pagerduty(null, EARL, 'ANOTHER')
  await vi.waitFor(() => expect(people()).toEqual([['payments', []]]))
})

test('Opsgenie says who is on call', async () => {
  answer = opsgenie
  start('opsgenie')
  await vi.waitFor(() => expect(people()).toEqual([['payments', [EARL, 'raj@acme.example']]]))
})

test('what it said counts for a while when it is away, and then nobody is on call', async () => {
  answer = pagerduty(null)
  start('pagerduty', { stale: 300 })
  await vi.waitFor(() => expect(people()).toEqual([['payments', [EARL]]]))
  status = 503
  await askedAgain()
  await vi.waitFor(() => expect(people()).toEqual([]))
  status = 200
  await vi.waitFor(() => expect(people()).toEqual([['payments', [EARL]]]))
})

test.each([
  ['no JSON', '<html>', 200],
  ['another shape', '{"oncalls": [{"user": {"email": 7}}]}', 200],
  ['more than fits', `{"oncalls": [], "x": "${'y'.repeat(70_000)}"}`, 200],
  ['a redirect', pagerduty(null), 302],
])('an answer that is %s puts nobody on call and is logged without the token', async (_, text, code) => {
  ;[answer, status] = [text, code]
  start('pagerduty')
  await askedAgain()
  expect(people()).toEqual([])
  expect(logged).toContain('who is on call could not be asked')
  expect(logged).not.toContain(TOKEN)
})

test('a token that is not taken puts nobody on call, and the log says what to look at', async () => {
  answer = opsgenie
  start('opsgenie', { token: 'another' })
  await askedAgain()
  expect(people()).toEqual([])
  expect(logged).toContain("answers 401; look at the token and the schedule's id")
})

test('people are who the policy says they are by their addresses; a rota of its own counts alone', async () => {
  answer = opsgenie
  const { now } = start('opsgenie')
  await vi.waitFor(() => expect(now().size).toBe(1))
  const standing = (more: string) => {
    const policy = loadPolicy([{ file: 'p', text: `version: 1\npeople: { earl: [${EARL}] }\n${more}` }])
    return { kind: 'policy', policy, schedules: now } as const
  }
  expect(onCallNow(standing(''), Date.now()).get('payments')).toEqual(['earl', 'raj@acme.example'])
  const rota = 'on_call: { payments: { turns: { since: 2020-01-01T00:00:00Z, people: [lea] } } }'
  expect(onCallNow(standing(rota), Date.now()).get('payments')).toEqual(['lea'])
})
