import type { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { rewriteAdvertisement } from '../../../proxy/git/advertisement.ts'
import { hideAdvertised, hideListed, takeListed, type View } from '../../../proxy/git/hiderefs.ts'
import { err, FLUSH, line } from '../../../proxy/git/pktline.ts'
import { chunks, collect, splitAt } from './split.ts'

const A = 'a'.repeat(40)
const B = 'b'.repeat(40)
const C = 'c'.repeat(40)
const ZERO = '0'.repeat(40)

const list = (...packets: (string | Buffer)[]) =>
  Buffer.concat(packets.map(each => (typeof each === 'string' ? line(each) : each)))

/** A view of these refs, and what it was told of. */
function viewOf(...refs: string[]): View & { told: string[] } {
  const told: string[] = []
  return { covers: ref => refs.includes(ref), shown: (ref, id) => told.push(`${ref} ${id[0]}`), told }
}

const hidden = (source: Readable, view: View) =>
  collect(
    rewriteAdvertisement(
      source,
      same => same,
      (head, capabilities) => hideAdvertised(head, capabilities, view),
    ),
  )

describe('an advertisement of protocol 0 and 1', () => {
  const caps = 'symref=HEAD:refs/heads/main agent=git/2.39.5'
  const advertised = (version: string[], ...refs: string[]) =>
    list(...version, `${refs[0]}\0${caps}`, ...refs.slice(1), FLUSH)
  const refs = [
    `${A} HEAD`,
    `${A} refs/heads/main`,
    `${B} refs/heads/secret`,
    `${B} refs/tags/v1`,
    `${C} refs/tags/v1^{}`,
    `${C} refs/tags/v2`,
    `${A} refs/tags/v2^{}`,
  ]

  test.each([
    ['protocol 0', []],
    ['protocol 1', ['version 1']],
  ])('%s shows what is covered, a tag with what it points to, at every split', async (_what, version) => {
    const bytes = advertised(version, ...refs)
    const seen = [`${A} HEAD`, `${A} refs/heads/main`, `${B} refs/tags/v1`, `${C} refs/tags/v1^{}`]
    for (let at = 0; at <= bytes.length; at += 3) {
      const view = viewOf('refs/heads/main', 'refs/tags/v1')
      expect((await hidden(splitAt(bytes, at), view)).toString()).toBe(advertised(version, ...seen).toString())
      expect(view.told).toEqual(['HEAD a', 'refs/heads/main a', 'refs/tags/v1 b', 'refs/tags/v1 c'])
    }
  })

  test('HEAD goes with the branch it stands for, and so does its name in the capabilities', async () => {
    const text = (await hidden(chunks(advertised([], ...refs)), viewOf('refs/heads/secret'))).toString('latin1')
    expect(text).toBe(list(`${B} refs/heads/secret\0agent=git/2.39.5`, FLUSH).toString('latin1'))
    const detached = list(`${A} HEAD\0agent=x`, `${A} refs/heads/main`, FLUSH)
    expect((await hidden(chunks(detached), viewOf('refs/heads/main'))).toString()).not.toContain('HEAD')
  })

  test('nothing to see is a repository without refs; what is shallow about it is told all the same', async () => {
    const bytes = list(`${A} HEAD\0agent=x`, `${A} refs/heads/main`, `shallow ${B}`, FLUSH)
    expect((await hidden(chunks(bytes), viewOf())).toString()).toBe(
      list(`${ZERO} capabilities^{}\0agent=x`, `shallow ${B}`, FLUSH).toString(),
    )
  })

  test('a name that is no UTF-8 is shown to nobody', async () => {
    const odd = Buffer.concat([Buffer.from(`${B} refs/heads/`), Buffer.from([0xff]), Buffer.from('\n')])
    const framed = Buffer.concat([Buffer.from((odd.length + 4).toString(16).padStart(4, '0')), odd])
    const view: View = { covers: () => true }
    const text = (await hidden(chunks(list(`${A} refs/heads/main\0x`, framed, FLUSH)), view)).toString('latin1')
    expect(text).toBe(list(`${A} refs/heads/main\0x`, FLUSH).toString('latin1'))
  })

  test('one that ends before its flush packet is no list of refs', async () => {
    const bytes = list(`${A} HEAD\0x`, `${A} refs/heads/main`)
    await expect(hidden(chunks(bytes), viewOf())).rejects.toMatchObject({ code: 'ERR_REFS' })
  })
})

describe('an answer to ls-refs', () => {
  const answer = list(
    `${A} HEAD symref-target:refs/heads/main`,
    `${A} refs/heads/main`,
    `${B} refs/heads/secret`,
    `${B} refs/heads/alias symref-target:refs/heads/secret`,
    `${B} refs/tags/v1 peeled:${C}`,
    'unborn refs/heads/new',
    FLUSH,
  )
  const shown = (bytes: Buffer, view: View) => collect(hideListed(chunks(bytes), 'sha1', view))

  test('shows what is covered, at every split', async () => {
    for (let at = 0; at <= answer.length; at += 3) {
      const view = viewOf('refs/heads/main', 'refs/tags/v1')
      expect((await collect(hideListed(splitAt(answer, at), 'sha1', view))).toString()).toBe(
        list(
          `${A} HEAD symref-target:refs/heads/main`,
          `${A} refs/heads/main`,
          `${B} refs/tags/v1 peeled:${C}`,
          FLUSH,
        ).toString(),
      )
      expect(view.told).toEqual(['HEAD a', 'refs/heads/main a', 'refs/tags/v1 b', 'refs/tags/v1 c'])
    }
  })

  test('a covered name that stands for an uncovered one is not shown', async () => {
    expect((await shown(answer, viewOf('refs/heads/alias'))).toString()).toBe('0000')
  })

  test('a HEAD whose target was not asked for is not shown', async () => {
    const bytes = list(`${A} HEAD`, `${A} refs/heads/main`, FLUSH)
    expect((await shown(bytes, viewOf('refs/heads/main'))).toString()).toBe(
      list(`${A} refs/heads/main`, FLUSH).toString(),
    )
  })

  test('an error of the host is passed on to who asked, and is no list of refs to the gate', async () => {
    const bytes = list(err('no such repository'), FLUSH)
    expect((await shown(bytes, viewOf())).toString()).toContain('no such repository')
    await expect(takeListed(chunks(bytes), 'sha1', viewOf())).rejects.toMatchObject({ code: 'ERR_REFS' })
  })
})
