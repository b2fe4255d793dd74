import { execFile } from 'node:child_process'
import type { KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { opensshPrivateKey } from '../../ca/privatekey.ts'
import { startProgram, temporaryFolder } from './program.ts'

export interface Agent {
  readonly socket: string
  /** What ssh-add does with such words. */
  sshAdd(...args: string[]): Promise<{ readonly stdout: string }>
  /** Puts a key into it. */
  add(key: KeyObject, comment: string): Promise<void>
  stop(): Promise<void>
}

/** A real ssh-agent, once it takes connections. */
export async function startAgent(env: NodeJS.ProcessEnv = process.env): Promise<Agent> {
  const socket = join(temporaryFolder('agent'), 's')
  const program = await startProgram('ssh-agent', ['-D', '-a', socket], { env })
  const over = program.ended.then(code => Promise.reject(new Error(`ssh-agent ended, ${code}: ${program.output()}`)))
  over.catch(() => {})
  // Its socket is there before it listens.
  while (!(await Promise.race([answers(socket), over]))) await sleep(10)
  const sshAdd = (...args: string[]) =>
    promisify(execFile)('ssh-add', args, { env: { ...process.env, SSH_AUTH_SOCK: socket } })
  return {
    socket,
    sshAdd,
    add: async (key, comment) => {
      const file = join(temporaryFolder('key'), 'key')
      await writeFile(file, opensshPrivateKey(key, comment), { mode: 0o600 })
      await sshAdd('-q', file)
    },
    stop: () => program.stop(),
  }
}

async function answers(socket: string): Promise<boolean> {
  const connection = connect(socket)
  try {
    await once(connection, 'connect')
    return true
  } catch {
    return false
  } finally {
    connection.destroy()
  }
}
