import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ACTIONS, type Action } from '../../grant/grant.ts'
import type { RefUpdate } from '../../proxy/git/refupdate.ts'
import { actionOf, judge } from '../../proxy/judge.ts'
import { live } from './attempt.ts'

const update = (ref: string, kind: RefUpdate['kind'] = 'update'): RefUpdate => ({ ref, kind, old: 'a', new: 'b' })
const grant = (actions: readonly Action[], refs: readonly string[] = [], id = actions.join()) =>
  live({ id, actions, refs })

describe('an update', () => {
  test.each<[string, RefUpdate['kind'], Action[], string]>([
    ['refs/heads/x', 'create', ['create'], 'create'],
    ['refs/heads/x', 'update', ['update'], 'update'],
    ['refs/heads/x', 'update', ['force'], 'update-or-force'],
    ['refs/heads/x', 'update', ['update', 'force'], 'update-or-force'],
    ['refs/heads/x', 'delete', ['delete'], 'delete'],
    ['refs/tags/x', 'create', ['tag'], 'tag'],
    ['refs/tags/x', 'update', ['force', 'tag'], 'update-or-force'],
    ['refs/tags/x', 'delete', ['delete', 'tag'], 'delete'],
  ])('of %s, kind %s, is allowed by %j and recorded as %s', (ref, kind, actions, recorded) => {
    const { asked, covering } = judge([update(ref, kind)], [grant(actions)])
    expect(covering).toHaveLength(1)
    expect(asked).toEqual([{ ref, old: 'a', new: 'b', action: recorded }])
  })

  test('is allowed by what it needs and by nothing else', () => {
    const needed: { readonly [ref: string]: { readonly [kind in RefUpdate['kind']]: readonly Action[] } } = {
      'refs/heads/x': { create: ['create'], update: ['update', 'force'], delete: ['delete'] },
      'refs/tags/x': { create: ['tag'], update: ['force'], delete: ['delete'] },
    }
    for (const [ref, kinds] of Object.entries(needed)) {
      for (const kind of ['create', 'update', 'delete'] as const) {
        const others = ACTIONS.filter(action => !kinds[kind].includes(action))
        expect(actionOf(update(ref, kind), [grant(others)]), `${kind} ${ref}`).toBeUndefined()
      }
    }
  })

  test('that may be forced is not held to go forward, even where another grant would hold it', () => {
    const both = [grant(['update'], ['x'], 'g-1'), grant(['force'], ['x'], 'g-2')]
    expect(actionOf(update('refs/heads/x'), both)).toBe('force')
    expect(actionOf(update('refs/heads/x'), both.slice(0, 1))).toBe('update')
  })
})

describe('a push', () => {
  test('is covered by several grants together, and only by those it needs', () => {
    const grants = [grant(['update'], ['a'], 'one'), grant(['create'], ['b'], 'two'), grant(['create'], ['c'], 'three')]
    const { covering } = judge([update('refs/heads/a'), update('refs/heads/b', 'create')], grants)
    expect(covering?.map(({ id }) => id)).toEqual(['one', 'two'])
  })

  test('is not covered when one update is not, and says which', () => {
    const { covering, reasons, asked } = judge(
      [update('refs/heads/a'), update('refs/heads/b', 'delete')],
      [grant(['update'], ['a', 'b'])],
    )
    expect(covering).toBeUndefined()
    expect([...reasons]).toEqual([['refs/heads/b', 'your window does not allow to delete it']])
    expect(asked).toHaveLength(2)
  })

  test('two grants do not lend each other their refs', () => {
    const grants = [grant(['update'], ['a'], 'one'), grant(['force'], ['b'], 'two')]
    expect(judge([update('refs/heads/a', 'delete')], grants).covering).toBeUndefined()
    expect(actionOf(update('refs/heads/a'), grants)).toBe('update')
    expect(actionOf(update('refs/heads/b'), grants)).toBe('force')
  })

  test('whatever is asked under whatever grants, it is covered exactly when each of its updates is', () => {
    const refs = ['refs/heads/a', 'refs/heads/b', 'refs/tags/a', 'refs/notes/a']
    const updates = fc.array(
      fc.record({ ref: fc.constantFrom(...refs), kind: fc.constantFrom('create', 'update', 'delete') }),
      {
        minLength: 1,
        maxLength: 5,
      },
    )
    const grants = fc.array(
      fc.record({ actions: fc.subarray([...ACTIONS]), refs: fc.subarray(['a', 'b', 'refs/tags/a', '**']) }),
      { maxLength: 4 },
    )
    fc.assert(
      fc.property(updates, grants, (wanted, held) => {
        const standing = held.map((each, n) => live({ ...each, id: `g-${n}` }))
        const list = wanted.map(({ ref, kind }) => update(ref, kind as RefUpdate['kind']))
        const { covering, reasons } = judge(list, standing)
        const refused = list.filter(each => actionOf(each, standing) === undefined)
        expect(new Set(reasons.keys())).toEqual(new Set(refused.map(({ ref }) => ref)))
        expect(covering === undefined).toBe(refused.length > 0)
        // Those that are named suffice: what is recorded and counted is what lets it through.
        if (covering) expect(judge(list, covering).covering).toBeDefined()
      }),
    )
  })
})

describe('windows that limit paths', () => {
  const docs = [['docs/**']]
  const limited = (actions: readonly Action[], id: string, paths = docs) => live({ id, actions, bounds: { paths } })
  const stays = (...ids: string[]) => ({
    stays: (_: RefUpdate, { id }: { readonly id: string }) => ids.includes(id),
    outside: () => (ids.length === 0 ? 'outside' : undefined),
  })

  test('cover a push until it is known what it changes, and then only if it stays within one of them', () => {
    const held = [limited(['update'], 'one'), limited(['update'], 'two'), grant(['create'], [], 'other')]
    const updates = [update('refs/heads/a')]
    expect(judge(updates, held).covering?.map(({ id }) => id)).toEqual(['one', 'two'])
    expect(judge(updates, held, stays('two')).covering?.map(({ id }) => id)).toEqual(['two'])
    expect(judge(updates, held, stays()).covering).toBeUndefined()
    expect([...judge(updates, held, stays()).reasons]).toEqual([['refs/heads/a', 'outside']])
  })

  test('are named in the record, and not where another window lets it through', () => {
    expect(judge([update('refs/heads/a')], [limited(['update'], 'one')]).asked).toMatchObject([{ paths: docs }])
    const free = [limited(['update'], 'one'), grant(['update'], [], 'free')]
    expect(judge([update('refs/heads/a')], free).asked[0]).not.toHaveProperty('paths')
    expect(judge([update('refs/heads/a')], free).covering?.map(({ id }) => id)).toEqual(['free'])
  })

  test('do not let a ref be taken away: made again, it could hold anything', () => {
    const held = [limited(['create', 'update', 'force', 'delete', 'tag'], 'one')]
    for (const ref of ['refs/heads/a', 'refs/tags/a']) expect(actionOf(update(ref, 'delete'), held)).toBeUndefined()
    const { reasons } = judge([update('refs/heads/a', 'delete')], held)
    expect(reasons.get('refs/heads/a')).toContain('a deletion takes away all of them')
  })

  test('force under limits gives way to a step forward without them', () => {
    const held = [limited(['force'], 'limited'), grant(['update'], [], 'free')]
    const updates = [update('refs/heads/a')]
    expect(
      judge(updates, held)
        .covering?.map(({ id }) => id)
        .sort(),
    ).toEqual(['free', 'limited'])
    expect(judge(updates, held, stays('limited')).asked).toMatchObject([{ action: 'update-or-force' }])
    expect(judge(updates, held, stays()).asked).toMatchObject([{ action: 'update' }])
  })
})
