import { spawnSync } from 'node:child_process'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkRefname, namespaceOf, specialNamespaceOf, utf8 } from '../../../proxy/git/refname.ts'

function gitTakes(name: string): boolean {
  return spawnSync('git', ['check-ref-format', name]).status === 0
}

// What our own rules add, written differently from the code that is tested.
function stricter(name: string): boolean {
  const bytes = Buffer.from(name)
  return (
    !name.startsWith('refs/') ||
    bytes.length > 1024 ||
    name.split('/')[2]?.startsWith('-') === true ||
    bytes.toString() !== name ||
    /[\u0080-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffd]/.test(name) ||
    name.normalize('NFC') !== name
  )
}

describe('the name of a ref', () => {
  test('is one exactly where git check-ref-format says so and no rule of our own forbids it', () => {
    const piece = fc.constantFrom(
      ...[
        'refs',
        'heads',
        'main',
        '/',
        '/',
        '/',
        '.',
        '..',
        '.lock',
        '@',
        '@{',
        '{',
        '-',
        '~',
        '^',
        ':',
        '?',
        '*',
        '[',
      ],
      ...[
        '\\',
        ' ',
        '\x01',
        '\x7f',
        '\t',
        '\n',
        'é',
        'e\u0301',
        '\u202e',
        '\u200b',
        '\ud800',
        'HEAD',
        'lock',
        '..lock',
      ],
    )
    const name = fc.array(piece, { maxLength: 8 }).map(parts => `refs/${parts.join('')}`)
    fc.assert(
      fc.property(name, text => {
        expect(checkRefname(text) === undefined, JSON.stringify(text)).toBe(!stricter(text) && gitTakes(text))
      }),
      { numRuns: 250 },
    )
  })

  test.each([
    'refs/heads/main',
    'refs/heads/release/1.0',
    'refs/tags/v1.0-rc.1',
    'refs/heads/a-b/-c',
    'refs/heads/größe',
    'refs/heads/@',
    'refs/for/main',
    'refs/heads/日本語',
  ])('%s is one', name => expect(checkRefname(name)).toBeUndefined())

  test.each([
    'main',
    'HEAD',
    '',
    'refs/',
    'refs//heads/x',
    'refs/heads/',
    '/refs/heads/x',
    'refs/heads/release/../main',
    'refs/heads/a..b',
    'refs/heads/.x',
    'refs/heads/x.lock',
    'refs/heads/x.lock/y',
    'refs/heads/x@{1}',
    'refs/heads/x.',
    'refs/heads/-x',
    'refs/tags/--upload-pack=x',
    'refs/heads/a b',
    'refs/heads/a\nb',
    'refs/heads/a\x1b[2J',
    'refs/heads/\u202Eniam',
    'refs/heads/ma\u200Bin',
    'refs/heads/e\u0301',
    `refs/heads/${'x'.repeat(4096)}`,
  ])('%j is none', name => expect(checkRefname(name)).toBeTypeOf('string'))

  test('bytes that are no UTF-8 have no text, and a byte order mark is kept', () => {
    expect(utf8(Buffer.from([0x72, 0xff]))).toBeUndefined()
    expect(utf8(Buffer.from([0xc0, 0xaf]))).toBeUndefined()
    expect(utf8(Buffer.from('\ufeffx'))).toBe('\ufeffx')
  })
})

describe('the namespace of a ref', () => {
  test('only refs/heads/ holds branches and only refs/tags/ holds tags', () => {
    expect(namespaceOf('refs/heads/main')).toBe('branch')
    expect(namespaceOf('refs/tags/main')).toBe('tag')
    expect(namespaceOf('refs/headsmain')).toBe('other')
    expect(namespaceOf('refs/Heads/main')).toBe('other')
  })

  test.each(['for', 'pull', 'merge-requests', 'changes', 'notes', 'replace', 'meta', 'keep-around'])(
    'refs/%s has a meaning of its own on some host',
    name => {
      expect(specialNamespaceOf(`refs/${name}/x`)).toBe(name)
      expect(specialNamespaceOf(`refs/heads/${name}`)).toBeUndefined()
    },
  )
})
