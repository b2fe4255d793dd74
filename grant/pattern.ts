import type { Action, Grant, LiveGrant } from './grant.ts'

/**
 * What the patterns of a grant mean. Pure; `match.lua` says the same of repositories inside Redis, and a property test
 * holds the two together.
 *
 * - A pattern is read segment by segment, the segments being what stands between slashes. It is always the whole name
 *   that matches, and case counts.
 * - `*` stands for any characters within one segment. A segment is never empty, so `release/*` is not `release/`.
 * - `**`, which has to be a segment by itself, stands for any number of segments; at the end of a pattern for at least
 *   one, so that `acme/**` is everything below `acme` and not `acme`.
 * - Nothing else is special, and there is no negation: what a grant allows can be read off it.
 * - A ref pattern that does not begin with `refs/` speaks of branches: `main` is `refs/heads/main`.
 * - Namespaces other than branches and tags (`refs/for`, `refs/pull`, `refs/replace`, …) mean something of their own to
 *   a host, so only a pattern that spells the namespace out reaches them: `refs/for/**` does, `refs/**` does not.
 */

export const PATTERN_CHARACTERS_MAX = 512
export const PATTERN_SEGMENTS_MAX = 32
/** Names longer than this match nothing. git itself stops at 4,096 bytes for a ref; no working tree made a longer path (PATH_MAX). */
const NAME_CHARACTERS_MAX = 4_096

/** Whether a repository's one name, `<upstream>/<path>`, is meant by the pattern. */
export function matchesRepository(pattern: string, repository: string): boolean {
  if (checkRepositoryPattern(pattern) !== undefined) return false
  const name = segments(repository)
  return name !== undefined && matchesSegments(pattern.split('/'), name)
}

/** Whether a full ref name (`refs/heads/main`) is meant by the pattern. */
export function matchesRef(pattern: string, ref: string): boolean {
  if (checkRefPattern(pattern) !== undefined) return false
  const name = segments(ref)
  if (name?.[0] !== 'refs' || name.length < 2) return false
  const wanted = fullRef(pattern).split('/')
  if (!isBranchOrTag(ref) && (wanted[0] !== 'refs' || wanted[1] !== name[1])) return false
  return matchesSegments(wanted, name)
}

/** Why this is no pattern of repositories, said to whoever wrote it; undefined when it is one. */
export function checkRepositoryPattern(pattern: string): string | undefined {
  const fault = checkShape(pattern)
  if (fault !== undefined) return fault
  if (pattern.endsWith('.git')) return 'a repository is named without ".git"'
  if (!pattern.includes('/') && pattern !== '**') {
    return `"${pattern}" names no repository: write <upstream>/<path>, or "${pattern}/**" for all of an upstream's`
  }
  return undefined
}

/** Why this is no pattern of refs, said to whoever wrote it; undefined when it is one. See git-check-ref-format(1). */
export function checkRefPattern(pattern: string): string | undefined {
  const fault = checkShape(pattern)
  if (fault !== undefined) return fault
  if (/[~^:?[\\]/.test(pattern)) return 'a ref name cannot hold any of ~ ^ : ? [ \\'
  if (pattern.includes('@{')) return 'a ref name cannot hold "@{"'
  for (const segment of pattern.split('/')) {
    if (segment.startsWith('.')) return 'no part of a ref name begins with a dot'
    if (segment.endsWith('.lock') || segment.endsWith('.')) return 'no part of a ref name ends with ".lock" or a dot'
  }
  // Branches may be called so, but whoever types `tags/v1` means the tag: better asked once than wrong for two hours.
  const first = pattern.split('/')[0]
  if (first === 'heads' || first === 'tags' || first === 'remotes') {
    return `say "refs/${pattern}", or "refs/heads/${pattern}" if a branch has that name`
  }
  if (pattern === 'HEAD') return 'HEAD is not a ref to write to: name the branch'
  if (pattern === 'refs') return 'write "refs/heads/**" for every branch, "refs/tags/**" for every tag'
  return undefined
}

/** Which actions an update needs, by what it does and to what; an empty list: nothing a grant could hold allows it.
 *
 * | asked           | of a branch or another ref | of a tag          |
 * |-----------------|----------------------------|-------------------|
 * | `create`, `tag` | `create`                   | `tag`             |
 * | `update`        | `update`                   | `tag` and `force` |
 * | `force`         | `force`                    | `tag` and `force` |
 * | `delete`        | `delete`                   | `tag` and `delete`|
 *
 * A tag that moves is always forced: whoever relied on it is not told. `force` does not hold `update`, nor the other way
 * round; a grant lists what it means. All other actions need themselves.
 */
export function needs(action: Action, ref?: string): readonly Action[] {
  if (ref?.startsWith('refs/tags/')) {
    if (action === 'create' || action === 'tag') return ['tag']
    if (action === 'update' || action === 'force') return ['tag', 'force']
    if (action === 'delete') return ['tag', 'delete']
    return [action]
  }
  if (action === 'tag') return ref === undefined ? ['tag'] : ['create']
  return [action]
}

/** Whether a grant speaks of this ref. Without patterns it speaks of every branch and tag. */
export function coversRef(grant: { readonly refs: readonly string[] }, ref: string): boolean {
  if (grant.refs.length === 0) return isBranchOrTag(ref) && segments(ref) !== undefined
  return grant.refs.some(pattern => matchesRef(pattern, ref))
}

/**
 * The fewest of these grants that together allow the action on the ref; an empty list: they do not. Usually one grant;
 * two where an update needs two actions and no grant holds both. Grants whose uses are not counted come before those
 * that are, then the one that lasts longest, so that a window is never used up where another would have done; and before
 * all of these the grants without limits on paths, under which nobody has to look.
 *
 * The grants are taken to be live and about the repository, as `Store.ask` answered them. Without `ref` only the action
 * is looked at, as for a fetch or the advertisement. What takes away a ref takes away every path of it: no grant with
 * limits on paths allows it, because a branch that is deleted and made again could hold anything.
 */
export function permits(grants: readonly LiveGrant[], action: Action, ref?: string): LiveGrant[] {
  const needed = needs(action, ref)
  const fitting = grants
    .filter(g => (ref === undefined || coversRef(g, ref)) && !(action === 'delete' && limitsPaths(g)))
    .sort(
      (a, b) =>
        Number(limitsPaths(a)) - Number(limitsPaths(b)) ||
        Number(a.left !== undefined) - Number(b.left !== undefined) ||
        b.ends - a.ends,
    )
  const whole = fitting.find(g => needed.every(n => g.actions.includes(n)))
  if (whole !== undefined) return [whole]
  const parts = needed.map(n => fitting.find(g => g.actions.includes(n)))
  return parts.every(p => p !== undefined) ? [...new Set(parts)] : []
}

/** Whether a push under the grant may change only some paths. */
export function limitsPaths({ bounds }: Pick<Grant, 'bounds'>): boolean {
  return bounds?.paths !== undefined && bounds.paths.length > 0
}

/** A ref, or a pattern of refs, in full: what does not begin with `refs/` speaks of branches. */
export function fullRef(ref: string): string {
  return ref.startsWith('refs/') ? ref : `refs/heads/${ref}`
}

/** What every ref that a pattern means begins with, in full. */
export function refPrefix(pattern: string): string {
  return fullRef(pattern).replace(/\*.*$/s, '')
}

function isBranchOrTag(ref: string): boolean {
  return /^refs\/(heads|tags)\/./.test(ref)
}

/** What holds for every pattern. */
function checkShape(pattern: string): string | undefined {
  if (pattern === '') return 'a pattern cannot be empty'
  if (pattern.length > PATTERN_CHARACTERS_MAX) return `a pattern has at most ${PATTERN_CHARACTERS_MAX} characters`
  if (!pattern.isWellFormed()) return 'a pattern is text, and this is not valid Unicode'
  if (/[\u0000-\u0020\u007f]/.test(pattern)) return 'a pattern holds no spaces or control characters'
  if (/[?[\]{}\\!]/.test(pattern)) return 'only * and ** are special; ? [ ] { } ! and \\ are not used in patterns'
  const parts = pattern.split('/')
  if (parts.length > PATTERN_SEGMENTS_MAX) return `a pattern has at most ${PATTERN_SEGMENTS_MAX} parts between slashes`
  for (const part of parts) {
    if (part === '') return 'no slash at the start or the end, and no two in a row'
    if (part === '.' || part === '..') return `"${part}" is not a part of a name`
    if (part.includes('**') && part !== '**') return '"**" stands by itself between slashes; use "*" within a part'
  }
  return undefined
}

/** A name's segments; undefined when it is none: an empty, `.` or `..` segment is how one name hides in another. */
export function segments(name: string): string[] | undefined {
  if (name.length > NAME_CHARACTERS_MAX || !name.isWellFormed()) return undefined
  const parts = name.split('/')
  return parts.some(p => p === '' || p === '.' || p === '..') ? undefined : parts
}

/**
 * Greedy matching that goes back to the last `**` only: an earlier one could not do better, since what stands between two
 * of them matches as early as it can. Each segment meets each pattern segment at most once, so the cost is at most the
 * product of the lengths, whatever the pattern; a regular expression made of it could take for ever.
 */
export function matchesSegments(pattern: readonly string[], name: readonly string[]): boolean {
  let p = 0
  let n = 0
  let star = -1
  let resume = 0
  while (n < name.length) {
    const wanted = pattern[p]
    if (wanted === '**') {
      star = p++
      resume = n
    } else if (wanted !== undefined && matchesSegment(wanted, name[n]!)) {
      p++
      n++
    } else if (star >= 0) {
      p = star + 1
      n = ++resume
    } else {
      return false
    }
  }
  return p === pattern.length
}

function matchesSegment(pattern: string, name: string): boolean {
  let p = 0
  let n = 0
  let star = -1
  let resume = 0
  while (n < name.length) {
    // The star first: a name may hold one too.
    if (pattern[p] === '*') {
      star = p++
      resume = n
    } else if (pattern[p] === name[n]) {
      p++
      n++
    } else if (star >= 0) {
      p = star + 1
      n = ++resume
    } else {
      return false
    }
  }
  while (pattern[p] === '*') p++
  return p === pattern.length
}
