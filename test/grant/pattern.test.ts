import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { LiveGrant } from '../../grant/grant.ts'
import {
  checkRefPattern,
  checkRepositoryPattern,
  matchesRef,
  matchesRepository,
  needs,
  PATTERN_CHARACTERS_MAX,
  permits,
} from '../../grant/pattern.ts'

describe('repository patterns', () => {
  test.each([
    ['acme/api', 'acme/api', true],
    ['acme/api', 'acme/API', false],
    ['acme/*', 'acme/api', true],
    ['acme/*', 'acme/team/api', false],
    ['acme/**', 'acme/team/api', true],
    ['acme/**', 'acme', false],
    ['acme/**', 'acmeevil/api', false],
    ['**', 'acme/api', true],
    ['acme/**/api', 'acme/api', true],
    ['acme/**/api', 'acme/a/b/api', true],
    ['acme/**/api', 'acme/a/b/apix', false],
    ['acme/pay*', 'acme/payments', true],
    ['acme/pay*', 'acme/pay', true],
    ['acme/*pay*s', 'acme/xpayments', true],
    ['*/api', 'acme/api', true],
    ['acme/*', 'acme/', false],
    ['acme/**', 'acme/../other/api', false],
    ['acme/**', 'acme/./api', false],
    ['acme/**', 'acme//api', false],
    ['acme/a*', 'acme/a*b', true],
  ])('%s says of %s: %s', (pattern, repository, expected) => {
    expect(matchesRepository(pattern, repository)).toBe(expected)
  })

  test.each([
    ['', /empty/],
    ['acme', /acme\/\*\*/],
    ['/acme/api', /slash/],
    ['acme/', /slash/],
    ['acme//api', /slash/],
    ['acme/../api', /not a part/],
    ['acme/api.git', /without/],
    ['acme/a**', /stands by itself/],
    ['acme/a b', /spaces/],
    ['acme/{a,b}', /only \* and \*\*/],
    ['!acme/api', /only \* and \*\*/],
    ['acme/\ud800', /Unicode/],
    [`acme/${'a'.repeat(PATTERN_CHARACTERS_MAX)}`, /at most/],
    [`${'a/'.repeat(40)}b`, /at most 32/],
  ])('%j is refused with a reason, and matches nothing', (pattern, reason) => {
    expect(checkRepositoryPattern(pattern)).toMatch(reason)
    expect(matchesRepository(pattern, pattern)).toBe(false)
  })
})

describe('ref patterns', () => {
  test.each([
    ['main', 'refs/heads/main', true],
    ['main', 'refs/tags/main', false],
    ['main', 'main', false],
    ['main', 'refs/heads/Main', false],
    ['release/*', 'refs/heads/release/1.0', true],
    ['release/*', 'refs/heads/release/1.0/hotfix', false],
    ['release/**', 'refs/heads/release/1.0/hotfix', true],
    ['release/*', 'refs/heads/releaseX', false],
    ['release/*', 'refs/heads/release/', false],
    ['release/*', 'refs/heads/release', false],
    ['release/*', 'refs/heads/release/../main', false],
    ['**', 'refs/heads/a/b', true],
    ['**', 'refs/tags/v1', false],
    ['refs/tags/v*', 'refs/tags/v1', true],
    ['refs/**', 'refs/heads/main', true],
    ['refs/**', 'refs/tags/v1', true],
    ['refs/**', 'refs/for/main', false],
    ['refs/*/main', 'refs/for/main', false],
    ['refs/*/main', 'refs/heads/main', true],
    ['refs/for/**', 'refs/for/main', true],
    ['refs/replace/*', 'refs/replace/0123', true],
    ['refs/stash', 'refs/stash', true],
    ['refs/**', 'refs/stash', false],
    ['refs/**', 'refs/heads', false],
    ['refs/head*/main', 'refs/headsX/main', false],
    ['caf\u00e9', 'refs/heads/cafe\u0301', false],
  ])('%s says of %s: %s', (pattern, ref, expected) => {
    expect(matchesRef(pattern, ref)).toBe(expected)
  })

  test.each([
    '',
    'a..b/../c',
    'a/',
    'a b',
    'a^',
    'a~1',
    'a:b',
    'a?',
    '[ab]',
    'a@{1}',
    '.a',
    'a/.b',
    'a.lock',
    'a.lock/b',
    'a.',
    'tags/v1',
    'heads/main',
    'HEAD',
    'refs',
    'a**b',
    'a\u0000b',
  ])('%j is refused and matches nothing', pattern => {
    expect(checkRefPattern(pattern)).toBeTypeOf('string')
    expect(matchesRef(pattern, `refs/heads/${pattern}`)).toBe(false)
  })
})

// An oracle that is plainly right and exponentially slow.
function oracle(pattern: string[], name: string[]): boolean {
  const [first, ...rest] = pattern
  if (first === undefined) return name.length === 0
  if (first === '**') {
    const least = rest.length === 0 ? 1 : 0
    for (let taken = least; taken <= name.length; taken++) if (oracle(rest, name.slice(taken))) return true
    return false
  }
  return name.length > 0 && segmentOracle(first, name[0]!) && oracle(rest, name.slice(1))
}

function segmentOracle(pattern: string, name: string): boolean {
  if (pattern === '') return name === ''
  if (pattern[0] !== '*') return pattern[0] === name[0] && segmentOracle(pattern.slice(1), name.slice(1))
  for (let taken = 0; taken <= name.length; taken++) {
    if (segmentOracle(pattern.slice(1), name.slice(taken))) return true
  }
  return false
}

const segment = fc.string({ unit: fc.constantFrom('a', 'b', '*'), minLength: 1, maxLength: 4 })
const name = fc.array(fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 4 }), {
  minLength: 1,
  maxLength: 6,
})
const pattern = fc.array(fc.oneof(segment, fc.constant('**')), { minLength: 2, maxLength: 6 })

describe('matching', () => {
  test('agrees with a matcher that tries everything', () => {
    fc.assert(
      fc.property(pattern, name, (p, n) => {
        fc.pre(checkRepositoryPattern(p.join('/')) === undefined)
        expect(matchesRepository(p.join('/'), n.join('/'))).toBe(oracle(p, n))
      }),
      { numRuns: 3_000 },
    )
  })

  test('a name without wildcards means itself and nothing else', () => {
    fc.assert(
      fc.property(name, name, (a, b) => {
        fc.pre(a.length > 1)
        expect(matchesRepository(a.join('/'), b.join('/'))).toBe(a.join('/') === b.join('/'))
      }),
    )
  })

  // A pattern that makes a backtracking matcher try every way to share out 4,000 letters among 250 stars would hold up
  // whoever asks for good; the test would never end.
  test('a nasty pattern ends', () => {
    const stars = `a/${'*a'.repeat(250)}*b`
    expect(matchesRepository(stars, `a/${'a'.repeat(4_000)}`)).toBe(false)
    const crossing = `${'**/a*a/'.repeat(15)}b`
    expect(matchesRepository(crossing, `${'aaa/'.repeat(1_000)}c`)).toBe(false)
    expect(matchesRef('*a'.repeat(250), `refs/heads/${'a'.repeat(4_000)}b`)).toBe(false)
  })

  test('whatever is typed, asking about it throws nothing', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (p, n) => {
        matchesRepository(p, n)
        matchesRef(p, n)
      }),
    )
  })
})

const grant = (id: string, over: Partial<LiveGrant>): LiveGrant => ({
  id,
  principal: 'alice',
  repository: 'acme/api',
  actions: ['fetch'],
  refs: [],
  starts: 0,
  expires: 1_000,
  ends: 1_000,
  reason: 'test',
  ...over,
})

const ids = (grants: LiveGrant[]) => grants.map(g => g.id)

describe('what grants permit', () => {
  test('an action nobody granted is not permitted', () => {
    expect(permits([grant('g1', { actions: ['update'] })], 'force', 'refs/heads/main')).toEqual([])
    expect(permits([grant('g1', { actions: ['force'] })], 'update', 'refs/heads/main')).toEqual([])
    expect(permits([], 'fetch')).toEqual([])
  })

  test('without ref patterns a grant speaks of every branch and tag, and of nothing else', () => {
    const all = [grant('g1', { actions: ['create', 'update', 'tag'] })]
    expect(ids(permits(all, 'update', 'refs/heads/main'))).toEqual(['g1'])
    expect(ids(permits(all, 'create', 'refs/tags/v1'))).toEqual(['g1'])
    for (const ref of ['refs/for/main', 'refs/pull/1/head', 'refs/replace/00', 'refs/notes/commits', 'HEAD', 'main']) {
      expect(permits(all, 'create', ref)).toEqual([])
    }
  })

  test('a tag is created with tag, moved with force as well, deleted with delete as well', () => {
    expect(needs('create', 'refs/tags/v1')).toEqual(['tag'])
    expect(needs('tag', 'refs/tags/v1')).toEqual(['tag'])
    expect(needs('update', 'refs/tags/v1')).toEqual(['tag', 'force'])
    expect(needs('delete', 'refs/tags/v1')).toEqual(['tag', 'delete'])
    expect(needs('tag', 'refs/heads/main')).toEqual(['create'])
    const tagger = grant('g1', { actions: ['tag'] })
    const creator = grant('g2', { actions: ['create', 'update', 'force', 'delete'] })
    expect(ids(permits([tagger], 'create', 'refs/tags/v1'))).toEqual(['g1'])
    expect(permits([creator], 'create', 'refs/tags/v1')).toEqual([])
    expect(permits([tagger], 'delete', 'refs/tags/v1')).toEqual([])
    expect(ids(permits([tagger, creator], 'delete', 'refs/tags/v1'))).toEqual(['g1', 'g2'])
  })

  test('two grants that allow different refs do not lend each other their actions', () => {
    const both = [
      grant('g1', { actions: ['tag'], refs: ['refs/tags/v*'] }),
      grant('g2', { actions: ['delete'], refs: ['feature/*'] }),
    ]
    expect(permits(both, 'delete', 'refs/tags/v1')).toEqual([])
  })

  test('a grant whose uses are counted is spared where another does', () => {
    const once = grant('g1', { left: 1, uses: 1, ends: 5_000 })
    const short = grant('g2', { ends: 500 })
    const long = grant('g3', { ends: 900 })
    expect(ids(permits([once, short, long], 'fetch'))).toEqual(['g3'])
    expect(ids(permits([once], 'fetch'))).toEqual(['g1'])
  })
})
