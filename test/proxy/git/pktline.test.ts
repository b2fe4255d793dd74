import { PassThrough, Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  DELIM,
  err,
  FLUSH,
  line,
  PAYLOAD_MAX,
  PacketCounter,
  PacketReader,
  packet,
  printable,
  wholePackets,
} from '../../../proxy/git/pktline.ts'
import { chunks, collect, splitAt, trickle } from './split.ts'

const WIRE = Buffer.from('0009hello000000010002000400AFx'.replace('00AFx', `00AF${'x'.repeat(0xaf - 4)}`))
const RESPONSE_END = Buffer.from('0002')
const KINDS = ['hello', 'flush', 'delim', 'response-end', '', 'x'.repeat(0xaf - 4)]

async function readAll(source: Readable): Promise<string[]> {
  const reader = new PacketReader(source)
  const seen: string[] = []
  for (let packet = await reader.read(); packet; packet = await reader.read()) {
    seen.push(packet.kind === 'data' ? packet.payload.toString() : packet.kind)
  }
  expect(reader.raw()).toEqual(WIRE)
  return seen
}

describe('reading packets', () => {
  test('gives the same packets wherever the bytes are split', async () => {
    for (let at = 0; at <= WIRE.length; at++) expect(await readAll(splitAt(WIRE, at))).toEqual(KINDS)
  })

  test('gives the same packets one byte at a time', async () => {
    expect(await readAll(trickle(WIRE))).toEqual(KINDS)
  })

  test('an end inside a packet is an error at every place inside it', async () => {
    const bytes = Buffer.from('0009hello')
    for (let end = 1; end < bytes.length; end++) {
      for (let at = 0; at <= end; at++) {
        const reader = new PacketReader(splitAt(bytes.subarray(0, end), at))
        await expect(reader.read(), `${end}`).rejects.toMatchObject({ code: 'ERR_PKT_EOF' })
      }
    }
  })

  test.each(['0003', 'fff4', 'FFFF', 'ffff', '00g0', ' 123', '-001', '0x10', 'PACK', 'GET '])(
    'the length %j is refused, as by git',
    async length => {
      const bytes = Buffer.concat([Buffer.from(length), Buffer.alloc(70_000)])
      await expect(new PacketReader(chunks(bytes)).read()).rejects.toMatchObject({ code: 'ERR_PKT_LENGTH' })
      expect(() => new PacketCounter().count(bytes)).toThrowError(/no pkt-line length/)
    },
  )

  test.each(['fff0', 'fff3', 'FfF1'])('the length %s is taken, as by git', async length => {
    const bytes = Buffer.concat([Buffer.from(length), Buffer.alloc(Number.parseInt(length, 16) - 4, 1)])
    const read = await new PacketReader(chunks(bytes.subarray(0, 30_000), bytes.subarray(30_000))).read()
    expect(read).toEqual({ kind: 'data', payload: bytes.subarray(4) })
  })

  test('gives back the stream standing at the first byte after the last packet', async () => {
    const bytes = Buffer.from('0005a0000PACKrest of it')
    for (let at = 0; at <= bytes.length; at++) {
      const reader = new PacketReader(splitAt(bytes, at))
      await reader.read()
      await reader.read()
      expect((await collect(reader.rest())).toString(), `split at ${at}`).toBe('PACKrest of it')
    }
  })

  test('the rest keeps its order through a pipeline that starts later, and an end is an end', async () => {
    const reader = new PacketReader(chunks(Buffer.from('0000PA'), Buffer.from('CK'), Buffer.from('...')))
    await reader.read()
    const rest = reader.rest()
    await new Promise(resolve => setTimeout(resolve, 10))
    const through = new PassThrough()
    const [, got] = await Promise.all([pipeline(rest, through), collect(through)])
    expect(got.toString()).toBe('PACK...')
  })

  test('the rest does not read ahead of a slow reader', async () => {
    let pulled = 0
    const source = new Readable({
      highWaterMark: 64 << 10,
      read() {
        pulled += 16 << 10
        this.push(pulled > 64 << 20 ? null : Buffer.alloc(16 << 10, '0'))
      },
    })
    const reader = new PacketReader(source)
    await reader.read()
    const stuck = new Writable({ highWaterMark: 64 << 10, write() {} })
    reader.rest().pipe(stuck)
    await new Promise(resolve => setTimeout(resolve, 50))
    expect(pulled).toBeLessThan(1 << 20)
    source.destroy()
  })

  test('waiting for the rest of a packet lets everything else run', async () => {
    const source = new PassThrough()
    source.write('0009he')
    const read = new PacketReader(source).read()
    await new Promise(resolve => setTimeout(resolve, 20))
    source.write('llo')
    expect(await read).toEqual({ kind: 'data', payload: Buffer.from('hello') })
  })

  test('a source that fails or is destroyed fails the read that waits and the one after', async () => {
    const failing = new PassThrough()
    const reader = new PacketReader(failing)
    const waiting = reader.read()
    failing.destroy(new Error('reset by peer'))
    await expect(waiting).rejects.toThrow('reset by peer')
    await expect(reader.read()).rejects.toThrow('reset by peer')

    const silent = new PassThrough()
    const other = new PacketReader(silent).read()
    silent.destroy()
    await expect(other).rejects.toMatchObject({ code: 'ERR_PKT_EOF' })
  })

  test('more bytes than the limit are refused before they are held, and the count starts anew after forget', async () => {
    const two = Buffer.concat([line('aaaa'), line('bbbb')])
    const reader = new PacketReader(chunks(two), { limit: 10 })
    await reader.read()
    await expect(reader.read()).rejects.toMatchObject({ code: 'ERR_PKT_LIMIT' })

    const patient = new PacketReader(chunks(two), { limit: 10 })
    await patient.read()
    patient.forget()
    expect(await patient.read()).toEqual({ kind: 'data', payload: Buffer.from('bbbb\n') })
    expect(patient.raw()).toEqual(line('bbbb'))
  })

  test('a packet larger than the limit is refused when its length has been read', async () => {
    const source = new PassThrough()
    source.write('fff0')
    await expect(new PacketReader(source, { limit: 1000 }).read()).rejects.toMatchObject({ code: 'ERR_PKT_LIMIT' })
  })
})

describe('counting packets that go by', () => {
  test('says where the last whole packet ends and shows each head, at every split', () => {
    for (let at = 0; at <= WIRE.length; at++) {
      const heads: string[] = []
      const counter = new PacketCounter({ head: 3, watch: (length, head) => heads.push(`${length}:${head}`) })
      const first = counter.count(WIRE.subarray(0, at))
      const ends = [0, 9, 13, 17, 21, 25, 25 + 0xaf]
      expect(first, `split at ${at}`).toBe(Math.max(...ends.filter(end => end <= at)))
      expect(counter.count(WIRE.subarray(at))).toBe(WIRE.length - at)
      expect(counter.atBoundary).toBe(true)
      expect(heads).toEqual(['9:hel', '0:', '1:', '2:', '4:', '175:xxx'])
    }
  })

  test('whatever the packets and the chunks, only whole packets are passed and none is changed', async () => {
    const packets = fc.array(
      fc.oneof(
        fc.constantFrom(FLUSH, DELIM, RESPONSE_END),
        fc.uint8Array({ maxLength: 300 }).map(bytes => packet(bytes)),
      ),
      { maxLength: 20 },
    )
    await fc.assert(
      fc.asyncProperty(packets, fc.array(fc.integer({ min: 1, max: 200 })), async (list, sizes) => {
        const bytes = Buffer.concat(list)
        const parts: Buffer[] = []
        for (let at = 0; at < bytes.length; at += parts.at(-1)!.length) {
          parts.push(bytes.subarray(at, at + (sizes[parts.length % Math.max(1, sizes.length)] ?? 50)))
        }
        const through = wholePackets()
        const ends = new Set([0])
        let end = 0
        for (const each of list) {
          end += each.length
          ends.add(end)
        }
        let passed = 0
        through.on('data', (part: Buffer) => {
          passed += part.length
        })
        for (const part of parts) {
          through.write(part)
          await new Promise(resolve => setImmediate(resolve))
          expect(ends).toContain(passed)
        }
        through.end()
        await new Promise(resolve => through.once('close', resolve))
        expect(passed).toBe(bytes.length)
      }),
      { numRuns: 60 },
    )
  })

  test('an unfinished packet is never passed on, and its end is an error', async () => {
    const got: Buffer[] = []
    const sink = new Writable({
      write(chunk, _encoding, done) {
        got.push(chunk)
        done()
      },
    })
    const run = pipeline(chunks(Buffer.from('0009hel'), Buffer.from('lo0009wo')), wholePackets(), sink)
    await expect(run).rejects.toMatchObject({ code: 'ERR_PKT_EOF' })
    expect(Buffer.concat(got).toString()).toBe('0009hello')
  })

  test('a bare pack behind the packets is passed as it is, where one may follow', async () => {
    const bytes = Buffer.from('0008NAK\nPACK\x00\x00 anything 0003')
    for (let at = 0; at <= bytes.length; at++) {
      const passed = await collect(splitAt(bytes, at).pipe(wholePackets({ packMayFollow: true })))
      expect(passed).toEqual(bytes)
    }
    await expect(pipeline(chunks(bytes), wholePackets(), new PassThrough().resume())).rejects.toMatchObject({
      code: 'ERR_PKT_LENGTH',
    })
  })
})

describe('writing packets', () => {
  test('counts the four digits and writes them in lower case', () => {
    expect(line('hello').toString()).toBe('000ahello\n')
    expect(packet(Buffer.alloc(0)).toString()).toBe('0004')
    expect(packet(Buffer.alloc(PAYLOAD_MAX)).subarray(0, 4).toString()).toBe('fff0')
    expect(() => packet(Buffer.alloc(PAYLOAD_MAX + 1))).toThrow(RangeError)
  })

  test('an ERR packet keeps its lines and nothing that moves a cursor', () => {
    expect(err('no grant\x1b[2J for acme\r\nask: \x07git access').toString()).toBe(
      '0029ERR no grant for acme\nask: git access',
    )
    expect(err('é'.repeat(100_000)).length).toBeLessThan(65_520)
  })

  test('what is printable is one visible line of bounded length', () => {
    expect(printable('a\x1b]0;title\x07b\u202Ec\u200Bd\x9b31me\0f', 100)).toBe('abcdef')
    expect(printable('  a\r\nb\tc  ', 100)).toBe('a b c')
    expect(printable('abcdef', 4)).toBe('abc…')
    expect(printable('ab😀😀', 4)).toBe('ab…')
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), fc.integer({ min: 1, max: 80 }), (text, max) => {
        const shown = printable(text, max)
        expect(shown.length).toBeLessThanOrEqual(max)
        expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u)
        expect(shown.isWellFormed()).toBe(true)
      }),
      { numRuns: 50 },
    )
  })
})
