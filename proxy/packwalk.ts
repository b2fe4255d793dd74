import type { ChildProcess } from 'node:child_process'
import { type Quarantine, Unproved } from './quarantine.ts'

/** Commits walked before it is given up. */
export const COMMITS_MAX = 100_000
const OBJECT_BYTES_MAX = 1 << 20
/** Tags of tags of tags. */
const TAGS_MAX = 8

/** What a pack brings below a tip. */
export interface Walked {
  /** The commits of the pack, the newest first. */
  readonly commits: readonly string[]
  /** What lies just outside of it: commits, or the tip itself. */
  readonly boundary: ReadonlySet<string>
  /** The commit that was looked for is among them, or the parent of one; nothing behind it was looked at. */
  readonly met: boolean
}

/**
 * Walks from a tip through what the quarantine holds. Before anything but the pack was taken in, that is what is new.
 *
 * @param enough stops at this commit
 * @param until stops at this commit
 * @throws Unproved for what is no commit, nor a tag of one, or where there are too many
 */
export async function walkPack(quarantine: Quarantine, tip: string, until?: string): Promise<Walked> {
  const commits: string[] = []
  const boundary = new Set<string>()
  const objects = new CatFile(quarantine)
  try {
    const from = await peel(objects, tip)
    const seen = new Set([from])
    let generation = [from]
    while (generation.length > 0) {
      const next: string[] = []
      for (const [id, found] of await objects.read(generation)) {
        if (id === until) return { commits, boundary, met: true }
        if (!found) {
          boundary.add(id)
          continue
        }
        if (found.type !== 'commit') throw new Unproved('it moves a ref to something that is no commit')
        commits.push(id)
        for (const parent of valuesOf(found, 'parent')) {
          if (parent === until) return { commits, boundary, met: true }
          if (seen.has(parent)) continue
          seen.add(parent)
          next.push(parent)
        }
      }
      if (seen.size > COMMITS_MAX) throw new Unproved('it brings too many commits; push it in parts')
      generation = next
    }
    return { commits, boundary, met: false }
  } finally {
    objects.close()
  }
}

/** What a tag is of in the end, as far as the quarantine holds it. */
async function peel(objects: CatFile, id: string): Promise<string> {
  let at = id
  for (let tags = 0; tags <= TAGS_MAX; tags++) {
    const [[, found] = []] = await objects.read([at])
    if (found?.type !== 'tag') return at
    at = valuesOf(found, 'object')[0] ?? at
  }
  throw new Unproved('it brings a tag of a tag of a tag')
}

export interface Header {
  readonly type: string
  /** The lines before the first empty one. */
  readonly lines: readonly string[]
}

/** The values of a header's lines of this name, in their order. */
export function valuesOf({ lines }: Header, name: string): string[] {
  return lines.filter(line => line.startsWith(`${name} `)).map(line => line.slice(name.length + 1))
}

/** `git cat-file --batch`, asked for commits and tags. */
export class CatFile {
  readonly #child: ChildProcess
  readonly #chunks: AsyncIterator<Buffer>
  #buffer: Buffer = Buffer.alloc(0)

  constructor(quarantine: Quarantine) {
    this.#child = quarantine.git(['cat-file', '--batch'])
    this.#chunks = (this.#child.stdout as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
  }

  /** For each id its header; undefined where the repository does not have it. Throws Unproved for what is not small. */
  async read(ids: readonly string[]): Promise<[string, Header | undefined][]> {
    const found: [string, Header | undefined][] = []
    // In portions: cat-file stops reading when nobody reads its answers.
    for (let at = 0; at < ids.length; at += 64) {
      const portion = ids.slice(at, at + 64)
      this.#child.stdin?.write(`${portion.join('\n')}\n`)
      for (const id of portion) found.push([id, await this.#answer()])
    }
    return found
  }

  async #answer(): Promise<Header | undefined> {
    const [, type, size] = (await this.#line()).split(' ')
    if (type === undefined || type === 'missing') return undefined
    const bytes = Number(size)
    if (!(bytes <= OBJECT_BYTES_MAX)) throw new Unproved('it moves a ref to something that is no plain commit')
    await this.#until(() => this.#buffer.length > bytes)
    const head = this.#buffer.toString('latin1', 0, bytes).split('\n\n', 1)[0] ?? ''
    this.#buffer = this.#buffer.subarray(bytes + 1)
    return { type, lines: head.split('\n') }
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
      if (done) throw new Unproved('its commits could not be read')
      this.#buffer = Buffer.concat([this.#buffer, value])
    }
  }

  close(): void {
    this.#child.kill('SIGKILL')
  }
}
