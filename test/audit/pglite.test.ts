import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import postgres from 'postgres'
import { expect, test } from 'vitest'
import { createEmitter } from '../../audit/emit.ts'
import { parseHead } from '../../audit/head.ts'
import { HEADS_FILE, startLedger } from '../../audit/main.ts'
import { list, readIndexed } from '../../audit/read.ts'
import { verifyLedger } from '../../audit/verify.ts'
import { servePglite } from '../../deploy/embedded/pglite.ts'
import { migrate } from '../../deploy/migrate.ts'
import { until } from '../support/program.ts'
import { newBoot, temporary } from './database.ts'
import { end, quiet, start } from './records.ts'

test('the whole ledger works on the one connection of PGlite', async () => {
  const db = await PGlite.create()
  const folder = await temporary()
  const server = await servePglite(db, join(folder, '.s.PGSQL.5432'))
  const sql = postgres({
    path: join(folder, '.s.PGSQL.5432'),
    database: 'postgres',
    user: 'postgres',
    max: 1,
    onnotice() {},
  })
  expect(await migrate(sql, 'deploy/migrations')).toContain('001_audit.sql')
  expect(await migrate(sql, 'deploy/migrations')).toEqual([])

  const state = await temporary()
  const ledger = await startLedger({ sql, state, boot: newBoot(), log: quiet })
  const first = await createEmitter({ sql, proxy: 'p', boot: newBoot(), log: quiet, committed: ledger.wake })
  const stop = new AbortController()
  const followed: number[] = []
  const following = (async () => {
    for await (const { seq } of ledger.tail.follow(0, { repository: 'acme/app' }, stop.signal)) followed.push(seq)
  })()
  await Promise.all(
    Array.from({ length: 100 }, (_, i) => [first.emit(start(`op-${i}`)), first.emit(end(`op-${i}`))]).flat(),
  )
  await first.emit(start('op-open'))
  await first.close()

  const second = await createEmitter({ sql, proxy: 'p', boot: newBoot(), log: quiet, committed: ledger.wake })
  expect(await second.recover()).toBe(1)
  await second.close()
  await until(() => followed.length === 202, 'the follower to have all')
  expect(followed).toEqual(Array.from({ length: 202 }, (_, i) => i + 1))
  expect(await list(sql, { ref: 'refs/heads/main', grant: 'g-1', since: new Date(0) }, {}, 5)).toHaveLength(5)
  stop.abort()
  await following
  await ledger.close()

  const heads = (await readFile(join(state, HEADS_FILE), 'utf8')).trim().split('\n').map(parseHead)
  const verdict = await verifyLedger({ entries: readIndexed(sql), heads, keys: [ledger.key.publicKey] })
  expect(verdict).toMatchObject({ ok: true, records: 202, vouched: 202 })
  await sql.end({ timeout: 1 })
  server.close()
  await db.close()
})
