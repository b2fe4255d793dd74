import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ConfigError } from '../../config/problem.ts'
import { readYaml } from '../../config/yaml.ts'

function refusal(text: string): string {
  try {
    readYaml(text, 'f.yaml')
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  return ''
}

test('a billion laughs is refused before anything is expanded', () => {
  const levels = Array.from({ length: 20 }, (_, n) => `l${n + 1}: &l${n + 1} [${Array(10).fill(`*l${n}`).join(', ')}]`)
  const told = refusal(`l0: &l0 lol\n${levels.join('\n')}\n`)
  expect(told).toContain('f.yaml:1:9: anchors (&name) are not accepted')
  expect(told).toContain('f.yaml:2:10: aliases (*name) are not accepted')
})

test('merge keys, duplicate keys, tags, prototypes and second documents are refused, each at its place', () => {
  expect(refusal('a: 1\nb:\n  <<: { c: 1 }\n')).toBe(
    'f.yaml:3:3: <<: merge keys are not accepted; write the values out',
  )
  expect(refusal('a: 1\na: 2\n')).toBe('f.yaml:2:1: this key is given twice in one mapping; keep one')
  expect(refusal('a: { b: 1, "b": 2 }\n')).toContain('f.yaml:1:12: this key is given twice')
  expect(refusal('a: !!binary aGk=\n')).toContain('tags (!name) are not accepted')
  expect(refusal('a: !ref b\n')).toContain('f.yaml:1:9: tags')
  expect(refusal('a: { __proto__: { b: 1 } }\n')).toContain('f.yaml:1:6: __proto__')
  expect(refusal('a: 1\n---\nb: 2\n')).toContain('f.yaml:2:1: a second document')
})

test('a file over 1 MiB and a nesting over 32 are refused', () => {
  expect(refusal(`a: "${'x'.repeat(1 << 20)}"`)).toBe('f.yaml:1:1: larger than 1048576 bytes')
  expect(refusal(`${'['.repeat(33)}${']'.repeat(33)}`)).toContain('nested deeper than 32')
  expect(refusal(`a: ${'{ a: '.repeat(33)}1${' }'.repeat(33)}`)).toContain('nested deeper than 32')
  expect(refusal(`${'['.repeat(30)}${']'.repeat(30)}`)).toBe('')
})

test('a hundred thousand brackets end in a refusal, not in a stack overflow', () => {
  expect(refusal('['.repeat(100_000))).not.toBe('')
  expect(refusal('{a: '.repeat(100_000))).not.toBe('')
  expect(refusal('- '.repeat(100_000))).not.toBe('')
})

test('the places of values, keys and missing things are those of the text', () => {
  const yaml = readYaml('a:\n  b: [x, y]\n', 'f.yaml')
  expect(yaml.at(['a', 'b', 1])).toEqual({ line: 2, column: 10 })
  expect(yaml.atKey(['a', 'b'])).toEqual({ line: 2, column: 3 })
  expect(yaml.at(['a', 'none', 'deeper'])).toEqual({ line: 2, column: 3 })
  expect(yaml.value).toEqual({ a: { b: ['x', 'y'] } })
})

test('any text is read or refused by a ConfigError with a place in it', () => {
  const pieces = fc.constantFrom(
    'a: ',
    '- ',
    '\n',
    '  ',
    '{',
    '}',
    '[',
    ']',
    '"',
    "'",
    '&x',
    '*x',
    '!t',
    '<<',
    '? ',
    '|',
    '>',
    '%',
    '---',
    '#',
    ':',
    ',',
    '\t',
    '\u0000',
    'é',
  )
  fc.assert(
    fc.property(fc.array(fc.oneof(pieces, fc.string({ maxLength: 4 })), { maxLength: 30 }), parts => {
      const told = refusal(parts.join(''))
      if (told !== '') expect(told).toMatch(/^f\.yaml:\d+:\d+: /)
    }),
    { numRuns: 500 },
  )
})
