#!/usr/bin/env node
// git access in one file, as a gate hands it out: unpacked once into its own folder, under the hash of what is in it, and run
// from there. Plain JavaScript, so that a Node that is too old can say so.
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** Written by the gate: the hash, and path → content. */
const HASH = ''
const FILES = {}

const NODE_MAJOR_MIN = 24

if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR_MIN) {
  process.stderr.write(`drawbridge: git access needs Node ${NODE_MAJOR_MIN} or later, and this is ${process.version}\n`)
  process.exit(2)
}

const data = process.env.XDG_DATA_HOME || join(process.env.HOME || homedir(), '.local', 'share')
const folder = join(data, 'drawbridge', `cli-${HASH}`)
if (!existsSync(folder)) unpack()
const { main } = await import(pathToFileURL(join(folder, 'cli', 'git-access.ts')).href)
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
