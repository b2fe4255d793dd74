import { createHash, createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import type { Sql } from 'postgres'
import { Webhook } from 'standardwebhooks'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { createEmitter } from '../../../audit/emit.ts'
import { type Batch, type Forwarder, type Forwarding, startForwarding } from '../../../audit/forward/forwarder.ts'
import { objects } from '../../../audit/forward/objects.ts'
import { redisStream } from '../../../audit/forward/redis.ts'
import { readerStates } from '../../../audit/forward/state.ts'
import { message, syslog } from '../../../audit/forward/syslog.ts'
import { webhook } from '../../../audit/forward/webhook.ts'
import { loadHeadKey } from '../../../audit/head.ts'
import { startWriter, type Writer } from '../../../audit/ledger.ts'
import { sha256Hex, signRequest } from '../../../audit/sigv4.ts'
import { connectRedis } from '../../../grant/redis.ts'
import { until } from '../../support/program.ts'
import { startRedis } from '../../support/redis.ts'
import { makeTls } from '../../support/tls.ts'
import { empty, newBoot, startDatabase, temporary } from '../database.ts'
import { quiet, start } from '../records.ts'

let database: Awaited<ReturnType<typeof startDatabase>>
let sql: Sql
let writer: Writer
const running: Forwarding[] = []
const servers: { close(): unknown }[] = []

beforeAll(async () => {
  database = await startDatabase()
  sql = database.sql
})
afterAll(() => database.stop())
beforeEach(async () => {
  await empty(sql)
  await sql`truncate audit.reader`
  const key = await loadHeadKey(`${await temporary()}/key`)
  writer = startWriter({ sql, boot: newBoot(), key, publishers: [], log: quiet })
})
afterEach(async () => {
  await Promise.all(running.splice(0).map(one => one.close()))
  for (const server of servers.splice(0)) server.close()
  await writer.close()
})

function forward(...forwarders: Forwarder[]): Forwarding {
  const one = startForwarding({ sql, forwarders, isWriter: () => true, retryMilliseconds: 20, log: quiet })
  running.push(one)
  return one
}

async function stop(one: Forwarding): Promise<void> {
  running.splice(running.indexOf(one), 1)
  await one.close()
}

async function write(count: number): Promise<void> {
  const goal = writer.state().seq + count
  const { emit, close } = await createEmitter({
    ...{ sql, proxy: 'p', boot: newBoot(), log: quiet },
    committed: () => writer.wake(),
  })
  await Promise.all(Array.from({ length: count }, (_, i) => emit(start(`op-${goal - count + i}`))))
  await until(() => writer.state().seq >= goal, 'records')
  await close()
}

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

/** A forwarder in memory that does as it is told. */
function memory(name: string, more: Partial<Forwarder> = {}) {
  const sent: Batch[] = []
  let answer: (batch: Batch, signal: AbortSignal) => Promise<void> = async () => {}
  const forwarder: Forwarder = {
    ...{ name, records: 10, ...more },
    async send(batch, signal) {
      await answer(batch, signal)
      sent.push(batch)
    },
  }
  return {
    forwarder,
    sent,
    seqs: () => sent.flatMap(({ rows }) => rows.map(({ seq }) => seq)),
    on: (to: typeof answer) => (answer = to),
  }
}

test('every record is sent in order, and a restart goes on behind the last', async () => {
  const { forwarder, seqs } = memory('m')
  await write(35)
  const first = forward(forwarder)
  await until(() => seqs().length === 35, 'all')
  await stop(first)
  await write(5)
  forward(forwarder)
  await until(() => seqs().length === 40, 'the rest')
  expect(seqs()).toEqual(range(1, 40))
})

test('what failed, or was under way when the process died, is sent again as the same piece', async () => {
  const { forwarder, sent, on } = memory('m')
  const tried: string[] = []
  on(async ({ from, to }) => {
    tried.push(`${from}-${to}`)
    if (tried.length < 3) throw new Error('away')
  })
  await write(7)
  const one = forward(forwarder)
  await until(() => sent.length === 1, 'the third try')
  expect(tried).toEqual(['1-7', '1-7', '1-7'])
  // Dies in mid-send; more records come before it is back.
  on(
    async (_, signal) =>
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('killed')))),
  )
  await write(2)
  await until(async () => (await sql`select from audit.reader where sending = 9`).length === 1, 'the send to begin')
  await stop(one)
  await write(5)
  tried.length = 3
  on(async ({ from, to }) => void tried.push(`${from}-${to}`))
  forward(forwarder)
  await until(() => tried.length === 5, 'the rest')
  expect(tried.slice(3)).toEqual(['8-9', '10-14'])
})

test('a process that takes the ledger over goes on where the other one came to, however long it has waited for its turn', async () => {
  const { forwarder, seqs } = memory('m')
  let first = true
  const start = (isWriter: () => boolean) => {
    const one = startForwarding({ sql, forwarders: [forwarder], isWriter, retryMilliseconds: 20, log: quiet })
    running.push(one)
    return one
  }
  await write(3)
  start(() => first)
  const standby = start(() => !first)
  await until(() => seqs().length === 3, 'the first of them')
  await write(4)
  await until(() => seqs().length === 7, 'what followed')
  first = false
  await write(2)
  standby.wake()
  await until(() => seqs().length >= 9, 'the rest')
  expect(seqs()).toEqual(range(1, 9))
})

test('how far each is, and why it does not go on, is known to whoever asks the database', async () => {
  const m = memory('m')
  m.on(async () => {
    throw new Error('fetch failed', { cause: Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }) })
  })
  await write(3)
  forward(m.forwarder)
  const state = async () => (await readerStates(sql, ['m', 'never ran']))[0]
  await until(async () => (await state())?.failing !== undefined, 'the fault')
  const { since } = (await state())!.failing!
  await sql`update audit.record set recorded = now() - interval '1 hour' where seq = 1`
  expect(await state()).toMatchObject({
    seq: 0,
    behind: 3,
    succeeded: undefined,
    failing: { fault: 'fetch failed: ECONNREFUSED' },
  })
  expect((await state())!.waiting).toBeGreaterThan(3_590_000)
  await new Promise(resolve => setTimeout(resolve, 60))
  // Since the first of its failures, however often it was tried.
  expect((await state())!.failing!.since).toBe(since)
  m.on(async () => {})
  await until(async () => (await state())?.behind === 0, 'the records')
  const now = (await state())!
  expect(now).toMatchObject({ seq: 3, waiting: 0, failing: undefined })
  expect(now.succeeded).toBeGreaterThan(since - 1)
})

test('one that hangs or fails holds up neither the others nor the ledger, and says why it does not go on', async () => {
  const [hangs, fails, works] = [memory('hangs'), memory('fails'), memory('works')]
  hangs.on(async (_, signal) => await new Promise((_, reject) => signal.addEventListener('abort', reject)))
  fails.on(async () => {
    throw new Error('no such host')
  })
  const one = forward(hangs.forwarder, fails.forwarder, works.forwarder)
  await write(50)
  await until(() => works.seqs().length === 50, 'the one that works')
  await until(() => one.state()[1]?.failing === 'no such host', 'its reason')
  expect(
    one
      .state()
      .map(({ seq }) => seq)
      .slice(0, 2),
  ).toEqual([0, 0])
})

test('a standby forwards nothing', async () => {
  const { forwarder, sent } = memory('m')
  await write(3)
  const standby = startForwarding({ sql, forwarders: [forwarder], isWriter: () => false, log: quiet })
  running.push(standby)
  await new Promise(resolve => setTimeout(resolve, 200))
  expect(sent).toEqual([])
})

test('records gather until there are enough or the oldest has waited', async () => {
  const { forwarder, sent } = memory('m', { linger: 400 })
  const one = forward(forwarder)
  await write(4)
  one.wake()
  await write(3)
  one.wake()
  await until(() => sent.length === 1, 'one piece')
  expect(sent[0]).toMatchObject({ from: 1, to: 7 })
})

test('what was taken by retention before it was sent is passed over, and the rest goes on', async () => {
  const { forwarder, seqs } = memory('m')
  await write(20)
  await sql`insert into audit.reader (name, seq, sending) values ('m', 3, 6)`
  await sql`delete from audit.record where seq <= 9`
  forward(forwarder)
  await until(() => seqs().length === 11, 'the rest')
  expect(seqs()).toEqual(range(10, 20))
})

const port = (server: { address(): unknown }) => (server.address() as AddressInfo).port

/** A small receiver of RFC 5425: reads messages by their octet count. */
async function receiver(tls: { certificate: string; key: string }, at = 0) {
  const messages: string[] = []
  const sockets = new Set<TLSSocket>()
  const server = createTlsServer({ cert: readFileSync(tls.certificate), key: readFileSync(tls.key) }, socket => {
    sockets.add(socket)
    let rest = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('data', chunk => {
      rest = Buffer.concat([rest, chunk])
      for (;;) {
        const space = rest.indexOf(0x20)
        const length = Number(rest.subarray(0, space).toString())
        if (space < 1 || rest.length < space + 1 + length) return
        messages.push(rest.subarray(space + 1, space + 1 + length).toString())
        rest = rest.subarray(space + 1 + length)
      }
    })
  })
  await new Promise<void>(resolve => server.listen(at, '127.0.0.1', resolve))
  const close = () => {
    for (const socket of sockets) socket.destroy()
    return new Promise(resolve => server.close(resolve))
  }
  servers.push({ close })
  return { messages, sockets, close, port: port(server) }
}

const seqOf = (message: string) => Number(/ seq="(\d+)"/.exec(message)![1])

test('syslog over TLS: each message whole and framed by its octets; after the receiver died nothing is missing', async () => {
  const tls = await makeTls()
  const first = await receiver(tls)
  const options = {
    name: 's',
    host: '127.0.0.1',
    port: first.port,
    gate: 'gate1',
    ca: readFileSync(tls.certificate, 'utf8'),
  }
  forward(syslog({ ...options, settle: 300 }))
  await write(20)
  await until(() => first.messages.length === 20, 'twenty')
  // Dies with what it had just been sent: those may be lost, so they come again.
  await first.close()
  await write(5)
  const second = await receiver(tls, first.port)
  await until(() => second.messages.some(text => seqOf(text) === 25), 'the rest', 10_000)
  const seen = new Set([...first.messages, ...second.messages].map(seqOf))
  expect([...seen].sort((a, b) => a - b)).toEqual(range(1, 25))
  const [text] = first.messages
  expect(text).toMatch(
    /^<110>1 \d{4}-\d\d-\d\dT[\d:.]+Z gate1 drawbridge p operation\.start \[ledger@32473 seq="1" hash="[0-9a-f]{64}" operation="op-0" principal="alice"\] \ufeff\{/,
  )
  expect(JSON.parse(text!.slice(text!.indexOf('\ufeff') + 1))).toMatchObject({ seq: 1, record: { operation: 'op-0' } })
})

test('a syslog receiver whose certificate is not trusted gets nothing', async () => {
  const { messages, port } = await receiver(await makeTls())
  const one = forward(syslog({ name: 's', host: '127.0.0.1', port, gate: 'g' }))
  await write(3)
  await until(() => one.state()[0]?.failing?.includes('self-signed') ?? false, 'the refusal')
  expect(messages).toEqual([])
})

test('nothing that was recorded ends a syslog field or message early, and a huge record is told shortly', () => {
  const row = (record: object) => {
    const body = JSON.stringify(record)
    return { seq: 1, recorded: '', at: '2026-01-31T12:00:00.000Z', proxy: 'p q', boot: 'b', n: 1, body, hash: 'h' }
  }
  const evil = message(row(start('op-1', { principal: 'a"] [x y="z\\' })), 'gate\nname')
  expect(evil).toContain('principal="a\\"\\] [x y=\\"z\\\\"]')
  expect(evil.split(' ').slice(2, 6)).toEqual(['gate?name', 'drawbridge', 'p?q', 'operation.start'])
  const updates = Array.from({ length: 3_000 }, (_, i) => ({
    ref: `refs/heads/${i}`,
    old: '0'.repeat(40),
    new: '1'.repeat(40),
    action: 'create' as const,
  }))
  const huge = message(row(start('op-1', { updates })), 'g')
  expect(Buffer.byteLength(huge)).toBeLessThan(70_000)
  expect(JSON.parse(huge.slice(huge.indexOf('\ufeff') + 1))).toMatchObject({ truncated: true, operation: 'op-1' })
})

async function httpServer(
  handle: (request: IncomingMessage, body: Buffer) => number,
): Promise<{ url: URL; server: Server }> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    response.writeHead(handle(request, Buffer.concat(chunks)), { location: 'http://127.0.0.1:1/' }).end()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  servers.push(server)
  return { url: new URL(`http://127.0.0.1:${port(server)}/hook`), server }
}

test('a webhook is signed, sent again under the same id, and not led elsewhere', async () => {
  const secret = `whsec_${Buffer.from('a secret of 24 bytes ...').toString('base64')}`
  const calls: { id: string; events: { id: string }[] }[] = []
  const answers = [500, 302]
  const { url } = await httpServer((request, body) => {
    const headers = request.headers as Record<string, string>
    const events = new Webhook(secret).verify(body.toString(), headers) as { id: string }[]
    calls.push({ id: headers['webhook-id'] ?? '', events })
    return answers.shift() ?? 204
  })
  const one = forward(webhook({ name: 'w', url, secret, source: 'drawbridge' }))
  await write(6)
  await until(() => one.state()[0]?.seq === 6, 'all')
  expect(calls.slice(0, 3).map(({ id }) => id)).toEqual(Array(3).fill(calls[0]!.id))
  expect(calls.slice(2).flatMap(({ events }) => events.map(({ id }) => Number(id)))).toEqual(range(1, 6))
})

test('a Redis stream has each record once, whatever is sent again, and consumer groups share it out', async () => {
  const server = await startRedis()
  const redis = connectRedis(server.url, () => {})
  servers.push({ close: () => redis.disconnect() }, { close: () => server.stop() })
  let broken = true
  const add = async (id: string, record: string) => {
    await redis.xadd('ledger', 'MAXLEN', '~', 1_000, id, 'record', record)
    // The answers are lost.
    if (broken && id === '4-0') throw new Error('connection lost')
  }
  const one = forward(redisStream({ name: 'r', add }))
  await write(8)
  await until(() => one.state()[0]?.failing === 'connection lost', 'the fault')
  broken = false
  await until(() => one.state()[0]?.seq === 8, 'all')
  await redis.xgroup('CREATE', 'ledger', 'jobs', '0')
  const read = async (consumer: string) =>
    (await redis.xreadgroup('GROUP', 'jobs', consumer, 'COUNT', 4, 'STREAMS', 'ledger', '>')) as [
      string,
      [string, string[]][],
    ][]
  const entries = [await read('a'), await read('b')]
    .flatMap(answer => Object.values(answer).flat() as unknown[])
    .flat(9)
  const seqs = entries.filter(text => /^\d+-0$/.test(String(text))).map(id => Number.parseInt(String(id), 10))
  expect(seqs).toEqual(range(1, 8))
})

test('signature version 4 is the one of the example in the documentation of S3', () => {
  const credentials = {
    accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
    secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  }
  const body = 'Welcome to Amazon S3.'
  const headers = signRequest(
    {
      method: 'PUT',
      url: new URL('https://examplebucket.s3.amazonaws.com/test$file.text'),
      headers: {
        date: 'Fri, 24 May 2013 00:00:00 GMT',
        'x-amz-content-sha256': sha256Hex(body),
        'x-amz-storage-class': 'REDUCED_REDUNDANCY',
      },
      body,
      region: 'us-east-1',
      service: 's3',
      now: Date.UTC(2013, 4, 24),
    },
    credentials,
  )
  expect(headers.authorization).toContain('Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd')
})

test('objects are put under names of their range, signed so that a server that checks takes them', async () => {
  const secretKey = 'sec/ret+key'
  const stored = new Map<string, string>()
  const { url } = await httpServer((request, body) => {
    if (!rightlySigned(request, body, secretKey)) return 403
    stored.set(request.url!, body.toString())
    return 200
  })
  const options = {
    name: 'o',
    endpoint: new URL('/', url),
    region: 'eu-1',
    bucket: 'audit',
    prefix: 'gate one/',
    linger: 50,
  }
  forward(objects({ ...options, accessKey: 'AK', secretKey }))
  await write(30)
  await until(() => [...stored.values()].join('').split('\n').length === 31, 'all')
  const day = new Date().toISOString().slice(0, 10).replaceAll('-', '/')
  const [name, text] = [...stored][0]!
  expect(name).toMatch(new RegExp(`^/audit/gate%20one/${day}/ledger-000000000001-0000000000\\d\\d\\.jsonl$`))
  expect(JSON.parse(text.split('\n')[0]!)).toMatchObject({ seq: 1 })
  const wrong = forward(objects({ ...options, name: 'x', accessKey: 'AK', secretKey: 'another' }))
  await until(() => wrong.state()[0]?.failing?.includes('403') ?? false, 'the refusal')
})

/** As the documentation describes the server's side; the query is empty. */
function rightlySigned(request: IncomingMessage, body: Buffer, secretKey: string): boolean {
  const hash = (data: string | Buffer) => createHash('sha256').update(data).digest('hex')
  const [, scope, names, signature] =
    /Credential=AK\/([^,]+), SignedHeaders=([^,]+), Signature=(\w+)$/.exec(request.headers.authorization ?? '') ?? []
  if (!scope || !names || request.headers['x-amz-content-sha256'] !== hash(body)) return false
  const headers = names.split(';').map(name => `${name}:${request.headers[name]}\n`)
  const canonical = `${request.method}\n${request.url}\n\n${headers.join('')}\n${names}\n${hash(body)}`
  const text = `AWS4-HMAC-SHA256\n${request.headers['x-amz-date']}\n${scope}\n${hash(canonical)}`
  let key = Buffer.from(`AWS4${secretKey}`)
  for (const part of scope.split('/')) key = createHmac('sha256', key).update(part).digest()
  return createHmac('sha256', key).update(text).digest('hex') === signature
}
