import type { Inquiry } from './inquiry.ts'
import { CatFile, COMMITS_MAX, valuesOf, walkPack } from './packwalk.ts'
import { Quarantine, Unproved } from './quarantine.ts'

/** Boundary commits asked about before a proof is given up. */
const BOUNDARY_MAX = 256
/** What the host may send to show what lies between. */
const BETWEEN_BYTES_MAX = 256 << 20

/**
 * Whether `old` is an ancestor of `tip`, read from the pack in the quarantine that brings `tip`.
 *
 * Walking from `tip` through the commits the pack holds, either `old` is met, or there is a boundary of commits the pack
 * does not hold, and the host is asked what lies between them and `old`: `old` is an ancestor of the boundary exactly
 * when a commit of the answer has it as a parent (the last commit on the way to `old` is not reachable from `old`, so it
 * is in the answer).
 *
 * @throws Unproved when that cannot be told
 */
export async function isForward(
  pack: Quarantine,
  old: string,
  tip: string,
  ask: () => Promise<Inquiry>,
): Promise<boolean> {
  if (old === tip) return true
  const { met, boundary } = await walkPack(pack, tip, old)
  if (met) return true
  if (boundary.size === 0) return false
  if (boundary.size > BOUNDARY_MAX) throw new Unproved('it joins too many histories')
  const between = await Quarantine.open(pack.directory, pack.format)
  try {
    await between.take(await (await ask()).between([...boundary], old), BETWEEN_BYTES_MAX)
    return await hasChildOf(old, between)
  } finally {
    await between.close()
  }
}

/** Whether a commit of the repository has `parent` as a parent. */
async function hasChildOf(parent: string, repository: Quarantine): Promise<boolean> {
  const ids = await commitsOf(repository)
  const commits = new CatFile(repository)
  try {
    for (const id of ids) {
      for (const [, found] of await commits.read([id])) {
        if (found && valuesOf(found, 'parent').includes(parent)) return true
      }
    }
    return false
  } finally {
    commits.close()
  }
}

/** The ids of all commits in a repository. */
async function commitsOf(repository: Quarantine): Promise<string[]> {
  const child = repository.git([
    'cat-file',
    '--batch-all-objects',
    '--unordered',
    '--batch-check=%(objecttype) %(objectname)',
  ])
  child.stdin?.end()
  const ids: string[] = []
  let rest = ''
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    const rows = (rest + chunk.toString('latin1')).split('\n')
    rest = rows.pop() ?? ''
    for (const row of rows) if (row.startsWith('commit ')) ids.push(row.slice('commit '.length))
    if (ids.length > COMMITS_MAX) {
      child.kill('SIGKILL')
      throw new Unproved('too many commits lie between')
    }
  }
  return ids
}
