import { createHash, randomUUID } from 'node:crypto'
import { mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres, { type Sql } from 'postgres'
import { createEmitter, type Log } from '../../audit/emit.ts'
import { openProxies } from '../../audit/open.ts'
import { recoverInBackground } from '../../audit/recovering.ts'
import { secretsOf } from '../../config/secrets.ts'
import type { Settings } from '../../config/settings.ts'
import { workerName, workerNumber } from '../../config/workers.ts'
import { holdFolder } from '../lock.ts'

const RETRY_MILLISECONDS = 5_000

/** The name in the ledger of one of this gate's processes; 0 is the gate itself while it was one process. */
const nameOf = (gate: string, number: number) => (number === 0 ? gate : workerName(gate, number))

/**
 * Holds the name of a process of this gate for as long as this process lives. Whoever has it may write under that name, and
 * end what an earlier run left open under it: somebody else's operations would be ended while they run.
 * @returns undefined when another process holds it
 */
export function holdName({ name, state }: Pick<Settings, 'name' | 'state'>, number: number) {
  // A digest: a name may be longer than what is left of a socket's path.
  const lock = createHash('sha256').update(nameOf(name, number)).digest('hex').slice(0, 12)
  return holdFolder(state, lock)
}

export interface LeftoverOptions {
  /** As they are now, with the name of the gate. */
  settings(): Settings
  readonly signal: AbortSignal
  readonly log: Log
}

/**
 * Under which numbers this gate's processes left something open: operations without an end in the database, or records in a
 * spool. Waits for the database. Those of processes that live are among them.
 */
export async function leftoverNumbers({ settings, signal, log }: LeftoverOptions): Promise<number[]> {
  const { name, state } = settings()
  const inDatabase = await untilDone(signal, log, () => withDatabase(settings(), openProxies))
  const onDisk: string[] = []
  for (const folder of await readdir(state).catch(() => [])) {
    const spool = await stat(join(state, folder, 'spool')).catch(() => undefined)
    if (spool && spool.size > 0) onDisk.push(folder)
  }
  const found = [...(inDatabase ?? []), ...onDisk].map(each => workerNumber(name, each))
  return [...new Set(found.filter(number => number !== undefined))]
}

/**
 * Brings in what a process that is no more had spooled, and ends what it left open, each once. Waits for the database, and
 * for a process of that number that still lives, until `signal`. Never rejects.
 */
export async function settle(number: number, { settings, signal, log }: LeftoverOptions): Promise<void> {
  const release = await untilDone(signal, log, async () => {
    const held = await holdName(settings(), number)
    if (!held) throw new Error(`${nameOf(settings().name, number)} still runs`)
    return held
  })
  if (!release) return
  try {
    await withDatabase(settings(), sql => recover(number, sql, { settings, signal, log }))
  } catch (cause) {
    log.error({ err: cause, worker: number }, 'what a worker left open could not be ended')
  } finally {
    release()
  }
}

async function recover(number: number, sql: Sql, { settings, signal, log }: LeftoverOptions): Promise<void> {
  const given = settings()
  const name = nameOf(given.name, number)
  const folder = join(given.state, name)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const emitter = await createEmitter({
    sql,
    proxy: name,
    boot: randomUUID(),
    spool: { file: join(folder, 'spool'), bytes: 0 },
    secrets: secretsOf(given),
    log,
  })
  const recovering = recoverInBackground(emitter, log)
  const stop = () => recovering.stop()
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  await recovering.done
  signal.removeEventListener('abort', stop)
  await emitter.close()
}

async function withDatabase<T>(settings: Settings, use: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = postgres(settings.postgres, { max: 1, connect_timeout: 5, onnotice: () => {} })
  try {
    return await use(sql)
  } finally {
    await sql.end({ timeout: 1 })
  }
}

/** Tries until it is done; undefined when `signal` came first. */
async function untilDone<T>(signal: AbortSignal, log: Log, attempt: () => Promise<T>): Promise<T | undefined> {
  for (let told = false; !signal.aborted; told = true) {
    try {
      return await attempt()
    } catch (cause) {
      if (!told) log.warn({ err: cause }, 'what earlier runs left open cannot be ended yet')
      await sleep(RETRY_MILLISECONDS, undefined, { ref: false, signal }).catch(() => {})
    }
  }
  return undefined
}
