import { generateKeyPairSync } from 'node:crypto'
import { existsSync, linkSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { opensshPrivateKey } from '../ca/privatekey.ts'
import type { Settings } from '../config/settings.ts'

const FILE = 'ssh_host_ed25519_key'

/** The settings with a host key for SSH: where none is named, one is made once and kept in the state folder. */
export function withHostKey(settings: Settings): Settings {
  if (!settings.listen.ssh || settings.ssh.hostKeys.length > 0) return settings
  const file = join(settings.state, FILE)
  if (!existsSync(file)) makeHostKey(settings.state, file)
  return { ...settings, ssh: { ...settings.ssh, hostKeys: [file] } }
}

function makeHostKey(folder: string, file: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const { privateKey } = generateKeyPairSync('ed25519')
  const made = `${file}.${process.pid}`
  writeFileSync(made, opensshPrivateKey(privateKey, 'drawbridge'), { mode: 0o600, flag: 'wx', flush: true })
  try {
    // Of two processes that start at the same time one makes the key, and both use that.
    linkSync(made, file)
  } catch (error) {
    if (!existsSync(file)) throw error
  } finally {
    rmSync(made)
  }
}
