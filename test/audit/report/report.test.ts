import { chromium } from 'playwright-core'
import type { Sql } from 'postgres'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Linked } from '../../../audit/chain.ts'
import { cleaner } from '../../../audit/clean.ts'
import { createEmitter } from '../../../audit/emit.ts'
import type { Record } from '../../../audit/record.ts'
import { counted } from '../../../audit/report/counted.ts'
import { html } from '../../../audit/report/html.ts'
import { markdown } from '../../../audit/report/markdown.ts'
import { createReport } from '../../../audit/report/report.ts'
import type { Report } from '../../../audit/report/section.ts'
import { sections } from '../../../audit/report/sections.ts'
import { createTally } from '../../../audit/report/tally.ts'
import { empty, linkAll, newBoot, startDatabase } from '../database.ts'
import { end, quiet, start } from '../records.ts'
import { ONE_OF_EACH } from '../samples.ts'

const EVIL =
  '<img src=x onerror="document.title=1"><script>document.title=2</script>\'"`| [x](javascript:alert(1)) &lt;'

const issued = (grant: string, more: object = {}): Record =>
  ({
    kind: 'grant.issued',
    by: 'bob',
    grant,
    principal: 'alice',
    repository: 'acme/*',
    actions: ['update'],
    refs: [],
    starts: '2026-01-31T12:00:00.000Z',
    expires: '2999-01-31T14:00:00.000Z',
    reason: 'PAY-231',
    request: 'r-1',
    ...more,
  }) as Record

const rowsOf = (report: Pick<Report, 'sections'>, title: string) => {
  const found = report.sections.find(section => section.title.startsWith(title))
  if (!found) throw new Error(`there is no section ${title}`)
  return found.rows
}

describe('out of the database', () => {
  let database: Awaited<ReturnType<typeof startDatabase>>
  let sql: Sql

  beforeAll(async () => {
    database = await startDatabase()
    sql = database.sql
  })
  afterAll(() => database.stop())
  beforeEach(() => empty(sql))

  async function write(records: readonly Record[]): Promise<void> {
    const { emit, close } = await createEmitter({ sql, proxy: 'p', boot: newBoot(), log: quiet })
    for (const record of records) await emit(record)
    await close()
    await linkAll(sql)
  }

  const now = async () => (await sql<{ now: Date }[]>`select clock_timestamp() as now`)[0]!.now

  test('a window opened before the time of the report counts with its uses in it; one that ended before does not', async () => {
    await write([
      issued('g-1'),
      issued('g-2', { principal: 'carol' }),
      issued('g-3', { principal: 'dora', expires: '2026-01-31T14:00:00.000Z' }),
      { kind: 'grant.ended', by: 'bob', grant: 'g-2', principal: 'carol', how: 'revoked', reason: 'x' },
    ])
    const since = await now()
    await write([start('op-1', { grants: ['g-1'] }), end('op-1'), start('op-2', { grants: ['g-1'] })])
    const report = await createReport(sql, { since, until: new Date(Date.now() + 60_000) })
    expect(rowsOf(report, 'Who had access')).toEqual([['alice', 'acme/*', 1, 0, 2, expect.any(String)]])
    expect(rowsOf(report, 'What was read')).toEqual([['alice', 'acme/app', 0, 1, 0, 0, 0, 0, 1290]])
    expect(report.facts).toContainEqual(['Sequence numbers', '5 to 7'])
  })

  test('what auditors ask for is told: used, never used, approved, broken glass, refused, given alone', async () => {
    const request = {
      request: 'r-1',
      principal: 'alice',
      repository: 'acme/app',
      actions: ['update'],
      refs: [],
      rule: 'night',
    }
    await write([
      issued('g-1'),
      issued('g-2', { repository: 'acme/unused', request: undefined }),
      { kind: 'request.vote', by: 'bob', reason: 'ok', ...request },
      { kind: 'request.vote', by: 'bob', reason: 'ok', ...request },
      { kind: 'request.denied', by: 'erin', reason: 'no', ...request },
      { kind: 'request.approved', by: 'drawbridge', reason: 'break-glass: nobody is asked first', ...request },
      { kind: 'request.approved', by: 'bob', reason: 'break-glass, I say', ...request },
      start('op-1'),
      end('op-1', { result: 'cut' }),
      start('op-2', { grants: [], observed: { code: 'no-grant', reason: 'no open window' } }),
      end('op-2', {}),
      { ...ONE_OF_EACH.find(({ kind }) => kind === 'operation.refused')! },
      { kind: 'ledger.gap', by: 'ledger', proxy: 'q', boot: 'b', from: 3, to: 9 },
    ])
    const report = await createReport(sql, { since: new Date(0), until: new Date(Date.now() + 60_000) })
    expect(rowsOf(report, 'Who had access')).toEqual([
      ['alice', 'acme/*', 1, 0, 1, expect.any(String)],
      ['alice', 'acme/unused', 1, 1, 0, 'never'],
    ])
    expect(rowsOf(report, 'Access that was given').map(([grant]) => grant)).toEqual(['g-2'])
    expect(rowsOf(report, 'Who approved')).toEqual([
      ['bob', 'alice', 2, 0],
      ['erin', 'alice', 0, 1],
    ])
    expect(rowsOf(report, 'Access given without').map(row => row[2])).toEqual(['bob'])
    // An approver's own words do not make glass broken.
    expect(rowsOf(report, 'Emergency').map(row => row[6])).toEqual(['night'])
    expect(rowsOf(report, 'What was refused')).toEqual([['no-grant', 'alice', 'acme/app', 1, expect.any(String)]])
    expect(rowsOf(report, 'What would have been refused')).toEqual([
      ['no-grant', 'alice', 'acme/app', 1, expect.any(String)],
    ])
    expect(rowsOf(report, 'Whether the record').map(row => row.slice(2))).toEqual([['ledger.gap', 'q', 'b', 3, 9]])
  })
})

const entry = (seq: number, record: Record, day = 1): Linked => {
  const recorded = `2026-01-${String(day).padStart(2, '0')}T00:00:00.000Z`
  return { seq, recorded, at: recorded, proxy: 'p', boot: 'b', n: seq, hash: '', record }
}

function reportOf(records: readonly Record[]): Report {
  const tally = createTally()
  for (const [i, record] of records.entries()) tally.add(entry(i + 1, record, 1 + (i % 28)))
  const counted = tally.finish()
  const days = [...counted.days].map(([day, { done, refused }]) => ({ day, done, refused }))
  return { title: 'Access', since: 'a', until: 'b', facts: [], days, sections: sections(counted) }
}

test('two hundred thousand records take no more room than a few thousand', () => {
  const tally = createTally()
  let seq = 0
  // A person, a repository and a window of their own for each: the worst there can be.
  const many = (i: number) => {
    tally.add(entry(++seq, issued(`g-${i}`, { principal: `p-${i}`, repository: `acme/r-${i}` })))
    tally.add(entry(++seq, start(`op-${i}`, { grants: [`g-${i}`], principal: `p-${i}` })))
    tally.add(entry(++seq, end(`op-${i}`, { principal: `p-${i}`, repository: `acme/r-${i}` })))
    tally.add(entry(++seq, { ...refusal, principal: `p-${i}` } as Record))
  }
  const refusal = ONE_OF_EACH.find(({ kind }) => kind === 'operation.refused')!
  for (let i = 0; i < 60_000; i++) many(i)
  const [access] = sections(tally.finish())
  expect(access!.rows).toHaveLength(5_000)
  // Nothing is left out of the sums.
  expect(access!.more).toContain('55000 windows')
  const groups = counted(() => ({ n: 0 }))
  for (let i = 0; i < 6_000; i++) groups.row([String(i)]).n++
  expect([groups.rows(({ n }) => n).length, groups.others]).toEqual([5_000, { n: 1_000 }])
})

const evil = ONE_OF_EACH.map(record => cleaner()(withEvil(record)))

/** Every text in a record replaced, but for those words that decide what it is. */
function withEvil(record: Record): Record {
  const words = ['kind', 'action', 'result', 'service', 'how', 'starts', 'expires']
  const changed = Object.entries(record).map(([name, value]) => [
    name,
    typeof value === 'string' && !words.includes(name) ? EVIL : value,
  ])
  return Object.fromEntries(changed) as Record
}

test('in Markdown what people typed is text: no markup, no link, no HTML, no further cell', () => {
  const shown = markdown(reportOf(evil))
  expect(shown).not.toMatch(/<img|<script|\]\(javascript/)
  for (const line of shown.split('\n').filter(line => line.startsWith('| '))) {
    const columns = line.replaceAll('\\|', '').split('|').length
    expect([4, 5, 6, 7, 8, 9, 10, 11]).toContain(columns)
  }
})

test('in HTML nothing a person typed is a tag, and a browser runs nothing of it', async () => {
  const shown = html(reportOf(evil))
  expect(
    shown.match(
      /<(?!\/?(?:html|head|meta|title|style|body|h1|h2|p|dl|dt|dd|figure|figcaption|svg|g|rect|text|section|table|thead|tbody|tr|th|td)\b|!doctype)/g,
    ),
  ).toBeNull()
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-background-networking'],
  })
  try {
    const page = await browser.newPage()
    const asked: string[] = []
    page.on('request', request => void asked.push(request.url()))
    await page.setContent(shown)
    expect(await page.title()).toBe('Access')
    expect(await page.locator('script, img, a, [onerror]').count()).toBe(0)
    expect(await page.locator('td', { hasText: '<script>document.title=2</script>' }).count()).toBeGreaterThan(3)
    // The plot is there, and nothing was asked of anybody.
    expect(await page.locator('rect').count()).toBeGreaterThan(2)
    expect(asked.filter(url => !url.startsWith('about:') && !url.startsWith('data:'))).toEqual([])
  } finally {
    await browser.close()
  }
})
