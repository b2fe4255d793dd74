import { expect, test } from 'vitest'
import { events } from '../../admin/api/stream.ts'
import type { Linked } from '../../audit/chain.ts'

const entry = (seq: number): Linked => ({
  seq,
  recorded: '2026-01-31T12:00:00.000Z',
  at: '2026-01-31T12:00:00.000Z',
  proxy: 'one',
  boot: 'b',
  n: seq,
  hash: '00',
  record: { kind: 'principal.locked', by: 'root', principal: 'eve\n\nid: 7\ndata: forged', reason: 'x' },
})

/** Gives what it is given, then waits until it is told to end. */
async function* ledger(entries: number[], state: { ended: boolean }, signal: AbortSignal): AsyncGenerator<Linked> {
  try {
    for (const seq of entries) yield entry(seq)
    await new Promise(resolve => signal.addEventListener('abort', resolve))
  } finally {
    state.ended = true
  }
}

test('each record is one event with its number, and nothing in it can make another', async () => {
  const gone = new AbortController()
  const stream = events(ledger([1, 2], { ended: false }, gone.signal), {
    signal: gone.signal,
    end: () => {},
    refusal: async () => undefined,
  })
  await stream.next()
  for (const seq of [1, 2]) {
    const { value } = await stream.next()
    const [id, event, data, ...rest] = String(value).split('\n')
    expect([id, event, rest]).toEqual([`id: ${seq}`, 'event: principal.locked', ['', '']])
    expect(JSON.parse(data!.replace('data: ', ''))).toEqual(entry(seq))
  }
  gone.abort()
  expect((await stream.next()).done).toBe(true)
})

test('whoever may read no more is told and cut off, and the ledger is let go', async () => {
  let good = true
  const state = { ended: false }
  const gone = new AbortController()
  const records = ledger([1], state, gone.signal)
  const stream = events(records, {
    signal: gone.signal,
    end: () => gone.abort(),
    refusal: async () => (good ? undefined : 'eve is locked'),
    heartbeatEvery: 20,
  })
  const read: string[] = []
  for await (const text of stream) {
    read.push(text)
    if (text.startsWith(': ')) good = false
  }
  expect(read.at(-1)).toBe('event: end\ndata: eve is locked\n\n')
  expect(read.filter(text => text.startsWith('id: '))).toHaveLength(1)
  expect(state.ended).toBe(true)
})

test('records that come faster than they are taken do not put off the question whether the reader still may', async () => {
  const gone = new AbortController()
  async function* busy(): AsyncGenerator<Linked> {
    for (let seq = 1; seq < 100_000; seq++) {
      yield entry(seq)
      if (seq % 100 === 0) await new Promise(resolve => setImmediate(resolve))
    }
    throw new Error('all of the ledger was read')
  }
  const stream = events(busy(), {
    signal: gone.signal,
    end: () => gone.abort(),
    refusal: async () => 'eve is locked',
    heartbeatEvery: 20,
  })
  let last = ''
  for await (const text of stream) {
    last = text
    // As a socket does, which takes its time.
    if (text.startsWith('id: ')) await new Promise(resolve => setImmediate(resolve))
  }
  expect(last).toBe('event: end\ndata: eve is locked\n\n')
})
