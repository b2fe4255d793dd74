import type { Sql } from 'postgres'
import { storedHeadOver } from '../append.ts'
import type { Head } from '../head.ts'
import { linked, readRows } from '../read.ts'
import type { Report } from './section.ts'
import { sections } from './sections.ts'
import { createTally, type Tally } from './tally.ts'

export interface ReportRange {
  readonly since: Date
  readonly until: Date
}

/**
 * Reads the ledger once, in strides, and tells what auditors ask for in that time. Windows issued before count as far as they were
 * open in it. What is kept in memory does not grow with the ledger.
 */
export async function createReport(sql: Sql, { since, until }: ReportRange): Promise<Report> {
  const tally = createTally()
  for (const kind of ['grant.issued', 'grant.extended', 'grant.ended']) {
    for await (const rows of readRows(sql, 0, { kind, until: since }))
      for (const row of rows) tally.before(linked(row).record)
  }
  tally.begin(since.toISOString())
  for await (const rows of readRows(sql, 0, { since, until })) for (const row of rows) tally.add(linked(row))
  const counted = tally.finish()
  const head = counted.last && (await storedHeadOver(sql, counted.last.seq))
  const days = [...counted.days].map(([day, { done, refused }]) => ({ day, done, refused }))
  return {
    title: 'Access to source code: who had it, who gave it, who used it',
    since: since.toISOString(),
    until: until.toISOString(),
    facts: facts(counted, head),
    days,
    sections: sections(counted),
  }
}

function facts({ records, first, last }: Tally, head: Head | undefined) {
  const range = first && last ? `${first.seq} to ${last.seq}` : 'none'
  const vouched = head
    ? `${head.seq} records, signed ${head.time} by ${head.key}, root ${head.root}`
    : 'no signed head covers all of it yet'
  return [
    ['Records read', String(records)],
    ['Sequence numbers', range],
    ['Vouched for by the head over', vouched],
    ['To check', 'drawbridge audit verify --heads FILE, with heads that were kept outside the gate'],
  ] as const
}
