import type { ChildProcess } from 'node:child_process'
import type { Socket } from 'node:net'
import type { Log } from '../../proxy/http/limits.ts'
import { endProcess, isFinal, pauseBefore, SOUND_MILLISECONDS } from '../supervise.ts'
import type { FromWorker, ToWorker } from './messages.ts'

/** One worker, from the start of its process to its end. */
export interface Worker {
  /** Its place among the gate's names; no two processes have the same at once. */
  readonly number: number
  readonly child: ChildProcess
  /** Our copy of the socket stays open. Nothing happens when the worker is gone: its end will tell. */
  send(message: ToWorker, socket?: Socket): void
}

export interface PoolOptions {
  spawn(number: number): ChildProcess
  /** Whether no process goes by this number, of an earlier run say that has not come to its end. */
  isFree(number: number): Promise<boolean>
  /** Ends on record what a worker of this number left open. The number is nobody's until this resolves. */
  settle(number: number): Promise<void>
  onMessage(worker: Worker, message: FromWorker): void
  /** It takes connections from now on. */
  onServing(): void
  onEnded(worker: Worker): void
  /** It ended without being told to. */
  onDeath(): void
  /** Milliseconds a worker gets to come to its end. */
  patience(): number
  readonly log: Log
}

/** Workers were given up, or did not come to serve. */
export class WorkersFailed extends Error {
  readonly code = 'ERR_WORKERS_FAILED'
  /** The exit status that tells whether trying again helps. */
  readonly status: number
  constructor(message: string, status: number) {
    super(message)
    this.name = 'WorkersFailed'
    this.status = status
  }
}

export interface Pool {
  /** Those that take connections. */
  serving(): readonly Worker[]
  /** Resolves when the workers were given up. */
  readonly gaveUp: Promise<WorkersFailed>
  /**
   * Starts this many new workers; once all of them serve, `serving` is called and those before take nothing new and come to
   * their end. Resolves when they have; rejects, and changes nothing, when one of the new does not come to serve.
   */
  replace(count: number, serving: () => void): Promise<void>
  /** Settles those of these numbers that no process goes by. */
  settleUnused(numbers: readonly number[]): void
  signal(signal: NodeJS.Signals): void
  /** Ends all of them, each with as much time as it needs within `patience`. */
  stop(): Promise<void>
}

/** Deaths of one worker within this time that are no accident any more; for all of them together, so many times as many. */
const DEATHS_MAX = 3
const DEATHS_MILLISECONDS = 60_000
/** Beyond every number that can be in use: workers, those before them, and a run before that. */
const NUMBER_MAX = 999

/** Workers that were started together. Only one crew serves; the one before it retires. */
interface Crew {
  stage: 'coming' | 'serving' | 'retiring'
  readonly members: Set<Member>
  /** Those that died, by number, until their next start. */
  readonly absent: Map<number, NodeJS.Timeout>
  readonly failed: PromiseWithResolvers<never>
}

interface Member extends Worker {
  readonly ready: Promise<void>
  readonly ended: Promise<void>
  state: 'starting' | 'serving' | 'stopping'
}

/**
 * Starts the first workers and keeps that many: one that dies is started again under its number, so that it finds what it
 * left open; the sooner it died, the later. When they die too often all is given up: somebody has to look.
 *
 * @throws WorkersFailed when one of the first does not come to serve
 */
export async function startPool(count: number, options: PoolOptions): Promise<Pool> {
  const { log } = options
  /** Numbers that are some process's, or have something left open. */
  const taken = new Set<number>()
  const alive = new Set<Member>()
  const gaveUp = Promise.withResolvers<WorkersFailed>()
  let deaths: number[] = []
  let stopping = false

  async function numbers(howMany: number): Promise<number[]> {
    const found: number[] = []
    for (let number = 1; found.length < howMany; number++) {
      if (number > NUMBER_MAX) throw new Error('every name for a worker is taken: end the workers of earlier runs')
      if (taken.has(number)) continue
      taken.add(number)
      if (await options.isFree(number)) found.push(number)
      else taken.delete(number)
    }
    return found
  }

  /** Resolves when all of them serve; they are let down when one does not. */
  async function come(howMany: number): Promise<Crew> {
    const crew: Crew = {
      stage: 'coming',
      members: new Set(),
      absent: new Map(),
      failed: Promise.withResolvers(),
    }
    crew.failed.promise.catch(() => {})
    for (const number of await numbers(howMany)) launch(crew, number, 1)
    try {
      await Promise.race([Promise.all([...crew.members].map(({ ready }) => ready)), crew.failed.promise])
    } catch (error) {
      retire(crew)
      throw error
    }
    crew.stage = 'serving'
    return crew
  }

  function launch(crew: Crew, number: number, starts: number): void {
    if (stopping) return
    const began = performance.now()
    const child = options.spawn(number)
    const ready = Promise.withResolvers<void>()
    const ended = Promise.withResolvers<void>()
    const member: Member = {
      number,
      child,
      send: (message, socket) => {
        if (child.connected) child.send(message, socket, { keepOpen: true })
      },
      ready: ready.promise,
      ended: ended.promise,
      state: 'starting',
    }
    crew.members.add(member)
    alive.add(member)
    let why = ''
    child.on('message', (message: FromWorker) => {
      if (message.kind === 'failed') why = `: ${message.message}`
      if (message.kind === 'ready') {
        member.state = 'serving'
        ready.resolve()
        if (crew.stage === 'serving') options.onServing()
      }
      if (message.kind === 'stopping') member.state = 'stopping'
      options.onMessage(member, message)
    })
    // What it could not be sent, or could not be started for: its end says the same.
    child.on('error', () => {})
    child.once('close', (code, signal) => {
      crew.members.delete(member)
      alive.delete(member)
      options.onEnded(member)
      ended.resolve()
      if (stopping) return
      const how = `worker ${number} ended with ${code === null ? signal : `status ${code}`}${why}`
      if (crew.stage === 'serving') return lost({ crew, number, starts, began, how, code })
      free(number)
      if (crew.stage === 'retiring') return
      crew.failed.reject(new WorkersFailed(how, isFinal(code) ? code : 1))
    })
  }

  function lost(one: { crew: Crew; number: number; starts: number; began: number; how: string; code: number | null }) {
    const { crew, number, starts, began, how, code } = one
    options.onDeath()
    const now = performance.now()
    deaths = [...deaths.filter(at => now - at < DEATHS_MILLISECONDS), now]
    if (isFinal(code)) return gaveUp.resolve(new WorkersFailed(how, code))
    if (deaths.length > DEATHS_MAX * (crew.members.size + crew.absent.size + 1)) {
      return gaveUp.resolve(new WorkersFailed(`${how}; ${deaths.length} of them died within a minute`, 1))
    }
    const sound = now - began > SOUND_MILLISECONDS
    const wait = sound ? 0 : pauseBefore(starts)
    log.error({ worker: number, wait }, `${how}; starting it again`)
    const timer = setTimeout(() => {
      crew.absent.delete(number)
      launch(crew, number, sound ? 1 : starts + 1)
    }, wait)
    crew.absent.set(number, timer)
  }

  function free(number: number): void {
    void options.settle(number).finally(() => taken.delete(number))
  }

  function retire(crew: Crew): Promise<unknown> {
    crew.stage = 'retiring'
    for (const [number, timer] of crew.absent) {
      clearTimeout(timer)
      free(number)
    }
    crew.absent.clear()
    return Promise.all([...crew.members].map(member => letGo(member, 'retire')))
  }

  async function letGo(member: Member, how: 'retire' | 'stop'): Promise<void> {
    // It hears nothing yet, and has nothing to lose.
    if (member.state === 'starting') return await endProcess(member.child, options.patience())
    member.send({ kind: how })
    const late = setTimeout(() => member.child.kill('SIGKILL'), options.patience())
    await member.ended
    clearTimeout(late)
  }

  let crew = await come(count)
  return {
    serving: () => [...crew.members].filter(({ state }) => state === 'serving'),
    gaveUp: gaveUp.promise,
    replace: async (howMany, serving) => {
      const before = crew
      crew = await come(howMany)
      serving()
      options.onServing()
      await retire(before)
    },
    settleUnused: unused => {
      for (const number of unused) {
        if (taken.has(number)) continue
        taken.add(number)
        free(number)
      }
    },
    signal: signal => {
      // One that is still starting has no ear for it and would end by it; it reads the settings as they are now anyway.
      for (const { child, state } of alive) if (state !== 'starting') child.kill(signal)
    },
    stop: async () => {
      stopping = true
      for (const timer of crew.absent.values()) clearTimeout(timer)
      await Promise.all([...alive].map(member => letGo(member, 'stop')))
    },
  }
}
