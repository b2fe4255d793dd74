import { type ChildProcess, spawn } from 'node:child_process'
import type { FailedMessage, ReadyMessage } from './parent.ts'

/** A process to be kept running. */
export interface Watched {
  readonly name: string
  readonly script: string
  readonly args: readonly string[]
  /** What `node` itself is started with. */
  readonly flags?: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** Not started before these are ready. */
  readonly after: readonly string[]
}

export interface Supervised {
  /** Resolves when every process has said that it serves, to what they said; rejects when one gives up before. */
  readonly ready: Promise<Readonly<Record<string, string>>>
  /** Resolves when one ended for a reason that starting it again cannot mend. */
  readonly gaveUp: Promise<string>
  hangup(): void
  /** Passes SIGUSR2 on to one of them, if it serves. */
  restart(name: string): void
  /** Passes SIGTERM on, the last started first, and waits; after `milliseconds` each is killed. */
  stop(milliseconds: number): Promise<void>
}

const BACKOFF_MILLISECONDS_FIRST = 250
const BACKOFF_MILLISECONDS_MAX = 10_000
/** A process that ran this long was sound; its next start does not wait. */
export const SOUND_MILLISECONDS = 60_000
/** sysexits.h EX_CONFIG: the settings are wrong, or the database is another version's; both will be so the next time. */
export const STATUS_SETTINGS = 78

/** Whether a process that ended so would end so again. */
export function isFinal(status: number | null): status is number {
  return status === STATUS_SETTINGS
}

/** Milliseconds before the next start of what has been started so often. */
export function pauseBefore(starts: number): number {
  return Math.min(BACKOFF_MILLISECONDS_FIRST * 2 ** (starts - 1), BACKOFF_MILLISECONDS_MAX)
}

/** One that has never served and dies this often will not. */
const FIRST_STARTS_MAX = 5

/**
 * Starts the processes in order and starts again whatever dies, a little later each time. `output`: a file descriptor for what
 * they write.
 */
export function supervise(
  watched: readonly Watched[],
  { say, output = 'inherit' }: { readonly say: (line: string) => void; readonly output?: number | 'inherit' },
): Supervised {
  const running = new Map<string, ChildProcess>()
  const begun = new Set<string>()
  const timers = new Set<NodeJS.Timeout>()
  const serving = new WeakSet<ChildProcess>()
  /** A process that is still starting has no ear for SIGHUP and would end by it: it gets its own once it serves. */
  const owed = new WeakSet<ChildProcess>()
  const served = new Map<string, Readonly<Record<string, string>>>()
  const {
    promise: ready,
    resolve: allReady,
    reject: notReady,
  } = Promise.withResolvers<Readonly<Record<string, string>>>()
  const { promise: gaveUp, resolve: giveUp } = Promise.withResolvers<string>()
  let stopping = false
  ready.catch(() => {})

  const startable = ({ name, after }: Watched) => !begun.has(name) && after.every(other => served.has(other))

  const start = (one: Watched, starts: number) => {
    const began = performance.now()
    // A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which ends everything in order.
    const child = spawn(process.execPath, [...(one.flags ?? []), one.script, ...one.args], {
      env: one.env,
      stdio: ['ignore', output, output, 'ipc'],
      detached: true,
    })
    begun.add(one.name)
    running.set(one.name, child)
    let why = ''
    child.on('message', (message: ReadyMessage | FailedMessage) => {
      if (message.kind === 'failed') why = `: ${message.message}`
      if (message.kind !== 'ready') return
      serving.add(child)
      if (owed.delete(child)) child.kill('SIGHUP')
      served.set(one.name, message.urls)
      if (served.size === watched.length) allReady(Object.assign({}, ...served.values()))
      for (const other of watched) if (!stopping && startable(other)) start(other, 1)
    })
    child.once('error', () => {})
    child.once('exit', (code, signal) => {
      running.delete(one.name)
      if (stopping) return
      const how = `${one.name} ended with ${code === null ? signal : `status ${code}`}${why}`
      const hopeless = !served.has(one.name) && starts >= FIRST_STARTS_MAX
      if (isFinal(code) || hopeless) {
        giveUp(how)
        notReady(new Error(how))
        return
      }
      const sound = performance.now() - began > SOUND_MILLISECONDS
      const wait = sound ? 0 : pauseBefore(starts)
      say(`${how}; starting it again in ${wait} ms`)
      const timer = setTimeout(() => {
        timers.delete(timer)
        if (!stopping) start(one, sound ? 1 : starts + 1)
      }, wait)
      timers.add(timer)
    })
  }

  for (const one of watched) if (startable(one)) start(one, 1)
  return {
    ready,
    gaveUp,
    hangup: () => {
      for (const child of running.values()) {
        if (serving.has(child)) child.kill('SIGHUP')
        else owed.add(child)
      }
    },
    restart: name => {
      const child = running.get(name)
      if (child && serving.has(child)) child.kill('SIGUSR2')
    },
    stop: async milliseconds => {
      stopping = true
      for (const timer of timers) clearTimeout(timer)
      const deadline = performance.now() + milliseconds
      // Those that depend on others go first, all of one rank together: an engine must outlive what writes to it.
      const needed = new Set(watched.flatMap(({ after }) => after))
      const ranks = [watched.filter(({ name }) => !needed.has(name)), watched.filter(({ name }) => needed.has(name))]
      for (const rank of ranks)
        await Promise.all(rank.map(({ name }) => endProcess(running.get(name), deadline - performance.now())))
    },
  }
}

const KILL_MILLISECONDS_MIN = 1_000

/** Asks a process to end, waits for it, and kills it when it takes longer. */
export async function endProcess(child: ChildProcess | undefined, milliseconds: number): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
  child.kill('SIGTERM')
  const late = setTimeout(() => child.kill('SIGKILL'), Math.max(milliseconds, KILL_MILLISECONDS_MIN))
  await ended
  clearTimeout(late)
}
