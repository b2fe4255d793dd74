import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { withSettingsTable } from '../../config/reference.ts'
import { jsonSchema } from '../../config/schema.ts'

test('the published JSON Schema is the one the code gives: node config/schema.ts writes it', () => {
  const published = readFileSync(new URL('../../config/drawbridge.schema.json', import.meta.url), 'utf8')
  expect(JSON.parse(published)).toEqual(JSON.parse(JSON.stringify(jsonSchema())))
})

test('the JSON Schema lets any text or number come from the environment or a file', () => {
  const { properties } = jsonSchema() as { properties: Record<string, { anyOf: unknown[] }> }
  expect(properties.state?.anyOf).toContainEqual({ $ref: '#/$defs/elsewhere' })
})

test('the table in docs/operator.md is the one the schema gives: node config/reference.ts puts it there', () => {
  const document = readFileSync(new URL('../../docs/operator.md', import.meta.url), 'utf8')
  expect(withSettingsTable(document)).toBe(document)
})
