import { createHash, randomBytes } from 'node:crypto'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { heldPack, NotReleased } from '../../proxy/heldpack.ts'

const commands = Buffer.from('0000')
const content = Buffer.concat([Buffer.from('PACK\0\0\0\x02\0\0\0\x03', 'latin1'), randomBytes(60)])
const pack = Buffer.concat([content, createHash('sha1').update(content).digest()])

/** What the pack becomes: one object more behind its header, and a checksum of all that. */
const SALT_BYTES = 157
const salted = (sent: Buffer) => {
  const body = sent.subarray(commands.length, -20)
  expect(sent.subarray(0, commands.length)).toEqual(commands)
  expect(body.readUInt32BE(8)).toBe(4)
  expect(sent.subarray(-20)).toEqual(createHash('sha1').update(body).digest())
  return Buffer.concat([content.subarray(0, 12), body.subarray(12 + SALT_BYTES)])
}

const options = (
  source: Readable,
  release: (whole: boolean) => Promise<boolean>,
  endsBy: 'end' | 'checksum' = 'end',
) => ({
  commands,
  hasPack: true,
  pack: source,
  trailerBytes: 20,
  endsBy,
  release,
})

test('the pack arrives whole, wherever it is split', async () => {
  for (let at = 0; at <= pack.length; at++) {
    const source = Readable.from([pack.subarray(0, at), pack.subarray(at)].filter(part => part.length > 0))
    const body = heldPack(options(source, async () => true))
    expect(salted(await buffer(body))).toEqual(content)
  }
})

test('not one byte of the trailer goes before the release, wherever the pack is split', async () => {
  for (let size = 1; size <= 30; size++) {
    const chunks: Buffer[] = []
    for (let at = 0; at < pack.length; at += size) chunks.push(pack.subarray(at, at + size))
    let seen = Buffer.alloc(0)
    let before = -1
    const body = heldPack(
      options(Readable.from(chunks), async () => {
        await turn()
        before = seen.length
        return false
      }),
    )
    body.on('data', (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk])
    })
    await expect(new Promise((resolve, reject) => body.on('end', resolve).on('error', reject))).rejects.toThrow(
      NotReleased,
    )
    expect(before).toBe(commands.length + content.length + SALT_BYTES)
    expect(seen.length).toBe(before)
    expect(seen.subarray(commands.length + 12 + SALT_BYTES)).toEqual(content.subarray(12))
  }
})

test('over ssh, where git keeps its side open, the checksum tells the end of the pack', async () => {
  for (let at = 1; at < pack.length; at++) {
    const source = new PassThrough()
    let released = 0
    const body = heldPack(
      options(
        source,
        async () => {
          released++
          return true
        },
        'checksum',
      ),
    )
    source.write(pack.subarray(0, at))
    const whole = buffer(body)
    await turn()
    expect(released).toBe(0)
    source.write(pack.subarray(at))
    expect(salted(await whole)).toEqual(content)
    expect(released).toBe(1)
    expect(source.destroyed).toBe(false)
  }
})

test('a push of deletions has no pack: its commands themselves are held', async () => {
  let seen = 0
  const source = Readable.from([Buffer.from('stray')])
  const body = heldPack({ ...options(source, async () => seen === 0), hasPack: false })
  body.on('data', (chunk: Buffer) => {
    seen += chunk.length
  })
  await new Promise(resolve => body.on('end', resolve))
  expect(seen).toBe(commands.length)
})

test('whoever looks at the pack sees all of it before the release, and is waited for', async () => {
  const shown: Buffer[] = []
  let waiting = 0
  const source = Readable.from([pack.subarray(0, 10), pack.subarray(10, 50), pack.subarray(50)])
  const body = heldPack({
    ...options(source, async () => Buffer.concat(shown).equals(pack)),
    onBytes: async chunk => {
      expect(waiting).toBe(0)
      waiting++
      await turn()
      waiting--
      shown.push(chunk)
    },
  })
  expect(salted(await buffer(body))).toEqual(content)
})

test('a host that reads slowly stops the client', async () => {
  let given = 0
  const source = new Readable({
    read() {
      given += 65536
      this.push(given > 64 << 20 ? null : Buffer.alloc(65536))
    },
  })
  const body = heldPack(options(source, async () => true))
  body.read(4)
  for (let i = 0; i < 200; i++) await turn()
  expect(given).toBeLessThan(1 << 20)
  body.destroy()
})

test('a client that breaks off never looks like the end of a pack', async () => {
  const source = new PassThrough()
  const body = heldPack(options(source, async () => true))
  const whole = buffer(body)
  source.write(pack.subarray(0, 40))
  await turn()
  source.destroy()
  await expect(whole).rejects.toThrow('broke off')
})

test('a pack that does not end in its checksum is not released, whatever is said', async () => {
  for (const wrong of [
    Buffer.concat([pack, Buffer.alloc(25)]),
    pack.subarray(0, -1),
    Buffer.concat([content, Buffer.alloc(20)]),
  ]) {
    let whole: boolean | undefined
    const body = heldPack(
      options(Readable.from([wrong]), async is => {
        whole = is
        return true
      }),
    )
    await expect(buffer(body)).rejects.toThrow(NotReleased)
    expect(whole).toBe(false)
  }
})

test('two packs alike go to the host unlike, so that no trailer inside one can be its own', async () => {
  const seen = new Set<string>()
  for (let n = 0; n < 20; n++) {
    const body = heldPack(options(Readable.from([pack]), async () => true))
    seen.add((await buffer(body)).subarray(-20).toString('hex'))
  }
  expect(seen.size).toBe(20)
})
