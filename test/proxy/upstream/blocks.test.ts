import { expect, test } from 'vitest'
import { BLOCK_BYTES, Intake } from '../../../proxy/upstream/blocks.ts'

/** One read of so many bytes, or as many as there is room for, all of them this one. */
function arrive(intake: Intake, count: number, byte: number, large = true): Buffer {
  const room = intake.next(large)
  const bytes = Math.min(count, room.length)
  room.fill(byte, 0, bytes)
  return intake.lend(intake.read(bytes))
}

const holds = (chunk: Buffer, byte: number) => chunk.every(each => each === byte)

test('a chunk that was not given back is never written over, however much is read', () => {
  const [intake, other] = [new Intake(), new Intake()]
  const held = [1, 2, 3, 4].map(byte => arrive(intake, 100_000, byte))
  for (let i = 0; i < 50; i++) {
    const [mine, theirs] = [arrive(intake, 100_000, 9), arrive(other, 100_000, 10)]
    expect(holds(mine, 9) && holds(theirs, 10)).toBe(true)
    intake.giveBack(mine)
    other.giveBack(theirs)
  }
  intake.close()
  for (let i = 0; i < 50; i++) other.giveBack(arrive(other, BLOCK_BYTES, 11))
  expect(held.every((chunk, i) => holds(chunk, i + 1))).toBe(true)
})

test('what is given back is read into again: no new memory for each read', () => {
  const intake = new Intake()
  const seen = new Set<ArrayBufferLike>()
  for (let i = 0; i < 1_000; i++) {
    const chunk = arrive(intake, 200_000, i % 256)
    seen.add(chunk.buffer)
    intake.giveBack(chunk)
  }
  expect(seen.size).toBeLessThanOrEqual(2)
})

// One chunk given back twice would free another's memory: the bytes of one person's clone would appear in somebody else's.
test('giving back twice, or what was never lent, or a part of it, frees nothing', () => {
  const intake = new Intake()
  const first = arrive(intake, 1_000, 1)
  const second = arrive(intake, 1_000, 2)
  for (let i = 0; i < 3; i++) intake.giveBack(first)
  intake.giveBack(second.subarray(0, 10))
  intake.giveBack(Buffer.alloc(10))
  new Intake().giveBack(second)
  intake.close()
  for (let i = 0; i < 40; i++) arrive(new Intake(), BLOCK_BYTES, 3)
  expect(holds(second, 2)).toBe(true)
})

test('small reads share a block, and a few bytes that are kept are copied', () => {
  const intake = new Intake()
  const chunks = Array.from({ length: 10 }, (_, i) => arrive(intake, 8_000, i))
  expect(new Set(chunks.map(chunk => chunk.buffer)).size).toBe(1)
  expect(chunks.every((chunk, i) => holds(chunk, i))).toBe(true)
  const head = arrive(intake, 100, 20, false)
  arrive(intake, 100, 21, false)
  expect(holds(head, 20)).toBe(true)
})
