import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import type { ObjectFormat } from './git/objectid.ts'
import type { PacketReader } from './git/pktline.ts'
import type { Inquiry } from './inquiry.ts'

/** Commits walked, and boundary commits asked about, before a proof is given up. */
const COMMITS_MAX = 100_000
const BOUNDARY_MAX = 256
const COMMIT_BYTES_MAX = 1 << 20
/** What the host may send to show what lies between. */
const BETWEEN_BYTES_MAX = 256 << 20

/** Why it could not be told whether a push moves a ref forward. The message is for the person. */
export class Unproved extends Error {}

/**
 * Whether ref updates are fast-forwards, read from the pack that makes them.
 *
 * A pack is git's to read: `git index-pack` and `git cat-file` do it in a throwaway repository, fed while the pack goes by.
 * Walking from `new` through the commits the pack holds, either `old` is met, or there is a boundary of commits the pack
 * does not hold, and the host is asked what lies between them and `old`: `old` is an ancestor of the boundary exactly
 * when a commit of the answer has it as a parent (the last commit on the way to `old` is not reachable from `old`, so it
 * is in the answer).
 */
export class Ancestry {
  readonly #directory: string
  readonly #format: ObjectFormat
  readonly #index: ChildProcess
  readonly #indexed: Promise<boolean>
  #finished = false

  private constructor(directory: string, format: ObjectFormat, index: ChildProcess) {
    this.#directory = directory
    this.#format = format
    this.#index = index
    this.#indexed = exited(index)
  }

  /** A throwaway repository below `state`. `bytes`: the largest pack it will take; a larger one proves nothing. */
  static async open(state: string, format: ObjectFormat, bytes: number): Promise<Ancestry> {
    const directory = await mkdtemp(join(state, 'ancestry-'))
    await init(directory, format)
    const index = git(directory, ['index-pack', '--stdin', '--threads=1', `--max-input-size=${bytes}`])
    index.stdout?.resume()
    // What index-pack thinks of the pack is told by its exit; a broken pipe is the same news.
    index.stdin?.on('error', () => {})
    return new Ancestry(directory, format, index)
  }

  /** The next bytes of the pack, its trailer included. */
  async write(chunk: Buffer): Promise<void> {
    const stdin = this.#index.stdin as Writable
    if (stdin.destroyed || stdin.write(chunk)) return
    await writable(stdin)
  }

  /** The pack is whole. False when git could not read it by itself: a thin pack, a broken one, one too large. */
  async end(): Promise<boolean> {
    if (!this.#finished) {
      this.#finished = true
      this.#index.stdin?.end()
    }
    return this.#indexed
  }

  /**
   * Whether `old` is an ancestor of `tip`, once the pack has ended.
   *
   * @throws Unproved when that cannot be told
   */
  async isForward(old: string, tip: string, ask: () => Promise<Inquiry>): Promise<boolean> {
    if (old === tip) return true
    if (!(await this.end())) {
      throw new Unproved(
        'this push cannot be checked for force: its pack leans on objects it does not bring; use --no-thin',
      )
    }
    const boundary = await this.#boundary(old, tip)
    if (boundary === 'met') return true
    if (boundary.size === 0) return false
    if (boundary.size > BOUNDARY_MAX)
      throw new Unproved('this push cannot be checked for force: it joins too many histories')
    return hasChildOf(old, await (await ask()).between([...boundary], old), this.#directory, this.#format)
  }

  /** The commits just outside the pack on the way down from `tip`; `met` when `old` is on the way. */
  async #boundary(old: string, tip: string): Promise<Set<string> | 'met'> {
    const boundary = new Set<string>()
    const seen = new Set([tip])
    const commits = new CatFile(this.#directory)
    try {
      let generation = [tip]
      while (generation.length > 0) {
        const next: string[] = []
        for (const [id, parents] of await commits.parents(generation)) {
          if (id === old) return 'met'
          if (!parents) boundary.add(id)
          for (const parent of parents ?? []) {
            if (parent === old) return 'met'
            if (seen.has(parent)) continue
            seen.add(parent)
            next.push(parent)
          }
        }
        if (seen.size > COMMITS_MAX)
          throw new Unproved('this push cannot be checked for force: it brings too many commits')
        generation = next
      }
      return boundary
    } finally {
      commits.close()
    }
  }

  /** Takes everything away again. */
  async close(): Promise<void> {
    this.#finished = true
    this.#index.kill('SIGKILL')
    await this.#indexed
    await rm(this.#directory, { recursive: true, force: true })
  }
}

/** Whether a commit of the pack in `answer` has `parent` as a parent. */
async function hasChildOf(parent: string, answer: PacketReader, below: string, format: ObjectFormat): Promise<boolean> {
  const directory = await mkdtemp(join(below, 'between-'))
  await init(directory, format)
  const index = git(directory, ['index-pack', '--stdin', '--threads=1', `--max-input-size=${BETWEEN_BYTES_MAX}`])
  const indexed = exited(index)
  index.stdin?.on('error', () => {})
  index.stdout?.resume()
  for (;;) {
    // Each packet is let go as soon as it was handed on: the limit is for one at a time.
    answer.forget()
    const packet = await answer.read()
    if (packet?.kind !== 'data') break
    if (packet.payload[0] === 3) throw new Unproved('this push cannot be checked for force: the Git host broke off')
    if (packet.payload[0] !== 1) continue
    if (!index.stdin?.write(packet.payload.subarray(1))) await writable(index.stdin as Writable)
  }
  index.stdin?.end()
  if (!(await indexed))
    throw new Unproved('this push cannot be checked for force: the Git host sent too much or too little')

  const commits = new CatFile(directory)
  try {
    for (const id of await commitsOf(directory)) {
      for (const [, parents] of await commits.parents([id])) if (parents?.includes(parent)) return true
    }
    return false
  } finally {
    commits.close()
  }
}

/** The ids of all commits in a repository. */
async function commitsOf(directory: string): Promise<string[]> {
  const child = git(directory, [
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
      throw new Unproved('this push cannot be checked for force: too many commits lie between')
    }
  }
  return ids
}

/** `git cat-file --batch`, asked for the parents of commits. */
class CatFile {
  readonly #child: ChildProcess
  readonly #chunks: AsyncIterator<Buffer>
  #buffer: Buffer = Buffer.alloc(0)

  constructor(directory: string) {
    this.#child = git(directory, ['cat-file', '--batch'])
    this.#child.stdin?.on('error', () => {})
    this.#chunks = (this.#child.stdout as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
  }

  /** For each id its parents; undefined where the repository does not have it. Throws Unproved for what is no commit. */
  async parents(ids: readonly string[]): Promise<[string, string[] | undefined][]> {
    const found: [string, string[] | undefined][] = []
    // In portions: cat-file stops reading when nobody reads its answers.
    for (let at = 0; at < ids.length; at += 64) {
      const portion = ids.slice(at, at + 64)
      this.#child.stdin?.write(`${portion.join('\n')}\n`)
      for (const id of portion) found.push([id, await this.#answer()])
    }
    return found
  }

  async #answer(): Promise<string[] | undefined> {
    const [, type, size] = (await this.#line()).split(' ')
    if (type === 'missing') return undefined
    const bytes = Number(size)
    if (type !== 'commit' || !(bytes <= COMMIT_BYTES_MAX)) {
      throw new Unproved(
        'this push cannot be checked for force: it moves a branch to something that is no plain commit',
      )
    }
    await this.#until(() => this.#buffer.length > bytes)
    const head = this.#buffer.toString('latin1', 0, bytes).split('\n\n', 1)[0] ?? ''
    this.#buffer = this.#buffer.subarray(bytes + 1)
    return head
      .split('\n')
      .filter(row => row.startsWith('parent '))
      .map(row => row.slice('parent '.length))
  }

  async #line(): Promise<string> {
    await this.#until(() => this.#buffer.includes(0x0a))
    const end = this.#buffer.indexOf(0x0a)
    const text = this.#buffer.toString('latin1', 0, end)
    this.#buffer = this.#buffer.subarray(end + 1)
    return text
  }

  async #until(enough: () => boolean): Promise<void> {
    while (!enough()) {
      const { value, done } = await this.#chunks.next()
      if (done) throw new Unproved('this push cannot be checked for force: its commits could not be read')
      this.#buffer = Buffer.concat([this.#buffer, value])
    }
  }

  close(): void {
    this.#child.kill('SIGKILL')
  }
}

function git(directory: string, args: readonly string[]): ChildProcess {
  return spawn('git', ['--git-dir', directory, ...args], {
    stdio: ['pipe', 'pipe', 'ignore'],
    // Nobody's configuration, hooks or alternates have a say in a proof.
    env: { PATH: process.env.PATH, HOME: directory, GIT_CONFIG_NOSYSTEM: '1', GIT_CONFIG_GLOBAL: '/dev/null' },
  })
}

async function init(directory: string, format: ObjectFormat): Promise<void> {
  const child = git(directory, ['init', '--quiet', '--bare', '--template=', `--object-format=${format}`])
  child.stdin?.end()
  child.stdout?.resume()
  if (!(await exited(child))) throw new Error('git init failed: is git installed and the state folder writable?')
}

/** When more can be written; also when nothing ever can, which the program's exit tells. */
function writable(stdin: Writable): Promise<void> {
  return new Promise(resolve => {
    if (stdin.destroyed) return resolve()
    stdin.once('drain', resolve).once('close', resolve)
  })
}

/** Whether a program ended well. */
function exited(child: ChildProcess): Promise<boolean> {
  return new Promise(resolve => {
    child.once('error', () => resolve(false))
    child.once('close', code => resolve(code === 0))
  })
}
