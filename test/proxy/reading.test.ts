import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import type { LiveGrant } from '../../grant/grant.ts'
import { FLUSH, line } from '../../proxy/git/pktline.ts'
import { readFetchRequest } from '../../proxy/git/uploadpack.ts'
import { heldTo, noting, reading, stillShown, type Tips, whyBeyond } from '../../proxy/reading.ts'
import { client, gateOf, granted, live } from './attempt.ts'

const A = 'a'.repeat(40)
const B = 'b'.repeat(40)

const tips: Tips = new Map([
  [A, new Set(['HEAD', 'refs/heads/main', 'refs/heads/next'])],
  [B, new Set(['refs/tags/v1'])],
])

async function fetching(...lines: string[]) {
  const bytes = Buffer.concat([...lines.map(line), FLUSH, line('done')])
  const request = await readFetchRequest(Readable.from([bytes], { objectMode: false }), { stateless: true })
  return request!.fetch
}

describe('a fetch under a window for some refs', () => {
  test.each([
    [['want A'], undefined],
    [['want A', 'want B', 'deepen 5'], undefined],
    [[`want ${'c'.repeat(40)}`], /is at none of the refs/],
    [['want A', 'deepen-not refs/heads/main'], undefined],
    [['want A', 'deepen-not main'], /main is not among/],
    [['want A', 'filter blob:none'], /--filter/],
    [['want A', 'shallow B', 'deepen 5'], undefined],
    [['want A', 'deepen 2147483647'], undefined],
    [['want A', 'shallow B', 'deepen 2147483647'], /--unshallow/],
    // git keeps the lower 32 bits, which are INFINITE_DEPTH.
    [['want A', 'shallow B', 'deepen 6442450943'], /--unshallow/],
  ])('%j: %s', async (lines, why) => {
    const asked = await fetching(...lines.map(each => each.replace(/ A$/, ` ${A}`).replace(/ B$/, ` ${B}`)))
    const said = whyBeyond(asked, tips)
    if (why) expect(said).toMatch(why)
    else expect(said).toBeUndefined()
  })

  test('is not judged by what was shown under a window that is over', async () => {
    const now = stillShown(tips, { covers: ref => ref === 'refs/heads/next' })
    expect(now).toEqual(new Map([[A, new Set(['HEAD', 'refs/heads/next'])]]))
    expect(whyBeyond(await fetching(`want ${B}`), now)).toMatch(/is at none of the refs/)
    expect(stillShown(tips, { covers: () => false }).size).toBe(0)
  })

  test('a window that shows more refs than can be looked through shows none', () => {
    const view = noting({ covers: () => true }, new Map())
    for (let n = 0; n < 200_000; n++) view.shown?.('refs/heads/main', A)
    expect(() => view.shown?.('refs/heads/main', A)).toThrow(/more than 200000 refs/)
  })
})

describe('a read that runs', () => {
  const some = (...refs: string[]): LiveGrant => live({ id: `g-${refs.join()}`, refs })

  async function opened(first: readonly LiveGrant[], wants: readonly string[]) {
    let now = first
    const { gate } = gateOf({ ask: async () => granted(...now) })
    const asked = await fetching(...wants.map(id => `want ${id}`))
    const wanted = reading({ operation: 'op-1', action: 'fetch' }, asked)
    const session = await gate.open(client(), wanted)
    if ('kind' in session) throw new Error(session.sentence)
    if (wanted.viewFor(session)) wanted.hold(heldTo(asked, tips))
    return async (...then: readonly LiveGrant[]) => {
      now = then
      return (await gate.again(session))?.code
    }
  }

  test('goes on under another grant for a ref that is at the same commit, and under none for others', async () => {
    const again = await opened([some('main'), some('refs/tags/*')], [A, B])
    expect(await again(some('next'), some('refs/tags/v1'))).toBeUndefined()
    expect(await again(live())).toBeUndefined()
    expect(await again(some('next'))).toBe('no-grant')
    expect(await again(some('other'), some('refs/tags/v1'))).toBe('no-grant')
  })

  test('that was opened for the whole repository is not gone on with under a window for some of it', async () => {
    const again = await opened([live({ id: 'whole' }), some('main')], [A])
    expect(await again(live({ id: 'another' }))).toBeUndefined()
    expect(await again(some('main'))).toBe('no-grant')
  })

  test('is recorded under the grants for the whole repository where there are any', async () => {
    const { gate, records } = gateOf({ ask: async () => granted(some('main'), live({ id: 'whole' })) })
    await gate.open(client(), reading({ operation: 'op-1', action: 'list' }))
    expect(records).toMatchObject([{ grants: ['whole'] }])
  })
})
