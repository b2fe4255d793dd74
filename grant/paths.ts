import type { PathList } from './grant.ts'
import { matchesSegments, PATTERN_CHARACTERS_MAX, PATTERN_SEGMENTS_MAX, segments } from './pattern.ts'

/**
 * Which paths of a repository a push may change. Pure.
 *
 * - A list holds patterns of what may be changed and, with `!` in front, of what may not. Nothing may be changed that one
 *   of the second kind means, wherever it stands in the list; with none of the first kind everything else may be.
 * - Patterns are read segment by segment from the top of the repository, as those of refs are: `*` is part of one segment,
 *   `**` any number of segments, `docs/**` everything below `docs` and not `docs` itself, `*.md` only at the top. Case
 *   counts, and bytes do.
 * - What is forbidden is forbidden with everything below it and in every spelling that some disk takes for the same:
 *   `!.github` and `!.github/**` both mean `.github` as well, whether it is a folder, a file, a symbolic link
 *   or a submodule, and `.GitHub` too. On a disk without case the one is the other.
 * - A name that is not UTF-8, or longer than any pattern could mean, is nothing that may be changed.
 */

export const PATHS_MAX = 100

/** Whether every one of these lists lets a path be changed. `path` as git names it: from the top, with slashes. */
export function mayChange(lists: readonly PathList[], path: string): boolean {
  const name = segments(path)
  return name !== undefined && lists.every(list => allows(compiled(list), name))
}

/** Why this is no pattern of paths, said to whoever wrote it; undefined when it is one. */
export function checkPathPattern(written: string): string | undefined {
  const pattern = bare(written)
  if (pattern === '') return 'a pattern cannot be empty'
  if (pattern.length > PATTERN_CHARACTERS_MAX) return `a pattern has at most ${PATTERN_CHARACTERS_MAX} characters`
  if (!pattern.isWellFormed()) return 'a pattern is text, and this is not valid Unicode'
  if (/\p{Cc}/u.test(pattern)) return 'a pattern holds no control characters'
  if (/[?[\]{}\\]/.test(pattern)) return 'only * and ** are special; ? [ ] { } and \\ are not used in patterns'
  if (pattern.startsWith('!')) return 'one "!" is enough'
  if (pattern.endsWith('/')) return `for all of a folder write "${pattern}**"`
  const parts = pattern.split('/')
  if (parts.length > PATTERN_SEGMENTS_MAX) return `a pattern has at most ${PATTERN_SEGMENTS_MAX} parts between slashes`
  for (const part of parts) {
    if (part === '') return 'a path begins at the top of the repository: no slash at the start, and no two in a row'
    if (part === '.' || part === '..') return `"${part}" is not a part of a path`
    if (part.includes('**') && part !== '**') return '"**" stands by itself between slashes; use "*" within a part'
  }
  return undefined
}

/** The patterns of a list that say what may be changed, and without their `!` those that say what may not. */
export function partsOf(list: PathList): { readonly only: PathList; readonly never: PathList } {
  return {
    only: list.filter(pattern => !pattern.startsWith('!')),
    never: list.filter(pattern => pattern.startsWith('!')).map(bare),
  }
}

/** As a person reads it: `docs/**, *.md and not docs/secret/**`. */
export function describePaths(lists: readonly PathList[]): string {
  return lists
    .map(list => {
      const { only, never } = partsOf(list)
      const not = never.length > 0 ? `not ${never.join(', ')}` : ''
      return [only.join(', '), not].filter(Boolean).join(' and ')
    })
    .join('; and ')
}

interface Compiled {
  readonly only: readonly (readonly string[])[]
  /** Folded, and without the `**` at their end. */
  readonly never: readonly (readonly string[])[]
}

/** A push changes many paths under one list. */
const lists = new WeakMap<PathList, Compiled>()

function compiled(list: PathList): Compiled {
  const known = lists.get(list)
  if (known) return known
  const { only, never } = partsOf(list)
  const made = {
    only: only.map(pattern => pattern.split('/')),
    never: never.map(pattern => foldedParts(pattern.replace(/(?:\/\*\*)+$/, '').split('/'))),
  }
  lists.set(list, made)
  return made
}

function allows({ only, never }: Compiled, name: readonly string[]): boolean {
  if (only.length > 0 && !only.some(pattern => matchesSegments(pattern, name))) return false
  if (never.length === 0) return true
  const folded = foldedParts(name)
  return !never.some(pattern => folded.some((_, end) => matchesSegments(pattern, folded.slice(0, end + 1))))
}

/**
 * One spelling for all that a disk may take for the same: APFS and HFS+ know no case, compose letters and pass over
 * characters nobody sees, NTFS knows no case, drops dots and spaces at the end and takes what follows a colon for a stream.
 */
function foldedParts(parts: readonly string[]): string[] {
  return parts.map(part => {
    const seen = part.normalize('NFKC').replace(/\p{Default_Ignorable_Code_Point}/gu, '')
    // Upper case first: there are letters that only meet there.
    const folded = seen.toUpperCase().toLowerCase().normalize('NFKC')
    return folded.replace(/:.*$/s, '').replace(/[. ]+$/, '') || folded
  })
}

const bare = (written: string) => (written.startsWith('!') ? written.slice(1) : written)
