import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { Logger } from 'pino'
import postgres from 'postgres'
import { createEmitter } from '../audit/emit.ts'
import { main as authority } from '../ca/main.ts'
import type { Settings } from '../config/settings.ts'

/** The certificate authority as a role: it knows nothing of settings or the ledger, so both are given to it here. */
export async function main(settings: Settings, { log, trial }: { log: Logger; trial: boolean }) {
  const { directory, socket, passphrase } = settings.ca
  const sql = postgres(settings.postgres, { max: 2, connect_timeout: 5, onnotice: () => {} })
  const emitter = await createEmitter({
    sql,
    proxy: `${settings.name}-ca`,
    boot: randomUUID(),
    spool: {
      file: join(settings.state, `${settings.name}-ca.spool`),
      bytes: settings.ledger.whenAway === 'spool' ? settings.ledger.spoolBytes : 0,
    },
    ...(passphrase ? { secrets: [passphrase] } : {}),
    log,
  })
  const running = await authority({
    directory,
    socket,
    emit: emitter.emit,
    // Elsewhere a missing authority is a lost one, and making another would hide that.
    create: trial,
    ...(passphrase ? { protection: { passphrase } } : {}),
  })
  return {
    ready: Promise.resolve(),
    urls: {},
    reload: async () => {},
    close: async () => {
      await running.close()
      await emitter.close()
      await sql.end({ timeout: 2 })
    },
  }
}
