import { join } from 'node:path'
import type { Sql } from 'postgres'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { createEmitter, LedgerError } from '../../audit/emit.ts'
import { type HeadKey, loadHeadKey } from '../../audit/head.ts'
import { startWriter, type Writer } from '../../audit/ledger.ts'
import { fileHeads } from '../../audit/publish.ts'
import { list, readIndexed } from '../../audit/read.ts'
import { verifyLedger } from '../../audit/verify.ts'
import { until } from '../support/program.ts'
import { empty, newBoot, startDatabase, temporary } from './database.ts'
import { end, quiet, start } from './records.ts'

// PostgreSQL that has no room left: it answers, and says no with the code it has for that. Told by a trigger, so that it can be made to fail and heal.

let database: Awaited<ReturnType<typeof startDatabase>>
let sql: Sql
let key: HeadKey
let writer: Writer | undefined

beforeAll(async () => {
  database = await startDatabase()
  sql = database.sql
  key = await loadHeadKey(join(await temporary(), 'key'))
  await sql.unsafe(`
    create function full_disk() returns trigger language plpgsql as $$
    begin raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$`)
})
afterAll(() => database.stop())
beforeEach(() => empty(sql))
afterEach(async () => {
  for (const table of ['inbox', 'record', 'head']) await roomy(table)
  await writer?.close()
  writer = undefined
})

const full = (table: string) =>
  sql.unsafe(`create trigger full_disk before insert on audit.${table} for each row execute function full_disk()`)
const roomy = (table: string) => sql.unsafe(`drop trigger if exists full_disk on audit.${table}`)

function startWriting(publishers = [{ name: 'kept', publish: async () => {} }]): Writer {
  const headEvery = { records: 1, milliseconds: 50 }
  writer = startWriter({ sql, boot: newBoot(), key, publishers, headEvery, log: quiet })
  return writer
}

const numbers = async () => (await list(sql, {}, { after: 0 })).map(({ n }) => n)

test('with a full disk a start is refused, and nothing is lost or numbered twice once there is room', async () => {
  const writer = startWriting()
  const { emit, close } = await createEmitter({
    sql,
    proxy: 'p',
    boot: 'b',
    log: quiet,
    committed: () => writer.wake(),
  })
  await emit(start('op-1'))
  await full('inbox')
  // What has been let through must end: its end waits for room, though nobody waits for it any more.
  const ending = emit(end('op-1')).catch(() => {})
  await expect(emit(start('op-2'))).rejects.toThrow(LedgerError)
  await ending
  await roomy('inbox')
  await emit(start('op-3'))
  await emit(end('op-3'))
  await close()
  await until(async () => (await sql`select from audit.inbox`).length === 0, 'the inbox to be empty')
  const kinds = (await list(sql, {}, { after: 0 })).map(
    ({ record }) => `${record.kind} ${Reflect.get(record, 'operation')}`,
  )
  expect(kinds.filter(kind => kind.endsWith('op-1'))).toEqual(['operation.start op-1', 'operation.end op-1'])
  expect(kinds.filter(kind => kind.includes('op-3'))).toHaveLength(2)
  expect(await numbers()).toEqual(Array.from({ length: kinds.length }, (_, i) => i + 1))
})

test('with a full disk and a spool nothing is refused, and all is there once when there is room', async () => {
  const writer = startWriting()
  const spool = { file: join(await temporary(), 'spool'), bytes: 1 << 20 }
  const { emit, close, state } = await createEmitter({
    ...{ sql, proxy: 'p', boot: 'b', spool, log: quiet },
    committed: () => writer.wake(),
  })
  await full('inbox')
  await emit(start('op-1'))
  await emit(end('op-1'))
  expect(state().ledger).toBe('spooling')
  await roomy('inbox')
  await until(async () => (await numbers()).length === 2, 'both', 10_000)
  expect(await numbers()).toEqual([1, 2])
  await close()
})

test('with no room for the chain the records wait in the inbox, and are linked once there is', async () => {
  const writer = startWriting()
  await full('record')
  const { emit, close } = await createEmitter({
    sql,
    proxy: 'p',
    boot: 'b',
    log: quiet,
    committed: () => writer.wake(),
  })
  await emit(start('op-1'))
  await emit(end('op-1'))
  await new Promise(resolve => setTimeout(resolve, 300))
  expect(await sql`select from audit.inbox`).toHaveLength(2)
  await roomy('record')
  await until(async () => (await numbers()).length === 2, 'the chain', 10_000)
  await close()
  const verdict = await verifyLedger({ entries: readIndexed(sql), heads: [], keys: [key.publicKey] })
  expect(verdict).toMatchObject({ ok: true, records: 2, gaps: [] })
})

test('a heads file on a full disk holds up nothing, and no head is said to be published that is not', async () => {
  const failures: unknown[] = []
  const log = { ...quiet, error: (facts: object) => void failures.push(Reflect.get(facts, 'publisher')) }
  writer = startWriter({
    ...{ sql, boot: newBoot(), key, log },
    publishers: [fileHeads('/dev/full')],
    headEvery: { records: 1, milliseconds: 50 },
  })
  const { emit, close } = await createEmitter({
    sql,
    proxy: 'p',
    boot: 'b',
    log: quiet,
    committed: () => writer?.wake(),
  })
  await emit(start('op-1'))
  await until(() => writer?.state().seq === 1 && failures.length > 0, 'the failure')
  await emit(end('op-1'))
  await until(() => writer?.state().seq === 2, 'the chain to go on')
  expect(failures).toContain('file /dev/full')
  await close()
})
