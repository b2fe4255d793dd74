import fc from 'fast-check'
import type { Sql } from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { canonical } from '../../audit/canonical.ts'
import { endOfInterrupted } from '../../audit/ending.ts'
import { type Arrival, insertRecords } from '../../audit/inbox.ts'
import { type Ends, openOperations, openProxies, tellEnds } from '../../audit/open.ts'
import type { Record } from '../../audit/record.ts'
import { empty, linkAll, startDatabase } from './database.ts'
import { end, start } from './records.ts'

let database: Awaited<ReturnType<typeof startDatabase>>
let sql: Sql

beforeAll(async () => {
  database = await startDatabase()
  sql = database.sql
})
afterAll(() => database.stop())
beforeEach(() => empty(sql))

let sent = 0
const insert = (...records: Record[]) =>
  insertRecords(
    sql,
    records.map(record => ({ proxy: 'p', boot: 'b', n: ++sent, at: Date.now(), record, body: canonical(record) })),
  )

const open = async () => (await openOperations(sql, 'p', 'another run')).map(({ operation }) => operation)
const kindsOf = async (operation: string) =>
  (await sql`select kind from audit.record where operation = ${operation} order by seq`).map(({ kind }) => kind)

const OPERATIONS = ['op-1', 'op-2', 'op-3']

test('the first end after a start is the one that counts, wherever batches are cut and whether or not the one before is in the database yet', async () => {
  const event = fc.record({ operation: fc.constantFrom(...OPERATIONS), cut: fc.boolean(), late: fc.boolean() })
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 14 }), async events => {
      await sql`truncate audit.open_operation, audit.record`
      const seen = new Set<string>()
      const expected: string[] = []
      const told: string[] = []
      // The first of an operation is its start, all others are ends.
      const ended = new Set<string>()
      const arrivals = events.map(({ operation, ...rest }, i): Arrival & typeof rest => {
        const record = seen.has(operation) ? end(operation) : start(operation)
        if (seen.has(operation) && ended.has(operation)) expected.push(String(i))
        if (seen.has(operation)) ended.add(operation)
        seen.add(operation)
        const { kind } = record
        return {
          ...rest,
          arrival: String(i),
          proxy: 'p',
          boot: 'b',
          n: i + 1,
          at: 0,
          kind,
          operation,
          body: canonical(record),
        }
      })
      let batch: typeof arrivals = []
      let under: Ends | undefined
      let store = async () => {}
      for (const [i, one] of arrivals.entries()) {
        batch.push(one)
        if (!one.cut && i < arrivals.length - 1) continue
        // The batch before is committed before this one is looked at, or only afterwards.
        if (!one.late) await store()
        const ends: Ends = await tellEnds(sql, batch, under)
        if (one.late) await store()
        told.push(...ends.duplicates)
        const moved = batch.filter(({ arrival }) => !ends.duplicates.has(arrival))
        store = once(() => keep(ends, moved))
        under = ends
        batch = []
      }
      await store()
      expect(told).toEqual(expected)
      expect(await open()).toEqual([...seen].filter(operation => !ended.has(operation)).sort())
    }),
    { numRuns: 60 },
  )
})

function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined
  return () => (done ??= work())
}

let seq = 0
/** What the ledger writer's move does to these two tables. */
async function keep({ opened, closed }: Ends, moved: readonly Arrival[]): Promise<void> {
  for (const { proxy, boot, n, kind, operation, body } of moved) {
    await sql`
      insert into audit.record (seq, recorded, proxy, boot, n, at, kind, operation, body, hash)
      values (${++seq}, now(), ${proxy}, ${boot}, ${n}, now(), ${kind}, ${operation}, ${body}, '')`
  }
  for (const operation of opened) {
    await sql`insert into audit.open_operation values (${operation}, 'p', 'b', to_timestamp(0), '{}')`
  }
  await sql`delete from audit.open_operation where operation = any (${[...closed]}::text[])`
}

test('an operation is open from when its start is durable until its end is, on both sides of the ledger writer', async () => {
  await insert(start('op-1'), start('op-2'))
  expect([await open(), await openProxies(sql)]).toEqual([['op-1', 'op-2'], ['p']])
  const written = async () => (await openOperations(sql, 'p', 'another run')).map(({ body }) => endOfInterrupted(body))
  const before = await written()
  expect(before[0]).toMatchObject({ operation: 'op-1', principal: 'alice', result: 'interrupted' })
  await linkAll(sql)
  expect([await open(), await openProxies(sql)]).toEqual([['op-1', 'op-2'], ['p']])
  expect(await written()).toEqual(before)
  await insert(end('op-1'))
  expect(await open()).toEqual(['op-2'])
  await linkAll(sql)
  expect(await open()).toEqual(['op-2'])
  await insert(end('op-2'))
  expect([await open(), await openProxies(sql)]).toEqual([[], []])
  await insert(start('op-3'), end('op-3'))
  await linkAll(sql)
  expect(await open()).toEqual([])
})

test('an end whose start has gone is kept: only a second one is replaced', async () => {
  await insert(end('op-1'))
  await linkAll(sql)
  await insert(end('op-1', { result: 'cut' }), end('op-2'), end('op-2'))
  await linkAll(sql)
  expect(await kindsOf('op-1')).toEqual(['operation.end', 'ledger.duplicate'])
  expect(await kindsOf('op-2')).toEqual(['operation.end', 'ledger.duplicate'])
})

test('what a proxy of an earlier version listed and struck out itself is open once, and its end is not taken for a second one', async () => {
  await insert(start('op-1'))
  await sql`insert into audit.open_operation values ('op-1', 'p', 'b', now(), '{"operation":"op-1"}')`
  expect(await open()).toEqual(['op-1'])
  await linkAll(sql)
  await sql`delete from audit.open_operation`
  await insert(end('op-1'))
  await linkAll(sql)
  expect(await kindsOf('op-1')).toEqual(['operation.start', 'operation.end'])
})
