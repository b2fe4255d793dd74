import { Gauge, Histogram, type Registry } from 'prom-client'
import type { EmitterState } from './emit.ts'
import type { Emit } from './record.ts'

/** Bounds in seconds for what should take milliseconds, and must be told when it takes seconds. */
export const QUICK_SECONDS: readonly number[] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]

/** Makes gauges that are read whenever somebody asks; what cannot be read then is left as it was. */
export function gauges(registry: Registry) {
  return (name: string, help: string, read: () => number | Promise<number>): void => {
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        await Promise.resolve()
          .then(read)
          .then(value => this.set(value))
          .catch(() => {})
      },
    })
  }
}

/** Measures a role's way into the ledger; gives the `emit` that is measured. */
export function measureEmit(registry: Registry, { emit, state }: { readonly emit: Emit; state(): EmitterState }): Emit {
  const append = new Histogram({
    name: 'drawbridge_ledger_append_seconds',
    help: 'From a record to its being durable, or to the refusal of what waited for it',
    labelNames: ['result'],
    buckets: [...QUICK_SECONDS],
    registers: [registry],
  })
  const gauge = gauges(registry)
  gauge('drawbridge_ledger_reachable', '1 while PostgreSQL takes records', () => Number(state().ledger === 'there'))
  gauge('drawbridge_spool_bytes', 'Records on disk here that wait for PostgreSQL', () => state().spooledBytes)
  gauge('drawbridge_ledger_queue_records', 'Records that wait to become durable', () => state().queued)
  return async record => {
    const end = append.startTimer()
    try {
      await emit(record)
      end({ result: 'ok' })
    } catch (error) {
      end({ result: 'refused' })
      throw error
    }
  }
}
