import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import postgres, { type Sql, type TransactionSql } from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { readInbox } from '../../audit/append.ts'
import { canonical } from '../../audit/canonical.ts'
import { createEmitter } from '../../audit/emit.ts'
import { type Head, type HeadKey, loadHeadKey, parseHead } from '../../audit/head.ts'
import { insertRecords } from '../../audit/inbox.ts'
import { startWriter } from '../../audit/ledger.ts'
import { HEAD_KEY_FILE, HEADS_FILE, startLedger } from '../../audit/main.ts'
import type { Publisher } from '../../audit/publish.ts'
import { list, readIndexed } from '../../audit/read.ts'
import { verifyLedger } from '../../audit/verify.ts'
import { until } from '../support/program.ts'
import { empty, newBoot, startDatabase, temporary } from './database.ts'
import { end, quiet, start } from './records.ts'

let database: Awaited<ReturnType<typeof startDatabase>>
let sql: Sql
let key: HeadKey

beforeAll(async () => {
  database = await startDatabase()
  sql = database.sql
  key = await loadHeadKey(join(await temporary(), 'key'))
})
afterAll(async () => {
  await Promise.all(locks.map(client => client.end({ timeout: 1 })))
  await database.stop()
})
beforeEach(() => empty(sql))

async function emitAll(proxy: string, count: number): Promise<void> {
  const { emit, close } = await createEmitter({ sql, proxy, boot: newBoot(), log: quiet })
  for (let i = 0; i < count; i += 50) {
    const some = Array.from({ length: Math.min(50, count - i) }, (_, k) => `op-${proxy}-${i + k}`)
    await Promise.all(some.flatMap(id => [emit(start(id)), emit(end(id))]))
  }
  await close()
}

const options = (more: object = {}) => ({ sql, boot: newBoot(), key, publishers: [], log: quiet, ...more })
const locks: Sql[] = []
const lock = () => {
  const client = postgres(database.database.url, { max: 1, idle_timeout: 0, max_lifetime: null, connect_timeout: 2 })
  locks.push(client)
  return client
}
const inboxLeft = async () => (await sql`select from audit.inbox`).length
const emptied = () => until(async () => (await inboxLeft()) === 0, 'the inbox to empty')
const audit = (heads: readonly Head[] = []) => verifyLedger({ entries: readIndexed(sql), heads, keys: [key.publicKey] })

test('records of several proxies become one chain, each in the order its proxy gave it', async () => {
  const writer = startWriter(options())
  await Promise.all(['p1', 'p2', 'p3'].map(proxy => emitAll(proxy, 200)))
  await emptied()
  await writer.close()
  expect(await audit()).toMatchObject({ ok: true, records: 1200, gaps: [] })
  for (const proxy of ['p1', 'p2', 'p3']) {
    const rows = await sql`select n::int from audit.record where proxy = ${proxy} order by seq`
    expect(rows.map(row => row.n)).toEqual(Array.from({ length: 400 }, (_, i) => i + 1))
  }
})

test('what is read while others are moved misses no record whose commit took longer', async () => {
  const put = (on: Sql | TransactionSql, proxy: string, n: number) => {
    const record = start(`op-${proxy}-${n}`)
    return insertRecords(on, [{ proxy, boot: 'b', n, at: Date.now(), record, body: canonical(record) }], 'first')
  }
  const read = async (taken: Awaited<ReturnType<typeof readInbox>> = []) =>
    (await readInbox(sql, taken)).map(({ proxy, n }) => `${proxy} ${n}`)
  await sql.begin(async transaction => {
    await put(transaction, 'slow', 1)
    await put(sql, 'quick', 1)
    expect(await read()).toEqual(['quick 1'])
  })
  await put(sql, 'slow', 2)
  const quick = (await readInbox(sql)).filter(({ proxy }) => proxy === 'quick')
  expect(await read(quick)).toEqual(['slow 1', 'slow 2'])
})

test('of two writers one works and the other stands by, and takes over when the first is gone', async () => {
  const first = startWriter(options({ lock: lock() }))
  await until(async () => first.state().role === 'writer', 'the first writer')
  const second = startWriter(options({ lock: lock() }))
  await emitAll('p', 20)
  await emptied()
  expect(second.state().role).toBe('standby')
  await first.close()
  await emitAll('q', 20)
  await until(async () => second.state().role === 'writer' && (await inboxLeft()) === 0, 'the second writer', 10_000)
  await second.close()
  expect(await audit()).toMatchObject({ ok: true, records: 80 })
})

test('a writer whose locking connection was killed does not go on beside the next one', async () => {
  const first = startWriter(options({ lock: lock() }))
  await until(async () => first.state().role === 'writer', 'the first writer')
  await sql`select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'`.catch(() => {})
  const second = startWriter(options({ lock: lock() }))
  await until(async () => second.state().role === 'writer', 'the second writer', 10_000)
  await emitAll('p', 50)
  await emptied()
  await Promise.all([first.close(), second.close()])
  expect(await audit()).toMatchObject({ ok: true, records: 100 })
})

test('writers that hold no lock at all still make one chain', async () => {
  const writers = [1, 2, 3].map(() => startWriter(options()))
  await Promise.all(['p1', 'p2'].map(proxy => emitAll(proxy, 100)))
  await until(async () => (await inboxLeft()) === 0, 'the inbox to empty', 20_000)
  await Promise.all(writers.map(writer => writer.close()))
  expect(await audit()).toMatchObject({ ok: true, records: 400 })
})

test('records taken out of the inbox before they were linked show as a gap', async () => {
  await emitAll('p', 10)
  await sql`delete from audit.inbox where n between 4 and 6`
  const writer = startWriter(options())
  await emptied()
  await writer.close()
  const verdict = await audit()
  expect(verdict).toMatchObject({ ok: true, records: 18, gaps: [{ proxy: 'p', from: 4, to: 6 }] })
  const [gap] = await list(sql, { kind: 'ledger.gap' }, {})
  expect(gap?.record).toMatchObject({ kind: 'ledger.gap', by: 'ledger', proxy: 'p', from: 4, to: 6 })
})

test('a record that comes after its gap was written down is kept, and the ledger still verifies', async () => {
  await emitAll('p', 5)
  const [late] =
    await sql`delete from audit.inbox where n = 3 returning proxy, boot, n, at, kind, operation, principal, repository, action, grants, refs, body`
  const writer = startWriter(options())
  await emptied()
  await sql`insert into audit.inbox ${sql(late as object)}`
  await emptied()
  await writer.close()
  expect(await audit()).toMatchObject({ ok: true, records: 11 })
  expect(await sql`select from audit.record where n = 3 and proxy = 'p'`).toHaveLength(1)
})

test('a record that is in the chain already is dropped when it arrives again', async () => {
  await emitAll('p', 5)
  const [again] =
    await sql`select proxy, boot, n, at, kind, operation, principal, repository, action, grants, refs, body from audit.inbox where n = 3`
  const writer = startWriter(options())
  await emptied()
  await sql`insert into audit.inbox ${sql(again as object)}`
  await emptied()
  await writer.close()
  expect(await audit()).toMatchObject({ ok: true, records: 10 })
})

test('heads are signed at intervals and at the end, and each vouches for the records before it', async () => {
  const heads: Head[] = []
  const keep: Publisher = { name: 'test', publish: async head => void heads.push(head) }
  const writer = startWriter(options({ publishers: [keep], headEvery: { records: 50, milliseconds: 60_000 } }))
  await emitAll('p', 100)
  await emptied()
  await emitAll('q', 1)
  await emptied()
  await writer.close()
  expect(heads.length).toBeGreaterThan(1)
  expect(heads.at(-1)?.seq).toBe(202)
  expect(await audit(heads)).toMatchObject({ ok: true, vouched: 202, heads: heads.length })
  expect((await sql`select from audit.head`).length).toBeGreaterThanOrEqual(heads.length)
})

test('a webhook that hangs or fails holds up neither the ledger nor the other places', async () => {
  const heads: Head[] = []
  const keep: Publisher = { name: 'kept', publish: async head => void heads.push(head) }
  const failing: Publisher = { name: 'failing', publish: () => Promise.reject(new Error('no route')) }
  const hanging = Promise.withResolvers<void>()
  const slow: Publisher = { name: 'hanging', publish: () => hanging.promise }
  const writer = startWriter(options({ publishers: [failing, slow, keep], headEvery: { records: 1, milliseconds: 1 } }))
  await emitAll('p', 20)
  await emptied()
  await until(async () => heads.at(-1)?.seq === 40, 'the last head')
  hanging.resolve()
  await writer.close()
})

test('the role keeps its key for itself, publishes to a file, and goes on after a restart', async () => {
  const state = await temporary()
  for (const round of [1, 2]) {
    const ledger = await startLedger({ sql, state, boot: newBoot(), log: quiet })
    await emitAll(`p${round}`, 10)
    await emptied()
    await ledger.close()
    expect(ledger.key.id).toBe((await loadHeadKey(join(state, HEAD_KEY_FILE))).id)
  }
  const heads = (await readFile(join(state, HEADS_FILE), 'utf8')).trim().split('\n').map(parseHead)
  const { publicKey } = await loadHeadKey(join(state, HEAD_KEY_FILE))
  const verdict = await verifyLedger({ entries: readIndexed(sql), heads, keys: [publicKey] })
  expect(verdict).toMatchObject({ ok: true, records: 40, vouched: 40 })
})

test('a database rewritten while the writer was away is not signed as if nothing had happened', async () => {
  const state = await temporary()
  const first = await startLedger({ sql, state, boot: newBoot(), log: quiet })
  await emitAll('p', 10)
  await emptied()
  await first.close()
  // As the owner of the database: the last five records go, and the end of the chain is set back to match.
  await sql`delete from audit.record where seq > 15`
  await sql`update audit.chain set seq = 15, hash = (select hash from audit.record where seq = 15), peaks = decode(repeat('00', 128), 'hex')`
  await emitAll('q', 5)
  const second = await startLedger({ sql, state, boot: newBoot(), log: quiet })
  await until(async () => second.writer.state().fault !== undefined, 'the writer to refuse')
  expect(second.writer.state().fault).toMatchObject({ code: 'ERR_LEDGER_TAMPERED', seq: 20 })
  expect(await inboxLeft()).toBe(10)
  await second.close()
})

test('the same is noticed while the writer runs', async () => {
  const writer = startWriter(options())
  await emitAll('p', 10)
  await emptied()
  await sql`delete from audit.record where seq > 15`
  await sql`update audit.chain set seq = 15, hash = (select hash from audit.record where seq = 15), peaks = decode(repeat('00', 128), 'hex')`
  await emitAll('q', 5)
  await until(async () => writer.state().fault !== undefined, 'the writer to stop', 10_000)
  expect(writer.state()).toMatchObject({ role: 'stopped', fault: { seq: 20 } })
  await writer.close()
})

test('the writer outlives a restart of Postgres', async () => {
  const writer = startWriter(options({ lock: lock() }))
  await emitAll('p', 10)
  await emptied()
  await database.database.restart()
  await until(
    () =>
      emitAll('q', 10).then(
        () => true,
        () => false,
      ),
    'Postgres to take records again',
    20_000,
  )
  await until(async () => (await inboxLeft()) === 0, 'the inbox to empty', 20_000)
  await writer.close()
  expect((await audit()).ok).toBe(true)
})
