import type { PathList } from '../grant/grant.ts'
import { mayChange } from '../grant/paths.ts'
import type { RefUpdate } from './git/refupdate.ts'
import type { Inquiry } from './inquiry.ts'
import { type Walked, walkPack } from './packwalk.ts'
import { type Change, changes } from './pathdiff.ts'
import { type Quarantine, Unproved } from './quarantine.ts'

/** Commits of the host that new ones stand on, and branches that a new one may have begun from. */
const BOUNDARY_MAX = 256
const BASES_MAX = 16
/** What the host may send to compare with, and how often it is asked for trees that nobody foresaw. */
const FETCHED_BYTES_MAX = 256 << 20
const ROUNDS_MAX = 8
const MISSING_MAX = 10_000
/** Branches and tags a host may be asked to go by. */
const TIPS_MAX = 20_000
/** How many paths are named to the person. */
const NAMED_MAX = 3

/** An update that has to stay within the paths of some window, and those of every window it might be allowed by. */
export interface Limited {
  readonly update: RefUpdate
  readonly limits: readonly (readonly PathList[])[]
}

export interface Found {
  /** The limits it stays within, by `limitKey`. */
  readonly within: ReadonlySet<string>
  /** Some that are outside the first of the limits. */
  readonly outside: readonly Change[]
}

export const limitKey = (lists: readonly PathList[]) => JSON.stringify(lists)

/**
 * Whether what updates change stays within their limits, told from the pack in the quarantine and what the host has. What
 * is forbidden stands neither in a commit nor in the sum of them:
 *
 * - Every commit that is new to the host is compared with its parent, one without a parent with nothing. A path that is
 *   changed and changed back within one push was changed.
 * - A new merge is held to what it has from none of its parents, file by file. What it has from one of them is either
 *   another new commit's, or has been on the host already.
 * - A ref that moves is compared before and after, so that no merge, no force and no reset brings in or takes back what
 *   the commits by themselves did not touch.
 * - A ref that is made is compared with the commits of the host that it stands on: it began from one of them.
 *
 * "On the host" means reachable from a branch or tag of it: hosts keep objects of forks and closed pull requests beside
 * their own, and what only lies there was let in by nobody. Renames are not looked for, so both their sides count; a
 * change of mode, a symbolic link or a submodule is a change of the path where it stands.
 *
 * @throws Unproved when that cannot be told
 */
export async function judgePaths(
  pack: Quarantine,
  limited: readonly Limited[],
  host: Inquiry,
): Promise<Map<string, Found>> {
  // Before anything else is taken in: what the quarantine holds now is what the push brings.
  const walks: { readonly one: Limited; readonly walked: Walked }[] = []
  for (const one of limited) {
    const walked = await walkPack(pack, one.update.new)
    if (walked.boundary.size > BOUNDARY_MAX) throw new Unproved('it joins too many histories')
    walks.push({ one, walked })
  }
  await requireOnRefs(walks, host)
  const needed = new Set(walks.flatMap(({ one, walked }) => comparedWith(one.update, walked)))
  if (needed.size > 0) {
    const answer = await host.fetch({ wants: [...needed], filter: 'blob:none', depth: 1 })
    await pack.take(answer, FETCHED_BYTES_MAX)
  }
  await completeTrees(pack, [...new Set(walks.flatMap(({ walked }) => walked.commits))], host)

  const found = new Map<string, Found>()
  for (const { one, walked } of walks) found.set(one.update.ref, await judgeOne(pack, one, walked))
  return found
}

/**
 * A commit that the push does not bring counts as the host's only where it stands below one of its branches or tags. The
 * one that a ref is moved from does: if it is not where the ref stands, the host refuses that update.
 */
async function requireOnRefs(
  walks: readonly { readonly one: Limited; readonly walked: Walked }[],
  host: Inquiry,
): Promise<void> {
  const doubted = new Set(walks.flatMap(({ one, walked }) => [...walked.boundary].filter(id => id !== one.update.old)))
  if (doubted.size === 0) return
  const tips = await host.tips()
  const between = [...doubted].filter(id => !tips.has(id))
  if (between.length === 0) return
  if (tips.size > TIPS_MAX) throw new Unproved('the Git host has too many branches and tags to look through')
  if (!(await host.reaches([...tips], between))) {
    throw new Unproved("it stands on commits that are below no branch or tag of the host's")
  }
}

/** What the host has to send: whatever the push's commits stand on, and what a ref is moved from and to. */
function comparedWith({ kind, old }: RefUpdate, { commits, boundary }: Walked): string[] {
  if (kind === 'create') return commits.length > 0 ? [...boundary] : []
  return [...boundary, old]
}

/** A new commit may hold a folder as it once was, which neither the pack brings nor the commits it stands on have. */
async function completeTrees(pack: Quarantine, commits: readonly string[], host: Inquiry): Promise<void> {
  if (commits.length === 0) return
  for (let round = 0; round <= ROUNDS_MAX; round++) {
    const missing = await missingTrees(pack, commits)
    if (missing.length === 0) return
    await pack.take(await host.fetch({ wants: missing, filter: 'blob:none' }), FETCHED_BYTES_MAX)
  }
  throw new Unproved('the Git host does not send the folders that it has to be compared with')
}

async function missingTrees(pack: Quarantine, commits: readonly string[]): Promise<string[]> {
  const list = pack.git([
    'rev-list',
    '--stdin',
    '--no-walk',
    '--objects',
    '--quiet',
    '--filter=blob:none',
    '--missing=print',
  ])
  list.stdin?.end(`${commits.join('\n')}\n`)
  const missing: string[] = []
  let rest = ''
  for await (const chunk of list.stdout as AsyncIterable<Buffer>) {
    const rows = (rest + chunk.toString('latin1')).split('\n')
    rest = rows.pop() ?? ''
    for (const row of rows) if (row.startsWith('?')) missing.push(row.slice(1))
    if (missing.length > MISSING_MAX) {
      list.kill('SIGKILL')
      throw new Unproved('too many of its folders are not where they should be')
    }
  }
  return missing
}

async function judgeOne(pack: Quarantine, { update, limits }: Limited, { commits, boundary }: Walked): Promise<Found> {
  const held = new Holding(limits)
  if (commits.length > 0) {
    // `-c`: of a merge only what differs from all its parents. The oldest first: it is named where a path is changed twice.
    await held.to(changes(pack, ['--stdin', '--root', '-c'], `${commits.toReversed().join('\n')}\n`))
  }
  if (update.kind === 'update') await held.to(changes(pack, [update.old, update.new]))
  else if (commits.length > 0 && boundary.size > 0) {
    if (boundary.size > BASES_MAX) throw new Unproved('it joins too many histories')
    await held.toOneOf([...boundary].map(base => () => changes(pack, [base, update.new])))
  }
  return { within: new Set(held.within.map(limitKey)), outside: [...held.outside.values()] }
}

/** Limits that are still kept, and paths that broke the first of them. */
class Holding {
  within: readonly (readonly PathList[])[]
  /** By path: one that many commits touch is named once. */
  readonly outside = new Map<string, Change>()
  readonly #first: readonly PathList[] | undefined

  constructor(limits: readonly (readonly PathList[])[]) {
    this.within = limits
    this.#first = limits[0]
  }

  /** Holds what is left to these changes. */
  async to(all: AsyncIterable<Change>): Promise<void> {
    for await (const change of all) {
      this.within = this.within.filter(lists => isWithin(lists, change))
      const isNamed = this.outside.size < NAMED_MAX && this.#first && !isWithin(this.#first, change)
      if (isNamed) this.#name(change)
      if (this.within.length === 0 && this.outside.size >= NAMED_MAX) return
    }
  }

  /** Each limit has to be kept by one of these, whichever. */
  async toOneOf(ways: readonly (() => AsyncIterable<Change>)[]): Promise<void> {
    const kept = new Set<readonly PathList[]>()
    let said: Holding | undefined
    for (const way of ways) {
      const one = new Holding(this.within)
      await one.to(way())
      for (const lists of one.within) kept.add(lists)
      said ??= one
    }
    const before = this.within
    this.within = before.filter(lists => kept.has(lists))
    if (this.within.length < before.length) for (const change of said?.outside.values() ?? []) this.#name(change)
  }

  #name(change: Change): void {
    const name = change.path ?? change.shown
    if (!this.outside.has(name)) this.outside.set(name, change)
  }
}

const isWithin = (lists: readonly PathList[], { path }: Change) => path !== undefined && mayChange(lists, path)
