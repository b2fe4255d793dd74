import type { ChildProcess } from 'node:child_process'
import type { Logger } from 'pino'
import { AggregatorRegistry, Counter, Gauge, Registry } from 'prom-client'
import { FIXED, type Fixed, place, requireSame } from '../../config/reload.ts'
import type { Settings } from '../../config/settings.ts'
import type { Observed } from '../observe.ts'
import { startHanding } from './handing.ts'
import { holdName, leftoverNumbers, settle } from './leftovers.ts'
import type { FromWorker } from './messages.ts'
import { startPool, type Worker, type WorkersFailed } from './pool.ts'
import { questions } from './questions.ts'

export interface WorkersOptions {
  readonly log: Logger
  /** Starts the process of one worker; it reads the settings for itself. */
  spawn(number: number): ChildProcess
  /** Beyond `limits.drain`, the milliseconds a worker gets to close what it has open. */
  readonly farewell: number
}

/** A proxy of several processes, as `drawbridge serve` runs it. */
export interface Workers {
  readonly ready: Promise<void>
  readonly urls: Readonly<Record<string, string>>
  readonly observed: Observed
  readonly gaveUp: Promise<WorkersFailed>
  /** Passes the reload on to the workers; each takes the settings over, or refuses them, by itself. */
  reload(settings: Settings): Promise<void>
  /** The workers find the same fault, and it is they who have a ledger to put the refusal into. */
  refused(): Promise<void>
  /**
   * New workers with these settings take the place of those that serve, which come to their end: resolves when they have.
   * @throws and changes nothing, when the settings ask for other listeners, or a new worker does not come to serve
   */
  restart(settings: Settings): Promise<void>
  close(): Promise<void>
}

/** What is this process's own, not the workers': a restart of them does not change it. */
const OURS: Fixed = {
  name: ({ name }) => name,
  state: ({ state }) => state,
  'listen.http': ({ listen }) => place(listen.http),
  'listen.ssh': ({ listen }) => place(listen.ssh),
  'listen.metrics': ({ listen }) => listen.metrics,
}

/**
 * The first process of a proxy with workers: it listens, hands out what it accepts, watches over the workers and answers for
 * them. What a worker left open that nobody starts again under its name is ended from here.
 *
 * @throws when the workers do not come to serve, or an address cannot be listened on
 */
export async function main(given: Settings, { log, spawn, farewell }: WorkersOptions): Promise<Workers> {
  let settings = given
  const stopped = new AbortController()
  const leftovers = { settings: () => settings, signal: stopped.signal, log }
  const asking = questions()
  const metrics = new WorkersMetrics(() => pool.serving(), asking.ask)

  function heard(worker: Worker, message: FromWorker): void {
    switch (message.kind) {
      case 'taken':
        handing?.taken(message.connection)
        return
      case 'left':
        handing?.left(message.connection)
        return
      case 'login-failed':
        for (const other of pool.serving()) if (other !== worker) other.send(message)
        return
      case 'observed':
        asking.answered(message)
        return
      default:
    }
  }

  let handing: Awaited<ReturnType<typeof startHanding>> | undefined
  const pool = await startPool(given.workers, {
    spawn,
    isFree: async number => {
      const release = await holdName(settings, number)
      release?.()
      return release !== undefined
    },
    settle: number => settle(number, leftovers),
    onMessage: heard,
    onServing: () => handing?.retry(),
    onEnded: worker => handing?.gone(worker),
    onDeath: () => metrics.deaths.inc(),
    patience: () => settings.limits.drain + farewell,
    log,
  })
  try {
    handing = await startHanding({
      listen: given.listen,
      connections: () => settings.limits.connections,
      serving: () => pool.serving(),
      log,
    })
  } catch (error) {
    await pool.stop()
    throw error
  }
  // Behind the start: what is open there waits for the database, and nobody waits for it.
  void leftoverNumbers(leftovers).then(numbers => pool.settleUnused(numbers))

  const { http, ssh } = handing.addresses
  const { listen } = given
  return {
    ready: Promise.resolve(),
    urls: {
      ...(http && { http: `${listen.http?.tls ? 'https' : 'http'}://${listen.http?.host}:${http.port}` }),
      ...(ssh && { ssh: `ssh://git@${ssh.address}:${ssh.port}` }),
    },
    observed: {
      metrics,
      checks: async () => {
        const answers = await asking.ask(pool.serving())
        if (answers.length === 0) return { workers: 'none of them serves' }
        return Object.fromEntries(
          answers.flatMap(({ worker: { number }, observation }) =>
            Object.entries(observation?.checks ?? { process: 'it does not answer' }).map(([check, said]) => [
              `worker ${number} ${check}`,
              said,
            ]),
          ),
        )
      },
    },
    gaveUp: pool.gaveUp,
    reload: async next => {
      requireSame(settings, next, { ...FIXED, ...OURS, workers: ({ workers }) => workers })
      settings = next
      pool.signal('SIGHUP')
    },
    refused: async () => pool.signal('SIGHUP'),
    restart: async next => {
      requireSame(settings, next, OURS)
      await pool.replace(next.workers, () => {
        settings = next
      })
    },
    close: async () => {
      handing.close()
      await pool.stop()
      stopped.abort()
    },
  }
}

/** What the workers count, each with its number for a label, and what is counted of them here. */
export class WorkersMetrics extends Registry {
  readonly deaths: Counter
  readonly #serving: () => readonly Worker[]
  readonly #ask: ReturnType<typeof questions>['ask']

  constructor(serving: () => readonly Worker[], ask: ReturnType<typeof questions>['ask']) {
    super()
    this.#serving = serving
    this.#ask = ask
    this.deaths = new Counter({
      name: 'drawbridge_worker_deaths_total',
      help: 'Workers that ended without being told to',
      registers: [this],
    })
    new Gauge({
      name: 'drawbridge_workers',
      help: 'Workers that take connections',
      registers: [this],
      collect() {
        this.set(serving().length)
      },
    })
  }

  override async metrics(): Promise<string> {
    const answers = await this.#ask(this.#serving())
    const own = await this.getMetricsAsJSON()
    const all = [own, ...answers.flatMap(({ observation }) => (observation ? [observation.metrics] : []))]
    return await AggregatorRegistry.aggregate(all).metrics()
  }
}
