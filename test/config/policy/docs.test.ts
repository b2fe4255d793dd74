import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { loadPolicy, readPolicy } from '../../../config/policy/load.ts'
import { policyJsonSchema, policySchema } from '../../../config/policy/schema.ts'
import { loadPolicyTests, runPolicyTests } from '../../../config/policy/unittest.ts'

const file = (name: string) => fileURLToPath(new URL(`../../../${name}`, import.meta.url))
const read = (name: string) => readFileSync(file(name), 'utf8')

describe('docs/policy.md', () => {
  const blocks = [...read('docs/policy.md').matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text]) => text!)

  test.each(blocks.map((text, index) => [index, text] as const))('example %i loads', (_, text) => {
    if (text.startsWith('tests:')) expect(loadPolicyTests([{ file: 'docs', text }]).length).toBeGreaterThan(0)
    else
      expect(
        loadPolicy([{ file: 'docs', text: text.startsWith('version:') ? text : `version: 1\n${text}` }]).version,
      ).toMatch(/^p-/)
  })

  test('shows every key of the language', () => {
    const shown = blocks.join('\n')
    const missing: string[] = []
    const look = (schema: unknown) => {
      if (typeof schema !== 'object' || schema === null) return
      const { properties } = schema as { properties?: object }
      for (const key of Object.keys(properties ?? {})) if (!new RegExp(`\\b${key}:`).test(shown)) missing.push(key)
      for (const inner of Object.values(schema)) look(inner)
    }
    look(JSON.parse(policyJsonSchema()))
    expect([...new Set(missing)]).toEqual([])
  })
})

test('the published JSON Schema is the one the policy is read by (node config/policy/schema.ts)', () => {
  expect(read('config/policy.schema.json')).toBe(policyJsonSchema())
  expect(Object.keys(JSON.parse(policyJsonSchema()).properties)).toEqual(Object.keys(policySchema.shape))
})

test('the example policy loads, and passes the tests beside it', () => {
  const tests = loadPolicyTests([{ file: 'policy.example.test.yaml', text: read('config/policy.example.test.yaml') }])
  const results = runPolicyTests(readPolicy(file('config/policy.example.yaml')), tests)
  expect(results.filter(({ differences }) => differences.length > 0)).toEqual([])
  expect(results.length).toBeGreaterThan(3)
})

describe('unit tests of a policy', () => {
  test('say what came instead', () => {
    const policy = loadPolicy([
      { file: 'p.yaml', text: 'version: 1\nrequests: [{ name: r, trigger: push, approvers: leads, window: 2h }]\n' },
    ])
    const given = '{ principal: dana, action: push, repository: acme/api, refs: main }'
    const tests = loadPolicyTests([
      {
        file: 't.yaml',
        text: `tests:\n  - name: wrong in every way\n    given: ${given}\n    expect: { answer: refuse, rule: x, approvers: y, people: 3, window: 9h, because: z }\n`,
      },
    ])
    expect(runPolicyTests(policy, tests)).toEqual([
      {
        name: 'wrong in every way',
        place: 't.yaml:2',
        differences: [
          'expected refuse, got ask',
          'expected rule x, got r',
          'expected approvers y, got one of leads',
          'expected people 3, got 1',
          'expected window 9h, got 1h',
          'expected because "z", got ""',
        ],
      },
    ])
  })

  test('that cannot be read name their line', () => {
    const text =
      'tests:\n  - { name: a, given: { principal: dana, action: shove, repository: acme/api }, expect: { anser: ask } }\n'
    expect(() => loadPolicyTests([{ file: 't.yaml', text }])).toThrow(
      /t\.yaml:2:50: tests\[0\]\.given\.action: "shove" names no action/,
    )
  })
})
