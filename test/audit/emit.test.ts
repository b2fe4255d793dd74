import { randomBytes } from 'node:crypto'
import postgres, { type Sql } from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createEmitter } from '../../audit/emit.ts'
import { migrate } from '../../deploy/migrate.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { end, quiet, start } from './records.ts'

let database: Postgres
let sql: Sql

beforeAll(async () => {
  database = await startPostgres()
  sql = postgres(database.url, { max: 4 })
  await migrate(sql, 'deploy/migrations')
})

afterAll(async () => {
  await sql.end({ timeout: 1 })
  await database.stop()
})

const emitter = (proxy: string, more: object = {}) =>
  createEmitter({ sql, proxy, boot: randomBytes(6).toString('hex'), log: quiet, ...more })

test('a thousand records emitted at once are all in the inbox, numbered without a gap', async () => {
  const { emit, close } = await emitter('p1')
  await Promise.all(Array.from({ length: 500 }, (_, i) => [emit(start(`op-a${i}`)), emit(end(`op-a${i}`))]).flat())
  await close()
  const rows = await sql`select n::int, kind, operation from audit.inbox where proxy = 'p1' order by arrival`
  expect(rows.map(row => row.n)).toEqual(Array.from({ length: 1000 }, (_, i) => i + 1))
  expect(await sql`select * from audit.open_operation where proxy = 'p1'`).toHaveLength(0)
})
