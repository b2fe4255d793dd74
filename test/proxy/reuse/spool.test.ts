import { randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { type Disk, Spool, SpoolError, type SpoolReader, STEP_BYTES } from '../../../proxy/reuse/spool.ts'
import { runProgram, temporaryFolder } from '../../support/program.ts'

/** A disk of so many bytes, and what is taken of it. */
function diskOf(bytes: number): Disk & { taken: number; most: number } {
  return {
    taken: 0,
    most: 0,
    take(asked) {
      if (this.taken + asked > bytes) return false
      this.taken += asked
      this.most = Math.max(this.most, this.taken)
      return true
    },
    give(given) {
      this.taken -= given
    },
  }
}

const spools: Spool[] = []
function spoolOn(disk: Disk, onIdle = () => {}) {
  const folder = temporaryFolder('spool')
  const spool = new Spool({ folder, disk, onIdle })
  spools.push(spool)
  return { folder, spool }
}
afterEach(() => {
  for (const spool of spools.splice(0)) spool.discard()
})

async function bytesOf(reader: SpoolReader): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of reader) parts.push(part as Buffer)
  return Buffer.concat(parts)
}

const KIB = 1 << 10
const MIB = 1 << 20

test('whatever is written, in whatever pieces, every reader reads it, at whatever pace and whenever they came', async () => {
  const piece = fc.record({ bytes: fc.integer({ min: 1, max: 300 * KIB }), late: fc.boolean() })
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { minLength: 1, maxLength: 8 }), fc.boolean(), async (pieces, slow) => {
      const disk = diskOf(64 * MIB)
      const { spool } = spoolOn(disk)
      const written: Buffer[] = []
      const read = [bytesOf(spool.reader())]
      for (const { bytes, late } of pieces) {
        const chunk = randomBytes(bytes)
        written.push(Buffer.from(chunk))
        await spool.append(chunk)
        if (slow) await sleep(1)
        if (late) read.push(bytesOf(spool.reader()))
      }
      await spool.end()
      read.push(bytesOf(spool.reader()))
      const whole = Buffer.concat(written)
      for (const each of await Promise.all(read)) expect(each.equals(whole)).toBe(true)
      expect(disk.taken).toBe(whole.length)
      spool.discard()
      expect(disk.taken).toBe(0)
    }),
    { numRuns: 30 },
  )
})

test('a reader who does not read stops neither the writer nor anybody else, and holds no more than two segments', async () => {
  const { spool } = spoolOn(diskOf(64 * MIB))
  const idle = spool.reader()
  const read = bytesOf(spool.reader())
  const whole = randomBytes(12 * MIB)
  for (let at = 0; at < whole.length; at += 64 * KIB) await spool.append(Buffer.from(whole.subarray(at, at + 64 * KIB)))
  await spool.end()
  expect((await read).equals(whole)).toBe(true)
  expect(idle.readableLength).toBeLessThanOrEqual(256 * KIB)
  // They come back to it later, from the disk.
  expect((await bytesOf(idle)).equals(whole)).toBe(true)
})

test('nothing of it has a name on the disk, and the file is nobody else’s to read', async () => {
  const { spool, folder } = spoolOn(diskOf(MIB))
  await spool.append(randomBytes(1000))
  await spool.end()
  expect(readdirSync(folder)).toEqual([])
  // What is open without a name, as the kernel shows it.
  const names = readdirSync('/proc/self/fd').map(fd => `/proc/self/fd/${fd}`)
  const modes: number[] = []
  for (const name of names) {
    const file = await open(name, 'r').catch(() => undefined)
    const facts = await file?.stat()
    if (facts?.isFile() && facts.nlink === 0 && facts.size === 1000) modes.push(facts.mode & 0o777)
    await file?.close()
  }
  expect(modes).toEqual([0o600])
})

test('without disk for its first bytes there is no spool', () => {
  expect(() => spoolOn(diskOf(STEP_BYTES - 1))).toThrow(SpoolError)
})

test('a folder that cannot be written to fails whoever waits, before a byte', async () => {
  const spool = new Spool({ folder: '/proc/nowhere', disk: diskOf(MIB), onIdle: () => {} })
  const reader = spool.reader()
  void spool.append(randomBytes(10))
  await expect(reader.begun).rejects.toThrow(SpoolError)
  await expect(spool.append(randomBytes(10))).rejects.toThrow(SpoolError)
})

test('bytes that the disk changed are not handed on', async () => {
  const { spool } = spoolOn(diskOf(64 * MIB))
  // More than stays in memory.
  for (let at = 0; at < 4 * MIB; at += 128 * KIB) await spool.append(randomBytes(128 * KIB))
  await spool.end()
  for (const fd of readdirSync('/proc/self/fd')) {
    const file = await open(`/proc/self/fd/${fd}`, 'r+').catch(() => undefined)
    const facts = await file?.stat()
    if (facts?.isFile() && facts.nlink === 0 && facts.size === 4 * MIB)
      await file?.write(Buffer.from('rot'), 0, 3, 70_000)
    await file?.close()
  }
  await expect(bytesOf(spool.reader())).rejects.toThrow('other bytes than were written')
  expect(spool.entire).toBe(false)
})

describe('a host that fails', () => {
  test('fails readers behind the bytes they have, with its reason', async () => {
    const { spool } = spoolOn(diskOf(MIB))
    const reader = spool.reader()
    await spool.append(Buffer.from('some'))
    await reader.begun
    spool.fail(new Error('the host broke off'))
    const heard: string[] = []
    await expect(
      (async () => {
        for await (const part of reader) heard.push(String(part))
      })(),
    ).rejects.toThrow('the host broke off')
    expect(heard).toEqual(['some'])
  })

  test('before its first byte leaves them with nothing read', async () => {
    const { spool } = spoolOn(diskOf(MIB))
    const reader = spool.reader()
    spool.fail(new Error('refused'))
    await expect(reader.begun).rejects.toThrow('refused')
    expect(reader.position).toBe(0)
  })
})

describe('longer than the disk', () => {
  async function fill(spool: Spool, bytes: number): Promise<Buffer> {
    const parts: Buffer[] = []
    for (let at = 0; at < bytes; at += 100 * KIB) {
      parts.push(randomBytes(100 * KIB))
      await spool.append(parts.at(-1)!)
    }
    await spool.end()
    return Buffer.concat(parts)
  }

  test('it slides: readers of one pace all get it, in no more than the disk there is', async () => {
    const disk = diskOf(2 * MIB)
    const { spool } = spoolOn(disk)
    const read = [spool.reader(), spool.reader(), spool.reader()].map(bytesOf)
    const whole = await fill(spool, 16 * MIB)
    for (const each of await Promise.all(read)) expect(each.equals(whole)).toBe(true)
    expect(disk.most).toBe(2 * MIB)
    expect(spool.entire).toBe(false)
    expect(() => spool.reader()).toThrow('the beginning of this answer is gone')
    spool.discard()
    await vi.waitFor(() => expect(disk.taken).toBe(0))
  })

  test('a disk that is full before it may be: it slides as well', async () => {
    // A process whose files may be no longer than 2 MiB; the kernel's signal for it is ignored, so that it is told by the write.
    const program = `
      import { randomBytes } from 'node:crypto'
      import { Spool } from ${JSON.stringify(new URL('../../../proxy/reuse/spool.ts', import.meta.url).href)}
      let taken = 0
      const disk = { take: bytes => { taken += bytes; return true }, give: bytes => { taken -= bytes } }
      const spool = new Spool({ folder: ${JSON.stringify(temporaryFolder('full'))}, disk, onIdle: () => {} })
      const read = spool.reader().toArray()
      const whole = randomBytes(8 << 20)
      for (let at = 0; at < whole.length; at += 65536) await spool.append(whole.subarray(at, at + 65536))
      await spool.end()
      console.log(Buffer.concat(await read).equals(whole), spool.entire, taken <= 4 << 20)
    `
    const limited = ['-c', 'trap "" XFSZ; ulimit -f 4096; exec "$@"', 'sh', process.execPath, '--input-type=module']
    expect((await runProgram('sh', [...limited, '-e', program])).trim()).toBe('true false true')
  })

  test('a reader alone holds the host up for as long as they like', async () => {
    const { spool } = spoolOn(diskOf(MIB))
    const reader = spool.reader()
    let filled = false
    const filling = fill(spool, 4 * MIB).finally(() => {
      filled = true
    })
    await sleep(100)
    expect(filled).toBe(false)
    const read = await bytesOf(reader)
    expect(read.equals(await filling)).toBe(true)
  })

  test('a reader too slow for the others is let go of, and the others get on', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    try {
      const { spool } = spoolOn(diskOf(MIB))
      const slow = spool.reader()
      const read = bytesOf(spool.reader())
      const filling = fill(spool, 4 * MIB)
      let over = false
      void filling.finally(() => {
        over = true
      })
      // Time passes only where it is waited for.
      while (!over) {
        await new Promise(resolve => setImmediate(resolve))
        vi.advanceTimersByTime(100)
      }
      expect((await read).equals(await filling)).toBe(true)
      expect(slow.errored?.message).toContain('longer than could be kept for a reader this slow')
    } finally {
      vi.useRealTimers()
    }
  })
})

test('who leaves is told to the owner when nobody is left', async () => {
  const onIdle = vi.fn()
  const { spool } = spoolOn(diskOf(MIB), onIdle)
  const readers = [spool.reader(), spool.reader()]
  readers[0]?.destroy()
  await sleep(0)
  expect(onIdle).not.toHaveBeenCalled()
  readers[1]?.destroy()
  await vi.waitFor(() => expect(onIdle).toHaveBeenCalledOnce())
})
