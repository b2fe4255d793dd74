import { type KeyObject, randomBytes } from 'node:crypto'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres, { type Sql } from 'postgres'
import { type Head, loadHeadKey } from '../../audit/head.ts'
import { startWriter } from '../../audit/ledger.ts'
import { migrate } from '../../deploy/migrate.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { until } from '../support/program.ts'
import { quiet } from './records.ts'

/** A cluster with the product's schema in it. */
export async function startDatabase(): Promise<{ database: Postgres; sql: Sql; stop(): Promise<void> }> {
  const database = await startPostgres()
  const sql = connect(database)
  await migrate(sql, 'deploy/migrations')
  return {
    database,
    sql,
    async stop() {
      await sql.end({ timeout: 1 })
      await database.stop()
    },
  }
}

export const connect = (database: Postgres, max = 10): Sql =>
  postgres(database.url, { max, connect_timeout: 2, onnotice() {}, backoff: false })

/** Forgets all records, as a new database would. */
export async function empty(sql: Sql): Promise<void> {
  await sql`truncate audit.inbox, audit.record, audit.source, audit.open_operation, audit.head`
  await sql`update audit.chain set seq = 0, hash = decode(repeat('00', 32), 'hex'), recorded = to_timestamp(0), peaks = ''`
}

/** The ledger writer at work until the inbox is empty; resolves to its last head and the key that head is signed with. */
export async function linkAll(sql: Sql): Promise<{ head: Head; publicKey: KeyObject }> {
  const key = await loadHeadKey(join(await temporary(), 'key'))
  const writer = startWriter({ sql, boot: newBoot(), key, publishers: [], log: quiet })
  await until(async () => (await sql`select from audit.inbox`).length === 0, 'the inbox to empty')
  await writer.close()
  return { head: writer.state().head!, publicKey: key.publicKey }
}

export const newBoot = () => randomBytes(6).toString('hex')

export const temporary = () => mkdtemp(join(tmpdir(), 'ledger-'))

/** All an iterable gives. */
export async function gather<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}
