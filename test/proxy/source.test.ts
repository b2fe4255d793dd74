import { connect, createServer, type Socket } from 'node:net'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { loadBalancers, parseSourceHeader, plainAddress, readSource, SourceError } from '../../proxy/source.ts'

const V2 = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
const v2 = (hex: string) => Buffer.concat([V2, Buffer.from(hex.replaceAll(' ', ''), 'hex')])

const GOOD: readonly [string, Buffer, string, number][] = [
  ['v1 over IPv4', Buffer.from('PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n'), '192.0.2.7', 56324],
  ['v1 over IPv6', Buffer.from('PROXY TCP6 2001:DB8:0::7 2001:db8::1 1 443\r\n'), '2001:db8::7', 1],
  ['v1 with IPv4 mapped into IPv6', Buffer.from('PROXY TCP6 ::ffff:192.0.2.7 ::1 9 443\r\n'), '192.0.2.7', 9],
  ['v2 over IPv4', v2('21 11 000c c0000207 0a000001 dc04 01bb'), '192.0.2.7', 56324],
  ['v2 over IPv4 with TLVs', v2('21 11 0013 c0000207 0a000001 dc04 01bb 01 0004 61626364'), '192.0.2.7', 56324],
  [
    'v2 over IPv6',
    v2('21 21 0024 20010db8000000000000000000000007 20010db8000000000000000000000001 dc04 01bb'),
    '2001:db8::7',
    56324,
  ],
]

test.each(GOOD)('%s is read, wherever it is split', (_name, header, address, port) => {
  const bytes = Buffer.concat([header, Buffer.from('GET / HTTP/1.1\r\n')])
  for (let split = 0; split < header.length; split++) {
    expect(parseSourceHeader(bytes.subarray(0, split))).toBeUndefined()
  }
  const expected = { kind: 'proxied', source: { address, port }, length: header.length }
  for (let split = header.length; split <= bytes.length; split++) {
    expect(parseSourceHeader(bytes.subarray(0, split))).toEqual(expected)
  }
})

test("a load balancer's own health check (LOCAL) has no other source", () => {
  const header = v2('20 00 0003 040000')
  expect(parseSourceHeader(Buffer.concat([header, Buffer.from('x')]))).toEqual({ kind: 'local', length: header.length })
})

const BAD: readonly [string, Buffer][] = [
  ['plain HTTP', Buffer.from('GET / HTTP/1.1\r\n')],
  ['an SSH banner', Buffer.from('SSH-2.0-OpenSSH_9.2\r\n')],
  ['an unknown family', Buffer.from('PROXY UNKNOWN\r\n')],
  ['lower case', Buffer.from('proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n')],
  ['an IPv6 address called TCP4', Buffer.from('PROXY TCP4 ::1 10.0.0.1 1 2\r\n')],
  ['a name for an address', Buffer.from('PROXY TCP4 localhost 10.0.0.1 1 2\r\n')],
  ['an IPv4 address with leading zeros', Buffer.from('PROXY TCP4 010.0.0.1 10.0.0.1 1 2\r\n')],
  ['two blanks', Buffer.from('PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n')],
  ['a port too high', Buffer.from('PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n')],
  ['a negative port', Buffer.from('PROXY TCP4 192.0.2.7 10.0.0.1 -1 2\r\n')],
  ['a bare LF for an end', Buffer.concat([Buffer.from('PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n'), Buffer.alloc(107, 'x')])],
  ['a line without an end', Buffer.from(`PROXY TCP4 ${'1'.repeat(200)}`)],
  ['v2 with another version', v2('31 11 000c c0000207 0a000001 dc04 01bb')],
  ['v2 with an unknown command', v2('22 11 000c c0000207 0a000001 dc04 01bb')],
  ['v2 over UDP', v2('21 12 000c c0000207 0a000001 dc04 01bb')],
  ['v2 without a family', v2('21 00 0000')],
  ['v2 over a unix socket', v2(`21 31 00d8 ${'00'.repeat(216)}`)],
  ['v2 shorter than its addresses', v2('21 11 0004 c0000207')],
  ['v2 longer than anybody writes', v2('21 11 ffff')],
  ['a v2 signature gone wrong', Buffer.from('0d0a0d0a000d0a515549540b', 'hex')],
]

test.each(BAD)('%s is no header', (_name, bytes) => {
  expect(() => parseSourceHeader(bytes)).toThrow(SourceError)
})

test('no bytes make the parser do anything but answer, ask for more or throw its own error', () => {
  const near = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.uint8Array({ maxLength: 300 }).map(tail => Buffer.concat([V2, tail])),
    fc.string({ maxLength: 300 }).map(tail => Buffer.from(`PROXY TCP4 ${tail}`)),
  )
  fc.assert(
    fc.property(near, bytes => {
      try {
        const header = parseSourceHeader(Buffer.from(bytes))
        if (header) expect(header.length).toBeLessThanOrEqual(bytes.length)
      } catch (error) {
        expect(error).toBeInstanceOf(SourceError)
      }
    }),
  )
})

test('addresses have one spelling', () => {
  expect(plainAddress('::ffff:10.1.2.3')).toBe('10.1.2.3')
  expect(plainAddress('::FFFF:0a01:0203')).toBe('10.1.2.3')
  expect(plainAddress('2001:0DB8:0:0::1')).toBe('2001:db8::1')
  expect(plainAddress('fe80::1%eth0')).toBe('fe80::1')
})

test('load balancers are listed by range, and a range that is none is refused', () => {
  const listed = loadBalancers(['10.0.0.0/8', 'fd00::/8', '192.0.2.1'])
  expect(['10.9.9.9', 'fd12::1', '192.0.2.1'].map(listed)).toEqual([true, true, true])
  expect(['11.0.0.1', 'fe80::1', '192.0.2.2', '', 'x'].map(listed)).toEqual([false, false, false, false, false])
  for (const bad of ['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', 'example.org', '10.0.0/8', '/8']) {
    expect(() => loadBalancers([bad]), bad).toThrow(SourceError)
  }
})

/** What `readSource` gives for what a client sends, and what is left on the socket for whoever reads next. */
async function accepted(parts: readonly (string | Buffer)[], isLoadBalancer: boolean, milliseconds = 2_000) {
  const server = createServer({ allowHalfOpen: true })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const client = connect(typeof address === 'object' && address ? address.port : 0, '127.0.0.1')
  const socket = await new Promise<Socket>(resolve => server.on('connection', resolve))
  const sending = (async () => {
    for (const part of parts) {
      client.write(part)
      await new Promise(resolve => setTimeout(resolve, 2))
    }
    client.end()
  })()
  try {
    const source = await readSource(socket, () => isLoadBalancer, milliseconds)
    const rest: Buffer[] = []
    for await (const chunk of socket) rest.push(chunk)
    return { source, rest: Buffer.concat(rest).toString() }
  } finally {
    await sending
    client.destroy()
    socket.destroy()
    server.close()
  }
}

test('from a load balancer the header is taken off and the next reader stands at the first byte of the client', async () => {
  const header = 'PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n'
  for (const parts of [
    [`${header}hello`],
    [header, 'hello'],
    [...`${header}hello`],
    [header.slice(0, 20), `${header.slice(20)}he`, 'llo'],
  ]) {
    const { source, rest } = await accepted(parts, true)
    expect(source).toEqual({ address: '192.0.2.7', port: 56324 })
    expect(rest).toBe('hello')
  }
})

test('nobody but a load balancer can say where he comes from: his header is left for the protocol to refuse', async () => {
  const { source, rest } = await accepted(['PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n'], false)
  expect(source.address).toBe('127.0.0.1')
  expect(rest).toBe('PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n')
})

test('a load balancer that sends no header, leaves or stays silent is refused', async () => {
  await expect(accepted(['GET / HTTP/1.1\r\n'], true)).rejects.toThrow('no PROXY header')
  await expect(accepted(['PROXY TCP4 '], true)).rejects.toThrow('left before')
  await expect(accepted(['PROXY ', ...Array(100).fill('')], true, 50)).rejects.toThrow('did not come in time')
})
