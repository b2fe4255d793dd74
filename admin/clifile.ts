import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * The command line as one file (`git access`, `drawbridge`, git's credential helper), made of the sources this gate runs:
 * whoever fetches it has exactly what its operator has, and needs nothing but Node. The same sources make the same bytes.
 */
export interface CliFile {
  readonly content: string
  /** Of the content, hexadecimal. */
  readonly sha256: string
}

const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** What it is run as; git calls the helper by its path as well. */
const ENTRIES = ['cli/git-access.ts', 'cli/anywhere.ts', 'cli/git-credential-drawbridge.ts']
const LIBRARY = 'commander'
/** Erased before anything runs, so that what they name is not needed. */
const TYPE_IMPORTS = /^import type [^']*'[^']*'$/gm
const IMPORTS = /(?:from |import |import\()['"](\.{1,2}\/[\w./-]+)['"]/g

/** @throws when sources are not where this program is, or import a library beside the one that is brought */
export async function makeCliFile(): Promise<CliFile> {
  const library = dirname(fileURLToPath(import.meta.resolve(LIBRARY)))
  const inLibrary = `node_modules/${LIBRARY}`
  const read = (path: string) =>
    readFile(path.startsWith(inLibrary) ? join(library, path.slice(inLibrary.length)) : join(ROOT, path), 'utf8')

  const { version } = JSON.parse(await read('package.json')) as { version: string }
  const files = new Map([['package.json', JSON.stringify({ type: 'module', version })]])
  for (const path of ['package.json', 'LICENSE'].map(name => `${inLibrary}/${name}`)) files.set(path, await read(path))
  const wanted = [...ENTRIES, `${inLibrary}/index.js`]
  for (let path = wanted.pop(); path !== undefined; path = wanted.pop()) {
    if (files.has(path)) continue
    const content = await read(path)
    files.set(path, content)
    const run = content.replace(TYPE_IMPORTS, '')
    if (!path.startsWith(inLibrary)) requireKnown(path, run)
    for (const [, name = ''] of run.matchAll(IMPORTS)) {
      wanted.push(posix.join(posix.dirname(path), name))
    }
  }

  const packed = JSON.stringify(Object.fromEntries([...files].sort(([a], [b]) => (a < b ? -1 : 1))))
  const launcher = await read('cli/unpack.mjs')
  const content = launcher
    .replace("const HASH = ''\n", () => `const HASH = '${sha256(packed).slice(0, 16)}'\n`)
    .replace('const FILES = {}\n', () => `const FILES = ${packed}\n`)
  if (!content.includes(packed)) throw new Error('cli/unpack.mjs has no place for the files')
  return { content, sha256: sha256(content) }
}

/** Another library would be missing where the file is run. */
function requireKnown(path: string, content: string): void {
  for (const [, name = ''] of content.matchAll(/ from '([^'.][^']*)'$/gm)) {
    if (!name.startsWith('node:') && name !== LIBRARY)
      throw new Error(`${path} imports ${name}, which the CLI does not bring`)
  }
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
