import { join } from 'node:path'
import type { Settings } from './settings.ts'

/** Most processes of one proxy; nobody has found a use for more than a few times the cores of a machine. */
export const WORKERS_MAX = 64

/** No gate's name can have it in it, so that no gate is ever taken for a worker of another. */
const MARK = '~'

/** Under which the worker with this number writes its records: `gate-1~3`. */
export function workerName(gate: string, number: number): string {
  return `${gate}${MARK}${number}`
}

/** The number of one of this gate's workers, by its name in the ledger; 0 is the gate itself while it was one process. */
export function workerNumber(gate: string, name: string): number | undefined {
  if (name === gate) return 0
  const digits = name.startsWith(`${gate}${MARK}`) ? name.slice(gate.length + MARK.length) : ''
  return /^[1-9]\d{0,5}$/.test(digits) ? Number(digits) : undefined
}

/**
 * The settings of one worker: its own name, and its share of what is bounded for the whole machine. `limits.connections` is
 * not divided: whoever hands the connections out counts them all. The connections to a host are rounded down, because that
 * bound is a promise to the host; those of a source are rounded up, because nobody is to have fewer than was promised.
 */
export function asWorker(settings: Settings, number: number): Settings {
  const { workers, limits, ledger, reuse, listen, upstreams } = settings
  const name = workerName(settings.name, number)
  const { metrics: _, ...own } = listen
  return {
    ...settings,
    name,
    listen: own,
    limits: { ...limits, connectionsPerSource: Math.ceil(limits.connectionsPerSource / workers) },
    upstreams: new Map(
      [...upstreams].map(([host, each]) => [
        host,
        { ...each, connections: Math.max(1, Math.floor(each.connections / workers)) },
      ]),
    ),
    ledger: { ...ledger, spoolBytes: Math.floor(ledger.spoolBytes / workers) },
    reuse: {
      ...reuse,
      bytes: Math.floor(reuse.bytes / workers),
      // Who opens such a folder takes away what is in it.
      folder: reuse.folder === undefined ? undefined : join(reuse.folder, name),
    },
  }
}
