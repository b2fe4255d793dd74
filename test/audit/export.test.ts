import fc from 'fast-check'
import { expect, test } from 'vitest'
import { canonical } from '../../audit/canonical.ts'
import { cloudEventText, csvLine, exportLedger, type Format, jsonLine, parseExport } from '../../audit/export.ts'
import { ocsfText } from '../../audit/ocsf.ts'
import { linked, type StoredRow } from '../../audit/read.ts'
import type { Record } from '../../audit/record.ts'
import { gather } from './database.ts'
import { end, start } from './records.ts'
import { ONE_OF_EACH } from './samples.ts'

const row = (seq: number, record: Record): StoredRow => ({
  seq,
  recorded: '2026-01-31T12:34:56.789Z',
  proxy: 'p',
  boot: 'b',
  n: seq,
  at: '2026-01-31T12:34:55.000Z',
  body: canonical(record),
  hash: 'a'.repeat(64),
})

async function exported(format: Format, ...records: Record[]): Promise<string> {
  async function* pages() {
    yield records.map((record, i) => row(i + 1, record))
  }
  return (await gather(exportLedger(pages(), format, 'https://gate.example'))).join('')
}

test('JSON Lines come back as they were', async () => {
  const text = await exported('jsonl', start('op-1'), end('op-1'))
  async function* lines() {
    yield* text.split('\n')
  }
  const entries = (await gather(parseExport(lines()))).flat()
  expect(entries).toEqual([linked(row(1, start('op-1'))), linked(row(2, end('op-1')))])
  expect(JSON.parse(jsonLine(row(1, start('op-1'))))).toMatchObject({ seq: 1, record: { kind: 'operation.start' } })
})

test('a cell that begins like a formula is shown as text, in every spelling a spreadsheet knows', () => {
  for (const cell of [
    '=1+1',
    '+1',
    '-1',
    '@SUM(A1)',
    '\t=1',
    '\r=1',
    ' =1',
    '|calc',
    '%0A=1',
    '\uff1d1',
    '=HYPERLINK("http://x","y")',
  ]) {
    expect(csvLine([cell])).toMatch(/^"'/)
  }
  expect(csvLine(['a "b"', 'c,d', 12, -3, null, undefined, 'x\ny'])).toBe('"a ""b""","c,d",12,-3,,,"x\ny"\r\n')
})

test('a CSV export has a header, as many cells in each line, and no formula of whoever was recorded', async () => {
  const evil = { ...end('op-1', { reason: '=cmd|calc' }), principal: '+alice' }
  const text = await exported('csv', start('op-1'), evil)
  const lines = text.split('\r\n')
  expect(lines[0]).toMatch(/^seq,recorded,at,kind,/)
  expect(lines).toHaveLength(4)
  expect(text).toContain(`"'=cmd|calc"`)
  expect(text).toContain(`"'+alice"`)
})

test('any text survives a CSV reader', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'binary' }), { minLength: 1 }), cells => {
      const read = readCsvLine(csvLine(cells))
      expect(read.map((cell, i) => (cell === cells[i] ? cell : cell.slice(1)))).toEqual(cells)
    }),
  )
})

/** RFC 4180, one line. */
function readCsvLine(line: string): string[] {
  const cells: string[] = []
  let rest = line
  for (;;) {
    const [whole, quoted, plain] = /^(?:"((?:[^"]|"")*)"|([^,"\r\n]*))/.exec(rest)!
    cells.push(quoted === undefined ? plain! : quoted.replaceAll('""', '"'))
    rest = rest.slice(whole.length)
    if (rest === '\r\n') return cells
    rest = rest.slice(1)
  }
}

test('every kind of record becomes a CloudEvent with what the specification requires', () => {
  for (const record of ONE_OF_EACH) {
    expect(JSON.parse(cloudEventText(row(3, record), 'https://gate.example'))).toMatchObject({
      specversion: '1.0',
      id: '3',
      source: 'https://gate.example',
      type: `dev.drawbridge.${record.kind}`,
      time: '2026-01-31T12:34:55.000Z',
      data: linked(row(3, record)),
    })
  }
})

test('every kind of record becomes an OCSF event with what its class requires', async () => {
  for (const record of ONE_OF_EACH) {
    const event = JSON.parse(ocsfText(row(3, record))) as { class_uid: number; activity_id: number; type_uid: number }
    expect(event).toMatchObject({
      class_uid: record.kind === 'signin.refused' ? 3002 : 6003,
      time: Date.parse('2026-01-31T12:34:55.000Z'),
      severity_id: expect.any(Number),
      metadata: { version: expect.stringMatching(/^1\./), product: { vendor_name: 'Drawbridge' } },
      actor: { user: { name: expect.any(String) } },
      src_endpoint: expect.anything(),
      unmapped: { record, hash: 'a'.repeat(64), proxy: 'p' },
    })
    expect(event.type_uid).toBe(event.class_uid * 100 + event.activity_id)
  }
  expect((await exported('ocsf', ...ONE_OF_EACH)).trim().split('\n')).toHaveLength(ONE_OF_EACH.length)
})

test('an operation tells a SIEM under which version of the policy it was let through, and who approved it', () => {
  const under = [{ grant: 'g-1', request: 'r-1', approvers: ['bob', 'carol'], policy: 'v1' }]
  const policy = { version: 'v1', desc: 'g-1 (r-1, approved by bob, carol)' }
  expect(JSON.parse(ocsfText(row(1, start('op-1', { under }))))).toMatchObject({
    actor: { user: { name: 'alice' }, authorizations: [{ decision: 'allowed', policy }] },
  })
  expect(JSON.parse(ocsfText(row(1, start('op-1')))).actor).toEqual({ user: { name: 'alice' } })
})

test('an operation that was refused or cut is a failure to a SIEM', () => {
  expect(JSON.parse(ocsfText(row(1, end('op-1', { result: 'cut' }))))).toMatchObject({
    status_id: 2,
    status_detail: 'cut',
  })
  expect(JSON.parse(ocsfText(row(1, end('op-1'))))).toMatchObject({ status_id: 1 })
})
