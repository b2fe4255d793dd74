// Makes a checkout ready: `npm start` and `npm test` run this first. Plain JavaScript without dependencies, because it runs on
// whatever Node called npm (20 and up) and before anything is installed. Writes only inside the checkout, except for Debian
// packages when it is root. A second run finds everything in place and costs a few milliseconds.
//
//   node deploy/setup.mjs            what `npm start` needs
//   node deploy/setup.mjs --tests    what `npm test` needs as well
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { withLock } from './setup/lock.mjs'
import { buildAddon, installModules, modulesReady, patchModules, pinnedNode } from './setup/modules.mjs'
import { installPrograms, missingPrograms } from './setup/programs.mjs'
import { fail, say } from './setup/say.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const forTests = process.argv.includes('--tests')

function ready() {
  return modulesReady(root) && missingPrograms(forTests).length === 0
}

function setUp() {
  // Whoever held the lock before us may have done it all.
  if (ready()) return
  if (!modulesReady(root)) {
    installModules(root)
    patchModules(root)
    buildAddon(root)
  }
  const missing = installPrograms(missingPrograms(forTests))
  if (missing.length > 0) {
    const packages = [...new Set(missing.map(program => program.package))].join(' ')
    fail(`missing ${missing.map(program => program.name).join(', ')}; as root: apt-get install ${packages}`)
  }
  say('everything is in place')
}

process.chdir(root)
if (!ready()) await withLock(root, setUp)
pinnedNode(root)
