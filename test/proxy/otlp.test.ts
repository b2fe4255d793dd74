import { PassThrough, Readable } from 'node:stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { TracesSettings } from '../../config/telemetry.ts'
import { otlpTracing } from '../../proxy/otlp.ts'
import { type Tracing, traceUpstream } from '../../proxy/trace.ts'
import { UpstreamError } from '../../proxy/upstream/upstream.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp.ts'
import { until } from '../support/program.ts'
import { client, gateOf, granted, live, wanted } from './attempt.ts'

// Operations as traces, at a receiver of OTLP over HTTP.

let receiver: OtlpReceiver
let tracing: Tracing | undefined
let warned: string[]

beforeEach(async () => {
  receiver = await startOtlpReceiver()
  warned = []
})
afterEach(async () => {
  await tracing?.close()
  receiver.close()
})

function traces(change: Partial<TracesSettings> = {}): Tracing {
  const log = { info: told, warn: told, error: told }
  function told(_: object, message: string) {
    warned.push(message)
  }
  const settings = { url: receiver.url, ratio: 1, headers: [], acceptParent: false, ...change }
  tracing = otlpTracing(settings, { name: 'gate-1', log })
  return tracing
}

const spansOf = (operation: string) => {
  const root = receiver.spans.find(({ attributes }) => attributes['drawbridge.operation'] === operation)
  return { root, children: receiver.spans.filter(({ parentSpanId }) => root && parentSpanId === root.spanId) }
}

const host = traceUpstream('acme', () => ({
  conversational: false,
  advertise: async () => Readable.from([]),
  exchange: async () => {
    throw new UpstreamError('failed', 'the host failed', 'Basic c2VjcmV0')
  },
  close: () => {},
}))
const target = {
  path: 'app',
  service: 'receive-pack',
  protocol: 0,
  stateless: true,
  principal: 'alice',
  operation: 'op',
} as const

test('an operation is a span with its steps below it, found by its id, and says what its end record says', async () => {
  const { gate } = gateOf({ tracing: traces({ headers: [{ name: 'authorization', secret: 'Bearer abc' }] }) })
  const attempt = wanted({ operation: 'op-push', action: 'push' })
  const session = await gate.open(client({ service: 'receive-pack', response: new PassThrough() }), attempt)
  if ('kind' in session) throw new Error(session.sentence)
  const upstream = host(target)
  await upstream.advertise(session.signal)
  await expect(upstream.exchange(Readable.from([]), session.signal)).rejects.toThrow()
  await gate.again(session, { consume: true })
  session.carry('in', 120)
  await session.end({ result: 'failed', reason: 'the host said: Basic c2VjcmV0' })
  await gate.close(0)

  const { root, children } = await until(() => spansOf('op-push').root && spansOf('op-push'), 'the trace')
  expect(root).toMatchObject({
    name: 'git push',
    kind: 2,
    failed: true,
    resource: { 'service.name': 'drawbridge', 'service.instance.id': 'gate-1' },
    attributes: {
      'enduser.id': 'alice',
      'vcs.repository.name': 'acme/app',
      'client.address': '127.0.0.1',
      'network.protocol.name': 'http',
      'drawbridge.result': 'failed',
      'error.type': 'failed',
    },
  })
  expect(root?.parentSpanId).toBeUndefined()
  const order = ['gate', 'record', 'upstream', 'upstream', 'held tail', 'record']
  expect(children.map(({ name }) => name)).toEqual(order)
  const asked = children.filter(({ name }) => name === 'upstream')
  expect(asked.map(({ attributes }) => attributes['drawbridge.question'])).toEqual(['advertise', 'exchange'])
  expect(asked.map(({ attributes }) => attributes['error.type'])).toEqual([undefined, 'failed'])
  const sent = JSON.stringify(receiver.requests.map(({ body }) => body))
  expect(sent).not.toContain('c2VjcmV0')
  expect(receiver.requests[0]?.headers.authorization).toBe('Bearer abc')
})

test('a refused operation is a span that failed by the code of its refusal', async () => {
  const { gate } = gateOf({ tracing: traces(), ask: async () => granted() })
  await gate.open(client(), wanted({ operation: 'op-refused' }))
  await gate.refuse(client(), wanted({ operation: 'op-garbled' }), 'protocol', 'garbled')
  const { root, children } = await until(() => spansOf('op-refused').root && spansOf('op-refused'), 'the trace')
  expect(root).toMatchObject({ failed: true, attributes: { 'error.type': 'no-grant', 'drawbridge.result': 'refused' } })
  expect(children.map(({ name }) => name)).toEqual(['gate', 'record'])
  expect(spansOf('op-garbled').root?.attributes['error.type']).toBe('protocol')
  await gate.close(0)
})

test('a trace that a client says it belongs to is continued only where the settings say so', async () => {
  const trace = '0af7651916cd43dd8448eb211c80319c'
  const parents = [
    ['op-plain', `00-${trace}-b7ad6b7169203331-01`, false],
    ['op-trusted', `00-${trace}-b7ad6b7169203331-01`, true],
    ['op-garbage', `00-${trace}-b7ad6b7169203331-01, 00-x`, true],
    ['op-zero', `00-${'0'.repeat(32)}-b7ad6b7169203331-01`, true],
  ] as const
  for (const [operation, traceparent, acceptParent] of parents) {
    const { gate } = gateOf({ tracing: traces({ acceptParent }), ask: async () => granted() })
    await gate.open(client({ traceparent }), wanted({ operation }))
    await tracing?.close()
    await gate.close(0)
  }
  const found = parents.map(([operation]) => spansOf(operation).root?.traceId === trace)
  expect(found).toEqual([false, true, false, false])
})

test('of a share of 0 nothing is sent', async () => {
  const { gate } = gateOf({ tracing: traces({ ratio: 0 }), ask: async () => granted() })
  await gate.open(client(), wanted())
  await gate.close(0)
  await tracing?.close()
  expect(receiver.requests).toEqual([])
})

test('a receiver that hangs is waited for by no operation, and what it does not take is dropped', async () => {
  receiver.manner = 'hang'
  const { gate, records } = gateOf({ tracing: traces(), ask: async () => granted(live()) })
  const count = 3_000
  for (let i = 0; i < count; i++) {
    const session = await gate.open(client(), wanted())
    if ('kind' in session) throw new Error(session.sentence)
    await session.end({ result: 'ok' })
  }
  expect(records).toHaveLength(2 * count)
  // Four spans each, of which a few thousand at most wait.
  receiver.manner = 'take'
  await until(() => receiver.requests.length > 0, 'the first request')
  await tracing?.close()
  expect(receiver.spans.length).toBeLessThan(8_000)
  await gate.close(0)
})

test('a receiver that is away is told of once, and so is its return', async () => {
  receiver.manner = 'refuse'
  const { gate } = gateOf({ tracing: traces(), ask: async () => granted() })
  const refusing = async () => void (await gate.open(client(), wanted()))
  await refusing()
  await until(() => warned.length === 1, 'the warning', 15_000)
  receiver.manner = 'take'
  await refusing()
  await until(() => warned.length === 2, 'its return', 15_000)
  expect(warned).toEqual(['traces: the receiver takes none; they are dropped', 'traces: the receiver takes them again'])
  await gate.close(0)
}, 40_000)
