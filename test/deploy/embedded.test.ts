import { chmodSync, mkdirSync, rmSync, symlinkSync } from 'node:fs'
import type { Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import postgres from 'postgres'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { servePglite } from '../../deploy/embedded/pglite.ts'
import { engineSockets, makeSocketFolder } from '../../deploy/embedded/where.ts'
import { holdFolder } from '../../deploy/lock.ts'
import { temporaryFolder } from '../support/program.ts'

const folder = temporaryFolder('pglite')
let database: PGlite
let server: Server

beforeAll(async () => {
  database = await PGlite.create()
  server = await servePglite(database, join(folder, '.s.PGSQL.5432'))
  vi.stubEnv('PGHOST', folder)
  vi.stubEnv('PGUSER', 'drawbridge')
})
afterAll(async () => {
  server.close()
  await database.close()
  vi.unstubAllEnvs()
})

const connect = (max: number) => postgres('postgres:///postgres', { max, onnotice: () => {} })

test('many connections take turns: no statement meets the parameters of another', async () => {
  const clients = Array.from({ length: 4 }, () => connect(3))
  const [first] = clients
  await first!`create table turn (client int, n int)`
  await Promise.all(
    clients.map(async (sql, client) => {
      const one = async (n: number) => {
        if (n % 4 > 0) {
          await sql`insert into turn values (${client}, ${n})`
          const [row] = await sql<{ n: number; client: number }[]>`select ${n}::int as n, ${client}::int as client`
          expect(row).toEqual({ n, client })
          return
        }
        const rolledBack = sql.begin(async transaction => {
          await transaction`insert into turn values (${client}, ${n})`
          await new Promise(resolve => setTimeout(resolve, 1))
          if (n % 8 === 0) throw new Error('changed my mind')
        })
        if (n % 8 === 0) await expect(rolledBack).rejects.toThrow('changed my mind')
        else await rolledBack
      }
      await Promise.all(Array.from({ length: 24 }, (_, n) => one(n)))
    }),
  )
  expect(await first!`select client, count(*)::int from turn group by client order by client`).toEqual(
    [0, 1, 2, 3].map(client => ({ client, count: 21 })),
  )
  await Promise.all(clients.map(sql => sql.end()))
})

test('a client that goes away in a transaction leaves nothing of it, and the next one is served', async () => {
  const leaver = connect(1)
  const left = leaver.begin(async transaction => {
    await transaction`create table left_behind (n int)`
    await leaver.end({ timeout: 0 })
  })
  await expect(left).rejects.toThrow()
  const next = connect(1)
  expect(await next`select to_regclass('left_behind') as found`).toEqual([{ found: null }])
  await next.end()
})

test('a failed statement is an error for its client alone', async () => {
  const [one, other] = [connect(1), connect(1)]
  await expect(one`select * from no_such_table`).rejects.toThrow('does not exist')
  expect(await other`select 1 as n`).toEqual([{ n: 1 }])
  expect(await one`select 2 as n`).toEqual([{ n: 2 }])
  await Promise.all([one.end(), other.end()])
})

test('a folder is held by one at a time, and can be held again once it was let go', async () => {
  const held = join(temporaryFolder('held'), 'state')
  mkdirSync(held)
  const release = await holdFolder(held, 'test')
  expect(release).toBeTypeOf('function')
  expect(await holdFolder(held, 'test')).toBeUndefined()
  release?.()
  const again = await Promise.all([holdFolder(held, 'test'), holdFolder(held, 'test'), holdFolder(held, 'test')])
  expect(again.filter(Boolean)).toHaveLength(1)
})

test('a deep state folder has its sockets where their paths are short enough', () => {
  expect(engineSockets('/srv/drawbridge').redis).toBe('/srv/drawbridge/run/redis.sock')
  const deep = `/srv/${'deep/'.repeat(30)}`
  expect(Buffer.byteLength(engineSockets(deep).postgres)).toBeLessThan(104)
  expect(engineSockets(deep)).toEqual(engineSockets(deep))
  expect(engineSockets(`${deep}a`).folder).not.toBe(engineSockets(`${deep}b`).folder)
})

test('a folder that somebody made before us at the place that can be foretold is not used', () => {
  const deep = join(temporaryFolder('deep'), 'd'.repeat(80))
  const { folder } = engineSockets(deep)
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(folder)
  chmodSync(folder, 0o777)
  expect(() => makeSocketFolder(deep)).toThrow('is not ours alone')
  rmSync(folder, { recursive: true })
  symlinkSync(tmpdir(), folder)
  expect(() => makeSocketFolder(deep)).toThrow('is not ours alone')
  rmSync(folder)
  expect(makeSocketFolder(deep)).toBe(folder)
})
