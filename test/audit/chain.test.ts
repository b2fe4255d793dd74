import fc from 'fast-check'
import { expect, test } from 'vitest'
import { canonical } from '../../audit/canonical.ts'
import { entryForm, GENESIS, type Linked, link, linkOf, verify } from '../../audit/chain.ts'
import { end, start } from './records.ts'

function chainOf(count: number): Linked[] {
  const entries: Linked[] = []
  let hash = GENESIS
  for (let seq = 1; seq <= count; seq++) {
    const time = new Date(1_700_000_000_000 + seq).toISOString()
    const record = seq % 2 === 1 ? start(`op-${seq}`) : end(`op-${seq - 1}`)
    const entry = { seq, recorded: time, proxy: 'p', boot: 'b', n: seq, at: time, record }
    hash = linkOf(hash, entry)
    entries.push({ ...entry, hash: hash.toString('hex') })
  }
  return entries
}

test('the canonical form sorts keys, leaves out what is absent and has no white space', () => {
  expect(canonical({ b: [1, null, true], a: { z: 'ü\n', y: undefined } })).toBe('{"a":{"z":"ü\\n"},"b":[1,null,true]}')
  expect(canonical(-0)).toBe('0')
})

test('what has no one spelling has no canonical form, and the error says where', () => {
  expect(() => canonical({ a: { b: [0.5] } })).toThrow('a.b[0]: 0.5')
  expect(() => canonical({ a: 2 ** 53 })).toThrow('safe integer')
  expect(() => canonical({ a: Number.NaN })).toThrow('a: NaN')
  expect(() => canonical('\ud800')).toThrow('lone surrogate')
  expect(() => canonical({ a: 1n })).toThrow('bigint')
  let deep: unknown = 0
  for (let i = 0; i < 20; i++) deep = [deep]
  expect(() => canonical(deep)).toThrow('deep')
})

test('the canonical form does not depend on the order of members and survives being read', () => {
  const value = fc.letrec(tie => ({
    any: fc.oneof(
      { maxDepth: 4 },
      fc.string({ unit: 'grapheme' }),
      fc.maxSafeInteger(),
      fc.boolean(),
      fc.constant(null),
      tie('object'),
    ),
    object: fc.dictionary(fc.string(), tie('any')),
  })).object
  fc.assert(
    fc.property(value, object => {
      const reversed = Object.fromEntries(Object.entries(object as object).reverse())
      expect(canonical(reversed)).toBe(canonical(object))
      expect(canonical(JSON.parse(canonical(object)))).toBe(canonical(object))
    }),
  )
})

test('the form of an entry put together by hand is the canonical one', () => {
  const [entry] = chainOf(1) as [Linked]
  const { hash: _, ...plain } = { ...entry, proxy: 'p "quoted" \u2603', boot: 'b\\' }
  expect(entryForm(plain, canonical(plain.record))).toBe(canonical(plain))
})

test('a link depends on what came before, on the number and on the content', () => {
  const base = link(GENESIS, 1, 'x').toString('hex')
  expect(link(Buffer.alloc(32, 1), 1, 'x').toString('hex')).not.toBe(base)
  expect(link(GENESIS, 2, 'x').toString('hex')).not.toBe(base)
  expect(link(GENESIS, 1, 'y').toString('hex')).not.toBe(base)
})

test('a chain as it was written verifies, also from the middle', () => {
  const entries = chainOf(20)
  expect(verify(entries)).toBeUndefined()
  expect(verify(entries.slice(7), entries[6]!)).toBeUndefined()
})

test('whatever is done to one record, it is the first that is named', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 18 }),
      fc.constantFrom('edit', 'delete', 'swap', 'repeat', 'time'),
      (i, how) => {
        const entries = chainOf(20)
        const one = entries[i]!
        if (how === 'edit') entries[i] = { ...one, record: { ...one.record, principal: 'mallory' } as Linked['record'] }
        if (how === 'delete') entries.splice(i, 1)
        if (how === 'swap') [entries[i], entries[i + 1]] = [entries[i + 1]!, one]
        if (how === 'repeat') entries.splice(i, 0, one)
        if (how === 'time') entries[i] = { ...one, at: '2020-01-01T00:00:00.000Z' }
        expect(verify(entries)?.seq).toBe(i + 1)
      },
    ),
  )
})

test('two records that changed places with their numbers put right are still found', () => {
  const entries = chainOf(5)
  const [a, b] = [entries[1]!, entries[2]!]
  entries[1] = { ...b, seq: a.seq }
  entries[2] = { ...a, seq: b.seq }
  expect(verify(entries)).toMatchObject({ seq: 2, what: expect.stringContaining('does not match') })
})
