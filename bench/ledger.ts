// How fast the ledger is: node bench/ledger.ts [records]
// A PostgreSQL cluster of its own (fsync on); every figure is of the whole way, from JavaScript to disk or back.
import type { KeyObject } from 'node:crypto'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres, { type Sql } from 'postgres'
import { createEmitter } from '../audit/emit.ts'
import { exportLedger, FORMATS } from '../audit/export.ts'
import type { Head } from '../audit/head.ts'
import { startLedger } from '../audit/main.ts'
import { type Filters, list, readIndexed, readRows } from '../audit/read.ts'
import type { OperationEnd, OperationStart } from '../audit/record.ts'
import { verifyLedger } from '../audit/verify.ts'
import { migrate } from '../deploy/migrate.ts'
import { startPostgres } from '../test/support/postgres.ts'
import setup from '../test/support/setup.ts'

const RECORDS = Number(process.argv[2] ?? 100_000)
/** Emitting at once, as so many connections would. */
const LANES = 1_000
const QUERY_ROUNDS = 20
const FOLLOWERS = 100
const LATENCY_ROUNDS = 200

const log = { info() {}, warn: report, error: report }
function report(facts: object, message: string): void {
  process.stderr.write(
    `${message} ${JSON.stringify(facts, (_, value) => (value instanceof Error ? value.message : value))}\n`,
  )
}

const say = (what: string, figure: string) => process.stdout.write(`${what.padEnd(52)}${figure.padStart(22)}\n`)
const perSecond = (count: number, milliseconds: number) =>
  `${Math.round((count / milliseconds) * 1000).toLocaleString('en')} records/s`
const at = (sorted: readonly number[], share: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
const spread = (times: number[]) => {
  const sorted = times.toSorted((a, b) => a - b)
  return `${at(sorted, 0.5).toFixed(2)} / ${at(sorted, 0.99).toFixed(2)} ms`
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await work()
  return performance.now() - began
}

const operation = (i: number) =>
  ({
    operation: `op-${i}`,
    principal: `person-${i % 500}`,
    repository: `acme/repository-${i % 2_000}`,
    service: 'receive-pack',
    action: 'push',
  }) as const

const start = (i: number): OperationStart => ({
  kind: 'operation.start',
  ...operation(i),
  identity: {
    kind: 'certificate',
    serial: String(i),
    keyId: `person-${i % 500}`,
    fingerprint: `SHA256:${'x'.repeat(43)}`,
    authority: `SHA256:${'y'.repeat(43)}`,
  },
  origin: { transport: 'ssh', address: '192.0.2.7', connection: `c-${i}`, agent: 'OpenSSH_9.2p1' },
  protocol: 0,
  grants: [`g-${i % 5_000}`],
  updates: [{ ref: `refs/heads/topic-${i % 10_000}`, old: '0'.repeat(40), new: 'a'.repeat(40), action: 'create' }],
})

const end = (i: number): OperationEnd => ({
  kind: 'operation.end',
  ...operation(i),
  result: i % 1_000 === 0 ? 'cut' : 'ok',
  bytesIn: 12_345,
  bytesOut: 678,
  milliseconds: 90,
})

const removeFolders = await setup()
const database = await startPostgres()
const sql = postgres(database.url, { max: 6, onnotice() {} })
await migrate(sql, 'deploy/migrations')
const heads: Head[] = []
/** As many as were emitted, and a few more where one was refused late and tried again. */
let total = RECORDS
const keys: KeyObject[] = []

await fillInbox(sql)
await link(sql)
await sql`analyze audit.record`
await queries(sql)
await exports(sql)
await verifying(sql)
await latency(sql)
await sql.end()
await database.stop()
removeFolders()

async function fillInbox(sql: Sql): Promise<void> {
  const { emit, close } = await createEmitter({ sql, proxy: 'bench', boot: 'fill', log })
  let next = 0
  const lane = async () => {
    while (next < RECORDS / 2) {
      const i = next++
      await untilTaken(() => emit(start(i)))
      await untilTaken(() => emit(end(i)))
    }
  }
  const took = await timed(() => Promise.all(Array.from({ length: LANES }, lane)))
  await close()
  say(`into the inbox, durable, ${LANES} at once`, perSecond(RECORDS, took))
}

/** A machine that is busy otherwise may let a record wait too long; a client would try again as well. */
async function untilTaken(emit: () => Promise<void>): Promise<void> {
  while (
    !(await emit().then(
      () => true,
      () => false,
    ))
  );
}

async function ledger(sql: Sql, appended?: (seq: number) => void) {
  return await startLedger({
    sql,
    state: await mkdtemp(join(tmpdir(), 'bench-ledger-')),
    boot: `writer-${Date.now()}`,
    publishers: [{ name: 'kept', publish: async head => void heads.push(head) }],
    ...(appended && { notify: appended }),
    log,
  })
}

async function link(sql: Sql): Promise<void> {
  const done = Promise.withResolvers<void>()
  total = (await sql<{ count: number }[]>`select count(*)::int from audit.inbox`)[0]!.count
  const took = await timed(async () => {
    const { key, close } = await ledger(sql, seq => seq >= total && done.resolve())
    keys.push(key.publicKey)
    await done.promise
    await close()
  })
  say('from the inbox into the chain', perSecond(total, took))
}

async function queries(sql: Sql): Promise<void> {
  const middle = (await list(sql, {}, { after: Math.floor(RECORDS / 2) }, 1))[0]!
  const asked: { [name: string]: Filters } = {
    'newest 100': {},
    'of one person': { principal: 'person-77' },
    'of one repository': { repository: 'acme/repository-42' },
    'of one repository and person': { repository: 'acme/repository-42', principal: 'person-42' },
    'of one ref': { ref: 'refs/heads/topic-7' },
    'of one grant': { grant: 'g-123' },
    'of one operation': { operation: `op-${Math.floor(RECORDS / 4)}` },
    'by result (1 in 2,000)': { result: 'cut' },
    'of a kind that does not occur': { kind: 'ledger.gap' },
    'of a person with a result': { principal: 'person-0', result: 'cut' },
    'before a time half way': { until: new Date(middle.recorded) },
    'of a person before that time': { until: new Date(middle.recorded), principal: 'person-77' },
    'of nobody': { principal: 'nobody', result: 'ok' },
  }
  for (const [name, filters] of Object.entries(asked)) {
    const times: number[] = []
    for (let i = 0; i < QUERY_ROUNDS; i++) times.push(await timed(() => list(sql, filters, {}, 100)))
    say(`100 records ${name}, p50 / p99`, spread(times))
  }
}

async function exports(sql: Sql): Promise<void> {
  for (const format of FORMATS) {
    const took = await timed(async () => {
      for await (const _ of exportLedger(readRows(sql), format, 'bench'));
    })
    say(`export as ${format}`, perSecond(RECORDS, took))
  }
}

async function verifying(sql: Sql): Promise<void> {
  const took = await timed(async () => {
    const verdict = await verifyLedger({ entries: readIndexed(sql), heads, keys })
    if (!verdict.ok || verdict.records !== total) throw new Error(JSON.stringify(verdict))
  })
  say(`verify, with ${heads.length} heads`, perSecond(RECORDS, took))
}

async function latency(sql: Sql): Promise<void> {
  const running = await ledger(sql)
  const { emit, close } = await createEmitter({ sql, proxy: 'bench', boot: 'latency', log, committed: running.wake })
  const stop = new AbortController()
  const emitted = new Map<string, number>()
  const arrivals: number[] = []
  const following = Array.from({ length: FOLLOWERS }, async () => {
    for await (const { record } of running.tail.follow(total, {}, stop.signal)) {
      if (record.kind === 'operation.start') arrivals.push(performance.now() - emitted.get(record.operation)!)
    }
  })
  const durable: number[] = []
  for (let i = 0; i < LATENCY_ROUNDS; i++) {
    const id = RECORDS + i
    emitted.set(`op-${id}`, performance.now())
    durable.push(await timed(() => emit(start(id))))
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  while (arrivals.length < FOLLOWERS * LATENCY_ROUNDS) await new Promise(resolve => setTimeout(resolve, 10))
  say('one record durable, p50 / p99', spread(durable))
  say(`from emit to each of ${FOLLOWERS} followers, p50 / p99`, spread(arrivals))
  stop.abort()
  await Promise.all(following)
  await close()
  await running.close()
}
