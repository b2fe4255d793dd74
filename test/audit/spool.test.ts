import { open, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { canonical } from '../../audit/canonical.ts'
import type { Numbered } from '../../audit/inbox.ts'
import { openSpool, type Spool, type SpoolFile } from '../../audit/spool.ts'
import { temporary } from './database.ts'
import { start } from './records.ts'

const record = (n: number): Numbered => {
  const made = start(`op-${n}`)
  return { proxy: 'p', boot: 'b', n, at: 1_700_000_000_000 + n, record: made, body: canonical(made) }
}
const records = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => record(from + i))
const path = async () => join(await temporary(), 'spool')

const all = async (spool: Spool) => {
  const found: Numbered[] = []
  for (let from = 0; from < spool.bytes; ) {
    const { records, end } = await spool.read(from)
    found.push(...records)
    from = end
  }
  return found
}

test('what was appended is read back in order, also after the process is gone', async () => {
  const file = await path()
  const first = await openSpool(file, 1 << 20)
  await first.append(records(1, 3))
  await first.append(records(4, 4))
  await first.close()
  const second = await openSpool(file, 1 << 20)
  expect(await all(second)).toEqual(records(1, 4))
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  await second.close()
})

test('a file torn at any byte of what was appended last loses that alone, and takes the next', async () => {
  const file = await path()
  const spool = await openSpool(file, 1 << 20)
  await spool.append(records(1, 2))
  const kept = spool.bytes
  await spool.append(records(3, 4))
  await spool.close()
  const whole = await readFile(file)
  for (let length = kept; length < whole.length; length += length < kept + 20 ? 1 : 13) {
    await writeFile(file, whole.subarray(0, length))
    const torn = await openSpool(file, 1 << 20)
    expect(torn.bytes).toBe(kept)
    await torn.append(records(5, 5))
    expect(await all(torn)).toEqual([...records(1, 2), record(5)])
    await torn.close()
  }
})

test('a last frame with pages that never reached the disk, or all zeros, as a crash may leave it, is cut off', async () => {
  const file = await path()
  const spool = await openSpool(file, 1 << 20)
  await spool.append(records(1, 2))
  const kept = spool.bytes
  await spool.append(records(3, 4))
  await spool.close()
  const whole = await readFile(file)
  for (const zeros of [
    [kept, whole.length],
    [kept + 20, kept + 60],
    [whole.length - 9, whole.length],
  ] as const) {
    await writeFile(file, Buffer.from(whole).fill(0, ...zeros))
    const opened = await openSpool(file, 1 << 20)
    expect(await all(opened)).toEqual(records(1, 2))
    await opened.close()
  }
})

test('damage before the last frame is not passed over', async () => {
  const file = await path()
  const spool = await openSpool(file, 1 << 20)
  await spool.append(records(1, 2))
  await spool.append(records(3, 3))
  await spool.close()
  const whole = await readFile(file)
  for (const at of [0, 3, 5, 50]) {
    const bytes = Buffer.from(whole)
    bytes[at]! ^= 1
    await writeFile(file, bytes)
    await expect(openSpool(file, 1 << 20)).rejects.toMatchObject({ code: 'ERR_SPOOL_DAMAGED' })
  }
})

test('a full spool takes nothing more, and what it holds stays', async () => {
  const spool = await openSpool(await path(), 2000)
  await spool.append(records(1, 2))
  await expect(spool.append(records(3, 9))).rejects.toMatchObject({ code: 'ERR_SPOOL_FULL' })
  expect(await all(spool)).toEqual(records(1, 2))
  await spool.close()
})

test('it is emptied only if nothing came in meanwhile', async () => {
  const spool = await openSpool(await path(), 1 << 20)
  await spool.append(records(1, 1))
  const { end } = await spool.read(0)
  await spool.append(records(2, 2))
  expect(await spool.clear(end)).toBe(false)
  expect((await spool.read(end)).records).toEqual(records(2, 2))
  expect(await spool.clear(spool.bytes)).toBe(true)
  expect(spool.bytes).toBe(0)
  await spool.close()
})

/** A disk that fails when told to; everything else is the real file. */
async function failing(file: string, fail: { write?: boolean; sync?: boolean; truncate?: boolean }) {
  const handle = await open(file, 'w+')
  const wrapped: SpoolFile = {
    read: handle.read.bind(handle),
    stat: handle.stat.bind(handle),
    close: () => handle.close(),
    truncate: length => (fail.truncate ? Promise.reject(new Error('EIO: truncate')) : handle.truncate(length)),
    datasync: () => (fail.sync ? Promise.reject(new Error('EIO: fsync')) : handle.datasync()),
    write: ((buffer: Buffer, offset: number, length: number, position: number) =>
      fail.write && length > 100
        ? handle.write(buffer, offset, 100, position).then(() => Promise.reject(new Error('ENOSPC: no space left')))
        : handle.write(buffer, offset, length, position)) as SpoolFile['write'],
  }
  return await openSpool(file, 1 << 20, async () => wrapped)
}

test('a disk that is full in the middle of a record leaves no part of it behind', async () => {
  const fail = { write: false }
  const spool = await failing(await path(), fail)
  await spool.append(records(1, 1))
  fail.write = true
  await expect(spool.append(records(2, 2))).rejects.toThrow('ENOSPC')
  fail.write = false
  await spool.append(records(3, 3))
  expect(await all(spool)).toEqual([record(1), record(3)])
  await spool.close()
})

test('a record whose fsync failed is neither kept nor said to be', async () => {
  const fail = { sync: false }
  const spool = await failing(await path(), fail)
  await spool.append(records(1, 1))
  fail.sync = true
  await expect(spool.append(records(2, 2))).rejects.toThrow('fsync')
  fail.sync = false
  await expect(spool.append(records(3, 3))).rejects.toMatchObject({ code: 'ERR_SPOOL_BROKEN' })
  expect(await all(spool)).toEqual([record(1)])
  await spool.close()
})
