import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Sql } from 'postgres'

/** `001_audit.sql`: the number orders the files, the word is for people. */
const FILE_NAME = /^\d{3}_[a-z0-9_]+\.sql$/

/** Held while a file is applied, so that two roles starting at once do not apply it twice. Any number will do; it must never change. */
const MIGRATION_LOCK = 7_236_112_001

/** The schema in the database and the files at hand do not belong together; nothing was changed. */
export class MigrationError extends Error {
  readonly code: 'ERR_MIGRATION_CHANGED' | 'ERR_MIGRATION_MISSING' | 'ERR_MIGRATION_ORDER' | 'ERR_MIGRATION_FAILED'

  constructor(code: MigrationError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'MigrationError'
    this.code = code
  }
}

interface Migration {
  readonly name: string
  readonly text: string
  readonly checksum: string
}

/**
 * Brings the database to the state the SQL files in `folder` describe: each file not yet applied runs once, in order of
 * its name, in a transaction of its own together with the note that it ran. Safe to call from several processes at once.
 *
 * Refuses, changing nothing more, when an applied file was edited or is gone, or when a new file sorts before an applied
 * one: in each case this program and that database are of different makes.
 * @returns the names of the files applied by this call
 */
export async function migrate(sql: Sql, folder: string): Promise<string[]> {
  const migrations = await readMigrations(folder)
  await createHistory(sql)
  const applied: string[] = []
  for (const migration of migrations) {
    if (await applyOnce(sql, migrations, migration)) applied.push(migration.name)
  }
  if (migrations.length === 0) checkHistory(await history(sql), migrations)
  return applied
}

/**
 * The files that `migrate` would apply to this database. Changes nothing.
 * @throws MigrationError when this program and that database are of different makes
 */
export async function pendingMigrations(sql: Sql, folder: string): Promise<string[]> {
  const migrations = await readMigrations(folder)
  const [made] = await sql<{ table: string | null }[]>`select to_regclass('migration')::text as table`
  const done = made?.table ? await history(sql) : []
  checkHistory(done, migrations)
  return migrations.map(({ name }) => name).filter(name => !done.some(applied => applied.name === name))
}

async function readMigrations(folder: string): Promise<Migration[]> {
  const names = (await readdir(folder)).filter(name => FILE_NAME.test(name)).sort()
  const texts = await Promise.all(names.map(name => readFile(join(folder, name), 'utf8')))
  return names.map((name, i) => ({
    name,
    text: texts[i]!,
    checksum: createHash('sha256').update(texts[i]!).digest('hex'),
  }))
}

/** `create table if not exists` can still fail when two sessions run it at the same moment, hence the lock around it. */
async function createHistory(sql: Sql): Promise<void> {
  await sql.begin(async transaction => {
    await transaction`select pg_advisory_xact_lock(${MIGRATION_LOCK}::bigint)`
    await transaction`select set_config('client_min_messages', 'warning', true)`
    await transaction`
      create table if not exists migration (
        name text primary key,
        checksum text not null,
        applied timestamptz not null default now()
      )`
  })
}

interface Applied {
  readonly name: string
  readonly checksum: string
}

async function history(sql: Pick<Sql, 'unsafe'>): Promise<Applied[]> {
  return await sql.unsafe<Applied[]>('select name, checksum from migration order by name')
}

async function applyOnce(sql: Sql, migrations: readonly Migration[], migration: Migration): Promise<boolean> {
  return await sql.begin(async transaction => {
    await transaction`select pg_advisory_xact_lock(${MIGRATION_LOCK}::bigint)`
    const done = await history(transaction)
    checkHistory(done, migrations)
    if (done.some(({ name }) => name === migration.name)) return false
    const later = done.find(({ name }) => name > migration.name)
    if (later) {
      throw new MigrationError(
        'ERR_MIGRATION_ORDER',
        `${migration.name} comes before ${later.name}, which is already applied; give it a higher number`,
      )
    }
    try {
      await transaction.unsafe(migration.text).simple()
    } catch (cause) {
      throw new MigrationError('ERR_MIGRATION_FAILED', `${migration.name}: ${messageOf(cause)}`, { cause })
    }
    await transaction`insert into migration (name, checksum) values (${migration.name}, ${migration.checksum})`
    return true
  })
}

function checkHistory(done: readonly Applied[], migrations: readonly Migration[]): void {
  for (const { name, checksum } of done) {
    const file = migrations.find(migration => migration.name === name)
    if (!file) {
      throw new MigrationError(
        'ERR_MIGRATION_MISSING',
        `the database was made with ${name}, which this version does not have; start the version that has it`,
      )
    }
    if (file.checksum !== checksum) {
      throw new MigrationError(
        'ERR_MIGRATION_CHANGED',
        `${name} was changed after it was applied to this database; restore the file and put the change into a new one`,
      )
    }
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
