import { expect, test } from 'vitest'
import { gathering } from '../../../proxy/upstream/gather.ts'

const PIECE = 4096

/** Reads of so many bytes, so many milliseconds apart: which of them are to be waited after. */
function waits(reads: readonly number[], apart: number): boolean[] {
  let at = 0
  const wait = gathering(() => at)
  return reads.map(bytes => {
    at += apart
    return wait(bytes)
  })
}
const pieces = (count: number, bytes = PIECE) => Array.from({ length: count }, () => bytes)

test('a pack that comes in small pieces is gathered, once it has come for a while', () => {
  const all = waits(pieces(200), 0.125)
  expect(all.indexOf(true)).toBe(79)
  expect(all.slice(79)).not.toContain(false)
})

test('what was gathered is still gathered for, though it is larger than a piece', () => {
  const all = waits([...pieces(80), ...pieces(40, 40 << 10)], 1)
  expect(all.slice(-10)).not.toContain(false)
})

test('a fast host is never waited for, nor is one held up that was slow and has become fast', () => {
  expect(waits(pieces(2_000), 0.02)).not.toContain(true)
  let at = 0
  const wait = gathering(() => at)
  // Slow, and waited for.
  for (let i = 0; i < 100; i++) {
    at += 0.125
    wait(PIECE)
  }
  expect(wait(PIECE)).toBe(true)
  // Each wait finds 60 KiB: that is more than 48 MB a second.
  let waited = 0
  for (let i = 0; i < 50; i++) {
    at += 1
    if (wait(60 << 10)) waited++
  }
  expect(waited).toBeLessThan(12)
})

test('questions and answers, what trickles, and a host that gives plenty at once, never wait', () => {
  expect(waits(pieces(100, 200), 6)).not.toContain(true)
  expect(waits(pieces(100), 2)).not.toContain(true)
  expect(waits(pieces(100, 64 << 10), 2)).not.toContain(true)
})

test('after a pause nothing is waited for', () => {
  let at = 0
  const wait = gathering(() => at)
  for (let i = 0; i < 100; i++) {
    at += 0.125
    wait(PIECE)
  }
  at += 50
  expect(wait(PIECE)).toBe(false)
})
