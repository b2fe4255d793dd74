import { PassThrough } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { readAdvertisement, rewriteAdvertisement, symrefs } from '../../../proxy/git/advertisement.ts'
import { capabilityValue, withCapability, without, withoutFeature } from '../../../proxy/git/capabilities.ts'
import { err, FLUSH, line } from '../../../proxy/git/pktline.ts'
import { chunks, collect, splitAt } from './split.ts'

const A = 'a'.repeat(40)
const B = 'b'.repeat(40)
const ZERO = '0'.repeat(40)

function list(...packets: (string | Buffer)[]): Buffer {
  return Buffer.concat(packets.map(each => (typeof each === 'string' ? line(each) : each)))
}

describe('an advertisement of protocol 0 and 1', () => {
  const rest = list(
    `${A} refs/heads/main`,
    `${B} refs/tags/v1`,
    `${A} refs/tags/v1^{}`,
    `${B} .have`,
    `shallow ${B}`,
    FLUSH,
  )
  const caps =
    'report-status delete-refs push-cert=1234-abcd symref=HEAD:refs/heads/main object-format=sha1 agent=git/2.39.5'

  test.each([
    ['protocol 0', []],
    ['protocol 1', ['version 1']],
  ])('%s: its capabilities are changed and every other byte is kept, at every split', async (_what, version) => {
    const bytes = list(...version, `${A} HEAD\0${caps}`, rest)
    const expected = list(...version, `${A} HEAD\0${caps.replace('push-cert=1234-abcd ', '')} no-thin`, rest)
    for (let at = 0; at <= bytes.length; at += 3) {
      const edited = rewriteAdvertisement(splitAt(bytes, at), list =>
        withCapability(without(list, 'push-cert'), { name: 'no-thin' }),
      )
      expect((await collect(edited)).toString()).toBe(expected.toString())
    }
  })

  test('a repository without refs has capabilities, or nothing but a flush packet', async () => {
    const head = await readAdvertisement(chunks(list(`${ZERO} capabilities^{}\0agent=x`, FLUSH)))
    expect(head).toMatchObject({ protocol: 0, capabilities: [{ name: 'agent', value: 'x' }], ended: false })
    expect(head.first).toBeUndefined()
    const bare = await readAdvertisement(chunks(FLUSH))
    expect(bare).toMatchObject({ protocol: 0, capabilities: [], ended: true })
    expect(bare.encode([])).toEqual(FLUSH)
  })

  test('a hundred thousand refs go by unchanged', async () => {
    const refs = Buffer.concat(Array.from({ length: 100_000 }, (_, n) => line(`${A} refs/heads/branch-${n}`)))
    const bytes = list(`${A} HEAD\0agent=x`, refs, FLUSH)
    const parts: Buffer[] = []
    for (let at = 0; at < bytes.length; at += 65_000) parts.push(bytes.subarray(at, at + 65_000))
    expect((await collect(rewriteAdvertisement(chunks(...parts), same => same))).equals(bytes)).toBe(true)
  })

  test('symbolic refs and the object format are read from the capabilities', async () => {
    const { capabilities, objectFormat, first } = await readAdvertisement(
      chunks(list(`${'c'.repeat(64)} HEAD\0symref=HEAD:refs/heads/main symref=X:Y object-format=sha256`)),
    )
    expect([...symrefs(capabilities)]).toEqual([
      ['HEAD', 'refs/heads/main'],
      ['X', 'Y'],
    ])
    expect(objectFormat).toBe('sha256')
    expect(first).toEqual({ name: 'HEAD', id: 'c'.repeat(64) })
  })
})

describe('an advertisement of protocol 2', () => {
  const bytes = list(
    'version 2',
    ...[
      'agent=git/2.39.5',
      'ls-refs=unborn',
      'fetch=shallow wait-for-done packfile-uris filter',
      'object-info',
      'bundle-uri',
    ],
    FLUSH,
  )

  test('loses what leads around the gate, at every split', async () => {
    for (let at = 0; at <= bytes.length; at++) {
      const edited = rewriteAdvertisement(splitAt(bytes, at), each =>
        withoutFeature(without(each, 'object-info', 'bundle-uri'), 'fetch', 'packfile-uris'),
      )
      expect(await collect(edited)).toEqual(
        list('version 2', 'agent=git/2.39.5', 'ls-refs=unborn', 'fetch=shallow wait-for-done filter', FLUSH),
      )
    }
  })

  test('keeps a capability whose last feature was taken away', () => {
    expect(withoutFeature([{ name: 'fetch', value: 'packfile-uris' }], 'fetch', 'packfile-uris')).toEqual([
      { name: 'fetch' },
    ])
    expect(capabilityValue([{ name: 'fetch' }], 'fetch')).toBe('')
    expect(capabilityValue([], 'fetch')).toBeUndefined()
  })
})

describe('what a broken host says', () => {
  test.each([
    ['a page of HTML', Buffer.from('<!DOCTYPE html>'), 'ERR_PKT_LENGTH'],
    ['nothing', Buffer.alloc(0), 'ERR_ADVERTISEMENT'],
    ['a first line that is no ref', list('hello', FLUSH), 'ERR_ADVERTISEMENT'],
    ['an unknown object format', list(`${A} HEAD\0object-format=md5`, FLUSH), 'ERR_ADVERTISEMENT'],
    ['an error of its own', err('repository not found'), 'ERR_HOST'],
    ['a list that breaks off between two packets of its head', list('version 2', 'agent=x'), 'ERR_ADVERTISEMENT'],
    [
      'a list that breaks off inside a packet',
      Buffer.from(list(`${A} HEAD\0x`, `${A} refs/heads/x`).subarray(0, 70)),
      'ERR_PKT_EOF',
    ],
    ['more capabilities than any host has', list(`${A} HEAD\0${'x '.repeat(300)}`, FLUSH), 'ERR_CAPABILITIES_MAX'],
  ])('%s is an error', async (_what, bytes, code) => {
    await expect(collect(rewriteAdvertisement(chunks(bytes), same => same))).rejects.toMatchObject({ code })
  })

  test('a host that is lost in the middle fails the advertisement', async () => {
    const host = new PassThrough()
    host.write(list(`${A} HEAD\0x`, `${A} refs/heads/x`))
    const edited = rewriteAdvertisement(host, same => same)
    const reading = collect(edited)
    await new Promise(resolve => setTimeout(resolve, 10))
    host.destroy(new Error('reset by peer'))
    await expect(reading).rejects.toThrow('reset by peer')
  })

  test('a reader that goes away lets go of the host', async () => {
    const host = new PassThrough()
    host.write(list(`${A} HEAD\0x`, `${A} refs/heads/x`))
    for await (const _part of rewriteAdvertisement(host, same => same)) break
    await new Promise(resolve => setImmediate(resolve))
    expect(host.destroyed).toBe(true)
  })
})
