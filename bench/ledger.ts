// How fast the ledger is: node bench/ledger.ts [RECORDS] [--publish] [--explain] [--json]
// A PostgreSQL cluster of its own (fsync on); every figure is of the whole way, from JavaScript to disk or back.
import type { KeyObject } from 'node:crypto'
import { mkdtemp } from 'node:fs/promises'
import { cpus, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import postgres, { type Sql } from 'postgres'
import { createEmitter } from '../audit/emit.ts'
import { exportLedger, FORMATS } from '../audit/export.ts'
import type { Head } from '../audit/head.ts'
import { startLedger } from '../audit/main.ts'
import { type Filters, list, readIndexed, readRows } from '../audit/read.ts'
import type { OperationEnd, OperationStart, Record } from '../audit/record.ts'
import { verifyLedger } from '../audit/verify.ts'
import { migrate } from '../deploy/migrate.ts'
import { startPostgres } from '../test/support/postgres.ts'
import setup from '../test/support/setup.ts'
import { percentile } from './case.ts'
import { fill } from './fill.ts'
import { type Goal, goalTable } from './table.ts'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    publish: { type: 'boolean', default: false },
    explain: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
const RECORDS = Number(positionals[0] ?? 100_000)
if (!Number.isInteger(RECORDS) || RECORDS < 1_000) {
  process.stderr.write(`bench: a thousand records or more, not ${positionals[0]}\n`)
  process.exit(2)
}
/** Emitting at once, as so many connections would. */
const LANES = 1_000
const QUERY_ROUNDS = 200
const QUERY_MILLISECONDS_MAX = 50
const FOLLOWERS = 100
const LATENCY_ROUNDS = 200
const VERIFY_MILLION_SECONDS_MAX = 60

const log = { info() {}, warn: report, error: report }
function report(facts: object, message: string): void {
  process.stderr.write(
    `${message} ${JSON.stringify(facts, (_, value) => (value instanceof Error ? value.message : value))}\n`,
  )
}

const figures: [what: string, figure: string][] = []
const goals: Goal[] = []
function say(what: string, figure: string): void {
  process.stderr.write(`${what.padEnd(60)}${figure.padStart(22)}\n`)
  figures.push([what, figure])
}
function rate(what: string, count: number, milliseconds: number, least?: number): void {
  const figure = Math.round((count / milliseconds) * 1_000)
  say(what, `${figure.toLocaleString('en')} records/s`)
  if (least !== undefined) goals.push({ what, figure, unit: 'records/s', least })
}
function times(what: string, taken: readonly number[]): { readonly p50: number; readonly p99: number } {
  const sorted = taken.toSorted((a, b) => a - b)
  const [p50, p99] = [percentile(sorted, 0.5), percentile(sorted, 0.99)]
  say(what, `${p50.toFixed(2)} / ${p99.toFixed(2)} ms`)
  return { p50, p99 }
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
  updates: [{ ref: refOf(i), old: '0'.repeat(40), new: 'a'.repeat(40), action: 'create' }],
})

/** Half of all push to one branch, some to another, the rest each to one of their own. */
const refOf = (i: number) =>
  i % 2 === 0 ? 'refs/heads/main' : i % 100 === 1 ? 'refs/heads/develop' : `refs/heads/topic-${i % 10_000}`

const issued = (i: number): Record => ({
  kind: 'grant.issued',
  by: `admin-${i % 20}`,
  grant: `g-${i % 5_000}`,
  principal: `person-${i % 500}`,
  repository: `acme/repository-${i % 2_000}`,
  actions: ['create', 'update'],
  refs: [],
  starts: '2026-01-01T00:00:00.000Z',
  expires: '2026-01-01T01:00:00.000Z',
  reason: `PAY-${i}`,
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
/** As a proxy connects. */
const inserting = postgres(database.url, { max: 2, onnotice() {} })
await migrate(sql, 'deploy/migrations')
const heads: Head[] = []
/** About as many as were asked for. */
let total = 0
const keys: KeyObject[] = []

await fillInbox()
await link(sql)
await sql`analyze audit.record`
for (const part of [queries, exports, verifying, following, alone]) {
  collectGarbage()
  await part(sql)
}
await Promise.all([sql.end(), inserting.end()])
await database.stop()
removeFolders()

const machine = `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, node ${process.versions.node}`
const heading = `${machine}; ${total.toLocaleString('en')} records. Times are p50 / p99.`
const table = ['| work | figure |', '|---|---|', ...figures.map(([what, figure]) => `| ${what} | ${figure} |`)].join(
  '\n',
)
const reached = [heading, '', goalTable(goals)].join('\n')
const text = [reached, '', table].join('\n')
process.stdout.write(options.json ? `${JSON.stringify({ figures, goals })}\n` : `${text}\n`)
if (options.publish) {
  fill('docs/figures.md', 'ledger', text)
  fill('README.md', 'ledger', reached)
}

async function fillInbox(): Promise<void> {
  const { emit, close } = await createEmitter({ sql: inserting, proxy: 'bench', boot: 'fill', log })
  let next = 0
  const lane = async () => {
    while (next < RECORDS / 2) {
      const i = next++
      if (i % 50 === 0) await untilTaken(() => emit(issued(i)))
      await untilTaken(() => emit(start(i)))
      await untilTaken(() => emit(end(i)))
    }
  }
  const took = await timed(() => Promise.all(Array.from({ length: LANES }, lane)))
  await close()
  // A few more where one was refused late and tried again.
  total = (await sql<{ count: number }[]>`select count(*)::int from audit.inbox`)[0]!.count
  rate(`into the inbox, durable, ${LANES} at once`, total, took, 20_000)
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
  const took = await timed(async () => {
    const { key, close } = await ledger(sql, seq => seq >= total && done.resolve())
    keys.push(key.publicKey)
    await done.promise
    await close()
  })
  rate('from the inbox into the chain', total, took, 20_000)
}

/** A client that is told the plan of whatever takes too long. */
function explaining(): Sql {
  return postgres(database.url, {
    max: 1,
    onnotice: ({ message = '' }) => void process.stderr.write(`${message}\n`),
    connection: {
      session_preload_libraries: 'auto_explain',
      'auto_explain.log_min_duration': QUERY_MILLISECONDS_MAX,
      'auto_explain.log_level': 'notice',
      'auto_explain.log_analyze': true,
    },
  })
}

/** In a process of their own, readers would not stop for what a million records left behind in the memory of their writer. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}

async function queries(): Promise<void> {
  const sql = options.explain ? explaining() : postgres(database.url, { max: 1 })
  const middle = (await list(sql, {}, { after: Math.floor(total / 2) }, 1))[0]!
  const halfway = new Date(middle.recorded)
  const principal = 'person-77'
  const asked: { [name: string]: Filters } = {
    'the newest': {},
    principal: { principal },
    actor: { actor: 'admin-0' },
    repository: { repository: 'acme/repository-42' },
    'ref: a rare one': { ref: 'refs/heads/topic-7' },
    'ref: in half of all': { ref: 'refs/heads/main' },
    'ref: in one of a hundred': { ref: 'refs/heads/develop' },
    'action: in all': { action: 'push' },
    'action: in none': { action: 'archive' },
    'result: one in 2,000': { result: 'cut' },
    grant: { grant: 'g-123' },
    operation: { operation: `op-${Math.floor(total / 4)}` },
    kind: { kind: 'grant.issued' },
    'kind: in none': { kind: 'ledger.gap' },
    since: { since: halfway },
    until: { until: halfway },
    'principal, until': { principal, until: halfway },
    'principal, since': { principal, since: halfway },
    'principal, repository': { principal: 'person-42', repository: 'acme/repository-42' },
    'principal, result': { principal: 'person-0', result: 'cut' },
    'ref, principal': { principal, ref: 'refs/heads/topic-77' },
    'ref in half of all, repository': { ref: 'refs/heads/main', repository: 'acme/repository-42' },
    'ref in half of all, until': { ref: 'refs/heads/main', until: halfway },
    'ref in half of all, result': { ref: 'refs/heads/main', kind: 'operation.start', result: 'cut' },
    'grant, until': { grant: 'g-123', until: halfway },
    'principal: nobody': { principal: 'nobody', result: 'ok' },
  }
  let slowest = { what: '', figure: 0 }
  for (const [name, filters] of Object.entries(asked)) {
    const taken: number[] = []
    for (let i = 0; i < QUERY_ROUNDS; i++) taken.push(await timed(() => list(sql, filters, {}, 100)))
    const { p99 } = times(`query by ${name}`, taken)
    if (p99 > slowest.figure) slowest = { what: name, figure: p99 }
  }
  const what = `the slowest of ${Object.keys(asked).length} queries, p99: by ${slowest.what}`
  goals.push({ what, figure: slowest.figure, unit: 'ms', most: QUERY_MILLISECONDS_MAX })
  await sql.end()
}

async function exports(sql: Sql): Promise<void> {
  for (const format of FORMATS) {
    const took = await timed(async () => {
      for await (const _ of exportLedger(readRows(sql), format, 'bench'));
    })
    rate(`export as ${format}`, total, took, 50_000)
  }
}

async function verifying(sql: Sql): Promise<void> {
  const took = await timed(async () => {
    const verdict = await verifyLedger({ entries: readIndexed(sql), heads, keys })
    if (!verdict.ok || verdict.records !== total) throw new Error(JSON.stringify(verdict))
  })
  rate(`verify, with ${heads.length} heads`, total, took)
  const seconds = (took / total) * 1_000
  const what = 'a million records verified, heads and all'
  goals.push({ what, figure: seconds, unit: 's', most: VERIFY_MILLION_SECONDS_MAX })
}

/** What a record takes that comes alone, beside what the machine takes at that moment for the least there is to make durable. */
async function alone(sql: Sql): Promise<void> {
  const { emit, close } = await createEmitter({ sql: inserting, proxy: 'bench', boot: 'alone', log })
  await sql`create table number (number int)`
  const bare: number[] = []
  const durable: number[] = []
  for (let i = 0; i < LATENCY_ROUNDS; i++) {
    bare.push(await timed(() => inserting`insert into number values (${i})`))
    await pause()
    durable.push(await timed(() => emit(start(total + LATENCY_ROUNDS + i))))
    await pause()
  }
  await close()
  times('one number durable, a plain insert after a rest of 5 ms', bare)
  times('one record durable, after a rest of 5 ms', durable)
}

async function following(sql: Sql): Promise<void> {
  const running = await ledger(sql)
  const { emit, close } = await createEmitter({
    sql: inserting,
    proxy: 'bench',
    boot: 'followed',
    log,
    committed: running.wake,
  })
  const stop = new AbortController()
  const emitted = new Map<string, number>()
  const arrivals: number[] = []
  const followers = Array.from({ length: FOLLOWERS }, async () => {
    for await (const { record } of running.tail.follow(total, {}, stop.signal)) {
      if (record.kind === 'operation.start') arrivals.push(performance.now() - emitted.get(record.operation)!)
    }
  })
  for (let i = 0; i < LATENCY_ROUNDS; i++) {
    const id = total + i
    emitted.set(`op-${id}`, performance.now())
    await emit(start(id))
    await pause()
  }
  while (arrivals.length < FOLLOWERS * LATENCY_ROUNDS) await new Promise(resolve => setTimeout(resolve, 10))
  const heard = times(`from emit to each of ${FOLLOWERS} followers`, arrivals)
  goals.push({ what: `from emit to each of ${FOLLOWERS} followers, p99`, figure: heard.p99, unit: 'ms', most: 250 })
  stop.abort()
  await Promise.all(followers)
  await close()
  await running.close()
}

/** Between one record and the next. */
function pause(): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, 5))
}
