import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { FLUSH, line } from '../../../proxy/git/pktline.ts'
import { type Listing, Listings, listRefs } from '../../../proxy/reuse/listing.ts'
import type { Upstream } from '../../../proxy/upstream/upstream.ts'

const A = 'a'.repeat(40)
const B = 'b'.repeat(40)

function host(...packets: Buffer[]): Upstream & { closed: boolean; asked: string } {
  return {
    conversational: false,
    closed: false,
    asked: '',
    advertise: () => Promise.reject(new Error('was asked to advertise')),
    async exchange(body) {
      for await (const chunk of body) this.asked += chunk
      return Readable.from(packets, { objectMode: false })
    },
    close() {
      this.closed = true
    },
  }
}

describe('what a host advertises', () => {
  const refs = [`${A} HEAD symref-target:refs/heads/main`, `${A} refs/heads/main`, `${B} refs/tags/v1 peeled:${A}`]

  test('is asked for with tags and what they point to, and the host let go of', async () => {
    const upstream = host(...refs.map(line), FLUSH)
    expect((await listRefs(upstream, 'sha1')).tips).toEqual(new Set([A, B]))
    expect(upstream.asked).toContain('peel')
    expect(upstream.closed).toBe(true)
  })

  test('is told apart by the tags, not by the branches', async () => {
    const tags = async (...lines: string[]) => (await listRefs(host(...lines.map(line), FLUSH), 'sha1')).tags
    const now = await tags(...refs)
    expect(await tags(`${B} refs/heads/main`, refs[2]!)).toBe(now)
    expect(await tags(...refs.slice(0, 2))).not.toBe(now)
    expect(await tags(refs[0]!, `${B} refs/tags/v1 peeled:${B}`)).not.toBe(now)
    expect(await tags(refs[0]!, `${B} refs/tags/v2 peeled:${A}`)).not.toBe(now)
  })

  test.each([
    ['an error', [line('ERR no')]],
    ['an end without a flush packet', [line(refs[0]!)]],
    ['an id of another format', [line(`${'a'.repeat(64)} refs/heads/main`), FLUSH]],
  ])('%s is none', async (_what, packets) => {
    const upstream = host(...packets)
    await expect(listRefs(upstream, 'sha1')).rejects.toMatchObject({ code: 'ERR_LS_REFS' })
    expect(upstream.closed).toBe(true)
  })

  test('one without an end is given up', async () => {
    const endless: Upstream = {
      ...host(),
      exchange: async () =>
        Readable.from(
          (function* () {
            for (let n = 0; ; n++) yield line(`${A} refs/heads/${'x'.repeat(1000)}${n}`)
          })(),
          { objectMode: false },
        ),
    }
    await expect(listRefs(endless, 'sha1')).rejects.toMatchObject({ code: 'ERR_PKT_LIMIT' })
  })
})

describe('listings for many', () => {
  const listing: Listing = { tips: new Set(), tags: '' }

  test('who asks while one is under way waits for the next: that one may have been read before they asked', async () => {
    const listings = new Listings()
    const finish: ((listing: Listing) => void)[] = []
    const ask = () => new Promise<Listing>(resolve => finish.push(resolve))
    const first = listings.fresh('x', ask)
    const late = [listings.fresh('x', ask), listings.fresh('x', ask), listings.fresh('x', ask)]
    expect(finish).toHaveLength(1)
    finish[0]?.({ ...listing, tags: 'before' })
    expect((await first).tags).toBe('before')
    await new Promise(resolve => setImmediate(resolve))
    expect(finish).toHaveLength(2)
    const later = listings.fresh('x', ask)
    finish[1]?.({ ...listing, tags: 'after' })
    expect((await Promise.all(late)).map(({ tags }) => tags)).toEqual(['after', 'after', 'after'])
    await new Promise(resolve => setImmediate(resolve))
    finish[2]?.({ ...listing, tags: 'last' })
    expect((await later).tags).toBe('last')
  })

  test('one that fails fails for those who waited for it, and for nobody after', async () => {
    const listings = new Listings()
    const first = listings.fresh('x', () => Promise.reject(new Error('gone')))
    const second = listings.fresh('x', async () => listing)
    await expect(first).rejects.toThrow('gone')
    expect(await second).toBe(listing)
    expect(await listings.fresh('x', async () => listing)).toBe(listing)
  })

  test('repositories do not wait for each other', async () => {
    const listings = new Listings()
    void listings.fresh('x', () => new Promise(() => {}))
    expect(await listings.fresh('y', async () => listing)).toBe(listing)
  })
})
