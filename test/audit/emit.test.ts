import { fork } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Sql } from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { createEmitter, type EmitterOptions } from '../../audit/emit.ts'
import { insertRecords } from '../../audit/inbox.ts'
import { openOperations } from '../../audit/open.ts'
import { readIndexed } from '../../audit/read.ts'
import type { Record } from '../../audit/record.ts'
import { verifyLedger } from '../../audit/verify.ts'
import { until } from '../support/program.ts'
import { connect, empty, linkAll, newBoot, startDatabase, temporary } from './database.ts'
import { end, quiet, start } from './records.ts'

let database: Awaited<ReturnType<typeof startDatabase>>
let sql: Sql

beforeAll(async () => {
  database = await startDatabase()
  sql = database.sql
})
afterAll(() => database.stop())
beforeEach(() => empty(sql))

const emitter = (more: Partial<EmitterOptions> = {}) =>
  createEmitter({ sql, proxy: 'p', boot: newBoot(), log: quiet, ...more })
const spoolFile = async () => join(await temporary(), 'spool')
const spool = async (bytes = 1 << 20) => ({ file: await spoolFile(), bytes })
const inbox = () =>
  sql<
    { n: number; kind: string; operation: string }[]
  >`select n::int, kind, operation from audit.inbox order by arrival`
const open = async () => (await openOperations(sql, 'p', 'another run')).map(({ operation }) => operation).sort()
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

/** Links what is in the inbox and checks the whole ledger; resolves to the kinds of record each operation has. */
async function settleLedger(): Promise<Map<string, string[]>> {
  const { head, publicKey } = await linkAll(sql)
  const verdict = await verifyLedger({ entries: readIndexed(sql), heads: [head], keys: [publicKey] })
  expect(verdict).toMatchObject({ ok: true, gaps: [] })
  const kinds = new Map<string, string[]>()
  for (const { operation, kind } of await sql`select operation, kind from audit.record order by seq`) {
    kinds.set(operation, [...(kinds.get(operation) ?? []), kind])
  }
  return kinds
}

test('a thousand records emitted at once are all in the inbox, numbered without a gap, in few commits', async () => {
  let commits = 0
  const { emit, close } = await emitter({ committed: () => commits++ })
  await Promise.all(upTo(500).flatMap(i => [emit(start(`op-${i}`)), emit(end(`op-${i}`))]))
  await close()
  expect((await inbox()).map(row => row.n)).toEqual(upTo(1000))
  expect(commits).toBeLessThan(20)
  expect(await open()).toEqual([])
})

const fetched = { service: 'upload-pack', action: 'fetch' } as const

test('ends that nobody waits for share a commit of their own, and keep neither a start nor the end of a push waiting', async () => {
  let commits = 0
  const { emit, close } = await emitter({ committed: () => commits++ })
  await Promise.all([emit(start('op-1', fetched)), emit(start('op-2', fetched)), emit(start('op-3'))])
  vi.useFakeTimers({ toFake: ['setTimeout'] })
  try {
    const first = emit(end('op-1', fetched))
    // Before the end of a push is durable its client is not told how it went.
    await emit(end('op-3'))
    await emit(start('op-4', fetched))
    expect([commits, await open()]).toEqual([3, ['op-1', 'op-2', 'op-4']])
    const second = emit(end('op-2', fetched))
    vi.advanceTimersByTime(10)
    await Promise.all([first, second])
    expect([commits, await open()]).toEqual([4, ['op-4']])
    // Closing leaves none behind.
    void emit(end('op-4', fetched))
    await close()
    expect([commits, await open()]).toEqual([5, []])
  } finally {
    vi.useRealTimers()
    await close()
  }
})

test('a record is in the database, with the commit waiting for the disk, when emit resolves', async () => {
  await sql`alter role drawbridge set synchronous_commit = off`
  const careless = connect(database.database)
  // What the transaction says of itself, noted by a trigger at its end.
  await sql`create table noted (setting text)`
  await sql`create function note() returns trigger language plpgsql as
    'begin insert into noted values (current_setting(''synchronous_commit'')); return null; end'`
  await sql`create constraint trigger noting after insert on audit.inbox deferrable initially deferred for each row execute function note()`
  const { emit, close } = await emitter({ sql: careless })
  await emit(start('op-1'))
  expect(await inbox()).toEqual([{ n: 1, kind: 'operation.start', operation: 'op-1' }])
  expect(await sql`select * from noted`).toEqual([{ setting: 'on' }])
  await close()
  await careless.end()
  await sql`drop trigger noting on audit.inbox`
  await sql`alter role drawbridge reset synchronous_commit`
})

test('an operation has exactly one end, however many are sent, together or one after the other', async () => {
  const { emit, close } = await emitter()
  await Promise.all([emit(start('op-1')), emit(end('op-1')), emit(end('op-1', { result: 'cut' }))])
  await emit(end('op-1', { result: 'failed' }))
  await emit(end('op-never-started'))
  await Promise.all([emit(start('op-2')), emit(start('op-3'))])
  await Promise.all([emit(end('op-2')), emit(end('op-2'))])
  await close()
  expect(await open()).toEqual(['op-3'])
  const kinds = await settleLedger()
  expect(kinds.get('op-1')).toEqual(['operation.start', 'operation.end', 'ledger.duplicate', 'ledger.duplicate'])
  expect(kinds.get('op-2')).toEqual(['operation.start', 'operation.end', 'ledger.duplicate'])
  // Whatever became of its start, this one is told by nothing else.
  expect(kinds.get('op-never-started')).toEqual(['operation.end'])
})

test('a batch sent again after its answer was lost changes nothing, also when it has long been linked', async () => {
  const { canonical } = await import('../../audit/canonical.ts')
  const numbered = (n: number, record: Record) => ({
    proxy: 'p',
    boot: 'b',
    n,
    at: 1_700_000_000_000,
    record,
    body: canonical(record),
  })
  const first = [numbered(1, start('op-1')), numbered(2, start('op-2'))]
  const second = [numbered(3, end('op-1'))]
  await insertRecords(sql, first)
  await insertRecords(sql, first)
  await insertRecords(sql, second)
  await insertRecords(sql, first)
  await insertRecords(sql, second)
  expect((await inbox()).map(row => row.n)).toEqual([1, 2, 3])
  expect(await open()).toEqual(['op-2'])
  await settleLedger()
  await insertRecords(sql, [...first, ...second])
  expect(await inbox()).toEqual([])
  expect(await open()).toEqual(['op-2'])
})

test('a batch whose answer was lost keeps its numbers, though the next attempt was certainly not carried out', async () => {
  const faults = ['carried out, answer lost', ...Array<string>(13).fill('refused')]
  const faulty = new Proxy(sql, {
    get(target, name) {
      if (name !== 'unsafe') return Reflect.get(target, name)
      return (text: string, ...rest: [[string], { prepare: boolean }]) => {
        const statement = target.unsafe(text, ...rest)
        const fault = faults.shift()
        if (fault === 'refused')
          return Promise.reject(Object.assign(new Error('nobody listens'), { code: 'ECONNREFUSED' }))
        return fault ? statement.then(() => Promise.reject(new Error('connection closed'))) : statement
      }
    },
  })
  const { emit, close } = await emitter({ sql: faulty })
  // Its caller is told no before the database is back; what comes then must not be given number 1.
  await expect(emit(start('op-1'))).rejects.toMatchObject({ code: 'ERR_LEDGER_UNREACHABLE' })
  await Promise.all([emit(start('op-2')), emit(start('op-3'))])
  await until(async () => (await open()).join() === 'op-2,op-3', 'the refused start to be closed')
  await close()
  const rows = await inbox()
  expect(rows.map(row => row.n)).toEqual([1, 2, 3, 4])
  expect(rows[0]).toMatchObject({ operation: 'op-1', kind: 'operation.start' })
})

test('what an earlier run left open is ended as interrupted, once, even if two recover at the same moment', async () => {
  const first = await emitter()
  await Promise.all(upTo(5).map(i => first.emit(start(`op-${i}`))))
  await first.emit(end('op-3'))
  await first.close()
  const others = await Promise.all([emitter(), emitter(), emitter({ proxy: 'another' })])
  await others[0].emit(start('op-mine'))
  expect((await others[1].unfinished()).map(({ operation }) => operation)).toContain('op-1')
  expect(await others[2].recover()).toBe(0)
  await Promise.all([others[0].recover(), others[1].recover()])
  await Promise.all(others.map(({ close }) => close()))
  const kinds = await settleLedger()
  for (const i of [1, 2, 4, 5]) {
    expect(kinds.get(`op-${i}`)!.filter(kind => kind === 'operation.end')).toHaveLength(1)
  }
  expect(kinds.get('op-3')).toEqual(['operation.start', 'operation.end'])
  const results = await sql`select result from audit.record where operation = 'op-1' and kind = 'operation.end'`
  expect(results).toEqual([{ result: 'interrupted' }])
})

test('a record without a canonical form is refused and takes no number', async () => {
  const { emit, close } = await emitter()
  const bad = { ...start('op-1'), protocol: undefined, extra: () => 1 } as unknown as Record
  await expect(emit(bad)).rejects.toMatchObject({ code: 'ERR_LEDGER_RECORD' })
  await emit(start('op-2'))
  await close()
  await expect(emit(start('op-3'))).rejects.toMatchObject({ code: 'ERR_LEDGER_CLOSED' })
  expect((await inbox()).map(row => row.n)).toEqual([1])
})

test('with Postgres stopped starts are refused in time, and once it is back all that happened is there, numbered without a gap', async () => {
  const { emit, state, close } = await emitter()
  await emit(start('op-1'))
  await database.database.stop()
  const began = performance.now()
  const refused = await Promise.allSettled([emit(start('op-2')), emit(end('op-1'))])
  expect(performance.now() - began).toBeLessThan(10_000)
  for (const one of refused) expect(one).toMatchObject({ reason: { code: 'ERR_LEDGER_UNREACHABLE' } })
  expect(state().ledger).toBe('away')
  await database.database.restart()
  // The end of what did run was told late, and is written late; the start that was refused need not be.
  await until(
    async () => (await sql`select from audit.inbox where kind = 'operation.end' and operation = 'op-1'`).length === 1,
    'the end',
  )
  await emit(start('op-3'))
  await emit(end('op-3'))
  await until(async () => (await open()).length === 0, 'all ends')
  await close()
  const kinds = await settleLedger()
  expect(kinds.get('op-1')).toEqual(['operation.start', 'operation.end'])
  for (const list of kinds.values()) expect(list).toEqual(['operation.start', 'operation.end'])
})

test('with Postgres frozen the start is refused, and if it was written all the same it gets an end that says so', async () => {
  const { emit, close } = await emitter()
  await emit(start('op-1'))
  // The statement has arrived and waits there, while its caller gives up.
  const locker = await blockInbox()
  await expect(emit(start('op-2'))).rejects.toMatchObject({ code: 'ERR_LEDGER_UNREACHABLE' })
  await locker.release()
  const ofRefused = () => sql`select kind, result from audit.inbox where operation = 'op-2' order by n`
  await until(async () => (await ofRefused()).length === 2, 'the refused start to be closed')
  expect(await ofRefused()).toEqual([
    { kind: 'operation.start', result: null },
    { kind: 'operation.end', result: 'refused' },
  ])
  await emit(end('op-1'))
  await close()
  await settleLedger()
})

/** Another session holds the inbox, so that inserts hang. */
async function blockInbox(): Promise<{ release(): Promise<void> }> {
  const client = connect(database.database, 1)
  const locked = Promise.withResolvers<void>()
  const letGo = Promise.withResolvers<void>()
  const holding = client.begin(async transaction => {
    await transaction`lock table audit.inbox in access exclusive mode`
    locked.resolve()
    await letGo.promise
  })
  await locked.promise
  return {
    async release() {
      letGo.resolve()
      await holding
      await client.end()
    },
  }
}

test('a hung connection is given up and a new one taken', async () => {
  const hung = connect(database.database, 1)
  const { emit, close } = await emitter({ sql: hung, reconnect: () => connect(database.database, 1) })
  await emit(start('op-1'))
  const [{ pid }] = (await hung`select pg_backend_pid() as pid`) as unknown as [{ pid: number }]
  process.kill(pid, 'SIGSTOP')
  try {
    await expect(emit(start('op-2'))).rejects.toMatchObject({ code: 'ERR_LEDGER_UNREACHABLE' })
    await until(
      () =>
        emit(start('op-3')).then(
          () => true,
          () => false,
        ),
      'a new connection',
      20_000,
    )
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  await until(async () => (await open()).join() === 'op-1,op-3', 'the refused starts to be closed')
  await close()
  await settleLedger()
})

test('with a spool nothing is refused while Postgres is away, and all comes in once, in order, before what is newer', async () => {
  const { emit, state, close, recover } = await emitter({ spool: await spool() })
  await recover()
  await emit(start('op-1'))
  await database.database.stop()
  for (let i = 2; i <= 30; i++) await Promise.all([emit(start(`op-${i}`)), emit(end(`op-${i}`))])
  await emit(end('op-1'))
  expect(state()).toMatchObject({ ledger: 'spooling', spooledBytes: expect.any(Number) })
  await database.database.restart()
  for (let i = 31; i <= 60; i++) await emit(start(`op-${i}`))
  await until(() => state().ledger === 'there' && state().spooledBytes === 0, 'the spool to be brought in')
  await emit(start('op-61'))
  await close()
  expect((await inbox()).map(row => row.n)).toEqual(upTo(1 + 29 * 2 + 1 + 31))
  expect(await open()).toHaveLength(31)
  await settleLedger()
})

test('what a dead run left in its spool is brought in before the new run ends its open operations', async () => {
  const where = await spool()
  const first = await emitter({ spool: where, boot: 'first' })
  await first.recover()
  await first.emit(start('op-1'))
  await database.database.stop()
  await first.emit(start('op-2'))
  await first.emit(end('op-1'))
  await first.close()
  const second = await emitter({ spool: { ...where, bytes: 0 }, boot: 'second' })
  const recovered = second.recover()
  await database.database.restart()
  expect(await recovered).toBe(1)
  await second.close()
  const kinds = await settleLedger()
  expect(kinds.get('op-1')).toEqual(['operation.start', 'operation.end'])
  expect(kinds.get('op-2')).toEqual(['operation.start', 'operation.end'])
  expect(await sql`select operation from audit.record where result = 'interrupted'`).toEqual([{ operation: 'op-2' }])
})

test('a full spool refuses, and what it holds is brought in', async () => {
  const { emit, close, recover, state } = await emitter({ spool: await spool(4000) })
  await recover()
  await database.database.stop()
  const outcomes: string[] = []
  for (let i = 1; i <= 10; i++)
    outcomes.push(
      await emit(start(`op-${i}`)).then(
        () => 'kept',
        error => error.code,
      ),
    )
  const kept = outcomes.filter(outcome => outcome === 'kept').length
  expect(kept).toBeGreaterThan(2)
  expect(outcomes.slice(kept)).toEqual(Array(10 - kept).fill('ERR_LEDGER_SPOOL'))
  await database.database.restart()
  await until(() => state().ledger === 'there', 'the spool to be brought in')
  await emit(start('op-11'))
  await close()
  expect((await inbox()).map(row => row.n)).toEqual(upTo(kept + 1))
})

test('a queue that is full turns the next record away at once, refusals before starts and starts before ends', async () => {
  const locker = await blockInbox()
  const { emit, close } = await emitter()
  const flood: Promise<unknown>[] = []
  const codes = new Map<string, string>()
  const refusal = { ...start('op-r'), kind: 'operation.refused', code: 'no-grant', reason: 'x' } as unknown as Record
  const send = (record: Record) =>
    flood.push(emit(record).catch(error => codes.set(`${record.kind} ${error.code}`, error.code)))
  for (let i = 0; i < 12_500; i++) send(refusal)
  await new Promise(resolve => setImmediate(resolve))
  expect([...codes.keys()]).toEqual(['operation.refused ERR_LEDGER_FULL'])
  for (let i = 0; i < 7_500; i++) send(start(`op-${i}`))
  await new Promise(resolve => setImmediate(resolve))
  expect([...codes.keys()]).toContain('operation.start ERR_LEDGER_FULL')
  const ends = upTo(500).map(i => emit(end(`op-${i}`)))
  await locker.release()
  await Promise.allSettled(ends)
  expect(codes.has('operation.end ERR_LEDGER_FULL')).toBe(false)
  await Promise.all(flood)
  await close()
})

test('killed thirty times at random moments: what was let through has its start, and each start exactly one end', async () => {
  const told = new Set<string>()
  for (let round = 0; round < 30; round++) {
    const child = fork(join(import.meta.dirname, 'emitting.ts'), [database.database.url, `boot-${round}`], {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    })
    let heard = ''
    child.stdout?.on('data', chunk => {
      heard += chunk
    })
    // By how far it has come, not by the clock: a loaded machine would kill them all before they began.
    const enough = Math.floor(Math.random() * 40)
    await until(() => heard.split('\n').length > enough, 'the child to work')
    await new Promise(resolve => setTimeout(resolve, Math.random() * 5))
    const gone = new Promise(resolve => child.once('close', resolve))
    child.kill('SIGKILL')
    await gone
    for (const operation of heard.split('\n').slice(0, -1)) told.add(operation)
  }
  const last = await emitter({ proxy: 'child', boot: 'last' })
  await last.recover()
  await last.close()
  expect(await open()).toEqual([])
  const kinds = await settleLedger()
  for (const operation of told) expect(kinds.has(operation)).toBe(true)
  for (const [operation, list] of kinds)
    expect([operation, ...list]).toEqual([operation, 'operation.start', 'operation.end'])
  expect(told.size).toBeGreaterThan(30)
}, 120_000)

test('a planted secret is in no row of the database and in no spool', async () => {
  const planted = 's3cr3t-of-the-upstream'
  const where = await spool()
  const { emit, close, recover } = await emitter({ spool: where, secrets: [planted] })
  await recover()
  await emit(start('op-1', { pushOptions: [`token ${planted}`] }))
  await database.database.stop()
  await emit(end('op-1', { reason: `https://bot:${planted}@host/` }))
  expect(await readFile(where.file, 'utf8')).toContain('op-1')
  expect(await readFile(where.file, 'utf8')).not.toContain(planted)
  await database.database.restart()
  await until(async () => (await inbox()).length === 2, 'the spool to be brought in')
  await close()
  expect(JSON.stringify(await sql`select * from audit.inbox`)).not.toContain(planted)
})
