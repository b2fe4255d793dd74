import { join } from 'node:path'
import fc from 'fast-check'
import type { Sql } from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { Linked } from '../../audit/chain.ts'
import { createEmitter } from '../../audit/emit.ts'
import { type HeadKey, loadHeadKey } from '../../audit/head.ts'
import { startWriter, type Writer } from '../../audit/ledger.ts'
import { type Filters, linked, list, matches, readRows } from '../../audit/read.ts'
import type { Record } from '../../audit/record.ts'
import { createTail } from '../../audit/tail.ts'
import { until } from '../support/program.ts'
import { empty, gather, newBoot, startDatabase, temporary } from './database.ts'
import { end, quiet, start } from './records.ts'

let database: Awaited<ReturnType<typeof startDatabase>>
let sql: Sql
let key: HeadKey
let writer: Writer

beforeAll(async () => {
  database = await startDatabase()
  sql = database.sql
  key = await loadHeadKey(join(await temporary(), 'key'))
})
afterAll(() => database.stop())
beforeEach(() => empty(sql))

async function writing<T>(
  work: (emit: (record: Record) => Promise<void>) => Promise<T>,
  appended?: () => void,
): Promise<T> {
  writer = startWriter({ sql, boot: newBoot(), key, publishers: [], log: quiet, ...(appended && { appended }) })
  const { emit, close } = await createEmitter({
    sql,
    proxy: 'p',
    boot: newBoot(),
    log: quiet,
    committed: () => writer.wake(),
  })
  try {
    return await work(emit)
  } finally {
    await close()
    await until(async () => (await sql`select from audit.inbox`).length === 0, 'the inbox to empty')
    await writer.close()
  }
}

const varied = (i: number): Record => {
  const principal = ['alice', 'bob', 'carol'][i % 3]!
  const repository = ['acme/app', 'acme/lib'][i % 2]!
  const ref = `refs/heads/b${i % 5}`
  const updates = [{ ref, old: '0'.repeat(40), new: 'a'.repeat(40), action: 'create' as const }]
  switch (i % 4) {
    case 0:
      return { ...start(`op-${i}`, { updates, grants: [`g-${i % 7}`] }), principal, repository }
    case 1:
      return { ...end(`op-${i - 1}`, { result: i % 8 === 1 ? 'cut' : 'ok' }), principal, repository }
    case 2:
      return { kind: 'grant.ended', by: 'dave', grant: `g-${i % 7}`, principal, how: 'revoked', reason: 'because' }
    default:
      return { kind: 'config.loaded', by: 'drawbridge', version: `v${i}` }
  }
}

test('a hundred followers that come at different times each see every record once and in order, over restarts of their reading', async () => {
  const tail = createTail({ sql, log: quiet })
  const stop = new AbortController()
  const seen: number[][] = []
  const followers = Array.from({ length: 100 }, async (_, i) => {
    await new Promise(resolve => setTimeout(resolve, i * 5))
    const mine: number[] = []
    seen.push(mine)
    // Each breaks off now and then, as a client does whose connection broke, and resumes by its last sequence number.
    while (!stop.signal.aborted) {
      let left = 40 + i * 7
      for await (const { seq } of tail.follow(mine.at(-1) ?? 0, {}, stop.signal)) {
        mine.push(seq)
        if (--left === 0) break
      }
    }
  })
  await writing(
    async emit => {
      for (let i = 0; i < 600; i += 20) {
        await Promise.all(Array.from({ length: 20 }, (_, k) => emit(varied(i + k))))
      }
    },
    () => tail.wake(),
  )
  await until(() => seen.length === 100 && seen.every(mine => mine.length === 600), 'all followers to have all')
  stop.abort()
  await Promise.all(followers)
  const all = Array.from({ length: 600 }, (_, i) => i + 1)
  for (const mine of seen) expect(mine).toEqual(all)
  await tail.close()
})

test('a hundred followers cost the database no more queries than one', async () => {
  let queries = 0
  const counting = new Proxy(sql, {
    apply(target, self, args) {
      // Fragments are built by the same function; only whole statements are counted.
      if (Array.isArray(args[0]) && /^\s*select/i.test(args[0][0])) queries++
      return Reflect.apply(target, self, args)
    },
  })
  const tail = createTail({ sql: counting, log: quiet, pollMilliseconds: 10_000 })
  const stop = new AbortController()
  let received = 0
  const followers = Array.from({ length: 100 }, async () => {
    for await (const _ of tail.follow(0, { kind: 'operation.start' }, stop.signal)) received++
  })
  await new Promise(resolve => setTimeout(resolve, 50))
  await writing(
    emit => emit(start('op-1')),
    () => tail.wake(),
  )
  await until(() => received === 100, 'all followers to hear of it')
  expect(queries).toBeLessThan(20)
  stop.abort()
  await Promise.all(followers)
  await tail.close()
})

test('a follower far behind reads the past from the database and then goes on with the present', async () => {
  const tail = createTail({ sql, log: quiet })
  await writing(async emit => void (await Promise.all(Array.from({ length: 2500 }, (_, i) => emit(varied(i))))))
  const stop = new AbortController()
  const got: Linked[] = []
  const following = (async () => {
    for await (const entry of tail.follow(3, { principal: 'bob' }, stop.signal)) got.push(entry)
  })()
  await writing(async emit => void (await Promise.all(Array.from({ length: 30 }, (_, i) => emit(varied(i))))))
  const expected = (await gather(readRows(sql, 3, { principal: 'bob' }))).flat().map(row => row.seq)
  await until(() => got.length >= expected.length, 'the follower to catch up')
  expect(got.map(entry => entry.seq)).toEqual(expected)
  stop.abort()
  await following
  await tail.close()
})

test('the database and the process judge every filter alike', async () => {
  await writing(async emit => {
    for (let i = 0; i < 120; i++) await emit(varied(i))
  })
  const all = await list(sql, {}, { after: 0 }, 1000)
  const time = fc.integer({ min: 0, max: 119 }).map(i => new Date(all[i]!.recorded))
  const filters = fc.record(
    {
      principal: fc.constantFrom('alice', 'bob', 'nobody'),
      actor: fc.constantFrom('dave', 'drawbridge'),
      repository: fc.constantFrom('acme/app', 'acme/lib'),
      ref: fc.constantFrom('refs/heads/b0', 'refs/heads/b4', 'refs/heads/main'),
      action: fc.constantFrom('push', 'fetch'),
      result: fc.constantFrom('ok', 'cut', 'refused'),
      grant: fc.constantFrom('g-0', 'g-2'),
      operation: fc.constantFrom('op-4', 'op-8'),
      kind: fc.constantFrom('operation.start', 'grant.ended', 'config.loaded'),
      since: time,
      until: time,
    },
    { requiredKeys: [] },
  )
  await fc.assert(
    fc.asyncProperty(filters, async (wanted: Filters) => {
      const found = await list(sql, wanted, { after: 0 }, 1000)
      expect(found.map(entry => entry.seq)).toEqual(all.filter(entry => matches(entry, wanted)).map(entry => entry.seq))
    }),
    { numRuns: 150 },
  )
})

test('searches by ref and by grant find all there is, near and far, in either direction', async () => {
  await writing(async emit => void (await Promise.all(Array.from({ length: 5200 }, (_, i) => emit(varied(i))))))
  const all = (await gather(readRows(sql))).flat().map(linked)
  const halfway = new Date(all[2_600]!.recorded)
  for (const wanted of [
    { ref: 'refs/heads/b1' },
    { grant: 'g-3' },
    { ref: 'refs/heads/b0', principal: 'bob' },
    { ref: 'refs/heads/b1', until: halfway },
    { grant: 'g-3', since: halfway },
  ] satisfies Filters[]) {
    const expected = all.filter(entry => matches(entry, wanted)).map(entry => entry.seq)
    const forward: number[] = []
    for (let after: number | undefined = 0; after !== undefined; ) {
      const page: Linked[] = await list(sql, wanted, { after }, 100)
      forward.push(...page.map(entry => entry.seq))
      after = page.at(-1)?.seq
    }
    expect(forward).toEqual(expected)
    const back: number[] = []
    for (let before = Number.MAX_SAFE_INTEGER; ; before = back.at(-1)!) {
      const page = await list(sql, wanted, { before }, 170)
      if (page.length === 0) break
      back.push(...page.map(entry => entry.seq))
    }
    expect(back).toEqual(expected.toReversed())
  }
})

test('paging backwards from the newest meets every record once', async () => {
  await writing(async emit => void (await Promise.all(Array.from({ length: 57 }, (_, i) => emit(varied(i))))))
  const seqs: number[] = []
  for (let before: number | undefined; ; before = seqs.at(-1)) {
    const page = await list(sql, {}, before === undefined ? {} : { before }, 10)
    if (page.length === 0) break
    seqs.push(...page.map(entry => entry.seq))
  }
  expect(seqs).toEqual(Array.from({ length: 57 }, (_, i) => 57 - i))
})

test('an aborted follower ends at once, without an error', async () => {
  const tail = createTail({ sql, log: quiet })
  const stop = new AbortController()
  const following = gather(tail.follow(0, {}, stop.signal))
  setTimeout(() => stop.abort(), 20)
  expect(await following).toEqual([])
  expect(await gather(tail.follow(0, {}, AbortSignal.abort()))).toEqual([])
  await tail.close()
})
