import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ResponseHead, ResponseReader } from '../../../../proxy/upstream/http/response.ts'

interface Read {
  readonly head: ResponseHead | undefined
  readonly body: string
  readonly done: boolean
  /** Bytes that are no part of the answer. */
  readonly left: number
}

/** Reads an answer that comes in these pieces, and then the end of the connection. */
function read(pieces: readonly Buffer[], { ends = false } = {}): Read {
  let head: ResponseHead | undefined
  let body = ''
  let left = 0
  const reader = new ResponseReader({
    onHead: found => {
      expect(head).toBeUndefined()
      head = found
    },
    onBody: bytes => {
      expect(bytes.length).toBeGreaterThan(0)
      body += bytes.toString('latin1')
    },
  })
  for (const piece of pieces) {
    // A copy that is overwritten afterwards: what the reader keeps must be its own.
    const given = Buffer.from(piece)
    left += given.length - reader.take(given)
    given.fill(0x21)
  }
  if (ends) reader.end()
  return { head, body, done: reader.done, left }
}

const bytes = (text: string) => Buffer.from(text, 'latin1')
const OK = 'HTTP/1.1 200 OK\r\n'
const CHUNKED = `${OK}Transfer-Encoding: chunked\r\n\r\n`

/** Whole, in two parts at every place, and one byte at a time. */
function* splits(text: string): Generator<Buffer[]> {
  const all = bytes(text)
  yield [all]
  for (let at = 1; at < all.length; at++) yield [all.subarray(0, at), all.subarray(at)]
  yield Array.from(all, byte => Buffer.of(byte))
}

describe('an answer is the same wherever it is split', () => {
  test.each([
    ['with a length', `${OK}Content-Length: 5\r\n\r\nhello`, 'hello', 'length'],
    ['with a length of nothing', `${OK}Content-Length: 0\r\n\r\n`, '', 'length'],
    ['in chunks', `${CHUNKED}5\r\nhello\r\n1\r\n \r\n0A\r\nworld and\n\r\n0\r\n\r\n`, 'hello world and\n', 'chunked'],
    ['in chunks with extensions', `${CHUNKED}5;a=b;c="d"\r\nhello\r\n0 ;x\r\n\r\n`, 'hello', 'chunked'],
    [
      'with trailers, which are read over',
      `${CHUNKED}1\r\nx\r\n0\r\nA: b\r\nContent-Length: 9\r\n\r\n`,
      'x',
      'chunked',
    ],
    [
      'behind interim answers',
      `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nLink: y\r\n\r\n${CHUNKED}0\r\n\r\n`,
      '',
      'chunked',
    ],
    ['without a reason', 'HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx', 'x', 'length'],
    ['of HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx', 'x', 'length'],
    ['that has none by its status', 'HTTP/1.1 204 No\r\nContent-Length: 7\r\n\r\n', '', 'none'],
  ])('%s', (_name, text, body, framing) => {
    for (const pieces of splits(text)) {
      expect(read(pieces)).toMatchObject({ body, done: true, left: 0, head: { framing } })
      // What comes behind it belongs to nobody, and is seen.
      expect(read([...pieces, bytes('HTTP/1.1 200')]).left).toBe(12)
    }
  })

  test('small chunks that came together are shown together; large ones are left where they lie', () => {
    const shown = (...chunks: string[]) => {
      const given = bytes(`${CHUNKED}${chunks.map(chunk => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join('')}`)
      const parts: string[] = []
      const reader = new ResponseReader({ onHead: () => {}, onBody: part => parts.push(part.toString('latin1')) })
      reader.take(given)
      return parts
    }
    const [small, large] = ['s'.repeat(4096), 'l'.repeat(20_000)]
    expect(shown(small, 'x', small)).toEqual([`${small}x${small}`])
    expect(shown(large, large)).toEqual([large, large])
    expect(shown(small, large, small)).toEqual([small, large + small])
  })

  test('without a length: to the end of the connection, and told so', () => {
    for (const pieces of splits(`${OK}\r\nhello`)) {
      expect(read(pieces, { ends: true })).toMatchObject({ body: 'hello', done: true, head: { framing: 'close' } })
    }
  })
})

test('headers are found by lower-case names, without the blanks around their values', () => {
  const { head } = read([bytes(`${OK}X-A:\t b \xe9 c\t \r\nx-a: d\r\nEmpty:\r\nContent-Length: 0\r\n\r\n`)])
  expect(Object.fromEntries(head?.headers ?? [])).toEqual({ 'x-a': 'b \xe9 c, d', empty: '', 'content-length': '0' })
})

test.each([
  ['HTTP/1.1', '', true],
  ['HTTP/1.1', 'Connection: Keep-Alive\r\n', true],
  ['HTTP/1.1', 'Connection: upgrade, CLOSE\r\n', false],
  ['HTTP/1.1', 'Connection: a\r\nConnection: close\r\n', false],
  ['HTTP/1.0', 'Connection: keep-alive\r\n', false],
])('%s with %j keeps the connection: %s', (version, header, keepsAlive) => {
  expect(read([bytes(`${version} 200 OK\r\n${header}Content-Length: 0\r\n\r\n`)]).head?.keepsAlive).toBe(keepsAlive)
})

// What two readers could understand in two ways: the one that is wrong takes a part of this answer for the next one.
test.each([
  ['a length and chunks', `${OK}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n`],
  ['two lengths', `${OK}Content-Length: 5\r\nContent-Length: 6\r\n\r\n`],
  ['two lengths that agree', `${OK}Content-Length: 5\r\nContent-Length: 5\r\n\r\n`],
  ['two lengths in one', `${OK}Content-Length: 5, 5\r\n\r\n`],
  ['a length with a sign', `${OK}Content-Length: +5\r\n\r\n`],
  ['a length in hex', `${OK}Content-Length: 0x5\r\n\r\n`],
  ['a length of no number', `${OK}Content-Length:\r\n\r\n`],
  ['a length with a blank of another kind', `${OK}Content-Length: 5\xa0\r\n\r\n`],
  ['a length beyond what numbers hold', `${OK}Content-Length: 9999999999999999\r\n\r\n`],
  ['another transfer coding', `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n`],
  ['a transfer coding twice', `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n`],
  ['chunks in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'],
  ['a header that goes on in the next line', `${OK}X: a\r\n b\r\nContent-Length: 0\r\n\r\n`],
  ['a blank before the colon', `${OK}Content-Length : 5\r\n\r\n`],
  ['a header without a name', `${OK}: x\r\n\r\n`],
  ['a header without a colon', `${OK}nonsense\r\n\r\n`],
  ['NUL in a header', `${OK}X: a\0b\r\n\r\n`],
  ['a CR alone in a header', `${OK}X: a\rContent-Length: 5\r\n\r\n`],
  ['a line feed alone', `${OK}X: a\nContent-Length: 5\r\n\r\n`],
  ['two content types', `${OK}Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n`],
  ['another protocol', 'HTTP/2 200 OK\r\n\r\n'],
  ['a status of four digits', 'HTTP/1.1 2000 OK\r\n\r\n'],
  ['a status line with two blanks', 'HTTP/1.1  200 OK\r\n\r\n'],
  ['an empty line in front', `\r\n${OK}\r\n`],
  ['switching protocols', 'HTTP/1.1 101 X\r\nUpgrade: y\r\n\r\n'],
  ['a chunk size of no number', `${CHUNKED}zz\r\n`],
  ['a chunk size of nothing', `${CHUNKED}\r\n`],
  ['a chunk size with a sign', `${CHUNKED}-1\r\n`],
  ['a chunk size with 0x', `${CHUNKED}0x5\r\n`],
  ['a chunk size with a blank behind it', `${CHUNKED}5 \r\nhello\r\n`],
  ['a chunk size beyond what numbers hold', `${CHUNKED}fffffffffffffff\r\n`],
  ['a chunk size line that ends in a line feed alone', `${CHUNKED}5\nhello\r\n`],
  ['a chunk longer than it says', `${CHUNKED}4\r\nhello\r\n`],
  ['a chunk shorter than it says', `${CHUNKED}7\r\nhello\r\n0\r\n\r\n`],
  ['a trailer that is no header', `${CHUNKED}0\r\nno trailer\r\n\r\n`],
])('%s is refused, wherever it is split', (_name, text) => {
  for (const pieces of splits(text)) expect(() => read(pieces)).toThrow(/not well-formed HTTP/)
})

test.each([
  ['a header', `${OK}X: ${'a'.repeat(17_000)}`],
  ['a head', OK + `X: ${'a'.repeat(8_000)}\r\n`.repeat(5)],
  ['headers', OK + 'X: a\r\n'.repeat(129)],
  ['a status line', `HTTP/1.1 200 ${'a'.repeat(17_000)}`],
  ['interim answers', 'HTTP/1.1 100 X\r\n\r\n'.repeat(17)],
  ['chunk extensions', `${CHUNKED}5;${'a'.repeat(300)}`],
  ['trailers', `${CHUNKED}0\r\n${'X: aaaaaaaa\r\n'.repeat(1_000)}`],
])('more of %s than the limit is refused before its end', (_name, text) => {
  expect(() => read([bytes(text)])).toThrow(/more than/)
  expect(() => read(Array.from(bytes(text), byte => Buffer.of(byte)))).toThrow(/more than/)
})

test('an answer that breaks off anywhere is not complete, and says so', () => {
  for (const text of [`${OK}Content-Length: 5\r\n\r\nhello`, `${CHUNKED}5\r\nhello\r\n0\r\nA: b\r\n\r\n`]) {
    for (let at = 0; at < text.length; at++) {
      expect(read([bytes(text.slice(0, at))]).done).toBe(false)
      expect(() => read([bytes(text.slice(0, at))], { ends: true })).toThrow(/breaks off/)
    }
  }
})

test('any body comes through any chunks in any pieces', () => {
  const parts = fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 8 })
  const cuts = fc.array(fc.nat(400), { maxLength: 10 })
  fc.assert(
    fc.property(parts, cuts, fc.boolean(), (chunks, places, sized) => {
      const body = Buffer.concat(chunks)
      const framed = chunks.flatMap(chunk => [
        bytes(`${chunk.length.toString(16)}\r\n`),
        Buffer.from(chunk),
        bytes('\r\n'),
      ])
      const whole = sized
        ? Buffer.concat([bytes(`${OK}Content-Length: ${body.length}\r\n\r\n`), body])
        : Buffer.concat([bytes(CHUNKED), ...framed, bytes('0\r\n\r\n')])
      const at = [0, ...places.map(place => place % whole.length).toSorted((a, b) => a - b), whole.length]
      const pieces = at.slice(1).map((end, i) => whole.subarray(at[i], end))
      expect(read(pieces.filter(piece => piece.length > 0))).toMatchObject({
        body: body.toString('latin1'),
        done: true,
        left: 0,
      })
    }),
  )
})

test('any bytes are read or refused, and nothing else happens', () => {
  const piece = fc.oneof(
    fc
      .constantFrom(OK, CHUNKED, 'Content-Length: 3\r\n', '\r\n', '0\r\n\r\n', '3\r\nabc\r\n', 'X: y\r\n', '\n', '\0')
      .map(bytes),
    fc.uint8Array({ maxLength: 6 }).map(part => Buffer.from(part)),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), pieces => {
      try {
        read(pieces)
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_HTTP_RESPONSE' })
      }
    }),
  )
})
