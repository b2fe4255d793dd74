import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import postgres from 'postgres'
import { createEmitter, type Emitter } from '../audit/emit.ts'
import { recoverInBackground } from '../audit/recovering.ts'
import { secretsOf } from '../config/secrets.ts'
import type { Settings } from '../config/settings.ts'

/** How long a start waits for what an earlier run left open to be closed; after that it goes on in the background. */
const RECOVERY_MILLISECONDS = 2_000

/** A proxy's way into the ledger. */
export interface ProxyLedger {
  readonly emitter: Emitter
  /** Resolves when what an earlier run left open is closed, or has to wait for longer than a start does. */
  recovered(): Promise<void>
  /** Rejects when operations are refused for want of it. With a spool they go on without PostgreSQL. */
  check(): Promise<void>
  close(): Promise<void>
}

/** Opens it, and begins to end what an earlier run left open. Postgres need not be there. `state` is the proxy's own folder. */
export async function openLedger(settings: Settings, state: string, log: Logger): Promise<ProxyLedger> {
  await using owned = new AsyncDisposableStack()
  const spools = settings.ledger.whenAway === 'spool'
  const options = { max: 2, connect_timeout: 5, onnotice: () => {} }
  const database = () => postgres(settings.postgres, options)
  const sql = database()
  owned.defer(() => sql.end({ timeout: 2 }))
  const emitter = await createEmitter({
    sql,
    proxy: settings.name,
    boot: randomUUID(),
    spool: { file: join(state, 'spool'), bytes: spools ? settings.ledger.spoolBytes : 0 },
    secrets: secretsOf(settings),
    reconnect: database,
    log,
  })
  owned.defer(() => emitter.close())
  const recovering = recoverInBackground(emitter, log)
  owned.defer(() => recovering.stop())

  const rest = owned.move()
  return {
    emitter,
    recovered: () => Promise.race([recovering.done, sleep(RECOVERY_MILLISECONDS, undefined, { ref: false })]),
    check: async () => {
      if (!spools || emitter.state().ledger === 'away') await sql`select`
    },
    close: () => rest.disposeAsync(),
  }
}
