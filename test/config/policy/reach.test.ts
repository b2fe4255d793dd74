import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  containsRef,
  containsRepository,
  overlapsRef,
  overlapsRepository,
  reachesPaths,
} from '../../../config/policy/reach.ts'
import { mayChange } from '../../../grant/paths.ts'
import { matchesRef, matchesRepository } from '../../../grant/pattern.ts'

describe('one pattern within another', () => {
  test.each([
    ['acme/*', 'acme/api', true],
    ['acme/*', 'acme/pay*', true],
    ['acme/pay*', 'acme/payments-*', true],
    ['acme/pay*', 'acme/*', false],
    ['acme/*', 'acme/**', false],
    ['acme/**', 'acme/*', true],
    ['acme/**', 'acme/a/**', true],
    ['acme/**', 'acme', false],
    ['**', 'acme/**', true],
    ['acme/*/api', 'acme/**/api', false],
    ['acme/**/api', 'acme/api', true],
  ])('%s contains %s: %s', (outer, inner, answer) => {
    expect(containsRepository(outer, inner)).toBe(answer)
  })

  test('a ref pattern without refs/ is a branch, and no wide pattern contains a special namespace (threat 22)', () => {
    expect(containsRef('main', 'refs/heads/main')).toBe(true)
    expect(containsRef('release/*', 'refs/heads/release/1.*')).toBe(true)
    expect(containsRef('refs/**', 'refs/for/main')).toBe(false)
    expect(containsRef('refs/for/**', 'refs/for/main')).toBe(true)
    expect(containsRef('refs/heads/main', 'refs/tags/main')).toBe(false)
  })

  test.each([
    ['acme/*', 'acme/pay*', true],
    ['acme/a*', 'acme/*b', true],
    ['acme/a*', 'acme/b*', false],
    ['acme/**', '**/api', true],
    ['acme/api', 'globex/**', false],
  ])('%s overlaps %s: %s', (a, b, answer) => {
    expect(overlapsRepository(a, b)).toBe(answer)
    expect(overlapsRepository(b, a)).toBe(answer)
  })

  const segment = fc.constantFrom('a', 'b', 'ab', '*', 'a*', '*b', '**')
  const pattern = fc.array(segment, { minLength: 2, maxLength: 4 }).map(parts => parts.join('/'))
  const name = fc
    .array(fc.constantFrom('a', 'b', 'ab', 'aab'), { minLength: 2, maxLength: 5 })
    .map(parts => parts.join('/'))

  test('contains never says yes to a pattern that reaches further (property)', () => {
    fc.assert(
      fc.property(pattern, pattern, name, (outer, inner, one) => {
        if (containsRepository(outer, inner) && matchesRepository(inner, one))
          expect(matchesRepository(outer, one)).toBe(true)
      }),
      { numRuns: 3_000 },
    )
  })

  test('overlaps never says no to patterns that meet (property)', () => {
    fc.assert(
      fc.property(pattern, pattern, name, (a, b, one) => {
        if (matchesRepository(a, one) && matchesRepository(b, one)) expect(overlapsRepository(a, b)).toBe(true)
      }),
      { numRuns: 3_000 },
    )
  })

  test('the same for refs (property)', () => {
    const refPattern = fc
      .tuple(fc.constantFrom('', 'refs/heads/', 'refs/tags/', 'refs/for/', 'refs/'), pattern)
      .map(([head, rest]) => head + rest)
    const ref = fc
      .tuple(fc.constantFrom('refs/heads/', 'refs/tags/', 'refs/for/', 'refs/pull/'), name)
      .map(([head, rest]) => head + rest)
    fc.assert(
      fc.property(refPattern, refPattern, ref, (a, b, one) => {
        if (containsRef(a, b) && matchesRef(b, one)) expect(matchesRef(a, one)).toBe(true)
        if (matchesRef(a, one) && matchesRef(b, one)) expect(overlapsRef(a, b)).toBe(true)
      }),
      { numRuns: 3_000 },
    )
  })

  test('a list of paths reaches all that is asked for only when it allows all of it, but for what it forbids (property)', () => {
    fc.assert(
      fc.property(fc.array(pattern, { minLength: 1, maxLength: 2 }), pattern, name, (only, asked, one) => {
        const said = reachesPaths(only, [asked])
        if (said === 'whole' && mayChange([[asked]], one)) expect(mayChange([only], one)).toBe(true)
        if (said === 'none') expect(mayChange([only, [asked]], one)).toBe(false)
        expect(reachesPaths(only, [`!${asked}`])).toBe('whole')
      }),
      { numRuns: 3_000 },
    )
  })

  test('thirty double stars against thirty are answered at once', () => {
    const stars = Array(15).fill('**/a').join('/')
    expect(containsRepository(`${stars}/b`, Array(31).fill('a').join('/'))).toBe(false)
    expect(overlapsRepository(`${stars}/b`, `${stars}/c`)).toBe(false)
  })
})
