import fc from 'fast-check'
import { expect, test } from 'vitest'
import { FormatError, mpint, nameList, Reader, string, u32, u64 } from '../../ca/wire.ts'

function code(read: () => unknown): string {
  try {
    read()
  } catch (error) {
    if (error instanceof FormatError) return error.code
    throw error
  }
  return 'nothing refused'
}

const reader = (hex: string) => new Reader(Buffer.from(hex.replaceAll(' ', ''), 'hex'), 'test')

test('values are written as the examples of RFC 4251 section 5 write them', () => {
  expect(u32(699921578).toString('hex')).toBe('29b7f4aa')
  expect(string('testing').toString('hex')).toBe('0000000774657374696e67')
  expect(mpint(Buffer.from('00', 'hex')).toString('hex')).toBe('00000000')
  expect(mpint(Buffer.from('09a378f9b2e332a7', 'hex')).toString('hex')).toBe('0000000809a378f9b2e332a7')
  expect(mpint(Buffer.from('80', 'hex')).toString('hex')).toBe('000000020080')
  expect(nameList([]).toString('hex')).toBe('00000000')
  expect(nameList(['zlib', 'none']).toString('hex')).toBe('000000097a6c69622c6e6f6e65')
})

test('what is written is read back, and every truncation of it is refused', () => {
  const value = fc.record({
    number: fc.nat(),
    long: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    bytes: fc.uint8Array({ maxLength: 40 }),
    text: fc.string({ unit: 'grapheme' }).filter(text => !text.includes('\0')),
  })
  fc.assert(
    fc.property(value, ({ number, long, bytes, text }) => {
      const magnitude = Buffer.concat([Buffer.of(1), bytes])
      const all = Buffer.concat([
        u32(number),
        u64(long),
        string(Buffer.from(bytes)),
        string(text),
        mpint(magnitude),
        nameList(['a', 'b@c']),
      ])
      const read = (input: Buffer) => {
        const from = new Reader(input, 'test')
        const values = [from.u32(), from.u64(), from.string(), from.text(), from.mpint(64), from.nameList()]
        from.end()
        return values
      }
      expect(read(all)).toEqual([number, long, Buffer.from(bytes), text, magnitude, ['a', 'b@c']])
      for (let length = 0; length < all.length; length++)
        expect(code(() => read(all.subarray(0, length)))).toBe('ERR_SSH_TRUNCATED')
      expect(code(() => read(Buffer.concat([all, Buffer.of(0)])))).toBe('ERR_SSH_TRAILING')
    }),
    { numRuns: 50 },
  )
})

test('a length that points far past the end is refused without reserving memory for it', () => {
  expect(code(() => reader('ffffffff 00').string())).toBe('ERR_SSH_TOO_LONG')
  expect(code(() => reader('00ffffff 00').string())).toBe('ERR_SSH_TRUNCATED')
})

test.each([
  ['zero', '00000000', 'ERR_SSH_MPINT'],
  ['zero as a byte', '00000001 00', 'ERR_SSH_MPINT'],
  ['a negative number', '00000001 80', 'ERR_SSH_MPINT'],
  ['a leading zero too many', '00000002 0001', 'ERR_SSH_MPINT'],
  ['more bytes than wanted', '00000003 010203', 'ERR_SSH_TOO_LONG'],
  ['more bytes than wanted behind a sign byte', '00000004 00810203', 'ERR_SSH_TOO_LONG'],
])('an mpint with %s is refused', (_, hex, expected) => {
  expect(code(() => reader(hex).mpint(2))).toBe(expected)
})

test('text is UTF-8 without NUL, and a byte order mark stays in it', () => {
  expect(code(() => reader('00000003 610062').text())).toBe('ERR_SSH_TEXT')
  expect(code(() => reader('00000002 c328').text())).toBe('ERR_SSH_TEXT')
  expect(reader('00000004 efbbbf61').text()).toBe('\ufeffa')
})

test('algorithm names are short printable ASCII, and lists of them have no gaps', () => {
  expect(code(() => reader('00000003 612c62').name())).toBe('ERR_SSH_NAME')
  expect(code(() => reader('00000003 61ff62').name())).toBe('ERR_SSH_NAME')
  expect(code(() => reader('00000000').name())).toBe('ERR_SSH_NAME')
  expect(code(() => reader(`00000041 ${'61'.repeat(65)}`).name())).toBe('ERR_SSH_TOO_LONG')
  expect(code(() => reader('00000003 612c2c').nameList())).toBe('ERR_SSH_NAME')
  expect(reader('00000000').nameList()).toEqual([])
})

test('a boolean is 0 or 1', () => {
  expect([reader('00').boolean(), reader('01').boolean()]).toEqual([false, true])
  expect(code(() => reader('02').boolean())).toBe('ERR_SSH_BOOLEAN')
})
