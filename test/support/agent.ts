import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startProgram, temporaryFolder } from './program.ts'

export interface Agent {
  readonly socket: string
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
  return { socket, stop: () => program.stop() }
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
