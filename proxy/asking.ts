import { namespaceOf } from './git/refname.ts'
import type { RefUpdate } from './git/refupdate.ts'

/** More would make the line longer than a terminal; then it asks for all of a repository's refs, or paths. */
const NAMED_MAX = 3
/** Whoever chose the name of a branch must not write into the shell of whoever pastes this line. */
const PASTES_SAFELY = /^[A-Za-z0-9._/@+-]+$/

/** The line that asks for what a push lacked: each flag and ref that the refused updates need, and the paths if it was these. */
export function askFor(
  repository: string,
  lacking: readonly RefUpdate[],
  paths: readonly (string | undefined)[] = [],
): string {
  const flags = new Set(lacking.flatMap(flagsFor))
  return askLine(repository, [...flags, ...namedByFlags(lacking.map(({ ref }) => ref)), ...pathFlags(paths)])
}

/** The line that asks for reading these refs; for all of the repository where none is named. */
export function askToRead(repository: string, refs: readonly string[]): string {
  return askLine(repository, ['--fetch', ...namedByFlags(refs)])
}

function askLine(repository: string, words: readonly string[]): string {
  return `ask with: git access request ${repository} ${words.join(' ')} --for 1h`
}

function namedByFlags(full: readonly string[]): readonly string[] {
  const refs = full.map(ref => ref.replace(/^refs\/heads\//, ''))
  const fits = refs.length <= NAMED_MAX && refs.every(ref => PASTES_SAFELY.test(ref))
  return fits ? refs.map(ref => `--ref ${ref}`) : []
}

function pathFlags(paths: readonly (string | undefined)[]): readonly string[] {
  const named = [...new Set(paths)]
  const fits = named.length <= NAMED_MAX && named.every(path => path !== undefined && PASTES_SAFELY.test(path))
  return fits ? named.map(path => `--path ${path}`) : []
}

/** A tag that moves or goes away is asked for by two names: it is somebody's release. */
function flagsFor({ kind, ref }: RefUpdate): readonly string[] {
  const isTag = namespaceOf(ref) === 'tag'
  if (kind === 'delete') return isTag ? ['--delete', '--tag'] : ['--delete']
  if (!isTag) return ['--push']
  return kind === 'create' ? ['--tag'] : ['--tag', '--force']
}
