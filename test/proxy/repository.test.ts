import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodePath, route } from '../../proxy/http/route.ts'
import { repositoryName } from '../../proxy/repository.ts'

/** What the HTTP front makes of a repository's address. */
function named(address: string): string | undefined {
  const asked = route('GET', `${address}/info/refs?service=git-upload-pack`)
  return asked.kind === 'advertise' ? repositoryName(asked.path) : undefined
}

test.each(['/acme/app', '/acme/app.git', '/acme/%61pp.git', '/%61cme/app%2Egit', '/acme/app%2egit'])(
  '%s is acme/app',
  spelling => {
    expect(named(spelling)).toBe('acme/app')
  },
)

test.each([
  '/acme//app.git',
  '//acme/app.git',
  '/acme/app.git/',
  '/acme/app/',
  '/acme/./app.git',
  '/acme/../acme/app.git',
  '/acme/x/../app.git',
  '/acme/%2e%2e/app.git',
  '/acme/.%2e/acme/app.git',
  '/acme%2fapp.git',
  '/acme%2Fapp.git',
  '/acme%5capp.git',
  '/acme\\app.git',
  '/acme/app.git%00',
  '/acme/app%00.git',
  '/acme/app.git%2f',
  '/acme/%252e%252e/app.git',
  '/acme/app%2525.git',
  '/acme/app%c0%afx.git',
  '/acme/%c0%ae%c0%ae/app.git',
  '/acme/app%e0%80%ae.git',
  '/acme/app%ff.git',
  '/acme/app%.git',
  '/acme/app..git',
  '/acme/app..',
  '/acme/app.',
  '/acme/app .git%20',
  '/acme/app%20',
  '/acme/ app.git',
  '/acme/app.git.git',
  '/acme/app.GIT',
  '/acme/app.git/x',
  '/acme/.git',
  '/acme/.hidden',
  '/acme/-option.git',
  '/acme/~root/app.git',
  '/acme/a;b.git',
  "/acme/a'b.git",
  '/acme/a$b.git',
  '/acme/a%0ab.git',
  '/acme/a%7fb.git',
  '/acme/a%e2%80%aeb.git',
  '/acme/%ef%bc%a1pp.git',
  '/acme/e%cc%81.git',
  '/acme/%c3%a9.git',
  '/acme/a:b.git',
  '/acme/a*b.git',
  '/acme/a@{0}.git',
  '/acme',
  '/acme.git',
  '/',
  '',
  'http://host/acme/app.git',
  `/acme/${'a'.repeat(129)}`,
  `/acme${'/a'.repeat(24)}`,
  `/${'aaaaaaa/'.repeat(70)}x`,
])('%s is no repository', spelling => {
  expect(named(spelling)).toBeUndefined()
})

test('case is kept: hosts differ in what they make of it, and a grant means what it says', () => {
  expect(named('/Acme/App.git')).toBe('Acme/App')
})

test('whatever is accepted is spelled as it stays: asked again, the name is its own name', () => {
  const segment = fc.string({ unit: fc.constantFrom(...'abZ0._-~@+ /%\\\0é'), maxLength: 12 })
  fc.assert(
    fc.property(fc.array(segment, { maxLength: 5 }), segments => {
      const name = repositoryName(segments.join('/'))
      if (name === undefined) return
      expect(repositoryName(name)).toBe(name)
      expect(repositoryName(`/${name}.git`)).toBe(name)
      expect(name).toMatch(/^[A-Za-z0-9._+~@ /-]+$/)
      expect(name.split('/').every(part => part !== '' && !part.startsWith('.') && !part.endsWith('.'))).toBe(true)
    }),
    { numRuns: 2_000 },
  )
})

test('percent signs are decoded once', () => {
  expect(decodePath('/a%62c')).toBe('/abc')
  expect(decodePath('/a%2562c')).toBeUndefined()
})
