// node_modules: installed as the lock file says, patched, with the native parts built for the Node that will run them.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fail, say } from './say.mjs'

const NODE_MAJOR = 24

/** Whether nothing is left to do: the installed packages are those of the lock file, and the patches are these patches. */
export function modulesReady(root) {
  return installed(root) && readText(patchStamp(root)) === patchesDigest(root) && existsSync(addonStamp(root))
}

/** npm keeps in node_modules a list of what it put there; every package of the lock must be in it at the same version. */
function installed(root) {
  const wanted = readJson(join(root, 'package-lock.json'))
  const there = readJson(join(root, 'node_modules', '.package-lock.json'))
  if (!wanted || !there) return false
  return Object.entries(wanted.packages).every(([path, { version, optional }]) => {
    const found = there.packages[path]
    return path === '' || (found ? found.version === version : optional)
  })
}

export function installModules(root) {
  if (installed(root)) return
  say('installing dependencies (npm ci)')
  // Install scripts wait for buildAddon: run by npm ci they would build against the headers of the wrong Node.
  const flags = [
    '--ignore-scripts',
    '--include=dev',
    '--include=optional',
    '--no-audit',
    '--no-fund',
    '--engine-strict=false',
  ]
  const { status, output } = npm(root, ['ci', '--loglevel=error', ...flags])
  if (status !== 0) fail(`npm ci failed; what it said:\n${output}`)
}

/** Applies patches/ to the packages they are for. Without them no role starts, so this is fatal. */
export function patchModules(root) {
  const digest = patchesDigest(root)
  if (readText(patchStamp(root)) === digest) return
  const apply = () => run(nodeOf(root), [join(root, 'node_modules/patch-package/index.js'), '--error-on-fail'], root)
  let { status, output } = apply()
  if (status !== 0) {
    // An earlier version of a patch is on the package: take the package anew.
    for (const name of patchedPackages(root)) rmSync(join(root, 'node_modules', name), { recursive: true, force: true })
    npm(root, [
      'install',
      '--no-save',
      '--ignore-scripts',
      '--prefer-offline',
      '--no-audit',
      '--no-fund',
      '--engine-strict=false',
    ])
    rmSync(addonStamp(root), { force: true })
    ;({ status, output } = apply())
  }
  if (status !== 0) fail(`the patches in patches/ do not apply; what patch-package said:\n${output}`)
  writeFileSync(patchStamp(root), digest)
}

/**
 * Builds ssh2's native cryptography against the headers that come with the pinned Node. Without it SSH works and costs more
 * CPU, so a machine without a compiler is told and goes on.
 */
export function buildAddon(root) {
  if (existsSync(addonStamp(root))) return
  const headers = join(root, 'node_modules', `node-${process.platform}-${process.arch}`)
  const env = existsSync(join(headers, 'include')) ? { npm_config_nodedir: headers } : {}
  say('building the native cryptography of ssh2')
  const { output } = npm(root, ['rebuild', 'ssh2', 'cpu-features', '--loglevel=error'], env)
  const addon = join(root, 'node_modules/ssh2/lib/protocol/crypto/build/Release/sshcrypto.node')
  const loads = run(nodeOf(root), ['-e', `require(${JSON.stringify(addon)})`], root)
  if (loads.status !== 0) {
    // An addon built for another Node must not be found either.
    rmSync(addon, { force: true })
    const why = /not find any Python/i.test(output)
      ? ' (no python3)'
      : /not found: make|make.*ENOENT|g\+\+/i.test(output)
        ? ' (no compiler)'
        : ''
    say(
      `without native cryptography${why}, SSH costs more CPU; to have it: apt-get install g++ make python3, remove ${addonStamp(root)}, repeat`,
    )
  }
  writeFileSync(addonStamp(root), loads.status === 0 ? 'built' : 'not built')
}

/** The scripts of package.json find `node` in node_modules/.bin first; this makes sure that it is the right one. */
export function pinnedNode(root) {
  const { status, output } = run(nodeOf(root), ['-p', 'process.versions.node'], root)
  if (status === 0 && Number(output.split('.')[0]) >= NODE_MAJOR) return
  fail(
    `no Node ${NODE_MAJOR} package for ${process.platform}-${process.arch}; install Node ${NODE_MAJOR} yourself and repeat`,
  )
}

function nodeOf(root) {
  const pinned = join(root, 'node_modules/.bin/node')
  return existsSync(pinned) ? pinned : process.execPath
}

const patchStamp = root => join(root, 'node_modules', '.patches-applied')
const addonStamp = root => join(root, 'node_modules', '.addon-built')

function patchFiles(root) {
  const folder = join(root, 'patches')
  return existsSync(folder)
    ? readdirSync(folder)
        .filter(name => name.endsWith('.patch'))
        .sort()
    : []
}

function patchesDigest(root) {
  const hash = createHash('sha256')
  for (const name of patchFiles(root)) hash.update(name).update(readFileSync(join(root, 'patches', name)))
  return hash.digest('hex')
}

/** `@scope+name+1.2.3.patch` is for `@scope/name`. */
function patchedPackages(root) {
  return patchFiles(root).map(name => name.slice(0, name.lastIndexOf('+')).replace('+', '/'))
}

/** Runs npm by the Node that called us: the one in node_modules is being replaced. */
function npm(root, args, env = {}) {
  const { npm_execpath: cli, npm_node_execpath: node } = process.env
  const [command, first] =
    cli && existsSync(cli) && /\.c?js$/.test(cli) ? [node ?? process.execPath, [cli]] : ['npm', []]
  return run(command, [...first, ...args], root, env)
}

function run(command, args, cwd, env = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  })
  return { status: error ? 1 : status, output: `${stdout ?? ''}${stderr ?? ''}${error ? error.message : ''}`.trim() }
}

function readText(file) {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

function readJson(file) {
  const text = readText(file)
  return text === undefined ? undefined : JSON.parse(text)
}
