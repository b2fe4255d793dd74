import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { type Key, makeKey } from './keys.ts'
import { freePort, startProgram, temporaryFolder, untilAccepting } from './program.ts'

export interface Sshd {
  /** `ssh://user@127.0.0.1:port`, to which a repository's absolute path is added. */
  readonly url: string
  readonly port: number
  readonly user: string
  readonly hostKey: Key
  /** Put repositories here: `<folder>/acme/app.git` is `<url><folder>/acme/app.git`. */
  readonly folder: string
  /** Everything it logged (LogLevel VERBOSE). */
  log(): string
  stop(): Promise<void>
}

export interface SshdOptions {
  /** Lines of authorized_keys: public keys, perhaps with options in front. */
  readonly authorizedKeys?: readonly string[]
  /** Public keys of user certificate authorities (TrustedUserCAKeys). */
  readonly trustedUserCAKeys?: readonly string[]
  /** Names a certificate must hold; absent: the account's own name. */
  readonly authorizedPrincipals?: readonly string[]
  /** A host certificate for `hostKey` (path). */
  readonly hostCertificate?: string
  readonly hostKey?: Key
  /** Further sshd_config lines. */
  readonly config?: readonly string[]
  readonly folder?: string
}

/** A stock sshd on a loopback port, for the account that runs the tests. Ends with this process. */
export async function startSshd(options: SshdOptions = {}): Promise<Sshd> {
  const folder = options.folder ?? temporaryFolder('sshd')
  const etc = temporaryFolder('sshd-etc')
  const hostKey = options.hostKey ?? (await makeKey('host', { folder: etc }))
  const port = await freePort()
  const file = (name: string, lines: readonly string[]) => {
    const path = join(etc, name)
    writeFileSync(path, lines.map(line => `${line}\n`).join(''))
    return path
  }
  // sshd run by root wants this folder of Debian's service to exist (privilege separation).
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true })
  const config = [
    `ListenAddress 127.0.0.1:${port}`,
    `HostKey ${hostKey.path}`,
    ...(options.hostCertificate ? [`HostCertificate ${options.hostCertificate}`] : []),
    `AuthorizedKeysFile ${file('authorized_keys', options.authorizedKeys ?? [])}`,
    `TrustedUserCAKeys ${options.trustedUserCAKeys ? file('ca.pub', options.trustedUserCAKeys) : 'none'}`,
    `AuthorizedPrincipalsFile ${options.authorizedPrincipals ? file('principals', options.authorizedPrincipals) : 'none'}`,
    `PidFile ${join(etc, 'pid')}`,
    'StrictModes no',
    'UsePAM no',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'PermitRootLogin prohibit-password',
    'AcceptEnv GIT_PROTOCOL',
    // Neither the account's git settings nor the start-up files of its shell decide a test or a figure.
    `SetEnv GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME=${temporaryFolder('sshd-home')}`,
    'LogLevel VERBOSE',
    'MaxStartups 200',
    'MaxSessions 200',
    ...(options.config ?? []),
  ]
  let log = ''
  const sshd = existsSync('/usr/sbin/sshd') ? '/usr/sbin/sshd' : 'sshd'
  const program = await startProgram(sshd, ['-D', '-e', '-f', file('sshd_config', config)], {
    deathSignal: 'TERM',
    onOutput: text => {
      log += text
    },
  })
  await untilAccepting(program, { port })
  const user = userInfo().username
  return {
    url: `ssh://${user}@127.0.0.1:${port}`,
    port,
    user,
    hostKey,
    folder,
    log: () => log,
    stop: () => program.stop(),
  }
}

/** A `GIT_SSH_COMMAND` (or the words after `ssh`) for stock ssh with one key, no settings of the account, and host keys as told. */
export function sshCommand(options: { key?: string; knownHosts?: string; extra?: readonly string[] } = {}): string {
  return ['ssh', ...sshOptions(options)].join(' ')
}

/** The same as an argument list for `spawn('ssh', …)`. */
export function sshOptions(options: { key?: string; knownHosts?: string; extra?: readonly string[] } = {}): string[] {
  const known = options.knownHosts
    ? [`UserKnownHostsFile=${options.knownHosts}`, 'StrictHostKeyChecking=yes']
    : ['UserKnownHostsFile=/dev/null', 'StrictHostKeyChecking=no']
  const settings = ['BatchMode=yes', 'GlobalKnownHostsFile=/dev/null', 'IdentitiesOnly=yes', 'LogLevel=ERROR', ...known]
  const identity = options.key ? ['-i', options.key] : ['-o', 'IdentityFile=none']
  return [
    '-F',
    '/dev/null',
    '-a',
    ...identity,
    ...settings.flatMap(setting => ['-o', setting]),
    ...(options.extra ?? []),
  ]
}
