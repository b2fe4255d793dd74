import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Sql } from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { createEmitter } from '../../../audit/emit.ts'
import { openProxies } from '../../../audit/open.ts'
import { openSpool } from '../../../audit/spool.ts'
import type { Settings } from '../../../config/settings.ts'
import { holdName, leftoverNumbers, settle } from '../../../deploy/workers/leftovers.ts'
import { empty, newBoot, startDatabase } from '../../audit/database.ts'
import { quiet, start } from '../../audit/records.ts'
import { temporaryFolder } from '../../support/program.ts'
import { plainSettings } from '../../support/settings.ts'

let database: Awaited<ReturnType<typeof startDatabase>>
let sql: Sql
let settings: Settings

beforeAll(async () => {
  database = await startDatabase()
  sql = database.sql
})
afterAll(() => database.stop())
beforeEach(async () => {
  await empty(sql)
  settings = plainSettings({ redis: '', postgres: database.database.url, state: temporaryFolder('state'), name: 'g' })
})

/** A process by this name starts an operation, and is no more. */
async function leave(name: string, operation: string): Promise<void> {
  const { emit, close } = await createEmitter({ sql, proxy: name, boot: newBoot(), log: quiet })
  await emit(start(operation))
  await close()
}

const options = (signal = new AbortController().signal) => ({ settings: () => settings, signal, log: quiet })
const open = async () => (await openProxies(sql)).sort()

test('what is left open is found by the numbers of this gate, and each is ended once', async () => {
  for (const name of ['g', 'g~3', 'g~12', 'other', 'g-2', 'g2~1']) await leave(name, `op-${name}`)
  expect((await leftoverNumbers(options())).sort()).toEqual([0, 12, 3])
  for (const number of [0, 3, 12, 3]) await settle(number, options())
  expect(await open()).toEqual(['g-2', 'g2~1', 'other'])
  const ends = await sql<{ proxy: string; operation: string; result: string }[]>`
    select proxy, operation, result from audit.inbox where kind = 'operation.end' order by operation`
  expect(ends).toMatchObject([
    { proxy: 'g', operation: 'op-g', result: 'interrupted' },
    { proxy: 'g~12', operation: 'op-g~12', result: 'interrupted' },
    { proxy: 'g~3', operation: 'op-g~3', result: 'interrupted' },
  ])
})

test('what a worker had spooled is brought in before its operations are ended', async () => {
  const folder = join(settings.state, 'g~4')
  mkdirSync(folder, { recursive: true })
  const spool = await openSpool(join(folder, 'spool'), 1 << 20)
  const record = start('op-spooled')
  await spool.append([{ proxy: 'g~4', boot: newBoot(), n: 1, at: Date.now(), record, body: JSON.stringify(record) }])
  await spool.close()
  expect(await leftoverNumbers(options())).toEqual([4])
  await settle(4, options())
  const kinds = await sql`select kind from audit.inbox where operation = 'op-spooled' order by arrival`
  expect(kinds.map(({ kind }) => kind)).toEqual(['operation.start', 'operation.end'])
  expect(await leftoverNumbers(options())).toEqual([])
})

test('the operations of a process that lives are not touched', async () => {
  await leave('g~2', 'op-live')
  const release = await holdName(settings, 2)
  await settle(2, options(AbortSignal.timeout(200)))
  expect(await open()).toEqual(['g~2'])
  release?.()
  await settle(2, options())
  expect(await open()).toEqual([])
})
