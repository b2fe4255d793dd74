import { chmodSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openPrivateDirectory, readPrivate, writeDurably } from '../../ca/durable.ts'
import { openSerials } from '../../ca/serial.ts'
import { NOON, temporaryDirectory } from './keys.ts'

const take = async (directory: string, count: number, now = NOON) => {
  const serials = await openSerials(directory, () => now)
  return Promise.all(Array.from({ length: count }, () => serials.next()))
}

test('serials ascend and never repeat, over blocks, callers at once and restarts', async () => {
  const directory = temporaryDirectory()
  const first = await take(directory, 3000)
  const second = await take(directory, 10)
  const all = [...first, ...second]
  expect(new Set(all).size).toBe(3010)
  expect(all).toEqual(all.toSorted((a, b) => (a < b ? -1 : 1)))
})

test('a clock set back repeats nothing', async () => {
  const directory = temporaryDirectory()
  const before = await take(directory, 5)
  const after = await take(directory, 5, NOON - 86_400_000)
  expect(after[0]! > before[4]!).toBe(true)
})

test('a lost file, or one from an old backup, repeats nothing', async () => {
  const directory = temporaryDirectory()
  await take(directory, 5, NOON - 3_600_000)
  const backup = readFileSync(join(directory, 'serial'))
  const before = await take(directory, 2000, NOON)
  writeFileSync(join(directory, 'serial'), backup)
  expect((await take(directory, 1, NOON + 1))[0]! > before.at(-1)!).toBe(true)
  rmSync(join(directory, 'serial'))
  expect((await take(directory, 1, NOON + 2))[0]! > before.at(-1)!).toBe(true)
})

test('the end of a block is on disk before its first number is given', async () => {
  const directory = temporaryDirectory()
  const [serial] = await take(directory, 1)
  expect(BigInt(readFileSync(join(directory, 'serial'), 'utf8').trim()) > serial!).toBe(true)
})

test('when the block cannot be written no number is given', async () => {
  const directory = temporaryDirectory()
  const serials = await openSerials(directory, () => NOON)
  rmSync(directory, { recursive: true })
  await expect(serials.next()).rejects.toThrow(/ENOENT/)
})

test('a file with something else in it is an error and not a fresh start', async () => {
  const directory = temporaryDirectory()
  writeFileSync(join(directory, 'serial'), 'x\n', { mode: 0o600 })
  await expect(openSerials(directory)).rejects.toThrow(/no serial number/)
})

test('a private file that others can read is not read, nor one behind a link', async () => {
  const directory = temporaryDirectory()
  const file = join(directory, 'secret')
  await writeDurably(file, 'x')
  expect((await readPrivate(file))?.toString()).toBe('x')
  chmodSync(file, 0o640)
  await expect(readPrivate(file)).rejects.toThrow(/chmod 0600/)
  symlinkSync(file, join(directory, 'link'))
  await expect(readPrivate(join(directory, 'link'))).rejects.toThrow(/ELOOP/)
  chmodSync(directory, 0o755)
  await expect(openPrivateDirectory(directory)).rejects.toThrow(/chmod 0700/)
})
