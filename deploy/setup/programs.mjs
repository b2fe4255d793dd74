// Programs that no npm package ships. Root on Debian gets them installed; everybody else is told what to install.
import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { say } from './say.mjs'

/** What the gate itself runs, and the Debian package that holds it. */
const PROGRAMS = [
  { name: 'redis-server', package: 'redis-server' },
  { name: 'git', package: 'git' },
]

/** The real programs that the tests speak to. */
const TEST_PROGRAMS = [
  { name: 'ssh', package: 'openssh-client' },
  { name: 'ssh-keygen', package: 'openssh-client' },
  { name: 'sshd', package: 'openssh-server' },
  { name: 'nginx', package: 'nginx' },
  { name: 'fcgiwrap', package: 'fcgiwrap' },
  { name: 'redis-cli', package: 'redis-tools' },
  { name: 'postgres', package: 'postgresql', below: '/usr/lib/postgresql' },
  { name: 'setpriv', package: 'util-linux' },
  { name: 'openssl', package: 'openssl' },
  { name: 'softhsm2-util', package: 'softhsm2' },
  { name: 'chromium', package: 'chromium' },
  { name: 'plink', package: 'putty-tools' },
  { name: 'asyncssh', package: 'python3-asyncssh', file: '/usr/lib/python3/dist-packages/asyncssh/__init__.py' },
]

/** Debian keeps servers where an ordinary user's PATH does not lead. */
const FOLDERS = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin']

export function missingPrograms(forTests) {
  return [...PROGRAMS, ...(forTests ? TEST_PROGRAMS : [])].filter(program => !there(program))
}

function there({ name, below, file }) {
  // A library of Debian's Python, not a program on the PATH.
  if (file !== undefined) return existsSync(file)
  const folders =
    below === undefined
      ? FOLDERS
      : existsSync(below)
        ? readdirSync(below).map(version => join(below, version, 'bin'))
        : []
  return folders.some(folder => {
    try {
      accessSync(join(folder, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Installs what it can and gives back what is still missing. */
export function installPrograms(missing) {
  if (missing.length === 0 || process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return missing
  const packages = [...new Set(missing.map(program => program.package))]
  say(`installing ${packages.join(', ')} (apt-get)`)
  withoutServices(() => {
    apt(['update', '-qq'])
    const { status, output } = apt(['install', '-y', '-qq', '--no-install-recommends', ...packages])
    if (status !== 0) say(`apt-get install failed: ${output.split('\n').at(-1)}`)
  })
  return missing.filter(program => !there(program))
}

/**
 * Debian starts a server as soon as its package is installed; we want only the program. policy-rc.d is Debian's own way to
 * say so: status 101 forbids the start.
 */
function withoutServices(work) {
  const policy = '/usr/sbin/policy-rc.d'
  if (existsSync(policy)) return work()
  writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  const remove = () => rmSync(policy, { force: true })
  process.on('exit', remove)
  try {
    work()
  } finally {
    remove()
  }
}

function apt(args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const { status, stdout, stderr } = spawnSync('apt-get', args, {
    env,
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return { status, output: `${stdout ?? ''}${stderr ?? ''}`.trim() }
}
