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
    mayGoOn: async () => true,
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
    mayGoOn: async () => good,
    heartbeatEvery: 20,
  })
  const read: string[] = []
  for await (const text of stream) {
    read.push(text)
    if (text.startsWith(': ')) good = false
  }
  expect(read.at(-1)).toContain('the token is no longer good')
  expect(read.filter(text => text.startsWith('id: '))).toHaveLength(1)
  expect(state.ended).toBe(true)
})
