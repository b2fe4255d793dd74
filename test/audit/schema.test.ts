import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { canonical } from '../../audit/canonical.ts'
import { cleaner } from '../../audit/clean.ts'
import { KINDS, publishedSchema, recordSchema } from '../../audit/schema.ts'
import { ONE_OF_EACH } from './samples.ts'

test('the samples have a record of every kind', () => {
  expect([...new Set(ONE_OF_EACH.map(({ kind }) => kind))].sort()).toEqual([...KINDS].sort())
})

test('a record of every kind satisfies the schema, as it is written', () => {
  for (const record of ONE_OF_EACH) {
    const written: unknown = JSON.parse(canonical(cleaner()(record)))
    expect([record.kind, recordSchema.safeParse(written).error]).toEqual([record.kind, undefined])
  }
})

test('an unknown kind, an unknown member, a missing one and a fraction do not', () => {
  const [first] = ONE_OF_EACH
  const { operation: _, ...without } = first as { operation: string }
  for (const wrong of [
    { ...first, kind: 'operation.begin' },
    { ...first, secret: 'x' },
    without,
    { ...ONE_OF_EACH[1], bytesIn: 0.5 },
  ]) {
    expect(recordSchema.safeParse(wrong).success).toBe(false)
  }
})

test('the published JSON Schema is the one of the code: npm run schema writes it', async () => {
  expect(await readFile('audit/record.schema.json', 'utf8')).toBe(publishedSchema())
})
