import { expect, test } from 'vitest'
import { watchClock } from '../../grant/clock.ts'

const DAY = 86_400_000

function clocks(ownOffset = 0) {
  let elapsed = 5_000
  const start = 1_900_000_000_000 - elapsed
  const believes = watchClock(
    () => elapsed,
    () => start + elapsed + ownOffset,
  )
  return {
    /** What is said of a clock that is off by so much, after so much more time. */
    off: (offset: number, later = 1_000) => {
      elapsed += later
      return believes(start + elapsed + offset)
    },
  }
}

test('a clock that runs on is believed, whatever this machine thinks the time is', () => {
  for (const own of [0, DAY, -DAY, 3_600_000]) {
    const clock = clocks(own)
    for (let i = 0; i < 10; i++) expect(clock.off(0, i * 60_000)).toBe(true)
  }
})

test('a clock set back by an hour or a day is not believed until it is right again', () => {
  for (const back of [3_600_000, DAY]) {
    const clock = clocks()
    expect(clock.off(0)).toBe(true)
    expect(clock.off(-back)).toBe(false)
    expect(clock.off(-back, back / 2)).toBe(false)
    expect(clock.off(0)).toBe(true)
  }
})

test('a clock that was wrong and is corrected is believed when it agrees with ours', () => {
  const clock = clocks()
  expect(clock.off(DAY)).toBe(true)
  expect(clock.off(0)).toBe(true)
  expect(clock.off(-DAY)).toBe(false)
})

test('many small steps back do not add up to a large one', () => {
  const clock = clocks()
  expect(clock.off(0)).toBe(true)
  const doubted = Array.from({ length: 100 }, (_, i) => clock.off(-1_000 * (i + 1))).indexOf(false)
  expect(doubted).toBeGreaterThan(0)
  expect(doubted).toBeLessThan(5)
})

test('the jitter of answers is not a step', () => {
  const clock = clocks()
  for (let i = 0; i < 100; i++) expect(clock.off(i % 2 ? 0 : -900)).toBe(true)
})
