import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readPlainYaml } from '../../config/plainyaml.ts'
import { parseYaml } from '../../config/yaml.ts'

/** What is read the quick way is read by the whole parser, as the same value, with the same lines. */
function expectAgreement(text: string): boolean {
  const plain = readPlainYaml(text)
  if (plain === undefined) return false
  const whole = parseYaml(text, 'f.yaml')
  expect(plain.value, text).toEqual(whole.value)
  for (const [key, value] of Object.entries(plain.value)) {
    if (!Array.isArray(value) || !value.every(entry => typeof entry === 'object' && entry !== null)) continue
    expect(
      value.map(entry => plain.lines.get(entry as object)),
      text,
    ).toEqual(whole.lines(key))
  }
  return true
}

const key = fc.constantFrom(
  'a',
  'b',
  'name',
  'mona@acme.example',
  'null',
  'True',
  '__proto__',
  'toString',
  '<<',
  '1',
  'x-y',
  '"q"',
)
const scalar = fc.constantFrom(
  ...[
    'push',
    'git push to main',
    '2 hours',
    '2h',
    '12',
    '007',
    '-3',
    '0x1F',
    '1.50',
    '1e3',
    '.inf',
    '.nan',
    'true',
    'FALSE',
    '~',
    'null',
  ],
  ...[
    '"a: # b"',
    '"a\\n"',
    "'it''s'",
    "'x'",
    '""',
    '2026-12-24',
    '2026-12-24T18:00:00Z',
    '09:00',
    'a: b',
    'a:',
    'x # y',
    'x#y',
    '#z',
  ],
  ...[
    '**',
    '*.md',
    '.github/**',
    '^PAY-[0-9]+$',
    'release/*',
    '&a x',
    '!t x',
    '|',
    '>-',
    '@x',
    '- x',
    '?',
    '+1',
    '1_000',
    'ä',
    '(a)',
    '',
    ' ',
  ],
  ...[
    '[a, b]',
    '[]',
    '[ ]',
    '[a, ]',
    '[a,, b]',
    '[a: b]',
    '{ a: 1 }',
    '{a: 1, a: 2}',
    '{}',
    '{ a: [x, { b: "c" }] }',
    '[a',
    '[a] x',
    '[a] # x',
  ],
  ...[
    '[10.0.0.0/8, "2001:db8::/32"]',
    '[a #b]',
    '["a" "b"]',
    '{ a }',
    '{a:b}',
    '[09:00, a:]',
    '[-1, - b]',
    '{ n: 2, of: [leads] }',
    '<<',
    '=',
    '%x',
  ],
)
const line = fc
  .tuple(
    fc.nat(6),
    fc.constantFrom('', '- ', '-  ', '- - ', '-'),
    fc.option(key),
    scalar,
    fc.constantFrom('', ' ', ' # note', '#'),
  )
  .map(
    ([indent, dash, name, value, end]) =>
      `${' '.repeat(indent)}${dash}${name === null ? '' : `${name}: `}${value}${end}`,
  )

const usual = fc.constantFrom(
  'push',
  '2 hours',
  '12',
  'true',
  '[a, b]',
  '{ n: 2, of: [leads] }',
  '"a: # b"',
  '2026-12-24',
  '',
)

/** Written as people write: mappings and lists within each other, each as far in as it should be. */
const tree: fc.Memo<string> = fc.memo(depth => {
  const below = depth <= 1 ? fc.constant('') : tree(depth - 1)
  const value = fc.oneof({ weight: 12, arbitrary: usual }, { weight: 1, arbitrary: scalar })
  const entry = fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), value, below, fc.nat(2), fc.boolean())
  return fc.array(entry, { maxLength: 4 }).map(entries =>
    entries
      .map(([name, value, inner, how, comment], index) => {
        const deeper = inner.replace(/^(?=.)/gm, '  ')
        if (how === 0 || inner === '') return `${name}${index}: ${value}\n${comment ? '   # said aside\n' : '\n'}`
        if (how === 1) return `${name}${index}:\n${deeper}`
        return `${name}${index}:\n${deeper.replace(/^ {2}(?=.)/, '- ')}`
      })
      .join(''),
  )
})

describe('what is read the quick way', () => {
  test('is what the whole parser reads, of any lines in any order', () => {
    fc.assert(
      fc.property(fc.array(line, { maxLength: 6 }), lines => void expectAgreement(lines.join('\n'))),
      { numRuns: 5_000 },
    )
  })

  test('is what the whole parser reads, of mappings and lists within each other', () => {
    let read = 0
    fc.assert(
      fc.property(tree(3), text => {
        if (expectAgreement(text)) read++
      }),
      { numRuns: 1_000 },
    )
    expect(read).toBeGreaterThan(100)
  })

  test('is what the whole parser reads, of a policy with any part of it changed', () => {
    const policy = readFileSync(new URL('../../config/policy.example.yaml', import.meta.url), 'utf8')
    expect(expectAgreement(policy)).toBe(true)
    const lines = policy.split('\n')
    const start = fc.nat(lines.length - 12)
    fc.assert(
      fc.property(
        start,
        fc.nat(12),
        fc.nat(400),
        fc.nat(3),
        fc.oneof(scalar, fc.string({ maxLength: 3 })),
        (from, count, at, gone, piece) => {
          const part = lines.slice(from, from + count).join('\n')
          expectAgreement(`a:\n${part.slice(0, at)}${piece}${part.slice(at + gone)}\n`)
        },
      ),
      { numRuns: 1_000 },
    )
  })

  test('is never more than one document of plain values: everything that could be an attack is left to the whole parser', () => {
    for (const text of [
      'a: &x 1',
      'a: *x',
      '<<: { a: 1 }',
      'a: 1\na: 2',
      'a: { b: 1, b: 2 }',
      '__proto__: { a: 1 }',
      'a: !!binary aGk=',
      'a: 1\n---\nb: 2',
      '%YAML 1.1\na: 1',
      '\ufeffa: 1',
      'a:\t1',
      'a: 1\r\nb: 2',
      `a: ${'['.repeat(40)}${']'.repeat(40)}`,
      `a: ${'['.repeat(100_000)}`,
      Array.from({ length: 40 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n'),
    ])
      expect(readPlainYaml(text), text.slice(0, 40)).toBeUndefined()
  })
})
