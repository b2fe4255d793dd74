import type { Sql } from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { announce } from '../../../admin/notify/announce.ts'
import { createAct } from '../../../admin/register/act.ts'
import { watchAnomalies } from '../../../audit/anomaly/watch.ts'
import { cleaner } from '../../../audit/clean.ts'
import { createEmitter } from '../../../audit/emit.ts'
import { startForwarding } from '../../../audit/forward/forwarder.ts'
import { loadHeadKey } from '../../../audit/head.ts'
import { startWriter, type Writer } from '../../../audit/ledger.ts'
import { list } from '../../../audit/read.ts'
import type { Record } from '../../../audit/record.ts'
import { until } from '../../support/program.ts'
import { newBoot, startDatabase, temporary } from '../database.ts'
import { end, quiet, start } from '../records.ts'

let database: Awaited<ReturnType<typeof startDatabase>>
let sql: Sql
let writer: Writer

beforeAll(async () => {
  database = await startDatabase()
  sql = database.sql
  const key = await loadHeadKey(`${await temporary()}/key`)
  writer = startWriter({ sql, boot: newBoot(), key, publishers: [], log: quiet })
})
afterAll(async () => {
  await writer.close()
  await database.stop()
})

async function write(records: readonly Record[]): Promise<void> {
  const goal = writer.state().seq + records.length
  const committed = () => writer.wake()
  const { emit, close } = await createEmitter({ sql, proxy: 'p', boot: newBoot(), log: quiet, committed })
  for (const record of records) await emit(record)
  await until(() => writer.state().seq >= goal, 'records')
  await close()
}

const found = async (kind: string) => (await list(sql, { kind }, { after: 0 })).map(({ record }) => record)

function watch(lose = false) {
  const act = createAct({
    sql,
    clean: cleaner(),
    announce: (transaction, records) => announce(transaction, records, Date.now()),
    committed: () => writer.wake(),
  })
  const once: typeof act = lose
    ? async change => {
        await act(change)
        throw new Error('the answer was lost')
      }
    : act
  const watching = watchAnomalies({ sql, act: change => once(change) })
  return startForwarding({ sql, forwarders: [watching], isWriter: () => true, retryMilliseconds: 20, log: quiet })
}

const push = (id: string, from: string, to: string): Record[] => {
  const update = { ref: 'refs/heads/main', old: from.repeat(40), new: to.repeat(40), action: 'update' } as const
  return [start(id, { updates: [update] }), end(id, { updates: [{ ...update, result: 'ok' }] })]
}

test('what is unusual becomes a record, once, though the answer to its commit is lost and the watch is started anew', async () => {
  const from = (address: string, id: string) =>
    start(id, { action: 'fetch', updates: [], origin: { transport: 'http', address, connection: 'c', agent: 'git' } })
  // Known before the watch began: history, but nothing to be told of.
  await write([...push('op-0', '1', '2'), ...push('op-1', 'f', '3')])
  await write(Array.from({ length: 12 }, (_, i) => from('192.0.2.7', `op-a${i}`)))
  const first = watch(true)
  await until(async () => (await sql`select from audit.reader where name = 'anomalies'`).length === 1, 'its place')
  await write([from('198.51.100.1', 'op-new'), ...push('op-2', 'e', '4')])
  // Others fetched from another repository; somebody new takes far more of it.
  const fetched = (principal: string, bytesOut: number) => {
    const who = { action: 'fetch', repository: 'acme/other', principal } as const
    return [start(`op-${principal}`, { ...who, updates: [] }), end(`op-${principal}`, { ...who, bytesOut })]
  }
  await write([
    ...Array.from({ length: 10 }, (_, i) => fetched(`p${i}`, 1 << 20)).flat(),
    ...fetched('newcomer', 2 ** 28),
  ])
  await until(async () => (await found('bypass.suspected')).length > 0, 'the findings')
  await first.close()
  const second = watch()
  // A listing has told of it before the push that finds it.
  const [ref, repository, found5] = ['refs/heads/main', 'acme/app', { left: '5'.repeat(40), found: 'd'.repeat(40) }]
  const about = { by: 'drawbridge', repository, ref, operation: 'op-l', principal: 'bob', reason: 'the host lists it' }
  await write([...push('op-3', '4', '5'), { kind: 'bypass.suspected', ...about, ...found5 }, ...push('op-4', 'd', '6')])
  const isRead = () => second.state()[0]?.seq === writer.state().seq
  await until(async () => (await found('anomaly.found')).length > 1 && isRead(), 'the end')
  await second.close()
  expect(await found('anomaly.found')).toMatchObject([
    { anomaly: 'network', principal: 'alice', operation: 'op-new', repository: 'acme/app' },
    { anomaly: 'volume', principal: 'newcomer', repository: 'acme/other' },
  ])
  expect(await found('bypass.suspected')).toMatchObject([
    { ref: 'refs/heads/main', left: '3'.repeat(40), found: 'e'.repeat(40), operation: 'op-2' },
    { operation: 'op-l', ...found5 },
  ])
  // One notice of each, whoever recorded it.
  const notices = await sql`select content -> 'data' -> 'finding' ->> 'operation' as operation
    from control.notice where event = 'bypass.suspected' order by 1`
  expect(notices.map(({ operation }) => operation)).toEqual(['op-2', 'op-l'])
})
