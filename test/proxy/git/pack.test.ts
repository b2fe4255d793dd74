import { PassThrough } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { peekPackHeader } from '../../../proxy/git/pack.ts'
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
