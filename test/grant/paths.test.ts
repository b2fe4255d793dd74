import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkPathPattern, describePaths, mayChange } from '../../grant/paths.ts'

describe('what may be changed', () => {
  test.each<[string, string, boolean]>([
    ['docs/**', 'docs/a.md', true],
    ['docs/**', 'docs/a/b/c.md', true],
    ['docs/**', 'docs', false],
    ['docs/**', 'docsX/a.md', false],
    ['docs/**', 'src/docs/a.md', false],
    ['docs/*', 'docs/a.md', true],
    ['docs/*', 'docs/a/b.md', false],
    ['*.md', 'README.md', true],
    ['*.md', 'docs/README.md', false],
    ['**/*.md', 'README.md', true],
    ['**/*.md', 'a/b/README.md', true],
    ['docs/a b.md', 'docs/a b.md', true],
    ['docs/**', 'Docs/a.md', false],
    ['docs/é.md', 'docs/e\u0301.md', false],
  ])('%s and %s: %s', (pattern, path, may) => {
    expect(mayChange([[pattern]], path)).toBe(may)
  })

  test.each([
    '',
    '/docs/a',
    'docs//a',
    'docs/../src/x',
    './docs/a',
    'docs/',
    `docs/${'x'.repeat(5_000)}`,
    'docs/\ud800',
  ])('no list means what is no path of a repository: %j', path => {
    expect(mayChange([['**']], path)).toBe(false)
    expect(mayChange([['!src']], path)).toBe(false)
    expect(mayChange([], path)).toBe(false)
  })

  test('each list has its say', () => {
    const lists = [
      ['docs/**', 'src/**'],
      ['docs/**', '*.md'],
    ]
    expect(mayChange(lists, 'docs/a')).toBe(true)
    expect(mayChange(lists, 'src/a')).toBe(false)
    expect(mayChange(lists, 'a.md')).toBe(false)
  })
})

describe('what may not be changed', () => {
  test.each(['!.github', '!.github/**', '!.github/*'])('%s: nothing below it, in no spelling of it', never => {
    const spellings = [
      '.github',
      '.GitHub',
      '.GITHUB',
      '.git\u200dhub',
      '.github.',
      '.github ',
      '.github. .',
      '.github:x',
    ]
    for (const folder of spellings) {
      expect(mayChange([[never]], `${folder}/workflows/ci.yml`), folder).toBe(false)
      expect(mayChange([['**', never]], `${folder}/ci.yml`), folder).toBe(false)
    }
    expect(mayChange([[never]], '.githubs/ci.yml')).toBe(true)
    expect(mayChange([[never]], 'src/.github/ci.yml')).toBe(true)
  })

  test('a link or a submodule in place of the folder', () => {
    expect(mayChange([['!.github/**']], '.github')).toBe(false)
    expect(mayChange([['!.github']], '.GitHub')).toBe(false)
  })

  test('letters that meet only in one case or another, composed or not', () => {
    expect(mayChange([['!straße']], 'STRASSE/x')).toBe(false)
    expect(mayChange([['!caf\u00e9']], 'Cafe\u0301/x')).toBe(false)
    expect(mayChange([['!\ufb01le']], 'file')).toBe(false)
    expect(mayChange([['!kelvin']], '\u212aelvin')).toBe(false)
  })

  test('whatever the order it is written in', () => {
    for (const list of [
      ['docs/**', '!docs/secret'],
      ['!docs/secret', 'docs/**'],
    ]) {
      expect(mayChange([list], 'docs/secret/key')).toBe(false)
      expect(mayChange([list], 'docs/open')).toBe(true)
    }
  })

  test('anywhere, where the pattern says so', () => {
    for (const path of ['.gitmodules', 'a/.gitmodules', 'a/b/.GITMODULES'])
      expect(mayChange([['!**/.gitmodules']], path)).toBe(false)
    expect(mayChange([['!.gitmodules']], 'a/.gitmodules')).toBe(true)
  })
})

const part = fc.constantFrom('a', 'b', 'A', 'ab', '.x', 'é')
const path = fc.array(part, { minLength: 1, maxLength: 4 }).map(parts => parts.join('/'))
const pattern = fc
  .array(fc.oneof(part, fc.constantFrom('*', 'a*', '**')), { minLength: 1, maxLength: 4 })
  .map(parts => parts.join('/'))

test('a list more, or a pattern more of what may not be, never opens anything', () => {
  const list = fc.array(
    fc.oneof(
      pattern,
      pattern.map(one => `!${one}`),
    ),
    { minLength: 1, maxLength: 4 },
  )
  fc.assert(
    fc.property(fc.array(list, { maxLength: 3 }), list, pattern, path, (lists, another, never, name) => {
      if (mayChange([...lists, another], name)) expect(mayChange(lists, name)).toBe(true)
      if (mayChange([[...another, `!${never}`]], name)) expect(mayChange([another], name)).toBe(true)
      // What is named may not be, whatever else is.
      expect(mayChange([['**', `!${name}`]], name)).toBe(false)
      expect(mayChange([['**', `!${name}`]], `${name}/below`)).toBe(false)
    }),
  )
})

test.each([
  ['', 'empty'],
  ['!', 'empty'],
  ['!!a', 'one "!"'],
  ['/docs', 'begins at the top'],
  ['docs//a', 'two in a row'],
  ['docs/', 'write "docs/**"'],
  ['a/../b', '".." is not'],
  ['docs/a**', 'stands by itself'],
  ['docs/[ab]', 'only * and **'],
  ['a\nb', 'control characters'],
  ['x'.repeat(600), 'at most 512'],
  [Array(40).fill('a').join('/'), 'at most 32'],
])('%j is no pattern: %s', (written, why) => {
  expect(checkPathPattern(written)).toContain(why)
})

test('a list is told in one sentence', () => {
  expect(describePaths([['docs/**', '*.md', '!docs/x'], ['!.github']])).toBe(
    'docs/**, *.md and not docs/x; and not .github',
  )
})
