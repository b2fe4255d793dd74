import { PassThrough } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { watchPack } from '../../../proxy/git/packwatch.ts'
import { DELIM, FLUSH, line, PacketCounter, packet } from '../../../proxy/git/pktline.ts'
import { band } from '../../../proxy/git/sideband.ts'
import { type Command, commandReader, readCommand, readFetchRequest } from '../../../proxy/git/uploadpack.ts'
import { chunks, collect, splitAt } from './split.ts'

const A = 'a'.repeat(40)
const B = 'b'.repeat(40)

function list(...packets: (string | Buffer)[]): Buffer {
  return Buffer.concat(packets.map(each => (typeof each === 'string' ? line(each) : each)))
}

function command(...packets: (string | Buffer)[]): Promise<Command | undefined> {
  return readCommand(commandReader(chunks(list(...packets))))
}

describe('the commands of protocol 2', () => {
  const lsRefs = list(
    'command=ls-refs',
    'agent=git/2.39.5',
    'object-format=sha1',
    DELIM,
    'peel',
    'symrefs',
    'ref-prefix refs/heads/',
    FLUSH,
  )
  const fetch = list(
    'command=fetch',
    DELIM,
    ...['thin-pack', 'ofs-delta', 'deepen 5', 'filter blob:none', `shallow ${B}`, `want ${A.toUpperCase()}`],
    ...['want-ref refs/heads/main', `have ${B}`, 'done'],
    FLUSH,
  )

  test('one after the other on one connection, each with its exact bytes, at every split', async () => {
    const bytes = Buffer.concat([lsRefs, fetch, FLUSH, Buffer.from('left')])
    for (let at = 0; at <= bytes.length; at++) {
      const reader = commandReader(splitAt(bytes, at))
      expect(await readCommand(reader)).toMatchObject({ command: 'ls-refs', refPrefixes: ['refs/heads/'], raw: lsRefs })
      expect(await readCommand(reader)).toMatchObject({
        command: 'fetch',
        raw: fetch,
        fetch: {
          wants: [A],
          wantRefs: ['refs/heads/main'],
          haves: 1,
          shallows: [B],
          depth: '5',
          filter: 'blob:none',
          done: true,
          kind: 'incremental',
        },
      })
      expect(await readCommand(reader)).toBeUndefined()
      expect((await collect(reader.rest())).toString()).toBe('left')
    }
  })

  test('a command is given as soon as its flush packet is there, with the connection still open', async () => {
    const source = new PassThrough()
    const reader = commandReader(source)
    source.write(lsRefs)
    expect(await readCommand(reader)).toMatchObject({ command: 'ls-refs' })
    source.write(fetch)
    expect(await readCommand(reader)).toMatchObject({ command: 'fetch' })
    source.end()
    expect(await readCommand(reader)).toBeUndefined()
  })

  test('the command may stand behind the capabilities, and may have no arguments', async () => {
    expect(await command('agent=x', 'command=fetch', FLUSH)).toMatchObject({
      command: 'fetch',
      fetch: { kind: 'clone', wants: [] },
    })
  })

  test('several ways to limit the history are all told', async () => {
    const read = await command(
      'command=fetch',
      DELIM,
      'deepen-since 1700000000',
      'deepen-not refs/heads/old',
      `want ${A}`,
      FLUSH,
    )
    expect(read).toMatchObject({ fetch: { depth: 'since 1700000000, not refs/heads/old', done: false } })
  })

  test.each(['object-info', 'bundle-uri', 'promisor-remote', 'anything\u{e9}'])(
    '%s is reported as one not to relay',
    async name => {
      expect(await command(`command=${name}`, DELIM, `oid ${A}`, FLUSH)).toMatchObject({ command: 'other', name })
    },
  )

  test.each<[string, (string | Buffer)[]]>([
    ['two commands', ['command=ls-refs', 'command=fetch', FLUSH]],
    ['a second command hidden behind a NUL', ['command=ls-refs\0command=fetch', FLUSH]],
    ['no command', ['agent=x', FLUSH]],
    ['an argument that is not known', ['command=fetch', DELIM, 'surprise', FLUSH]],
    [
      'packfile-uris, by which objects would come from elsewhere',
      ['command=fetch', DELIM, 'packfile-uris https', FLUSH],
    ],
    ['a want without an id', ['command=fetch', DELIM, 'want refs/heads/main', FLUSH]],
    ['a want with more behind its id', ['command=fetch', DELIM, `want ${A} ${B}`, FLUSH]],
    ['an argument of ls-refs that is not known', ['command=ls-refs', DELIM, `want ${A}`, FLUSH]],
    ['a second delimiter', ['command=fetch', DELIM, `want ${A}`, DELIM, `want ${B}`, FLUSH]],
    ['an end without a flush packet', ['command=fetch', DELIM, `want ${A}`]],
    ['a response-end', ['command=fetch', DELIM, Buffer.from('0002')]],
    ['bytes that are no UTF-8', ['command=ls-refs', DELIM, packet(Buffer.from('ref-prefix \xff', 'latin1')), FLUSH]],
    ['an unknown object format', ['command=fetch', 'object-format=md5', FLUSH]],
  ])('%s is refused', async (_what, packets) => {
    await expect(command(...packets)).rejects.toMatchObject({ code: 'ERR_FETCH_REQUEST' })
  })

  test('a request of more bytes than the bound is refused, each command counted for itself', async () => {
    const reader = commandReader(chunks(lsRefs, lsRefs, fetch), lsRefs.length)
    await readCommand(reader)
    await readCommand(reader)
    await expect(readCommand(reader)).rejects.toMatchObject({ code: 'ERR_PKT_LIMIT' })
  })
})

describe('a request of protocol 0 or 1', () => {
  const wants = list(
    `want ${A} multi_ack_detailed side-band-64k agent=git/2.39.5`,
    `want ${B}`,
    'deepen 1',
    'filter tree:0',
    FLUSH,
  )
  const haves = list(`have ${A}`, `have ${B}`, FLUSH, `have ${'c'.repeat(40)}`, 'done')

  test('over HTTP it is read to its end, at every split', async () => {
    const bytes = Buffer.concat([wants, haves])
    for (let at = 0; at <= bytes.length; at++) {
      const read = await readFetchRequest(splitAt(bytes, at), { stateless: true })
      expect(read).toMatchObject({
        raw: bytes,
        fetch: { wants: [A, B], haves: 3, depth: '1', filter: 'tree:0', done: true, kind: 'incremental' },
      })
      expect(read?.capabilities.has('side-band-64k')).toBe(true)
    }
  })

  test('over SSH only the wants are, since the haves wait for an answer', async () => {
    const source = new PassThrough()
    source.write(wants)
    const read = await readFetchRequest(source, { stateless: false })
    expect(read).toMatchObject({ raw: wants, fetch: { wants: [A, B], haves: 0, done: false } })
    source.end(haves)
    expect(await collect(read!.rest)).toEqual(haves)
  })

  test('a client that wants nothing says so with a flush packet or by leaving', async () => {
    expect(await readFetchRequest(chunks(FLUSH), { stateless: true })).toBeUndefined()
    expect(await readFetchRequest(chunks(), { stateless: false })).toBeUndefined()
  })

  test.each<[string, (string | Buffer)[]]>([
    ['a line that is not known', [`want ${A}`, 'surprise', FLUSH]],
    ['want-ref, which only protocol 2 has', [`want ${A}`, 'want-ref refs/heads/x', FLUSH]],
    ['a command of protocol 2', ['command=fetch', DELIM, FLUSH]],
    ['a NUL', [`want ${A}\0want ${B}`, FLUSH]],
    ['a want by name', ['want refs/heads/main', FLUSH]],
    ['an end before the flush packet', [`want ${A}`]],
  ])('%s is refused', async (_what, packets) => {
    await expect(readFetchRequest(chunks(list(...packets)), { stateless: true })).rejects.toMatchObject({
      code: 'ERR_FETCH_REQUEST',
    })
  })
})

describe('where the pack of an answer begins', () => {
  const pack = Buffer.from('PACK\0\0\0\x02\0\0\x01\x02 objects', 'latin1')
  const tiny = Buffer.concat([...pack].map(byte => band(1, Buffer.of(byte))))
  const answers: [string, 0 | 2, Buffer][] = [
    [
      'protocol 2',
      2,
      list(
        'acknowledgments',
        `ACK ${A}`,
        'ready',
        DELIM,
        'packfile',
        band(2, Buffer.from('Counting')),
        band(1, pack),
        FLUSH,
      ),
    ],
    ['protocol 2 in packets of one byte', 2, list('packfile', tiny, FLUSH)],
    [
      'protocol 2 with sideband-all',
      2,
      list(band(1, Buffer.from('shallow-info\n')), DELIM, band(1, Buffer.from('packfile\n')), band(1, pack), FLUSH),
    ],
    [
      'protocol 0',
      0,
      list(
        `shallow ${A}`,
        FLUSH,
        `ACK ${A} common`,
        'NAK',
        `ACK ${A}`,
        band(2, Buffer.from('x')),
        band(1, pack),
        FLUSH,
      ),
    ],
    ['protocol 0 without side-band', 0, list('NAK', pack)],
  ]

  test.each(answers)('%s: the number of objects is read at every split', (_what, protocol, bytes) => {
    for (let at = 0; at <= bytes.length; at++) {
      const watch = watchPack(protocol)
      const counter = new PacketCounter(watch)
      counter.count(bytes.subarray(0, at))
      counter.count(bytes.subarray(at))
      expect(watch.objects).toBe(258)
      expect(watch.started).toBe(true)
    }
  })

  test('an answer that only negotiates has no pack, whatever its lines look like', () => {
    const watch = watchPack(2)
    new PacketCounter(watch).count(list('acknowledgments', 'NAK', FLUSH, 'packfile-uris', 'PACK'))
    expect(watch.started).toBe(false)
    expect(watch.objects).toBeUndefined()
  })
})
