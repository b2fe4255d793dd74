import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FollowingEnded, follow } from '../../audit/follow.ts'

interface Entry {
  readonly seq: number
}

const event = (seq: number) => `id: ${seq}\nevent: k\ndata: {"seq":${seq}}\n\n`

/** A ledger of so many records, whose stream breaks after so many bytes each time it is opened. */
function breaking(records: number, lengths: readonly number[]) {
  const opened: number[] = []
  return {
    opened,
    async open(after: number): Promise<AsyncIterable<Buffer>> {
      const length = lengths[opened.length]
      opened.push(after)
      if (length === 0) throw new Error('refused')
      const text = Array.from({ length: records - after }, (_, i) => event(after + 1 + i)).join('')
      return (async function* () {
        yield Buffer.from(`: hello\n\n${text}`.slice(0, length))
        throw new Error('reset')
      })()
    },
  }
}

const quiet = { isLasting: () => false, onBroken() {}, onAgain() {}, retryMilliseconds: 0 }

async function take(entries: AsyncGenerator<Entry>, count: number): Promise<number[]> {
  const seen: number[] = []
  for await (const { seq } of entries) {
    seen.push(seq)
    if (seen.length >= count) break
  }
  return seen
}

describe('following the ledger', () => {
  test('goes on behind the last record seen, wherever the stream breaks: none is left out, none comes twice', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(200), { maxLength: 6 }), fc.nat(4), async (lengths, after) => {
        const { open } = breaking(12, lengths)
        const seen = await take(follow<Entry>(after, { ...quiet, open }), 12 - after)
        expect(seen).toEqual(Array.from({ length: 12 - after }, (_, i) => after + 1 + i))
      }),
      { numRuns: 60 },
    )
  })

  test('says once that it broke, and once that it goes on', async () => {
    const said: string[] = []
    const { open } = breaking(3, [0, 0, 0, 45, 0])
    const told = { ...quiet, open, onBroken: () => said.push('broken'), onAgain: () => said.push('again') }
    await take(follow<Entry>(0, told), 3)
    expect(said).toEqual(['broken', 'again', 'broken', 'again'])
  })

  test('ends with the reason when the reader may read no more, and does not try again', async () => {
    let opened = 0
    const open = async () => {
      opened++
      return (async function* () {
        yield Buffer.from(`${event(1)}event: end\ndata: eve is locked\n\n`)
      })()
    }
    const seen: number[] = []
    const reading = async () => {
      for await (const { seq } of follow<Entry>(0, { ...quiet, open })) seen.push(seq)
    }
    await expect(reading()).rejects.toThrow(new FollowingEnded('eve is locked'))
    expect([seen, opened]).toEqual([[1], 1])
  })

  test('does not try again what will stay refused', async () => {
    const { open, opened } = breaking(3, [0, 1_000])
    const refused = follow<Entry>(0, { ...quiet, open, isLasting: () => true })
    await expect(refused.next()).rejects.toThrow('refused')
    expect(opened).toEqual([0])
  })

  test('ends quietly when it is told to, also while it waits to try again', async () => {
    const stop = new AbortController()
    const { open } = breaking(3, Array(9).fill(0))
    const waiting = follow<Entry>(0, { ...quiet, open, retryMilliseconds: 3_600_000, signal: stop.signal }).next()
    setTimeout(() => stop.abort(), 20)
    expect(await waiting).toEqual({ done: true, value: undefined })
  })
})
