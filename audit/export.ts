import { entryForm, type Linked } from './chain.ts'
import { facets } from './facets.ts'
import { ocsfText } from './ocsf.ts'
import { linked, type StoredRow } from './read.ts'
import type { Origin } from './record.ts'

export const FORMATS = ['jsonl', 'csv', 'cloudevents', 'ocsf'] as const
export type Format = (typeof FORMATS)[number]

/** Turns pages of the ledger into text, a chunk for each page; feed it to a `pipeline`. */
export async function* exportLedger(
  pages: AsyncIterable<readonly StoredRow[]>,
  format: Format,
  source: string,
): AsyncGenerator<string> {
  if (format === 'csv') yield csvLine(CSV_COLUMNS.map(([name]) => name))
  const line = lineOf(format, source)
  for await (const rows of pages) yield rows.map(line).join('')
}

function lineOf(format: Format, source: string): (row: StoredRow) => string {
  switch (format) {
    case 'jsonl':
      return jsonLine
    case 'csv':
      return row => csvLine(csvCells(linked(row)))
    case 'cloudevents':
      return row => `${cloudEventText(row, source)}\n`
    case 'ocsf':
      return row => `${ocsfText(row)}\n`
  }
}

/** The form that `audit verify` reads: the canonical entry with its link as a last member. */
export function jsonLine(row: StoredRow): string {
  return `${entryForm(row, row.body).slice(0, -1)},"hash":"${row.hash}"}\n`
}

type Column = readonly [name: string, cell: (entry: Linked) => string | number | null | undefined]

const CSV_COLUMNS: readonly Column[] = [
  ['seq', entry => entry.seq],
  ['recorded', entry => entry.recorded],
  ['at', entry => entry.at],
  ['kind', entry => entry.record.kind],
  ['operation', entry => facets(entry.record).operation],
  ['principal', entry => facets(entry.record).principal],
  ['actor', entry => facets(entry.record).actor],
  ['repository', entry => facets(entry.record).repository],
  ['action', entry => facets(entry.record).action],
  ['result', entry => facets(entry.record).result],
  ['grants', entry => facets(entry.record).grants?.join(' ')],
  ['refs', entry => facets(entry.record).refs?.join(' ')],
  ['reason', ({ record }) => ('reason' in record ? record.reason : null)],
  ['address', entry => originOf(entry)?.address],
  ['transport', entry => originOf(entry)?.transport],
  ['agent', entry => originOf(entry)?.agent],
  ['bytes_in', ({ record }) => ('bytesIn' in record ? record.bytesIn : null)],
  ['bytes_out', ({ record }) => ('bytesOut' in record ? record.bytesOut : null)],
  ['milliseconds', ({ record }) => ('milliseconds' in record ? record.milliseconds : null)],
  ['proxy', entry => entry.proxy],
  ['hash', entry => entry.hash],
]

function csvCells(entry: Linked): (string | number | null | undefined)[] {
  return CSV_COLUMNS.map(([, cell]) => cell(entry))
}

/**
 * One line of RFC 4180. A cell that a spreadsheet would take for a formula (`=`, `+`, `-`, `@` in front, also in their full-width forms)
 * gets an apostrophe, which shows it as text: reasons and ref names are written by whoever was recorded.
 */
export function csvLine(cells: readonly (string | number | null | undefined)[]): string {
  return `${cells.map(csvCell).join(',')}\r\n`
}

function csvCell(cell: string | number | null | undefined): string {
  if (cell === null || cell === undefined) return ''
  if (typeof cell === 'number') return String(cell)
  const text = /^[\s\u00a0]*[=+\-@\uff0b\uff0d\uff1d\uff20|%]|^[\t\r\n]/.test(cell) ? `'${cell}` : cell
  return /[",\r\n;\t']/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/**
 * A record as a CloudEvent 1.0 in the JSON format. `source` is the gate's URL or name. The entry is at hand as text and goes in as it is: writing it
 * anew is half of the work of an export.
 */
export function cloudEventText(row: StoredRow, source: string): string {
  const { kind, operation, repository, principal } = facets(linked(row).record)
  const subject = repository ?? operation ?? principal
  const attributes = {
    specversion: '1.0',
    // With its source unique, as the specification asks: a record has one place in one ledger.
    id: String(row.seq),
    source,
    type: `dev.drawbridge.${kind}`,
    time: row.at,
    ...(subject !== null && { subject }),
    datacontenttype: 'application/json',
    sequence: String(row.seq).padStart(16, '0'),
  }
  return `${JSON.stringify(attributes).slice(0, -1)},"data":${jsonLine(row).trimEnd()}}`
}

function originOf({ record }: Linked): Origin | undefined {
  return 'origin' in record ? record.origin : undefined
}

/** Reads back what `jsonl` wrote. A line that is not an entry is an error that names it. */
export async function* parseExport(lines: AsyncIterable<string>): AsyncGenerator<Linked[]> {
  let number = 0
  for await (const line of lines) {
    number++
    if (line.trim() === '') continue
    yield [parseLine(line, number)]
  }
}

function parseLine(line: string, number: number): Linked {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (cause) {
    throw new SyntaxError(`line ${number} of the export is not JSON: it was cut or changed`, { cause })
  }
  const entry = value as Linked
  const texts = [entry?.proxy, entry?.boot, entry?.at, entry?.recorded, entry?.hash]
  const whole =
    Number.isSafeInteger(entry?.seq) && Number.isSafeInteger(entry?.n) && texts.every(text => typeof text === 'string')
  if (!whole || typeof entry.record?.kind !== 'string') {
    throw new SyntaxError(`line ${number} of the export is not a record of the ledger`)
  }
  return entry
}
