import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres, { type Sql } from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { migrate } from '../../deploy/migrate.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'

let database: Postgres
let sql: Sql
let folder: string

beforeAll(async () => {
  database = await startPostgres()
  sql = postgres(database.url, { max: 8, onnotice() {} })
})

afterAll(async () => {
  await sql.end({ timeout: 1 })
  await database.stop()
})

beforeEach(async () => {
  await sql`drop table if exists migration, first, second cascade`
  if (folder) await rm(folder, { recursive: true })
  folder = await mkdtemp(join(tmpdir(), 'migrate-'))
  await file('001_first.sql', 'create table first (id int); insert into first values (1);')
})

const file = (name: string, text: string) => writeFile(join(folder, name), text)

test('each file is applied once, in order, and a second call applies nothing', async () => {
  await file('002_second.sql', 'create table second as select * from first;')
  await file('notes.txt', 'not SQL')
  expect(await migrate(sql, folder)).toEqual(['001_first.sql', '002_second.sql'])
  expect(await migrate(sql, folder)).toEqual([])
  expect(await sql`select * from second`).toHaveLength(1)
})

test('eight processes starting at once apply it once', async () => {
  const applied = await Promise.all(Array.from({ length: 8 }, () => migrate(sql, folder)))
  expect(applied.flat()).toEqual(['001_first.sql'])
  expect(await sql`select * from first`).toHaveLength(1)
})

test('a file that fails leaves nothing behind, names itself, and can be tried again', async () => {
  await file('002_second.sql', 'create table second (id int); select nonsense;')
  await expect(migrate(sql, folder)).rejects.toMatchObject({
    code: 'ERR_MIGRATION_FAILED',
    message: expect.stringContaining('002_second.sql'),
  })
  expect(await sql`select to_regclass('second') as there`).toEqual([{ there: null }])
  await file('002_second.sql', 'create table second (id int);')
  expect(await migrate(sql, folder)).toEqual(['002_second.sql'])
})

test('a file changed after it was applied is refused, and nothing after it runs', async () => {
  await migrate(sql, folder)
  await file('001_first.sql', 'create table first (id bigint);')
  await file('002_second.sql', 'create table second (id int);')
  await expect(migrate(sql, folder)).rejects.toMatchObject({ code: 'ERR_MIGRATION_CHANGED' })
  expect(await sql`select to_regclass('second') as there`).toEqual([{ there: null }])
})

test('a database made by a newer version is refused', async () => {
  await file('002_second.sql', 'create table second (id int);')
  await migrate(sql, folder)
  await rm(join(folder, '002_second.sql'))
  await expect(migrate(sql, folder)).rejects.toMatchObject({ code: 'ERR_MIGRATION_MISSING' })
  await rm(join(folder, '001_first.sql'))
  await expect(migrate(sql, folder)).rejects.toMatchObject({ code: 'ERR_MIGRATION_MISSING' })
})

test('a file slipped in before an applied one is refused', async () => {
  await rm(join(folder, '001_first.sql'))
  await file('002_second.sql', 'create table second (id int);')
  await migrate(sql, folder)
  await file('001_first.sql', 'create table first (id int);')
  await expect(migrate(sql, folder)).rejects.toMatchObject({ code: 'ERR_MIGRATION_ORDER' })
})
