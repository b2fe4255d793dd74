import type { Emitter, Log } from './emit.ts'

const RETRY_MILLISECONDS = 1_000

/** The recovery of an earlier run's operations, going on for as long as it takes. */
export interface Recovering {
  /** Resolves when every one of them has its end, or when recovery was stopped. */
  readonly done: Promise<void>
  stop(): void
}

/**
 * Ends what an earlier run left open, once the database can be reached: a role must be able to start without it. Meanwhile
 * new operations are spooled or refused, as the emitter decides.
 */
export function recoverInBackground(emitter: Pick<Emitter, 'recover'>, log: Log): Recovering {
  const stopped = Promise.withResolvers<undefined>()
  let running = true

  async function run(): Promise<void> {
    let told = false
    while (running) {
      try {
        const operations = await emitter.recover()
        if (operations > 0) log.warn({ operations }, 'operations of an earlier run were closed as interrupted')
        return
      } catch (cause) {
        if (!told && running) log.warn({ err: cause }, 'operations of an earlier run wait for the ledger to be closed')
        told = true
        await Promise.race([pause(RETRY_MILLISECONDS), stopped.promise])
      }
    }
  }

  return {
    done: Promise.race([run(), stopped.promise]),
    stop: () => {
      running = false
      stopped.resolve(undefined)
    },
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise(resolve => {
    setTimeout(resolve, milliseconds).unref()
  })
}
