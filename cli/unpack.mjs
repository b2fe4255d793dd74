#!/usr/bin/env node
// The command line in one file, as a gate hands it out: unpacked once into its own folder, under the hash of what is in it, and
// run from there. It is the program by whose name it is called. Plain JavaScript, so that a Node that is too old can say so.
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** Written by the gate: the hash, and path → content. */
const HASH = ''
const FILES = {}

const NODE_MAJOR_MIN = 24
/** By the name of the file, or of a link to it; anything else is git access. */
const PROGRAMS = { drawbridge: 'anywhere', 'git-credential-drawbridge': 'git-credential-drawbridge' }

if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR_MIN) {
  process.stderr.write(`drawbridge: this needs Node ${NODE_MAJOR_MIN} or later, and this is ${process.version}\n`)
  process.exit(2)
}

const data = process.env.XDG_DATA_HOME || join(process.env.HOME || homedir(), '.local', 'share')
const folder = join(data, 'drawbridge', `cli-${HASH}`)
if (!existsSync(folder)) unpack()
const name = basename(process.argv[1] ?? '', '.mjs')
const program = Object.hasOwn(PROGRAMS, name) ? PROGRAMS[name] : 'git-access'
const { main } = await import(pathToFileURL(join(folder, 'cli', `${program}.ts`)).href)
process.exitCode = await main(process.argv.slice(2))

/** As a whole or not at all: two that start at once both unpack, and one of them stays. */
function unpack() {
  mkdirSync(dirname(folder), { recursive: true, mode: 0o700 })
  const fresh = mkdtempSync(`${folder}-`)
  for (const [path, content] of Object.entries(FILES)) {
    mkdirSync(join(fresh, dirname(path)), { recursive: true })
    writeFileSync(join(fresh, path), content)
  }
  try {
    renameSync(fresh, folder)
  } catch (cause) {
    rmSync(fresh, { recursive: true })
    if (!existsSync(folder)) throw cause
  }
}
