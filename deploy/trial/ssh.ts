import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import ssh2 from 'ssh2'

/** A new key pair; the public half as ssh-keygen writes it. */
export function makeKey(comment: string): { readonly privateKey: string; readonly publicKey: string } {
  const pair = ssh2.utils.generateKeyPairSync('ed25519', { comment })
  return { privateKey: pair.private, publicKey: pair.public }
}

/**
 * What stock ssh needs to be somebody at the gate: `ssh -F FILE gate status`.
 *
 * @returns the file
 */
export function writeSshConfig(folder: string, principal: string, privateKey: string, gate: string): string {
  const ssh = join(folder, 'ssh')
  mkdirSync(ssh, { recursive: true, mode: 0o700 })
  const key = join(ssh, `${principal}.key`)
  // ssh-keygen's keys are not written over: they are read by nobody else from the first byte on.
  rmSync(key, { force: true })
  writeFileSync(key, privateKey, { mode: 0o600 })
  const { hostname, port } = new URL(gate)
  const file = join(ssh, principal)
  const lines = [
    `# ssh as ${principal}, and nobody else's keys or agents.`,
    'Host gate',
    `  HostName ${hostname}`,
    `  Port ${port}`,
    '  User git',
    `  IdentityFile "${key}"`,
    '  IdentitiesOnly yes',
    '  IdentityAgent none',
    `  UserKnownHostsFile "${join(ssh, 'known_hosts')}"`,
    '  StrictHostKeyChecking accept-new',
    '  LogLevel ERROR',
  ]
  writeFileSync(file, `${lines.join('\n')}\n`)
  chmodSync(file, 0o600)
  return file
}
