import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { lstat, realpath, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { Readable, Transform, type Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { UpstreamSettings } from '../../config/settings.ts'
import { PacketCounter } from '../git/pktline.ts'
import { untilFlush } from './untilflush.ts'
import { type Connect, type GitService, type Target, type Upstream, UpstreamError } from './upstream.ts'

const STDERR_CHARACTERS_MAX = 4096
/** A git that was told to end and goes on is made to. */
const END_TO_KILL_MILLISECONDS = 2_000

type Git = ChildProcessByStdio<Writable, Readable, Readable>

/** Repositories in a folder of this machine, served by git's own programs. */
export function localUpstream(settings: UpstreamSettings): Connect {
  const base = fileURLToPath(settings.url)
  return target => new LocalUpstream(settings, base, target)
}

/**
 * One client's programs: a stateless client has one for each call; a conversation has one from the advertisement to its
 * last exchange.
 */
class LocalUpstream implements Upstream {
  readonly conversational: boolean
  readonly #settings: UpstreamSettings
  readonly #base: string
  readonly #target: Target
  readonly #running = new Set<Program>()
  #conversation: Program | undefined
  #closed = false

  constructor(settings: UpstreamSettings, base: string, target: Target) {
    this.#settings = settings
    this.#base = base
    this.#target = target
    this.conversational = !target.stateless
  }

  async advertise(signal: AbortSignal): Promise<Readable> {
    // git-upload-archive(1) waits for its client to speak.
    if (this.#target.service === 'upload-archive') return Readable.from([], { objectMode: false })
    if (this.#target.stateless) {
      const program = await this.#start(['--stateless-rpc', '--advertise-refs'], signal)
      program.git.stdin.end()
      return program.toItsEnd()
    }
    const program = await this.#converse(signal)
    return program.toFlush()
  }

  async exchange(body: Readable, signal: AbortSignal): Promise<Readable> {
    const { service, stateless, protocol } = this.#target
    if (stateless && service !== 'upload-archive') {
      const program = await this.#start(['--stateless-rpc'], signal)
      program.feed(body)
      return program.toItsEnd()
    }
    const met = this.#conversation !== undefined
    const program = await this.#converse(signal)
    if (!met && service !== 'upload-archive') await drop(program.toFlush())
    if (protocol === 2 && service === 'upload-pack') {
      program.feed(body, { andMore: true })
      return program.toFlush()
    }
    program.feed(body)
    return program.toItsEnd()
  }

  close(): void {
    this.#closed = true
    for (const program of this.#running) program.end()
  }

  async #converse(signal: AbortSignal): Promise<Program> {
    this.#conversation ??= await this.#start([], signal)
    return this.#conversation
  }

  async #start(options: readonly string[], signal: AbortSignal): Promise<Program> {
    const folder = await findRepository(this.#base, this.#target.path)
    signal.throwIfAborted()
    if (this.#closed) throw new UpstreamError('failed', 'the operation has ended', 'started after close')
    // --strict: the folder named and no other that git would guess from it. receive-pack has no such option.
    const strict = this.#target.service === 'upload-pack' ? ['--strict'] : []
    // The folder may belong to somebody else than the account we run as; that is how the operator set it up.
    const args = ['-c', `safe.directory=${folder}`, '-c', 'uploadpack.allowFilter=true', this.#target.service]
    const git = spawn('git', [...args, ...strict, ...options, folder], {
      cwd: folder,
      env: environment(this.#target),
      stdio: ['pipe', 'pipe', 'pipe'],
      // A process group of its own: git's children end with it.
      detached: true,
    })
    const program = new Program(git, this.#target.service, this.#settings.idleTimeout, signal)
    this.#running.add(program)
    git.on('close', () => this.#running.delete(program))
    return program
  }
}

/** Nothing of ours but the way to git: no settings of this account, no secret in a variable, no prompt. */
function environment({ principal, operation, protocol }: Target): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    HOME: '/nonexistent',
    LC_ALL: 'C',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    // For reflogs and hooks.
    GIT_COMMITTER_NAME: principal,
    GIT_COMMITTER_EMAIL: `${principal}@drawbridge`,
    DRAWBRIDGE_PRINCIPAL: principal,
    DRAWBRIDGE_OPERATION: operation,
    ...(protocol > 0 && { GIT_PROTOCOL: `version=${protocol}` }),
  }
}

/** One git program, its errors and its end. */
class Program {
  readonly git: Git
  readonly #service: GitService
  readonly #idle: number
  #silence: NodeJS.Timeout | undefined
  /** Whether it is git's turn to speak; while it is being fed it may be silent. */
  #due = true
  #stderr = ''
  #fault: UpstreamError | undefined
  #ending = false
  #inPack = false
  readonly #ended: Promise<void>

  constructor(git: Git, service: GitService, idle: number, signal: AbortSignal) {
    this.git = git
    this.#service = service
    this.#idle = idle
    git.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(0, STDERR_CHARACTERS_MAX)
    })
    // A program that ended does not read on; why is told by its status.
    git.stdin.on('error', () => {})
    git.stdout.on('error', () => {})
    git.stdout.pause()
    git.stdout
      .on('resume', this.#await)
      .on('data', this.#await)
      .on('pause', () => clearTimeout(this.#silence))
    const onAbort = () => this.end()
    signal.addEventListener('abort', onAbort, { once: true })
    this.#ended = new Promise(resolve => {
      git.on('error', cause => {
        this.#fault = new UpstreamError(
          'failed',
          'the Git host failed',
          `git cannot be started: ${cause.message}`,
          cause,
        )
        git.stdout.destroy(this.#fault)
        resolve()
      })
      git.on('close', (status, endedBy) => {
        clearTimeout(this.#silence)
        signal.removeEventListener('abort', onAbort)
        if (status !== 0) {
          const how = endedBy ? `was ended by ${endedBy}` : `ended with status ${status}`
          this.#fault ??= new UpstreamError('failed', 'the Git host broke off', `git ${how}: ${this.#stderr.trim()}`)
        }
        resolve()
      })
    })
  }

  /** Sends `body`; then, unless there is more to come, the end of input. A body that breaks off ends the program. */
  feed(body: Readable, { andMore = false } = {}): void {
    this.#due = false
    body.on('end', () => {
      this.#due = true
      if (!this.git.stdout.isPaused()) this.#await()
    })
    body.on('error', () => this.end())
    body.on('close', () => {
      if (!body.readableEnded) this.end()
    })
    if (this.#service === 'receive-pack') this.#watchForPack(body)
    body.pipe(this.git.stdin, { end: !andMore })
    if (body.destroyed && !body.readableEnded) this.end()
  }

  /** What it says up to the flush that ends an answer; it goes on to the next one. */
  toFlush(): Readable {
    return this.#watched(untilFlush(this.git.stdout, () => this.#failure()))
  }

  /** Everything else it says. Ends cleanly only if the program did. */
  toItsEnd(): Readable {
    const { stdout } = this.git
    const answer = new Transform({
      transform: (chunk, _encoding, done) => done(null, chunk),
      flush: done => void this.#failure().then(fault => done(fault ?? null)),
    })
    // Not pipeline: it would end the answer with an error of its own before the program's status is known.
    stdout.pipe(answer)
    const onBroken = () => {
      if (!stdout.readableEnded) void this.#failure().then(fault => answer.destroy(fault ?? brokenOff()))
    }
    stdout.on('close', onBroken)
    if (stdout.destroyed) onBroken()
    return this.#watched(answer)
  }

  /**
   * Ends it and its children, whatever they are at.
   *
   * In the middle of a pack by the end of input: receive-pack then finds the pack broken and takes its half-written
   * objects away, which since 2.38 it does not do when it is ended by a signal. Never in the middle of the commands,
   * whose list it would take for complete.
   */
  end(): void {
    const { pid, exitCode, signalCode } = this.git
    if (pid === undefined || exitCode !== null || signalCode !== null || this.#ending) return
    this.#ending = true
    // Whatever it still says, even a clean report and status 0, is no answer to a request that was given up.
    this.#fault ??= new UpstreamError('failed', 'the Git host broke off', 'git was ended together with its operation')
    if (this.#inPack) this.git.stdin.destroy()
    else this.git.kill('SIGTERM')
    const timer = setTimeout(() => signalGroup(pid, 'SIGKILL'), END_TO_KILL_MILLISECONDS)
    this.git.on('exit', () => {
      clearTimeout(timer)
      signalGroup(pid, 'SIGKILL')
    })
  }

  /** Finds out when a push has come to its pack. */
  #watchForPack(body: Readable): void {
    let flushed = false
    const commands = new PacketCounter({
      watch: length => {
        flushed ||= length === 0
      },
    })
    const onData = (chunk: Buffer) => {
      try {
        commands.count(chunk)
      } catch {
        // `PACK` is no pkt-line: the commands, and the push options where there are any, are behind us.
        this.#inPack = flushed
        body.off('data', onData)
      }
    }
    body.on('data', onData)
    body.on('end', () => {
      this.#inPack = false
    })
  }

  readonly #await = (): void => {
    clearTimeout(this.#silence)
    if (!this.#due) return
    this.#silence = setTimeout(() => {
      const detail = `git said nothing for ${this.#idle / 1000} seconds while an answer was due`
      this.#fault ??= new UpstreamError('timeout', 'the Git host did not answer in time', detail)
      this.end()
    }, this.#idle)
  }

  /** Once it has ended: what went wrong, if anything did. */
  async #failure(): Promise<UpstreamError | undefined> {
    await this.#ended
    return this.#fault
  }

  /** Ends the program when whoever reads its answer lets go of it. */
  #watched(answer: Readable): Readable {
    // Before anybody reads it, a broken answer is no uncaught exception.
    answer.on('error', () => {})
    answer.on('close', () => {
      if (!answer.readableEnded) this.end()
    })
    return answer
  }
}

function brokenOff(): UpstreamError {
  return new UpstreamError('failed', 'the Git host broke off', 'the output of git was closed before its end')
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch {
    // It ended by itself just now.
  }
}

async function drop(stream: Readable): Promise<void> {
  for await (const _chunk of stream);
}

/**
 * The folder of a bare repository at `path` below `base`: `path.git`, or `path`. `path` has passed `repositoryName`; what
 * the file system makes of it is looked at here: a symbolic link must not lead out of `base`.
 */
async function findRepository(base: string, path: string): Promise<string> {
  const root = await realpath(base).catch((cause: unknown) => {
    throw new UpstreamError('unreachable', 'the Git host cannot be reached', `${base} cannot be read`, cause)
  })
  for (const name of [`${path}.git`, path]) {
    const folder = await realpath(join(root, name)).catch(() => undefined)
    if (folder === undefined || !(await isRepository(folder))) continue
    if (folder.startsWith(root.endsWith(sep) ? root : root + sep)) return folder
    throw new UpstreamError(
      'not-found',
      'there is no such repository',
      `${join(root, name)} leads out of ${root} to ${folder}`,
    )
  }
  throw new UpstreamError('not-found', 'there is no such repository', `no bare repository at ${join(root, path)}.git`)
}

async function isRepository(folder: string): Promise<boolean> {
  const is = (name: string, kind: 'isFile' | 'isDirectory') =>
    stat(join(folder, name)).then(
      facts => facts[kind](),
      () => false,
    )
  const parts = await Promise.all([is('HEAD', 'isFile'), is('objects', 'isDirectory'), is('refs', 'isDirectory')])
  // receive-pack would look into a `.git` inside first.
  const inner = await lstat(join(folder, '.git')).then(
    () => true,
    () => false,
  )
  return parts.every(Boolean) && !inner
}
