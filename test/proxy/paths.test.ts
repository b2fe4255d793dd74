import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { PathList } from '../../grant/grant.ts'
import { Inquiry } from '../../proxy/inquiry.ts'
import { judgePaths, limitKey } from '../../proxy/paths.ts'
import { Quarantine, Unproved } from '../../proxy/quarantine.ts'
import { localUpstream } from '../../proxy/upstream/local.ts'
import { git } from '../support/git.ts'
import { temporaryFolder } from '../support/program.ts'
import { folderUrl, upstreamSettings } from './http/front.ts'

// What a push changes, told by git from its pack and from what a real host sends.

const folder = temporaryFolder('paths')
const DOCS: PathList = ['docs/**']

/** A file's content; null: it is gone. `mode` as git writes it. */
type File = string | null | { readonly mode: string; readonly content: string }
type Commit = readonly [parents: readonly string[], files: { readonly [path: string]: File }]

const FILES = { 'docs/a.md': 'a', 'src/x.ts': 'x', 'README.md': 'r', '.github/ci.yml': 'ci' }
const MOVED = { 'src/x.ts': 'x2', 'src/deep/y.ts': 'y' }
const IGNORED = '[submodule "lib"]\n\tpath = lib\n\turl = ./lib\n\tignore = all\n'
const LINK = { mode: '120000', content: '../src' }

/** On the host: `main` (base, then moved), `other` and `old`, which is `base`. */
const HOST: { readonly [name: string]: Commit } = {
  base: [[], FILES],
  moved: [['base'], MOVED],
  other: [['base'], { 'src/x.ts': 'other', 'docs/other.md': 'o' }],
  stray: [['base'], { 'src/x.ts': 'stray' }],
}

/** Only the client has these. */
const MINE: { readonly [name: string]: Commit } = {
  docs: [['moved'], { 'docs/a.md': 'a2' }],
  docs2: [['docs'], { 'docs/new/b.md': 'b' }],
  source: [['moved'], { 'src/x.ts': 'mine' }],
  both: [['docs'], { 'docs/a.md': 'a3', 'src/x.ts': 'mine' }],
  back: [['both'], { 'src/x.ts': 'x2' }],
  out: [['moved'], { 'docs/a.md': null, 'moved.md': 'a' }],
  into: [['moved'], { 'src/x.ts': null, 'docs/x.ts': 'x2' }],
  executable: [['moved'], { 'src/x.ts': { mode: '100755', content: 'x2' } }],
  gone: [['moved'], { 'docs/a.md': null }],
  link: [['moved'], { 'docs/link': LINK }],
  swapped: [['moved'], { 'docs/a.md': null, docs: LINK }],
  submodule: [['moved'], { '.gitmodules': IGNORED }],
  behind: [['base'], { 'docs/b.md': 'b' }],
  pulled: [['behind', 'moved'], MOVED],
  pulledAway: [['moved', 'behind'], { 'docs/b.md': 'b' }],
  evil: [['behind', 'moved'], { ...MOVED, 'README.md': 'in the merge' }],
  evilUndone: [['evil', 'moved'], { 'README.md': 'r' }],
  brought: [['docs', 'other'], { 'docs/other.md': 'o', 'src/x.ts': 'other' }],
  taken: [['docs', 'base'], { 'src/x.ts': 'x', 'src/deep/y.ts': null }],
  onStray: [['stray'], { 'docs/b.md': 'b' }],
  joinsStray: [['moved', 'stray'], { 'docs/b.md': 'b' }],
  root: [[], { 'docs/r.md': 'r' }],
  rootBeside: [[], { 'docs/r.md': 'r', 'other.md': 'o' }],
  empty: [['moved'], {}],
  gitlink: [['moved'], { '.gitmodules': IGNORED, lib: { mode: '160000', content: '1' } }],
  cased: [['moved'], { 'Docs/A.md': 'A' }],
}

function stream(commits: { readonly [name: string]: Commit }, marks: readonly string[], width: number): string {
  return Object.entries(commits)
    .map(([name, [[first, ...rest], files]]) => {
      const rows = Object.entries(files).map(([path, file]) => {
        if (file === null) return `D ${path}\n`
        if (typeof file !== 'string' && file.mode === '160000')
          return `M 160000 ${file.content.repeat(width)} ${path}\n`
        const { mode, content } = typeof file === 'string' ? { mode: '100644', content: file } : file
        return `M ${mode} inline ${path}\ndata ${Buffer.byteLength(content)}\n${content}\n`
      })
      const mark = (parent: string) => `:${marks.indexOf(parent) + 1}`
      // A commit that has parents begins with the first one's files.
      const parents = [...(first ? [`from ${mark(first)}\n`] : []), ...rest.map(parent => `merge ${mark(parent)}\n`)]
      const who = 'committer t <t@example> 1700000000 +0000\n'
      return `${first ? '' : `reset refs/names/${name}\n`}commit refs/names/${name}\nmark :${marks.indexOf(name) + 1}\n${who}data 0\n${parents.join('')}${rows.join('')}\n`
    })
    .join('')
}

async function run(repository: string, args: readonly string[], input?: string): Promise<string> {
  const { status, stdout, stderr } = await git(['--git-dir', repository, ...args], input === undefined ? {} : { input })
  if (status !== 0) throw new Error(stderr)
  return stdout.trim()
}

/** A host, and a client with all of it and its own. */
interface Pair {
  readonly host: string
  readonly mine: string
  readonly format: 'sha1' | 'sha256'
  readonly ids: ReadonlyMap<string, string>
}

async function pair(format: Pair['format']): Promise<Pair> {
  const host = join(folder, `host-${format}.git`)
  const mine = join(folder, `mine-${format}.git`)
  for (const path of [host, mine]) await git(['init', '-q', '--bare', `--object-format=${format}`, path])
  await run(host, ['config', 'uploadpack.allowFilter', 'true'])
  const all = { ...HOST, ...MINE }
  await run(mine, ['fast-import', '--quiet', '--force'], stream(all, Object.keys(all), format === 'sha1' ? 40 : 64))
  const rows = await run(mine, ['for-each-ref', '--format=%(refname:lstrip=2) %(objectname)', 'refs/names'])
  const ids = new Map(rows.split('\n').map(row => row.split(' ') as [string, string]))
  const refs = ['moved:main', 'other:other', 'base:old'].map(one => one.split(':'))
  await run(mine, ['push', '-q', host, ...refs.map(([name, ref]) => `refs/names/${name}:refs/heads/${ref}`)])
  // What lies beside a host's own branches: a fork's, or a pull request's that nobody took.
  await run(mine, ['push', '-q', host, 'refs/names/stray:refs/pull/1/head'])
  return { host, mine, format, ids }
}

let sha1: Pair
let sha256: Pair
beforeAll(async () => {
  sha1 = await pair('sha1')
  sha256 = await pair('sha256')
})

const inquiries: Inquiry[] = []
const quarantines: Quarantine[] = []
afterAll(async () => {
  for (const inquiry of inquiries) inquiry.close()
  await Promise.all(quarantines.map(each => each.close()))
})

async function asking(host: string): Promise<Inquiry> {
  const connect = localUpstream(upstreamSettings(folderUrl(folder)))
  const path = host.slice(folder.length + 1, -'.git'.length)
  const inquiry = await Inquiry.open(
    connect,
    { path, principal: 'alice', operation: 'op-1' },
    new AbortController().signal,
  )
  inquiries.push(inquiry)
  return inquiry
}

interface Pushed {
  readonly tip: string
  /** Where the branch stands; left out: it is made. */
  readonly from?: string
  readonly lists?: readonly PathList[]
}

interface Told {
  readonly stays: boolean
  readonly outside: readonly (string | undefined)[]
}

/** The pack git would push for these, or one of just some objects, and whether it was taken into a quarantine. */
async function pushed(
  on: Pair,
  tips: readonly string[],
  alone?: readonly string[],
): Promise<{ quarantine: Quarantine; whole: boolean }> {
  const not = Object.keys(HOST).map(name => `^${on.ids.get(name)}\n`)
  const name = join(folder, `pack-${quarantines.length}`)
  const revs = [...tips.map(tip => `${tip}\n`), ...not].join('')
  const what = alone ? ([[], `${alone.join('\n')}\n`] as const) : ([['--revs'], revs] as const)
  const hash = await run(on.mine, ['pack-objects', '-q', ...what[0], name], what[1])
  const quarantine = await Quarantine.open(folder, on.format)
  quarantines.push(quarantine)
  const incoming = quarantine.receive(1 << 20, { strict: true })
  await incoming.write(readFileSync(`${name}-${hash}.pack`))
  return { quarantine, whole: await incoming.end() }
}

/** What is told of each, from one pack that brings them all. */
async function judged(on: Pair, pushes: readonly Pushed[], alone?: readonly string[]): Promise<Told[]> {
  const idOf = (name: string) => on.ids.get(name) ?? name
  const { quarantine, whole } = await pushed(
    on,
    pushes.map(({ tip }) => idOf(tip)),
    alone,
  )
  expect(whole).toBe(true)
  const limited = pushes.map(({ tip, from, lists = [DOCS] }, index) => {
    const old = from === undefined ? '0'.repeat(idOf(tip).length) : idOf(from)
    const kind = from === undefined ? ('create' as const) : ('update' as const)
    return { update: { ref: `refs/heads/${index}`, old, new: idOf(tip), kind }, limits: [lists] }
  })
  const found = await judgePaths(quarantine, limited, await asking(on.host))
  return limited.map(({ update, limits }) => {
    const { within, outside } = found.get(update.ref)!
    return { stays: within.has(limitKey(limits[0]!)), outside: outside.map(({ path }) => path) }
  })
}

type Case = readonly [string, string, string | undefined, readonly string[]]

const MOVES: readonly Case[] = [
  ['a change inside stays inside', 'docs', 'moved', []],
  ['several of them as well', 'docs2', 'moved', []],
  ['a change outside does not', 'source', 'moved', ['src/x.ts']],
  ['nor one among others', 'both', 'moved', ['src/x.ts']],
  ['nor one that is changed back within the push', 'back', 'moved', ['src/x.ts']],
  ['a file that moves out of the folder has a place outside', 'out', 'moved', ['moved.md']],
  ['and one that moves in had one', 'into', 'moved', ['src/x.ts']],
  ['a change of mode is a change', 'executable', 'moved', ['src/x.ts']],
  ['a file of the folder may go', 'gone', 'moved', []],
  ['a symbolic link is a file at its own place', 'link', 'moved', []],
  ['but not in place of the folder itself', 'swapped', 'moved', ['docs']],
  ['a submodule is made known outside', 'submodule', 'moved', ['.gitmodules']],
  ['and counts itself, whatever is said of it there', 'gitlink', 'moved', ['.gitmodules', 'lib']],
  ['another spelling is another folder', 'cased', 'moved', ['Docs/A.md']],
  ['a commit that changes nothing changes nothing', 'empty', 'moved', []],
  ['what others did meanwhile may be merged before the push', 'pulled', 'moved', []],
  ['from either side', 'pulledAway', 'moved', []],
  ['but nothing is done in a merge itself', 'evil', 'moved', ['README.md']],
  ['nor done in one and taken back in the next', 'evilUndone', 'moved', ['README.md']],
  ['nor brought in from another branch of the host', 'brought', 'moved', ['src/x.ts']],
  ['nor taken back to what an older commit has', 'taken', 'moved', ['src/deep/y.ts', 'src/x.ts']],
  ['nor reset to where the host once was', 'base', 'moved', ['src/deep/y.ts', 'src/x.ts']],
  ['nor moved to where another branch stands', 'other', 'moved', ['src/deep/y.ts', 'src/x.ts']],
  ['nor replaced by a history of its own', 'root', 'moved', ['.github/ci.yml', 'README.md', 'src/deep/y.ts']],
  ['by force from another state it is held to what it was', 'docs', 'other', ['src/deep/y.ts', 'src/x.ts']],
]

const MADE: readonly Case[] = [
  ['begins where the host has something, and changes from there', 'docs2', undefined, []],
  ['with nothing outside', 'source', undefined, ['src/x.ts']],
  ['at a commit that a branch has passed', 'behind', undefined, []],
  ['from a merge of what it began from and what others did', 'pulled', undefined, []],
  ['not from a merge that brings one branch of the host to another', 'brought', undefined, ['src/deep/y.ts']],
  ['where another one stands', 'other', undefined, []],
  ['where another one stood', 'base', undefined, []],
  ['with a history of its own, all of it inside', 'root', undefined, []],
  ['with one that is not', 'rootBeside', undefined, ['other.md']],
]

describe('told from the pack and what the host sends', () => {
  const told = new Map<Case, Told>()
  beforeAll(async () => {
    const cases = [...MOVES, ...MADE]
    const pushes = cases.map(([, tip, from]) => ({ tip, ...(from !== undefined && { from }) }))
    for (const [index, found] of (await judged(sha1, pushes)).entries()) told.set(cases[index]!, found)
  })

  test.each(MOVES.map(one => [one[0], one] as const))('a branch that moves: %s', (_, one) => {
    expect(told.get(one)).toEqual({ stays: one[3].length === 0, outside: one[3] })
  })

  test.each(MADE.map(one => [one[0], one] as const))('a branch that is made: %s', (_, one) => {
    expect(told.get(one)).toEqual({ stays: one[3].length === 0, outside: one[3] })
  })
})

test.each<[string, Pushed]>([
  ['a new branch there', { tip: 'stray' }],
  ['a new branch from there', { tip: 'onStray' }],
  ['a merge of it', { tip: 'joinsStray', from: 'moved' }],
])('what lies beside the branches of a host was let in by nobody: %s', async (_, pushed) => {
  const judging = judged(sha1, [pushed])
  await expect(judging).rejects.toThrow(Unproved)
  await expect(judging).rejects.toThrow("below no branch or tag of the host's")
})

test('each window is held to its own limits', async () => {
  const limits: readonly (readonly PathList[])[] = [[['src/**']], [['!.github']], [['src/**'], ['!src/x.*']]]
  const told = await judged(
    sha1,
    limits.map(lists => ({ tip: 'source', from: 'moved', lists })),
  )
  expect(told.map(({ stays }) => stays)).toEqual([true, true, false])
})

test('a folder that is put back as it is elsewhere is compared though the host has to be asked for it', async () => {
  const tree = await run(sha1.mine, ['rev-parse', `${sha1.ids.get('other')}:docs`])
  const now = await run(sha1.mine, ['ls-tree', sha1.ids.get('moved')!])
  const root = await run(sha1.mine, ['mktree'], `${now.replace(/tree \w+\tdocs/, `tree ${tree}\tdocs`)}\n`)
  const tip = await run(sha1.mine, ['commit-tree', root, '-p', sha1.ids.get('moved')!, '-m', 'as it is elsewhere'])
  // Neither the pack nor the commits it stands on have the tree of the folder.
  const pushes = [
    { tip, from: 'moved' },
    { tip, from: 'moved', lists: [['src/**']] },
  ]
  const told = await judged(sha1, pushes, [tip, root])
  expect(told).toEqual([
    { stays: true, outside: [] },
    { stays: false, outside: ['docs/other.md'] },
  ])
})

const FEW: readonly Pushed[] = [
  { tip: 'docs', from: 'moved' },
  { tip: 'pulled', from: 'moved' },
  { tip: 'both', from: 'moved' },
]

test('a sha256 repository is compared like any other', async () => {
  expect((await judged(sha256, FEW)).map(({ stays }) => stays)).toEqual([true, true, false])
})

test('a host that cannot leave out blobs sends them, within the bound', async () => {
  await run(sha256.host, ['config', 'uploadpack.allowFilter', 'false'])
  expect((await judged(sha256, FEW)).map(({ stays }) => stays)).toEqual([true, true, false])
})

test('a tree that two programs could read differently is not looked at', async () => {
  const blob = await run(sha1.mine, ['rev-parse', `${sha1.ids.get('base')}:README.md`])
  const entry = (name: string) => Buffer.concat([Buffer.from(`100644 ${name}\0`), Buffer.from(blob, 'hex')])
  // Sorted, `docs/x` hides behind `docs`: one program sees a folder, another a name with a slash.
  const tree = Buffer.concat([entry('docs/x'), entry('docs/x')])
  const made = await git(['--git-dir', sha1.mine, 'hash-object', '-t', 'tree', '-w', '--literally', '--stdin'], {
    input: tree,
  })
  const tip = await run(sha1.mine, ['commit-tree', made.stdout.trim(), '-p', sha1.ids.get('moved')!, '-m', 'twice'])
  expect((await pushed(sha1, [tip])).whole).toBe(false)
})
