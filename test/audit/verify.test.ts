import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { join } from 'node:path'
import type { Sql } from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { canonical } from '../../audit/canonical.ts'
import { entryForm, GENESIS, type Linked, link } from '../../audit/chain.ts'
import { createEmitter } from '../../audit/emit.ts'
import { exportLedger, parseExport } from '../../audit/export.ts'
import { type Head, type HeadKey, keyId, loadHeadKey, signHead } from '../../audit/head.ts'
import { startWriter } from '../../audit/ledger.ts'
import { GrowingTree } from '../../audit/merkle.ts'
import { readIndexed, readRows } from '../../audit/read.ts'
import { verifyLedger } from '../../audit/verify.ts'
import { until } from '../support/program.ts'
import { empty, gather, newBoot, startDatabase, temporary } from './database.ts'
import { quiet, start } from './records.ts'

// Each story is told as somebody who owns the database: a superuser, with the whole source of this program at hand.

let database: Awaited<ReturnType<typeof startDatabase>>
let sql: Sql
let key: HeadKey
let heads: Head[]

beforeAll(async () => {
  database = await startDatabase()
  sql = database.sql
  key = await loadHeadKey(join(await temporary(), 'key'))
})
afterAll(() => database.stop())

/** Sixty records, heads over 10, 20, … 60. */
beforeEach(async () => {
  await empty(sql)
  heads = []
  const publishers = [{ name: 'kept', publish: async (head: Head) => void heads.push(head) }]
  const writer = startWriter({
    sql,
    boot: newBoot(),
    key,
    publishers,
    headEvery: { records: 10, milliseconds: 60_000 },
    log: quiet,
  })
  const { emit, close } = await createEmitter({
    sql,
    proxy: 'p',
    boot: 'b',
    log: quiet,
    committed: () => writer.wake(),
  })
  for (let i = 10; i <= 60; i += 10) {
    await Promise.all(Array.from({ length: 10 }, (_, k) => emit(start(`op-${i - 9 + k}`))))
    await until(() => heads.at(-1)?.seq === i, `the head over ${i}`)
  }
  await close()
  await writer.close()
})

const keys = (): KeyObject[] => [key.publicKey]
const online = () => verifyLedger({ entries: readIndexed(sql), heads, keys: keys() })

async function offline() {
  async function* lines() {
    for await (const text of exportLedger(readRows(sql), 'jsonl', 'gate')) yield* text.split('\n')
  }
  return await verifyLedger({ entries: parseExport(lines()), heads, keys: keys() })
}

/** The hashes of all records from `from` on, made anew as the program makes them, and the end of the chain with them. */
async function recompute(from: number): Promise<void> {
  const rows = (await gather(readRows(sql))).flat()
  let hash = GENESIS
  const tree = new GrowingTree()
  for (const row of rows) {
    hash = row.seq < from ? Buffer.from(row.hash, 'hex') : link(hash, row.seq, entryForm(row, row.body))
    tree.add(hash)
    await sql`update audit.record set hash = ${hash} where seq = ${row.seq}`
  }
  const peaks = Buffer.concat(tree.peaks().roots)
  await sql`update audit.chain set seq = ${rows.length}, hash = ${hash}, peaks = ${peaks}`
}

const edit = async (seq: number) => {
  const [row] = await sql<{ body: string }[]>`select body from audit.record where seq = ${seq}`
  const body = canonical({ ...JSON.parse(row!.body), principal: 'mallory' })
  await sql`update audit.record set body = ${body}, principal = 'mallory' where seq = ${seq}`
}

test('a ledger left alone verifies, from the database and from an export', async () => {
  const good = { ok: true, begins: 1, records: 60, vouched: 60, heads: 6, fault: undefined, gaps: [] }
  expect(await online()).toEqual(good)
  expect(await offline()).toEqual(good)
})

test('a record edited is named', async () => {
  await edit(37)
  expect(await online()).toMatchObject({ ok: false, fault: { seq: 37, what: expect.stringContaining('content') } })
  expect(await offline()).toMatchObject({ ok: false, fault: { seq: 37 } })
})

test('a record deleted is named', async () => {
  await sql`delete from audit.record where seq = 23`
  expect(await online()).toMatchObject({ ok: false, fault: { seq: 23, what: expect.stringContaining('missing') } })
  expect(await offline()).toMatchObject({ ok: false, fault: { seq: 23 } })
})

test('a record deleted and those after it moved up and linked anew: the numbering of its proxy names the place', async () => {
  await sql`delete from audit.record where seq = 23`
  for (let seq = 24; seq <= 60; seq++) await sql`update audit.record set seq = ${seq - 1} where seq = ${seq}`
  await recompute(23)
  expect(await online()).toMatchObject({
    ok: false,
    fault: { seq: 23, what: expect.stringContaining('record 24 of p') },
  })
})

test('two records that changed places are named by the first', async () => {
  await sql`update audit.record set seq = -1 where seq = 41`
  await sql`update audit.record set seq = 41 where seq = 42`
  await sql`update audit.record set seq = 42 where seq = -1`
  expect(await online()).toMatchObject({ ok: false, fault: { seq: 41 } })
  expect(await offline()).toMatchObject({ ok: false, fault: { seq: 41 } })
})

test('a record hidden from searches by changing its index column alone is named', async () => {
  await sql`update audit.record set principal = 'nobody' where seq = 8`
  expect(await online()).toMatchObject({ ok: false, fault: { seq: 8, what: expect.stringContaining('principal') } })
  await sql`update audit.record set principal = 'alice', refs = null where seq = 8`
  expect(await online()).toMatchObject({ ok: false, fault: { seq: 8, what: expect.stringContaining('refs') } })
})

test('the tail cut off, and the end of the chain set back to match, is found by the published heads', async () => {
  await sql`delete from audit.record where seq > 44`
  await sql`delete from audit.head where seq > 44`
  await recompute(1000)
  expect(await online()).toMatchObject({ ok: false, records: 44, fault: { seq: 45, through: 60 } })
  expect(await offline()).toMatchObject({ ok: false, fault: { seq: 45, through: 60 } })
})

test('the beginning cut off is found', async () => {
  await sql`delete from audit.record where seq <= 5`
  expect(await online()).toMatchObject({ ok: false, records: 0, fault: { seq: 1 } })
})

test('everything deleted is found', async () => {
  await empty(sql)
  expect(await online()).toMatchObject({ ok: false, fault: { seq: 1, through: 60 } })
})

test('the tail replaced by another one with sound hashes is named between two heads', async () => {
  for (let seq = 52; seq <= 60; seq++) await edit(seq)
  await recompute(52)
  expect(await online()).toMatchObject({ ok: false, vouched: 50, fault: { seq: 51, through: 60 } })
  expect(await offline()).toMatchObject({ ok: false, vouched: 50, fault: { seq: 51, through: 60 } })
})

test('one record edited and the whole chain recomputed is named between two heads', async () => {
  await edit(15)
  await recompute(1)
  expect(await online()).toMatchObject({ ok: false, vouched: 10, fault: { seq: 11, through: 20 } })
})

test('the whole chain recomputed with heads signed anew by a key of their own: not a trusted key', async () => {
  await edit(1)
  await recompute(1)
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const rows = (await gather(readRows(sql))).flat()
  const tree = new GrowingTree()
  for (const row of rows) tree.add(Buffer.from(row.hash, 'hex'))
  const root = tree.root().toString('hex')
  const forged = signHead(
    { id: keyId(publicKey), privateKey, publicKey },
    { seq: 60, hash: rows[59]!.hash, root, time: heads[5]!.time },
  )
  heads = [forged]
  expect(await online()).toMatchObject({ ok: false, fault: { what: expect.stringContaining('not a trusted key') } })
})

test('a head that was altered does not pass', async () => {
  for (const change of [
    { seq: 59 },
    { hash: '0'.repeat(64) },
    { root: '0'.repeat(64) },
    { time: '2020-01-01T00:00:00.000Z' },
  ]) {
    const [first] = heads
    const altered = { ...first!, ...change }
    const verdict = await verifyLedger({ entries: readIndexed(sql), heads: [altered], keys: keys() })
    expect(verdict).toMatchObject({ ok: false, fault: { what: expect.stringContaining('valid signature') } })
  }
})

test('without heads the chain alone is checked, and the verdict says that nobody vouches for it', async () => {
  heads = []
  expect(await online()).toMatchObject({ ok: true, vouched: 0 })
})

test('an export with a line cut in half says which', async () => {
  async function* lines() {
    yield '{"seq":1,'
  }
  await expect(verifyLedger({ entries: parseExport(lines()), heads, keys: keys() })).rejects.toThrow(
    'line 1 of the export',
  )
})

test('an export written with other white space and another order of members verifies all the same', async () => {
  async function* pages(): AsyncGenerator<Linked[]> {
    for await (const text of exportLedger(readRows(sql), 'jsonl', 'gate')) {
      const lines = text.trim().split('\n')
      yield lines.map(line => Object.fromEntries(Object.entries(JSON.parse(line)).reverse()) as unknown as Linked)
    }
  }
  expect(await verifyLedger({ entries: pages(), heads, keys: keys() })).toMatchObject({ ok: true, records: 60 })
})
