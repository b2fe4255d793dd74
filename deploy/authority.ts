import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import postgres from 'postgres'
import { Counter, collectDefaultMetrics, Registry } from 'prom-client'
import { createEmitter } from '../audit/emit.ts'
import { measureEmit } from '../audit/metrics.ts'
import type { Emit } from '../audit/record.ts'
import { main as authority } from '../ca/main.ts'
import { kmsAccess, vaultAccess } from '../ca/signer/access.ts'
import { FIXED, type Fixed, requireSame, settingsVersion } from '../config/reload.ts'
import type { Settings } from '../config/settings.ts'

/** Read once, when the role starts. */
const FIXED_HERE: Fixed = { ...FIXED, ca: ({ ca }) => ca, ledger: ({ ledger }) => ledger }

/** The certificate authority as a role: it knows nothing of settings or the ledger, so both are given to it here. */
export async function main(settings: Settings, { log, trial }: { log: Logger; trial: boolean }) {
  const { directory, socket, passphrase, vault, kms } = settings.ca
  // Let go of in the opposite order, at the end or when the start fails half-way.
  await using owned = new AsyncDisposableStack()
  await mkdir(settings.state, { recursive: true, mode: 0o700 })
  const sql = postgres(settings.postgres, { max: 2, connect_timeout: 5, onnotice: () => {} })
  owned.defer(() => sql.end({ timeout: 2 }))
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
  owned.defer(() => emitter.close())
  const metrics = new Registry()
  collectDefaultMetrics({ register: metrics })
  const certificates = new Counter({
    name: 'drawbridge_certificates_total',
    help: 'What the authority did, by the kind of the record',
    labelNames: ['kind'],
    registers: [metrics],
  })
  const durable = measureEmit(metrics, emitter)
  const emit: Emit = async record => {
    await durable(record)
    certificates.inc({ kind: record.kind })
  }
  const running = await authority({
    directory,
    socket,
    emit,
    // Elsewhere a missing authority is a lost one, and making another would hide that.
    create: trial,
    ...(passphrase ? { protection: { passphrase } } : {}),
    ...(vault && { vault: vaultAccess(vault) }),
    ...(kms && { kms: kmsAccess(kms) }),
  })
  owned.defer(() => running.close())
  const rest = owned.move()
  return {
    ready: Promise.resolve(),
    urls: {},
    observed: {
      metrics,
      checks: async () => ({
        ledger: emitter.state().ledger === 'away' ? 'PostgreSQL does not take records: nothing is issued' : 'ok',
      }),
    },
    // Its keys are opened once: nothing of its own can change while it runs.
    reload: async (next: Settings) => requireSame(settings, next, FIXED_HERE),
    refused: (reason: string) =>
      emitter.emit({ kind: 'config.refused', by: 'drawbridge', version: settingsVersion(settings.file), reason }),
    close: () => rest.disposeAsync(),
  }
}
