import { generateKeyPairSync } from 'node:crypto'
import { join } from 'node:path'
import type { Sql } from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createEmitter } from '../../audit/emit.ts'
import { type Head, type HeadKey, keyId, loadHeadKey, signHead } from '../../audit/head.ts'
import { startWriter } from '../../audit/ledger.ts'
import { leafHash, root, SUBTREE_LEVEL_MIN } from '../../audit/merkle.ts'
import { consistency, inclusion, Unprovable } from '../../audit/prove.ts'
import {
  consistencyOf,
  flawOfConsistency,
  flawOfReceipt,
  parseProof,
  type Receipt,
  receiptOf,
} from '../../audit/receipt.ts'
import { until } from '../support/program.ts'
import { newBoot, startDatabase, temporary } from './database.ts'
import { end, quiet, start } from './records.ts'

const RECORDS = 1_400

let database: Awaited<ReturnType<typeof startDatabase>>
let sql: Sql
let key: HeadKey
const heads: Head[] = []

beforeAll(async () => {
  database = await startDatabase()
  sql = database.sql
  key = await loadHeadKey(join(await temporary(), 'key'))
  const writer = startWriter({
    sql,
    boot: newBoot(),
    key,
    publishers: [{ name: 'kept', publish: async head => void heads.push(head) }],
    headEvery: { records: 100, milliseconds: 600_000 },
    log: quiet,
  })
  const { emit, close } = await createEmitter({
    sql,
    proxy: 'p',
    boot: 'b',
    log: quiet,
    committed: () => writer.wake(),
  })
  for (let i = 0; i < RECORDS / 2; i += 100) {
    const hundred = Array.from({ length: 100 }, (_, k) => `op-${i + k}`)
    await Promise.all(hundred.map(id => emit(start(id, id === 'op-7' ? { principal: 'mallory' } : {}))))
    await Promise.all(hundred.map(id => emit(end(id))))
  }
  await until(() => writer.state().seq === RECORDS, 'all records')
  await close()
  await writer.close()
})
afterAll(() => database.stop())

const keys = () => [key.publicKey]
const receipt = async (operation: string) => (await receiptOf(sql, { operation })) as Receipt
const over = (receipt: Receipt) => parseProof(JSON.stringify(receipt)) as Receipt

test('each record has a receipt, which holds by itself after its way through a file', async () => {
  for (const i of [0, 1, 255, 333, 512, RECORDS / 2 - 1]) {
    const given = await receipt(`op-${i}`)
    expect(given.records.map(({ entry }) => entry.record.kind)).toEqual(['operation.start', 'operation.end'])
    expect(flawOfReceipt(over(given), keys(), heads)).toBeUndefined()
  }
  expect(await receiptOf(sql, { seq: 900 })).toMatchObject({ of: 'record 900', records: [{ entry: { seq: 900 } }] })
})

test('a person is given the receipts of what they did, and nobody else is', async () => {
  expect(await receiptOf(sql, { operation: 'op-8' }, 'alice')).toMatchObject({ of: 'op-8' })
  expect(await receiptOf(sql, { operation: 'op-8' }, 'eve')).toBe('unknown')
  // The start of op-7 says mallory, its end alice: each sees their own line only.
  expect((await receiptOf(sql, { operation: 'op-7' }, 'mallory')) as Receipt).toMatchObject({ records: [{}] })
  expect(await receiptOf(sql, { seq: 3 }, 'eve')).toBe('unknown')
})

test('before a head is signed over a record there is no receipt, and for what never was there is none', async () => {
  expect(await receiptOf(sql, { operation: 'op-none' })).toBe('unknown')
  await sql`create table kept as select * from audit.head`
  await sql`delete from audit.head where seq >= 700`
  expect(await receiptOf(sql, { seq: 700 })).toBe('no head yet')
  await sql`insert into audit.head select * from kept on conflict do nothing`
})

test('proofs out of kept subtrees are those computed from all leaves, and without the kept ones too', async () => {
  const rows = await sql<{ hash: Buffer }[]>`select hash from audit.record order by seq`
  const leaves = rows.map(({ hash }) => leafHash(hash))
  const kept = await sql`select from audit.subtree where level >= ${SUBTREE_LEVEL_MIN}`
  // 5 of 256, 2 of 512, 1 of 1,024.
  expect(kept).toHaveLength(8)
  expect(heads.at(-1)).toMatchObject({ seq: RECORDS, root: root(leaves).toString('hex') })
  const [shown, proved] = [await inclusion(sql, 300, RECORDS), await consistency(sql, 300, RECORDS)]
  await sql`create table subtrees as select * from audit.subtree`
  await sql`truncate audit.subtree`
  expect(await inclusion(sql, 300, RECORDS)).toEqual(shown)
  expect(await consistency(sql, 300, RECORDS)).toEqual(proved)
  await sql`insert into audit.subtree select * from subtrees`
})

test('a receipt with anything changed in it does not hold', async () => {
  const good = await receipt('op-5')
  const [first, second] = [good.records[0]!, good.records[1]!]
  const withFirst = (change: object): Receipt => ({ ...good, records: [{ ...first, ...change }, second] })
  const record = { ...first.entry.record, principal: 'somebody else' }
  const flaws = [
    [withFirst({ entry: { ...first.entry, record } }), 'was changed'],
    [withFirst({ entry: { ...first.entry, seq: first.entry.seq + 1 } }), 'was changed'],
    [withFirst({ entry: { ...first.entry, at: '2020-01-01T00:00:00.000Z' } }), 'was changed'],
    [withFirst({ previous: '0'.repeat(64) }), 'was changed'],
    [withFirst({ proof: first.proof.toReversed() }), 'is not in the ledger'],
    [withFirst({ proof: first.proof.slice(1) }), 'is not in the ledger'],
    [{ ...good, of: 'op-6' }, 'is not about op-6'],
    [{ ...good, records: [] }, 'no record'],
    [{ ...good, head: { ...good.head, seq: good.head.seq + 1 } }, 'valid signature'],
    [{ ...good, head: { ...good.head, root: '0'.repeat(64) } }, 'valid signature'],
    [
      withFirst({ entry: { ...first.entry, record: { kind: 'operation.start', operation: 'op-5', x: 0.5 } } }),
      'changed',
    ],
  ] as const
  for (const [bad, why] of flaws) expect(flawOfReceipt(bad as Receipt, keys())).toContain(why)
})

test('a receipt made up from the database, signed by a key of its own, does not hold', async () => {
  const good = await receipt('op-5')
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const own = signHead({ id: keyId(publicKey), privateKey, publicKey }, good.head)
  expect(flawOfReceipt({ ...good, head: own }, keys())).toContain('not a trusted key')
})

test('a receipt under a head that contradicts the one kept elsewhere shows two histories', async () => {
  const good = await receipt('op-5')
  const other = signHead(key, { ...good.head, root: 'f'.repeat(64) })
  expect(flawOfReceipt(good, keys(), [other])).toContain('two histories')
})

test('two heads are shown to be of one history, and a rewritten one shows', async () => {
  const [first, second] = [heads[2]!.seq, heads.at(-2)!.seq]
  const shown = (await consistencyOf(sql, first, second))!
  expect(flawOfConsistency(parseProof(JSON.stringify(shown)) as typeof shown, keys(), heads)).toBeUndefined()
  expect(await consistencyOf(sql, first + 1, second)).toBeUndefined()
  const rewritten = signHead(key, { ...shown.first, root: '0'.repeat(64) })
  expect(flawOfConsistency({ ...shown, first: rewritten }, keys())).toContain('history was rewritten')
})

test('a file that is no receipt is refused in words', () => {
  for (const text of ['{}', '[]', '{"version":1,"kind":"x"}', '{"version":1,"kind":"drawbridge.receipt","of":"op-1"}'])
    expect(() => parseProof(text)).toThrow(SyntaxError)
  const hash = '0'.repeat(64)
  const head = { seq: 1, hash, root: hash, time: '', key: '', signature: '' }
  const flood = { kind: 'drawbridge.consistency', version: 1, first: head, second: head, proof: Array(65).fill(hash) }
  expect(() => parseProof(JSON.stringify(flood))).toThrow('no list of SHA-256')
})

test('what is not in the database any more cannot be proved, and that is said', async () => {
  await sql`delete from audit.record where seq = 1000`
  await expect(inclusion(sql, 999, RECORDS)).rejects.toThrow(Unprovable)
})
