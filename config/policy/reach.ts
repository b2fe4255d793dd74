/**
 * How far one pattern reaches compared with another, for requests that name repositories or refs by pattern themselves.
 * What a pattern matches is `grant/pattern.ts`; here two patterns are compared, erring to the safe side each time:
 * `contains` may say no to a pattern it does contain, `overlaps` may say yes to one it never meets.
 */

import type { PathList } from '../../grant/grant.ts'
import { partsOf } from '../../grant/paths.ts'
import { fullRef } from '../../grant/pattern.ts'

/** Every repository that `inner` matches is matched by `outer`. A plain name is a pattern that matches itself. */
export function containsRepository(outer: string, inner: string): boolean {
  return contains(outer.split('/'), inner.split('/'))
}

export function overlapsRepository(a: string, b: string): boolean {
  return overlaps(a.split('/'), b.split('/'))
}

/** The same for refs, where a pattern without `refs/` speaks of branches, and only a spelled-out namespace leaves branches and tags. */
export function containsRef(outer: string, inner: string): boolean {
  const o = fullRef(outer).split('/')
  const i = fullRef(inner).split('/')
  const namespace = i[1]
  const special = namespace !== undefined && !namespace.includes('*') && namespace !== 'heads' && namespace !== 'tags'
  if (special && o[1] !== namespace) return false
  return contains(o, i)
}

export function overlapsRef(a: string, b: string): boolean {
  return overlaps(fullRef(a).split('/'), fullRef(b).split('/'))
}

/**
 * How far a rule's list of paths reaches into what a request names: `none` leaves the request to another rule. One that
 * names nothing to be changed asks for whatever the rule gives.
 */
export function reachesPaths(rule: PathList, asked: PathList): 'none' | 'part' | 'whole' {
  const wanted = partsOf(asked)
  if (wanted.only.length === 0) return 'whole'
  const { only, never } = partsOf(rule)
  const met = only.filter(pattern => !wanted.never.some(left => forbids(left, pattern)))
  const reaches = wanted.only.map(path => {
    if (never.some(pattern => forbids(pattern, path))) return 'none'
    if (only.length === 0 || only.some(pattern => containsPath(pattern, path))) return 'whole'
    return met.some(pattern => overlaps(pattern.split('/'), path.split('/'))) ? 'part' : 'none'
  })
  const [first, ...others] = new Set(reaches)
  return first !== undefined && others.length === 0 ? first : 'part'
}

/** What may not be changed may not be with everything below it. */
function forbids(pattern: string, path: string): boolean {
  const folder = pattern.replace(/(?:\/\*\*)+$/, '')
  return containsPath(folder, path) || containsPath(`${folder}/**`, path)
}

const containsPath = (outer: string, inner: string) => contains(outer.split('/'), inner.split('/'))

/** Branches and tags, which is what an empty list of ref patterns means. */
export const BRANCHES_AND_TAGS: readonly string[] = ['refs/heads/**', 'refs/tags/**']

// Both walk the grid of segment pairs once, so the cost is the product of the lengths, whatever the patterns.

function contains(outer: readonly string[], inner: readonly string[]): boolean {
  return walk(outer, inner, (o, i, rest) => {
    const wide = outer[o]
    const part = inner[i]
    if (wide === undefined) return part === undefined
    if (wide === '**') {
      // At the end it stands for one segment at least; an inner `**` is swallowed whole.
      if (o === outer.length - 1) return part !== undefined
      return rest(o + 1, i) || (part !== undefined && rest(o, i + 1))
    }
    return part !== undefined && part !== '**' && swallows(wide, part) && rest(o + 1, i + 1)
  })
}

function overlaps(a: readonly string[], b: readonly string[]): boolean {
  return walk(a, b, (i, j, rest) => {
    const x = a[i]
    const y = b[j]
    if (x === undefined && y === undefined) return true
    if (x === undefined) return y === '**' && rest(i, j + 1)
    if (y === undefined) return x === '**' && rest(i + 1, j)
    if (x === '**') return rest(i + 1, j) || rest(i, j + 1)
    if (y === '**') return rest(i, j + 1) || rest(i + 1, j)
    return meets(x, y) && rest(i + 1, j + 1)
  })
}

type Cell = (i: number, j: number, rest: (i: number, j: number) => boolean) => boolean

function walk(a: readonly string[], b: readonly string[], cell: Cell): boolean {
  const known = new Map<number, boolean>()
  const rest = (i: number, j: number): boolean => {
    const key = i * (b.length + 1) + j
    let answer = known.get(key)
    if (answer === undefined) {
      answer = i <= a.length && j <= b.length && cell(i, j, rest)
      known.set(key, answer)
    }
    return answer
  }
  return rest(0, 0)
}

/** Greedy: a star of `part` is a character like any other, which only a star of `wide` can stand for. */
function swallows(wide: string, part: string): boolean {
  const pieces = wide.split('*')
  const first = pieces[0]!
  if (pieces.length === 1) return wide === part
  const last = pieces.at(-1)!
  if (!part.startsWith(first) || !part.endsWith(last) || part.length < first.length + last.length) return false
  let at = first.length
  for (const piece of pieces.slice(1, -1)) {
    const found = part.indexOf(piece, at)
    if (found < 0) return false
    at = found + piece.length
  }
  return at <= part.length - last.length
}

/** Whether two segments may name the same thing: what stands before their first and after their last stars must agree. */
function meets(x: string, y: string): boolean {
  if (!x.includes('*') && !y.includes('*')) return x === y
  const [headX, headY] = [x.split('*')[0]!, y.split('*')[0]!]
  const [tailX, tailY] = [x.split('*').at(-1)!, y.split('*').at(-1)!]
  if (!x.includes('*')) return swallows(y, x)
  if (!y.includes('*')) return swallows(x, y)
  return (headX.startsWith(headY) || headY.startsWith(headX)) && (tailX.endsWith(tailY) || tailY.endsWith(tailX))
}
