import { PassThrough, Readable, Writable } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { holdTail, peekPackHeader } from '../../../proxy/git/pack.ts'
import { chunks, collect, splitAt, trickle } from './split.ts'

const HEADER = Buffer.from('PACK\0\0\0\x02\0\0\x01\x02', 'latin1')

describe('the header of a pack', () => {
  test('is read and stays in the stream, at every split', async () => {
    const bytes = Buffer.concat([HEADER, Buffer.from('objects')])
    for (let at = 0; at <= bytes.length; at++) {
      const source = splitAt(bytes, at)
      expect(await peekPackHeader(source)).toEqual({ version: 2, objects: 258 })
      expect(await collect(source)).toEqual(bytes)
    }
    const slow = trickle(HEADER)
    expect(await peekPackHeader(slow)).toEqual({ version: 2, objects: 258 })
    expect(await collect(slow)).toEqual(HEADER)
  })

  test.each([
    ['nothing', ''],
    ['less than a header', 'PACK\0\0\0'],
    ['a second list of commands', `00760000 ${'0'.repeat(100)}`],
    ['an unknown version', 'PACK\0\0\0\x07\0\0\0\x01'],
  ])('%s in its place is refused', async (_what, bytes) => {
    await expect(peekPackHeader(chunks(Buffer.from(bytes, 'latin1')))).rejects.toMatchObject({
      code: 'ERR_PACK_HEADER',
    })
  })

  test('a connection that is lost before it is an error', async () => {
    const source = new PassThrough()
    const peeked = peekPackHeader(source)
    source.destroy()
    await expect(peeked).rejects.toMatchObject({ code: 'ERR_PKT_EOF' })
  })
})

describe('holding the tail', () => {
  test('the last bytes do not pass until they are released, however the input is split', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ minLength: 1, maxLength: 60 }), { maxLength: 12 }), async parts => {
        const all = Buffer.concat(parts)
        const tail = holdTail(20)
        const passed: Buffer[] = []
        tail.on('data', (part: Buffer) => passed.push(part))
        const ended = new Promise(resolve => tail.once('end', resolve))
        chunks(...parts.map(part => Buffer.from(part))).pipe(tail)
        await tail.whole
        await new Promise(resolve => setImmediate(resolve))
        expect(Buffer.concat(passed)).toEqual(all.subarray(0, Math.max(0, all.length - 20)))
        expect(tail.readableEnded).toBe(all.length === 0)
        tail.release()
        await ended
        expect(Buffer.concat(passed)).toEqual(all)
      }),
      { numRuns: 40 },
    )
  })

  test('what comes after a release is held anew', async () => {
    const tail = holdTail(4)
    const passed: Buffer[] = []
    tail.on('data', (part: Buffer) => passed.push(part))
    tail.write('abcdef')
    await new Promise(resolve => setImmediate(resolve))
    expect(Buffer.concat(passed).toString()).toBe('ab')
    tail.release()
    tail.write('ghij')
    await new Promise(resolve => setImmediate(resolve))
    expect(Buffer.concat(passed).toString()).toBe('abcdef')
    expect(tail.held).toBe(4)
  })

  test('a slow reader stops the input', async () => {
    let pulled = 0
    const source = new Readable({
      read() {
        pulled += 16 << 10
        this.push(pulled > 64 << 20 ? null : Buffer.alloc(16 << 10))
      },
    })
    const tail = holdTail(20)
    source.pipe(tail).pipe(new Writable({ write() {} }))
    await new Promise(resolve => setTimeout(resolve, 50))
    expect(pulled).toBeLessThan(1 << 20)
    source.destroy()
  })
})
