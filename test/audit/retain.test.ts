import { createHash, generateKeyPairSync } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Sql } from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Act, createAct } from '../../admin/register/act.ts'
import { type Boundary, parsePartProof, signBoundary, storedBoundary } from '../../audit/boundary.ts'
import { cleaner } from '../../audit/clean.ts'
import { createEmitter } from '../../audit/emit.ts'
import { parseExport } from '../../audit/export.ts'
import { type Head, type HeadKey, keyId, loadHeadKey } from '../../audit/head.ts'
import { startWriter, type Writer } from '../../audit/ledger.ts'
import { closePartition, partitions } from '../../audit/partition.ts'
import { list, readIndexed } from '../../audit/read.ts'
import { flawOfReceipt, type Receipt, receiptOf } from '../../audit/receipt.ts'
import { type Retention, startRetention } from '../../audit/retain.ts'
import { verifyLedger } from '../../audit/verify.ts'
import { until } from '../support/program.ts'
import { newBoot, startDatabase, temporary } from './database.ts'
import { quiet, start } from './records.ts'

let database: Awaited<ReturnType<typeof startDatabase>>
let sql: Sql
let key: HeadKey
let folder: string
let heads: Head[]
let writer: Writer
let retention: Retention
let act: Act
let failing: 'drop' | undefined

beforeAll(async () => {
  key = await loadHeadKey(join(await temporary(), 'key'))
})

// Each from nothing: partitions are not emptied by a truncate.
beforeEach(async () => {
  database = await startDatabase()
  sql = database.sql
  folder = join(await temporary(), 'archive')
  heads = []
  failing = undefined
  writer = startWriter({
    sql,
    boot: newBoot(),
    key,
    publishers: [{ name: 'kept', publish: async head => void heads.push(head) }],
    headEvery: { records: 10, milliseconds: 600_000 },
    log: quiet,
  })
  act = createAct({ sql, clean: cleaner(), committed: () => writer.wake() })
  // The youngest goes as well.
  retention = startRetention({
    sql,
    key,
    keep: 0,
    folder,
    isWriter: () => true,
    act: change =>
      act(async made => {
        await change(made)
        if (failing === 'drop') throw new Error('killed before the commit')
      }),
    log: quiet,
  })
  return async () => {
    await retention.close()
    await writer.close()
    await database.stop()
  }
})
afterAll(() => database?.stop())

let next = 0
async function write(count: number): Promise<void> {
  const goal = writer.state().seq + count
  const committed = () => writer.wake()
  const { emit, close } = await createEmitter({ sql, proxy: 'p', boot: newBoot(), log: quiet, committed })
  for (let i = 0; i < count; i += 10) {
    await Promise.all(Array.from({ length: Math.min(10, count - i) }, () => emit(start(`op-${++next}`))))
    await until(() => writer.state().seq >= goal - count + i + 10 || writer.state().seq >= goal, 'records')
  }
  await close()
  await until(() => (writer.state().head?.seq ?? 0) > goal - 10, 'a head')
}

const verify = async (given: { boundary?: Boundary | undefined } = {}) => {
  const boundary = 'boundary' in given ? given.boundary : await storedBoundary(sql)
  return await verifyLedger({ entries: readIndexed(sql, boundary?.seq), heads, keys: [key.publicKey], boundary })
}

const files = () => readdirSync(folder).sort()
const proofOf = (file: string) => parsePartProof(readFileSync(join(folder, `${file}.proof.json`), 'utf8'))

async function* linesOf(file: string) {
  yield* readFileSync(join(folder, file), 'utf8').split('\n')
}

const verifyFile = (file: string) => {
  const { before, boundary, heads } = proofOf(file)
  const keys = [key.publicKey]
  return verifyLedger({ entries: parseExport(linesOf(file)), heads, keys, boundary: before, through: boundary })
}

test('what is old goes into files, and what remains verifies from there on, and so do the files', async () => {
  await write(45)
  await retention.run()
  // Closed, but the head is not over more than it.
  expect(await retention.due()).toEqual([])
  await write(20)
  const [due] = await retention.due()
  expect(due).toMatchObject({ from: 1, to: 45 })
  expect(await retention.run()).toMatchObject([{ from: 1, to: 45 }])
  await write(20)
  await retention.run()

  const [first, proof, second] = files()
  expect([first, proof]).toEqual(['ledger-000000000001-000000000045.jsonl', `${first}.proof.json`])
  const told = (await list(sql, { kind: 'ledger.retained' }, { after: 0 })).map(({ record }) => record)
  const sha256 = createHash('sha256')
    .update(readFileSync(join(folder, first!)))
    .digest('hex')
  expect(told).toContainEqual({ kind: 'ledger.retained', by: 'drawbridge', from: 1, to: 45, file: first, sha256 })

  const boundary = (await storedBoundary(sql))!
  expect(boundary.seq).toBeGreaterThan(45)
  const verdict = await verify()
  expect(verdict).toMatchObject({ ok: true, begins: boundary.seq + 1, records: writer.state().seq, gaps: [] })
  expect(verdict.vouched).toBe(heads.at(-1)!.seq)
  expect(await verifyFile(first!)).toMatchObject({ ok: true, begins: 1, records: 45, vouched: 45 })
  expect(await verifyFile(second!)).toMatchObject({ ok: true, begins: 46, records: boundary.seq })
  // The writer goes on, and a new one takes the chain up.
  await write(10)
  expect(await verify()).toMatchObject({ ok: true })
})

test('receipts of what remains still lead to the heads', async () => {
  await write(45)
  await retention.run()
  await write(20)
  await retention.run()
  await write(20)
  await sql`truncate audit.subtree`
  for (const seq of [46, 50, 70]) {
    const receipt = (await receiptOf(sql, { seq })) as Receipt
    expect(flawOfReceipt(receipt, [key.publicKey], heads)).toBeUndefined()
  }
})

test('who owns the database cannot cut the beginning and call it retention', async () => {
  await write(65)
  const rows = await sql<{ hash: Buffer; recorded: Date }[]>`select hash, recorded from audit.record where seq = 1`
  await sql`delete from audit.record where seq = 1`
  const { hash, recorded } = rows[0]!
  const made = {
    ...{ from: 1, seq: 1, hash: hash.toString('hex'), recorded: recorded.toISOString(), peaks: '00'.repeat(32) },
    ...{ runs: [], file: 'x', sha256: '', time: new Date().toISOString() },
  }
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const own = signBoundary({ id: keyId(publicKey), privateKey, publicKey }, made)
  expect(await verify({ boundary: undefined })).toMatchObject({ ok: false, fault: { seq: 1 } })
  expect(await verify({ boundary: own })).toMatchObject({ ok: false, fault: { seq: 1, what: /boundary/ } })
  // Under the name of the true key.
  expect(await verify({ boundary: { ...own, key: key.id } })).toMatchObject({ ok: false, fault: { seq: 1 } })
})

test('an older boundary put back, or a partition dropped by hand, shows', async () => {
  await write(45)
  await retention.run()
  await write(20)
  await retention.run()
  await write(20)
  await retention.run()
  const [older] = await sql<{ body: string }[]>`select body from audit.boundary order by seq limit 1`
  const verdict = await verify({ boundary: JSON.parse(older!.body) })
  expect(verdict).toMatchObject({ ok: false, fault: { seq: 46, what: expect.stringContaining('missing') } })
  await sql`delete from audit.boundary`
  expect(await verify()).toMatchObject({ ok: false, fault: { seq: 1 } })
})

test('a ledger that was tampered with is not taken out: it may be evidence', async () => {
  await write(45)
  await retention.run()
  await write(20)
  await sql`update audit.record set body = replace(body, 'alice', 'mallo') where seq = 30`
  await expect(retention.run()).rejects.toThrow('record 30')
  expect(await sql`select from audit.record where seq = 30`).toHaveLength(1)
  expect(files().filter(name => !name.endsWith('.partial'))).toEqual([])
})

test('killed between the file and the commit, it is done once the next time', async () => {
  await write(45)
  await retention.run()
  await write(20)
  failing = 'drop'
  await expect(retention.run()).rejects.toThrow('killed')
  expect(files()).toHaveLength(2)
  expect(await verify()).toMatchObject({ ok: true, begins: 1 })
  writeFileSync(join(folder, `${files()[0]}.partial`), 'torn')
  failing = undefined
  expect(await retention.run()).toHaveLength(1)
  await write(10)
  expect(await list(sql, { kind: 'ledger.retained' }, { after: 0 })).toHaveLength(1)
  expect(await verify()).toMatchObject({ ok: true, begins: 46 })
  expect(await verifyFile(files()[0]!)).toMatchObject({ ok: true })
})

test('a file that lost its end, or a line, does not pass for the part that was signed', async () => {
  await write(45)
  await retention.run()
  await write(20)
  await retention.run()
  const file = files()[0]!
  const lines = readFileSync(join(folder, file), 'utf8').split('\n')
  writeFileSync(join(folder, file), lines.slice(0, 42).join('\n'))
  expect(await verifyFile(file)).toMatchObject({ ok: false, fault: { seq: 43 } })
  writeFileSync(join(folder, file), lines.toSpliced(10, 1).join('\n'))
  expect(await verifyFile(file)).toMatchObject({ ok: false, fault: { seq: 11 } })
})

test('partitions are closed behind the last record, in mid-work, and searches go over all of them', async () => {
  const writing = write(200)
  let closed = 0
  for (let i = 0; i < 8; i++) {
    if (await closePartition(sql, new Date(Date.now() + 60_000)).catch(() => false)) closed++
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  await writing
  expect(closed).toBeGreaterThan(1)
  const found = await partitions(sql)
  expect(found.length).toBe(closed + 1)
  for (const [i, { to }] of found.slice(0, -1).entries()) expect(found[i + 1]!.from).toBe(to! + 1)
  expect(await verify()).toMatchObject({ ok: true, records: 200 })
  const newest = await list(sql, { principal: 'alice', ref: 'refs/heads/main' }, {}, 200)
  expect(newest.map(({ seq }) => seq)).toEqual(Array.from({ length: 200 }, (_, i) => 200 - i))
  expect(await closePartition(sql, new Date(0))).toBe(false)
})
