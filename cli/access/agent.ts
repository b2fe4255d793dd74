import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stateFolder } from '../kept.ts'

/**
 * The key pair of a sign-in. The private half goes into the running ssh-agent and nowhere else; where there is no agent, into a
 * file that only its owner can read.
 */
const NAME = 'id_ed25519'

export interface FreshKey {
  readonly publicKey: string
  /** Puts key and certificate in place, until `expires`. Says where: the file's path, or undefined for the agent. */
  install(certificate: string, expires: Date): string | undefined
  /** Forgets what was not put in place. */
  discard(): void
}

/** @returns undefined when this machine has no ssh-keygen */
export function freshKey(env: NodeJS.ProcessEnv): FreshKey | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'drawbridge-'))
  chmodSync(folder, 0o700)
  const file = join(folder, NAME)
  const discard = () => rmSync(folder, { recursive: true, force: true })
  const made = spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'drawbridge', '-f', file], { env })
  if (made.status !== 0) {
    discard()
    return undefined
  }
  return {
    publicKey: readFileSync(`${file}.pub`, 'utf8').trim(),
    discard,
    install: (certificate, expires) => {
      writeFileSync(`${file}-cert.pub`, `${certificate}\n`, { mode: 0o600 })
      removeKey(env)
      const kept = join(stateFolder(env), NAME)
      mkdirSync(stateFolder(env), { recursive: true, mode: 0o700 })
      const seconds = String(Math.max(1, Math.floor((expires.getTime() - Date.now()) / 1_000)))
      const inAgent = env.SSH_AUTH_SOCK && spawnSync('ssh-add', ['-q', '-t', seconds, file], { env }).status === 0
      // The public halves stay beside: by them the agent is told to forget, and ssh to choose.
      for (const half of ['.pub', '-cert.pub', ...(inAgent ? [] : [''])])
        copyFileSync(`${file}${half}`, `${kept}${half}`)
      discard()
      return inAgent ? undefined : kept
    },
  }
}

/** Takes the key of an earlier sign-in out of the agent and off the disk. */
export function removeKey(env: NodeJS.ProcessEnv): void {
  const kept = join(stateFolder(env), NAME)
  if (env.SSH_AUTH_SOCK) spawnSync('ssh-add', ['-q', '-d', kept], { env, stdio: 'ignore' })
  for (const half of ['', '.pub', '-cert.pub']) rmSync(`${kept}${half}`, { force: true })
}
