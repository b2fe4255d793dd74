import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A real program under test's control. It ends with this process, whichever way this process ends. */
export interface Program {
  readonly pid: number
  /** The last of what it wrote to stdout and stderr, for messages. */
  output(): string
  /** Sends the signal and waits for the end; after ten seconds SIGKILL. Idempotent. */
  stop(signal?: NodeJS.Signals): Promise<void>
  /** Resolves when it has ended, to its exit code or the signal. */
  readonly ended: Promise<number | NodeJS.Signals>
  /** Resolves when it has ended and everything it (or a child that shares its output) said has been read. */
  readonly closed: Promise<void>
}

export interface ProgramOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** Run as this user of the machine; only root can. */
  readonly user?: string
  /** What ends it when this process dies; SIGKILL unless the program has children of its own to take down. */
  readonly deathSignal?: 'KILL' | 'QUIT' | 'TERM' | 'INT'
  /** Called with everything it says, as it says it. */
  readonly onOutput?: (text: string) => void
}

const OUTPUT_KEPT_CHARACTERS = 16_384
const STOP_MILLISECONDS = 10_000

const atExit: (() => void)[] = []
process.on('exit', () => {
  for (const end of atExit.toReversed()) end()
})

/** Starts a program; rejects when there is no such program. Waiting until it serves is the caller's part. */
export async function startProgram(
  command: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<Program> {
  const [file, argv] = bound(command, args, options)
  const child = spawn(file, argv, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  const listen = (chunk: Buffer) => {
    const text = chunk.toString('latin1')
    output = (output + text).slice(-OUTPUT_KEPT_CHARACTERS)
    options.onOutput?.(text)
  }
  child.stdout.on('data', listen)
  child.stderr.on('data', listen)
  const ended = new Promise<number | NodeJS.Signals>(resolve => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'SIGKILL'))
  })
  const closed = new Promise<void>(resolve => child.once('close', () => resolve()))
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', cause => reject(new Error(`cannot start ${command}: ${cause.message}`, { cause })))
  })
  atExit.push(() => {
    if (running(child)) child.kill(`SIG${options.deathSignal ?? 'KILL'}`)
  })
  return {
    pid: child.pid ?? 0,
    output: () => output,
    ended,
    closed,
    stop: async (signal = 'SIGTERM') => {
      if (!running(child)) return
      child.kill(signal)
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_MILLISECONDS)
      await ended
      clearTimeout(late)
    },
  }
}

/** Runs a program to its end and gives what it printed; rejects, with what it said, unless it ends with status 0. */
export async function runProgram(
  command: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<string> {
  let said = ''
  const program = await startProgram(command, args, {
    ...options,
    onOutput: text => {
      said += text
    },
  })
  const status = await program.ended
  // Its last words may arrive after its exit.
  await program.closed
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${said.trim()}`)
  return said
}

/**
 * A test runner that is killed runs no exit handlers, so on Linux the kernel is asked to end the program with its parent
 * (PR_SET_PDEATHSIG, which setpriv(1) sets after it has changed the user).
 */
function bound(command: string, args: readonly string[], options: ProgramOptions): [string, readonly string[]] {
  if (process.platform !== 'linux') return [command, args]
  const as = options.user ? ['--reuid', options.user, '--regid', options.user, '--clear-groups'] : []
  return ['setpriv', [...as, '--pdeathsig', options.deathSignal ?? 'KILL', '--', command, ...args]]
}

function running(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null
}

/**
 * A folder of its own, below the run's (which vitest's teardown removes) or under the system's temporary folder (removed when
 * this process ends). Names are short: a socket's path ends at 107 bytes.
 */
export function temporaryFolder(name = 'test'): string {
  const run = process.env.DRAWBRIDGE_TEST_RUN
  if (run !== undefined) return mkdtempSync(join(run, `${name}-`))
  const folder = mkdtempSync(join(tmpdir(), `db-${name}-`))
  atExit.push(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))
  return folder
}

/** A loopback port that was free a moment ago. For programs that cannot pick one themselves; ours listen on 0. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise(resolve => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no port was given')
  return address.port
}

/** Waits until `check` is true or something truthy and gives that; rejects when it never is. */
export async function until<T>(
  check: () => Promise<T | false | undefined> | T | false | undefined,
  what = 'the condition to hold',
  milliseconds = 30_000,
): Promise<T> {
  const deadline = Date.now() + milliseconds
  for (;;) {
    const found = await check()
    if (found !== false && found !== undefined) return found
    if (Date.now() > deadline) throw new Error(`waited ${milliseconds} ms for ${what}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

/** Whether something accepts connections there. */
export function accepts(where: { port: number } | { path: string }): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect('port' in where ? { host: '127.0.0.1', port: where.port } : where)
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

/** Waits until a server accepts, or says why it ended instead. */
export async function untilAccepting(program: Program, where: { port: number } | { path: string }): Promise<void> {
  let over: number | NodeJS.Signals | undefined
  program.ended.then(status => {
    over = status
  })
  await until(
    async () => {
      if (over !== undefined) throw new Error(`the server ended with ${over}: ${program.output().trim()}`)
      return await accepts(where)
    },
    `a server at ${JSON.stringify(where)}; it said: ${program.output().trim()}`,
  )
}
