import { createWriteStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { Command, Option } from 'commander'
import { FollowingEnded, follow } from '../audit/follow.ts'
import { type Entry, sentence } from '../audit/sentence.ts'
import { query } from './client.ts'
import { asking, type Common, gate, wholeNumber } from './command.ts'
import { keptHeads, verifyExport, verifyProof } from './offline.ts'
import { CommandError, data, EXIT, json, plain, say, when } from './say.ts'

const FILTERS = {
  principal: 'whom it is about',
  actor: 'who did it, where that is another',
  repository: '<upstream>/<path>',
  ref: 'a full ref name: refs/heads/main',
  action: 'list, fetch, push, archive',
  result: 'ok, failed, cut, refused, interrupted',
  grant: 'g-…',
  operation: 'op-…',
  kind: 'operation.end, grant.issued, …',
  since: 'from this time on: 2026-01-31T12:00:00Z',
  until: 'before this time',
} as const
type Filters = { readonly [name in keyof typeof FILTERS]?: string }

const RETRY_MILLISECONDS = 1_000
const PAGE_MAX = 500

/** `drawbridge audit tail|list|export|report|receipt|consistency|retain|verify` */
export function auditCommand(): Command {
  return new Command('audit')
    .description('the ledger: what was done, asked and refused')
    .addCommand(
      reading('tail', 'the last records, and with -f what follows, without gap or repeat')
        .option('-f, --follow', 'go on as records come')
        .option('-n, --lines <n>', 'how many to begin with', wholeNumber, 20)
        .action(async (options: Common & Filters & { follow?: boolean; lines: number }) => {
          const last = await showLast(options)
          if (options.follow) await followOn(last, options)
        }),
    )
    .addCommand(
      reading('list', 'records that match, the newest first')
        .option('--limit <n>', 'at most so many', wholeNumber, 100)
        .option('--before <seq>', 'older than this one: for the next page', wholeNumber)
        .action(async (options: Common & Filters & { limit: number; before?: number }) => {
          const { limit, before } = options
          for (const entry of await page(options, { limit, before })) show(entry, options)
        }),
    )
    .addCommand(
      reading('export', 'the ledger as a file; JSON Lines without filters is what verify reads')
        .addOption(
          new Option('--format <format>', 'of the file')
            .choices(['jsonl', 'csv', 'cloudevents', 'ocsf'])
            .default('jsonl'),
        )
        .option('-o, --output <file>', 'instead of standard output')
        .action(async (options: Common & Filters & { format: string; output?: string }) => {
          const path = `/audit/export${query({ ...filtersOf(options), format: options.format })}`
          const answer = await gate(options).stream(path)
          const to = options.output === undefined ? process.stdout : createWriteStream(options.output, { mode: 0o600 })
          await pipeline(answer, to, { end: options.output !== undefined })
        }),
    )
    .addCommand(
      asking('report', 'who had access, who gave it, who used it: for auditors')
        .option('--since <time>', 'from this time on; 30 days before the end unless given')
        .option('--until <time>', 'before this time; now unless given')
        .addOption(
          new Option('--format <format>', 'of the report').choices(['markdown', 'html', 'json']).default('markdown'),
        )
        .option('-o, --output <file>', 'instead of standard output')
        .action(async ({ since, until, format, output, ...options }: Common & ReportOptions) => {
          const answer = await gate(options).stream(`/audit/report${query({ since, until, format })}`)
          const to = output === undefined ? process.stdout : createWriteStream(output, { mode: 0o600 })
          await pipeline(answer, to, { end: output !== undefined })
        }),
    )
    .addCommand(
      asking('receipt', 'proof that an operation is in the ledger, for whoever has the public key')
        .argument('<operation>', 'op-…, or a sequence number')
        .action(async (operation: string, options: Common) => {
          json(await untilSigned(() => gate(options).call('GET', `/audit/receipts/${encodeURIComponent(operation)}`)))
        }),
    )
    .addCommand(
      asking('consistency', 'proof that the ledger of one head is the beginning of the ledger of another')
        .argument('<first>', 'how many records the earlier head is over', wholeNumber)
        .argument('<second>', 'how many the later one', wholeNumber)
        .action(async (first: number, second: number, options: Common) => {
          json(await gate(options).call('GET', `/audit/consistency${query({ first, second })}`))
        }),
    )
    .addCommand(
      asking('retain', 'export what is older than ledger.retention, and take it out of the database')
        .option('--dry-run', 'only say what would go')
        .action(async (options: Common & { dryRun?: boolean }) => {
          const body = { dry_run: options.dryRun ?? false }
          const { parts } = await gate(options).call<{ parts: Part[] }>('POST', '/audit/retain', body)
          if (options.json) json({ parts })
          else
            for (const { from, to, recorded, file } of parts)
              data(plain(`${from} to ${to}, until ${recorded}: ${file}`))
          if (parts.length === 0) say('nothing is old enough')
        }),
    )
    .addCommand(
      asking('verify', 'check every record against the signed heads; or, offline, what was handed out')
        .option(
          '--heads <file>',
          'heads that were kept elsewhere, one JSON object a line; else those the gate published',
        )
        .option('--receipt <file>', 'check a receipt or a proof of consistency, and ask nobody')
        .option('--export <file>', 'check a JSON Lines export, and ask nobody')
        .option('--proof <file>', 'what retention wrote beside an export; FILE.proof.json unless given')
        .option('--key <file>', 'public key of the heads (ledger-head.key.pub), for --receipt and --export')
        .action(async (options: Common & VerifyOptions) => {
          const { receipt, export: exported, heads, key, proof } = options
          if (receipt !== undefined) {
            await verifyProof(receipt, { key: needed(key), heads, json: options.json })
            return
          }
          const verdict =
            exported === undefined
              ? await gate(options).call<Verdict>(
                  'POST',
                  '/audit/verify',
                  heads === undefined ? {} : { heads: keptHeads(heads) },
                )
              : await verifyExport(exported, { key: needed(key), heads, proof })
          tell(verdict, options)
        }),
    )
}

interface ReportOptions {
  readonly since?: string
  readonly until?: string
  readonly format: string
  readonly output?: string
}

interface Part {
  readonly from: number
  readonly to: number
  readonly recorded: string
  readonly file: string
}

interface VerifyOptions {
  readonly proof?: string
  readonly heads?: string
  readonly receipt?: string
  readonly export?: string
  readonly key?: string
}

function needed(key: string | undefined): string {
  if (key !== undefined) return key
  throw new CommandError(EXIT.usage, 'whose signature? give --key FILE', 'ledger-head.key.pub, kept with the heads')
}

function tell(verdict: Verdict, options: Common): void {
  if (options.json) json(verdict)
  for (const gap of verdict.gaps)
    say(`gap: ${gap.to - gap.from + 1} records of ${gap.proxy} were lost before record ${gap.seq}`)
  if (verdict.fault) {
    throw new CommandError(EXIT.failed, `record ${verdict.fault.seq}: ${verdict.fault.what}`)
  }
  const { begins, records } = verdict
  if (begins > 1) say(`what was before record ${begins} was taken out by retention, under a signed boundary`)
  say(`${records - begins + 1} records are whole; ${verdict.heads} heads vouch for the first ${verdict.vouched}`)
}

/** Heads are signed every few seconds: a receipt that is asked for at once has to wait for the next. */
async function untilSigned<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await ask()
    } catch (error) {
      const wait = error instanceof CommandError && error.code === 'no-head-yet' && tries < HEAD_TRIES_MAX
      if (!wait) throw error
      if (tries === 1) say('waiting for the next signed head')
      await new Promise(resolve => setTimeout(resolve, RETRY_MILLISECONDS))
    }
  }
}
const HEAD_TRIES_MAX = 30

interface Verdict {
  readonly begins: number
  readonly records: number
  readonly heads: number
  readonly vouched: number
  readonly fault?: { readonly seq: number; readonly what: string } | undefined
  readonly gaps: readonly { readonly seq: number; readonly proxy: string; readonly from: number; readonly to: number }[]
}

function reading(name: string, description: string): Command {
  const command = asking(name, description)
  for (const [filter, what] of Object.entries(FILTERS)) command.option(`--${filter} <${filter}>`, what)
  return command
}

function filtersOf(options: Filters): Filters {
  return Object.fromEntries(Object.keys(FILTERS).map(name => [name, options[name as keyof Filters]]))
}

async function page(
  options: Common & Filters,
  place: { limit: number; before?: number | undefined },
): Promise<Entry[]> {
  const path = `/audit${query({ ...filtersOf(options), ...place, limit: Math.min(place.limit, PAGE_MAX) })}`
  return (await gate(options).call<{ records: Entry[] }>('GET', path)).records
}

/** @returns after which record to go on */
async function showLast(options: Common & Filters & { lines: number }): Promise<number> {
  // The end of the ledger first: a record that comes between the two questions is then followed, not skipped.
  const [newest] = (await gate(options).call<{ records: Entry[] }>('GET', '/audit?limit=1')).records
  const end = newest?.seq ?? 0
  if (options.lines > 0 && end > 0) {
    const entries = await page(options, { limit: options.lines, before: end + 1 })
    for (const entry of entries.toReversed()) show(entry, options)
  }
  return end
}

/** Goes on until the reader may read no more. */
async function followOn(after: number, options: Common & Filters): Promise<void> {
  const entries = follow<Entry>(after, {
    open: last => gate(options).stream(`/audit/stream${query(filtersOf(options))}`, { 'last-event-id': String(last) }),
    // What is refused stays refused; what is unreachable may come back.
    isLasting: error => error instanceof CommandError && error.exit !== EXIT.unreachable,
    onBroken: error => say(`${error instanceof Error ? error.message : error}; trying again`),
    onAgain: () => say('connected again'),
  })
  try {
    for await (const entry of entries) show(entry, options)
  } catch (error) {
    throw error instanceof FollowingEnded ? new CommandError(EXIT.denied, error.message) : error
  }
}

function show(entry: Entry, options: Common): void {
  if (options.json) json(entry)
  else data(sentence(entry, when))
}
