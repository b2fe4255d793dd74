import { expect, test } from 'vitest'
import { gathering } from '../../../proxy/upstream/gather.ts'

const PIECE = 4096

/** Reads of so many bytes, so many milliseconds apart: which of them are to be waited after. */
function waits(reads: readonly number[], apart: number): boolean[] {
  let at = 0
  const wait = gathering(() => (at += apart))
  return reads.map(wait)
}

test('small pieces close behind each other are gathered, from the seventeenth on', () => {
  const all = waits(
    Array.from({ length: 40 }, () => PIECE),
    0.1,
  )
  expect(all.indexOf(true)).toBe(16)
  expect(all.slice(16)).not.toContain(false)
})

test('what was gathered is still gathered for, though it is larger than a piece', () => {
  const all = waits([...Array.from({ length: 17 }, () => PIECE), 40 << 10, 40 << 10], 1)
  expect(all.slice(-2)).toEqual([true, true])
})

test('questions and answers, and a host that gives plenty at once, never wait', () => {
  expect(
    waits(
      Array.from({ length: 100 }, () => 200),
      6,
    ),
  ).not.toContain(true)
  expect(
    waits(
      Array.from({ length: 100 }, () => 64 << 10),
      0.1,
    ),
  ).not.toContain(true)
})

test('a pause begins the counting anew', () => {
  let at = 0
  const wait = gathering(() => at)
  for (let i = 0; i < 20; i++) wait(PIECE)
  expect(wait(PIECE)).toBe(true)
  at += 6
  expect(wait(PIECE)).toBe(false)
})
