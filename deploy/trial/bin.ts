import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { quoted } from './shell.ts'
import type { Ready } from './welcome.ts'

const CLI = fileURLToPath(new URL('../../cli', import.meta.url))
const COMMANDS = ['drawbridge', 'git-access', 'git-credential-drawbridge']

/**
 * The commands of the trial, in a folder for the PATH: `git access` and `drawbridge` run by this Node, and one of each
 * person's name that runs whatever follows as that person: `alice git clone …`.
 *
 * @returns the folder
 */
export function writeCommands(folder: string, ready: Ready): string {
  const bin = join(folder, 'bin')
  mkdirSync(bin, { recursive: true, mode: 0o700 })
  for (const name of COMMANDS) {
    const [node, file] = [quoted(process.execPath), quoted(join(CLI, `${name}.ts`))]
    program(join(bin, name), `exec ${node} ${file} "$@"`)
  }
  for (const { principal, token } of ready.people) {
    const file = join(folder, `${principal}.token`)
    writeFileSync(file, `${token}\n`, { mode: 0o600 })
    program(join(bin, principal), runningAs(principal, folder, bin, ready))
  }
  return bin
}

function runningAs(principal: string, folder: string, bin: string, { http, admin }: Ready): string {
  const [tokenFile, sshConfig] = [join(folder, `${principal}.token`), join(folder, 'ssh', principal)]
  const config: [string, string][] = [
    // The empty one first: a helper of the newcomer's own would keep this token for good.
    [`credential.${http}.helper`, ''],
    [`credential.${http}.helper`, `drawbridge --for ${http}`],
    ['user.name', principal],
    ['user.email', `${principal}@example.org`],
  ]
  const settings = config.flatMap(([key, value], index) => [
    `GIT_CONFIG_KEY_${index}=${quoted(key)}`,
    `GIT_CONFIG_VALUE_${index}=${quoted(value)}`,
  ])
  return [
    `# Runs a command as ${principal}.`,
    `export PATH=${quoted(bin)}:"$PATH" DRAWBRIDGE_URL=${quoted(admin)} DRAWBRIDGE_TOKEN_FILE=${quoted(tokenFile)}`,
    `export GIT_CONFIG_COUNT=${config.length} \\`,
    `  ${settings.join(' \\\n  ')}`,
    `export GIT_SSH_COMMAND=${quoted(`ssh -F ${quoted(sshConfig)}`)}`,
    'exec "$@"',
  ].join('\n')
}

function program(file: string, script: string): void {
  writeFileSync(file, `#!/bin/sh\n${script}\n`)
  chmodSync(file, 0o700)
}
