import postgres from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { requirePatchedPostgres } from '../../audit/patched.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { runProgram } from '../support/program.ts'

// What patches/postgres+3.4.9.patch closes. The first story runs in a process of its own, because what it is about is that
// the process lives.

let pg: Postgres
beforeAll(async () => {
  pg = await startPostgres()
})
afterAll(() => pg.stop())

const connect = (max: number) => postgres(pg.url, { max, onnotice: () => {} })
const endOf = (pid: number) => `select pg_terminate_backend(${pid})`

test('a backend that is ended inside a transaction or a reserved connection costs the transaction, not the process', async () => {
  const said = await runProgram(process.execPath, [
    '--input-type=module',
    '--eval',
    `
    import postgres from ${JSON.stringify(import.meta.resolve('postgres'))}
    const sql = postgres(${JSON.stringify(pg.url)}, { max: 2, onnotice: () => {} })
    const other = postgres(${JSON.stringify(pg.url)}, { max: 1 })
    const end = async ([{ pid }]) => {
      await other\`select pg_terminate_backend(\${pid})\`
      await new Promise(resolve => setTimeout(resolve, 100))
    }
    const inTransaction = sql.begin(async tx => {
      await end(await tx\`select pg_backend_pid() as pid\`)
      await tx\`select 1\`
    })
    console.log('transaction', await inTransaction.catch(error => error.code))
    const reserved = await sql.reserve()
    await end(await reserved\`select pg_backend_pid() as pid\`)
    console.log('reserved', await reserved\`select 1\`.catch(error => error.code))
    reserved.release()
    const [{ one }] = await sql\`select 1 as one\`
    console.log('alive', one)
    process.exit(0)
    `,
  ])
  expect(said.trim().split('\n')).toEqual(['transaction CONNECTION_CLOSED', 'reserved CONNECTION_CLOSED', 'alive 1'])
})

test('what is left of a broken transaction is not carried out on the connection that takes its place', async () => {
  const sql = connect(1)
  const other = connect(1)
  await sql`create table landed (what text)`
  let rest: Promise<unknown> = Promise.resolve()
  const { promise: goOn, resolve: replaced } = Promise.withResolvers<void>()
  const transaction = sql.begin(async tx => {
    const [row] = await tx<{ pid: number }[]>`select pg_backend_pid() as pid`
    await other.unsafe(endOf(row!.pid))
    await goOn
    rest = tx`insert into landed values ('outside of any transaction')`
    await rest
  })
  await expect(transaction).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' })
  // The pool's one connection serves somebody else now.
  expect(await sql`select 1 as one`).toEqual([{ one: 1 }])
  replaced()
  await new Promise(resolve => setImmediate(resolve))
  await expect(rest).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' })
  expect(await sql`select * from landed`).toEqual([])
  await Promise.all([sql.end(), other.end()])
})

test('queries that wait behind one on a reserved connection fail with it, and giving it back late harms nobody', async () => {
  const sql = connect(1)
  const other = connect(1)
  const reserved = await sql.reserve()
  const [row] = await reserved<{ pid: number }[]>`select pg_backend_pid() as pid`
  const waiting = Promise.allSettled([reserved`select pg_sleep(60)`, reserved`select 1`, reserved`select 2`])
  await new Promise(resolve => setTimeout(resolve, 100))
  await other.unsafe(endOf(row!.pid))
  expect((await waiting).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
  expect(await sql`select 1 as one`).toEqual([{ one: 1 }])
  reserved.release()
  expect(await Promise.all([sql`select 1 as one`, sql`select 2 as two`])).toEqual([[{ one: 1 }], [{ two: 2 }]])
  await Promise.all([sql.end(), other.end()])
})

test('the installed postgres is the patched one, and without its patch nothing starts', () => {
  expect(() => requirePatchedPostgres()).not.toThrow()
  expect(() => requirePatchedPostgres({})).toThrow('npx patch-package')
})
