import { printable } from './git/pktline.ts'
import { exited, type Quarantine, Unproved } from './quarantine.ts'

/** A path that some commit, or two of them compared, has otherwise. */
export interface Change {
  /** As git has it; undefined when it is not UTF-8. */
  readonly path: string | undefined
  /** For a person: with the commit that changes it, where it was looked for in one. */
  readonly shown: string
}

/** git's own bound for a name is the size of its tree; no disk takes one as long as this. */
const TOKEN_BYTES_MAX = 64 << 10
const SHOWN_CHARACTERS_MAX = 120
const COMMIT_CHARACTERS = 10

/**
 * What `git diff-tree` finds, renames taken for what they are: one path gone and one come.
 *
 * @param input for `--stdin`
 * @throws Unproved when git cannot compare them
 */
export async function* changes(pack: Quarantine, what: readonly string[], input = ''): AsyncGenerator<Change> {
  // Neither a `.gitmodules` nor a default may hide a submodule.
  const args = ['diff-tree', '-r', '--raw', '-z', '--abbrev=4', '--no-renames', '--ignore-submodules=none', ...what]
  const child = pack.git(args)
  const ended = exited(child)
  child.stdin?.end(input)
  let rest: Buffer = Buffer.alloc(0)
  let commit: string | undefined
  let isPath = false
  try {
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      let from = 0
      for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0, from)) {
        const token = rest.subarray(from, end)
        from = end + 1
        // `:modes ids status`, then the path; what stands alone is the commit that the next ones are of.
        if (isPath) yield changeOf(token, commit)
        else if (token[0] !== COLON) commit = token.toString('latin1').trim()
        isPath = !isPath && token[0] === COLON
      }
      rest = rest.subarray(from)
      if (rest.length > TOKEN_BYTES_MAX) throw new Unproved('it has a path that is too long')
    }
    if (!(await ended)) throw new Unproved('git could not compare it with what the host has')
  } finally {
    child.kill('SIGKILL')
  }
}

const COLON = 0x3a

function changeOf(name: Buffer, commit: string | undefined): Change {
  const path = utf8(name)
  const shown = printable(path ?? name.toString('latin1'), SHOWN_CHARACTERS_MAX)
  return { path, shown: commit === undefined ? shown : `${shown} (in ${commit.slice(0, COMMIT_CHARACTERS)})` }
}

function utf8(bytes: Buffer): string | undefined {
  try {
    return STRICT.decode(bytes)
  } catch {
    return undefined
  }
}

// `ignoreBOM`: a name that begins with one is another name than the one without.
const STRICT = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
