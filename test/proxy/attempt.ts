import { PassThrough, Readable, type Writable } from 'node:stream'
import type { Record } from '../../audit/record.ts'
import type { Answer, LiveGrant } from '../../grant/grant.ts'
import type { Client } from '../../proxy/client.ts'
import { Gate, type GateOptions } from '../../proxy/gate.ts'
import { Session } from '../../proxy/session.ts'
import type { Wanted } from '../../proxy/wanted.ts'

// An attempt without a transport, a Redis or a ledger: for what the gate and the relay do between them.

export interface TestClient extends Client {
  leave(): void
}

export function client(change: Partial<Client> = {}): TestClient {
  const gone = new AbortController()
  return {
    caller: {
      principal: 'alice',
      identity: { kind: 'token', id: 't-1' },
      credentials: ['token:t-1'],
      origin: { transport: 'http', address: '127.0.0.1', connection: 'c-1', agent: '' },
    },
    repository: 'acme/app',
    service: 'upload-pack',
    protocol: 2,
    part: 'exchange',
    request: Readable.from([]),
    response: new PassThrough(),
    gone: gone.signal,
    leave: () => gone.abort(),
    ...change,
  }
}

let operations = 0

export function wanted(change: Partial<Wanted> = {}): Wanted {
  return {
    operation: `op-${++operations}`,
    action: 'fetch',
    actions: ['fetch'],
    covers: live => (live.length > 0 ? live : undefined),
    ...change,
  }
}

/** A grant that is live for a minute of a clock that begins at 0. */
export function live(change: Partial<LiveGrant> = {}): LiveGrant {
  return {
    id: 'g-1',
    principal: 'alice',
    repository: 'acme/app',
    actions: ['fetch'],
    refs: [],
    starts: 0,
    expires: 60_000,
    ends: 60_000,
    reason: 'a test',
    ...change,
  }
}

export const granted = (...grants: LiveGrant[]): Answer => ({ kind: 'live', now: 0, grants })

/** A gate with what it wrote down. */
export function gateOf(change: Partial<GateOptions> = {}): { gate: Gate; records: Record[] } {
  const records: Record[] = []
  const gate = new Gate({
    ask: async () => granted(live()),
    emit: async record => {
      records.push(record)
    },
    redisSilence: 4_000,
    sweepEvery: 1_000,
    ...change,
  })
  return { gate, records }
}

/** A session that was opened, for an answer that goes to `response`. */
export function openSession(
  response: Writable,
  change: Partial<Client> = {},
  asked: Pick<Wanted, 'action' | 'updates'> = { action: 'fetch' },
): Session {
  const { operation, action } = wanted(asked)
  const whose = client({ response, ...change })
  return new Session({
    client: whose,
    start: {
      kind: 'operation.start',
      operation,
      action,
      principal: 'alice',
      repository: whose.repository,
      service: whose.service,
      identity: whose.caller.identity,
      origin: whose.caller.origin,
      protocol: whose.protocol,
      grants: ['g-1'],
      ...(asked.updates && { updates: asked.updates }),
    },
    grants: [live()],
    emit: async () => {},
    onEnd: () => {},
  })
}
