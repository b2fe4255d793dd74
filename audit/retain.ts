import { createHash, type KeyObject } from 'node:crypto'
import { constants } from 'node:fs'
import { mkdir, open, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Sql, TransactionSql } from 'postgres'
import { storedHeadOver, storedHeads } from './append.ts'
import { type Boundary, type PartProof, signBoundary, storedBoundary } from './boundary.ts'
import type { Linked } from './chain.ts'
import type { Log } from './emit.ts'
import { jsonLine } from './export.ts'
import { type Head, type HeadKey, verifyHead } from './head.ts'
import { GrowingTree } from './merkle.ts'
import { closePartition, type Partition, partitions } from './partition.ts'
import { linked, readRows, type StoredRow } from './read.ts'
import type { Record } from './record.ts'
import { type PartEnd, verifyPart } from './verify.ts'

/** A partition spans no more than this share of the retention, so that no record stays much longer than it has to. */
const PARTITIONS_PER_RETENTION = 12
const PARTITION_MILLISECONDS_MAX = 31 * 86_400_000
const EVERY_MILLISECONDS = 3_600_000
const LOCK_WAIT = '2s'
const HEADS_MAX = 100_000

export interface RetentionOptions {
  readonly sql: Sql
  readonly key: HeadKey
  /** Records younger than this stay, in milliseconds. */
  readonly keep: number
  /** Where the files go. */
  readonly folder: string
  /** Only the process that writes the ledger takes records out of it. */
  readonly isWriter: () => boolean
  /** Makes a change and the record of it in one commit. */
  readonly act: (
    change: (change: { readonly sql: TransactionSql; record(record: Record): void }) => Promise<void>,
  ) => Promise<void>
  readonly log: Log
}

/** A part of the ledger that goes, or went. */
export interface Retained {
  readonly from: number
  readonly to: number
  /** When its last record was taken. */
  readonly recorded: string
  readonly file: string
}

export interface Retention {
  /** What would be taken out now. */
  due(): Promise<Retained[]>
  /** Takes it out. */
  run(): Promise<Retained[]>
  close(): Promise<void>
}

/** The ledger is not as it was signed; nothing is taken out of it, since it may be needed as evidence. */
export class RetentionRefused extends Error {
  readonly code = 'ERR_LEDGER_RETENTION'
}

/** Once an hour takes out what is older than it has to be kept: exported, synced to disk, signed for, and only then dropped. */
export function startRetention(options: RetentionOptions, everyMilliseconds = EVERY_MILLISECONDS): Retention {
  const { log, isWriter } = options
  let running: Promise<unknown> = Promise.resolve()

  const run = () => {
    const next = running.then(() => retain(options))
    running = next.catch(() => {})
    return next
  }
  const timer = setInterval(() => {
    if (!isWriter()) return
    run().catch(error => log.error({ err: error }, 'retention: nothing was dropped; trying again'))
  }, everyMilliseconds)
  return {
    due: () => due(options),
    run,
    async close() {
      clearInterval(timer)
      await running
    },
  }
}

async function retain(options: RetentionOptions): Promise<Retained[]> {
  if (!options.isWriter()) throw new RetentionRefused('this process does not write the ledger; ask the one that does')
  const span = Math.min(options.keep / PARTITIONS_PER_RETENTION, PARTITION_MILLISECONDS_MAX)
  await closePartition(options.sql, new Date(Date.now() - span))
  const taken: Retained[] = []
  for (const part of await due(options)) {
    await takeOut(options, part)
    taken.push(part)
  }
  return taken
}

/** Closed partitions whose last record is old enough, as far as a published head is over more than them. */
async function due({ sql, keep, folder }: RetentionOptions): Promise<Retained[]> {
  const limit = new Date(Date.now() - keep)
  const found: Retained[] = []
  for (const { from, to } of await partitions(sql)) {
    if (to === undefined) break
    const [last] = await sql<{ recorded: Date }[]>`select recorded from audit.record where seq = ${to}`
    const head = await storedHeadOver(sql, to + 1)
    if (!last || last.recorded >= limit || !head) break
    found.push({ from, to, recorded: last.recorded.toISOString(), file: join(folder, fileName({ from, to })) })
  }
  return found
}

const digits = (seq: number) => String(seq).padStart(12, '0')
const fileName = ({ from, to }: Pick<Retained, 'from' | 'to'>) => `ledger-${digits(from)}-${digits(to)}.jsonl`

async function takeOut(options: RetentionOptions, part: Retained): Promise<void> {
  const { sql, key, folder, act, log } = options
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const before = await storedBoundary(sql)
  const { end, sha256, heads } = await exportPart(options, part, before)
  const boundary = signBoundary(key, {
    ...{ from: part.from, seq: end.seq, hash: end.hash, recorded: end.recorded, runs: end.runs },
    peaks: Buffer.concat(end.tree.peaks().roots).toString('hex'),
    ...{ file: fileName(part), sha256, time: new Date().toISOString() },
  })
  const proof: PartProof = { ...(before && { before }), boundary, heads }
  await writeDurably(`${part.file}.proof.json`, async write => await write(`${JSON.stringify(proof)}\n`))

  // The file is on disk. From here it is one commit: the boundary, the record that says so, and the end of the table.
  const { name } = (await partitions(sql)).find(({ from }) => from === part.from) as Partition
  await act(async change => {
    await change.sql`select set_config('lock_timeout', ${LOCK_WAIT}, true)`
    await change.sql`drop table ${change.sql(`audit.${name}`)}`
    await change.sql`insert into audit.boundary (seq, body) values (${boundary.seq}, ${JSON.stringify(boundary)})`
    const { from, to } = part
    change.record({ kind: 'ledger.retained', by: 'drawbridge', from, to, file: fileName(part), sha256 })
  })
  log.info({ from: part.from, to: part.to, file: part.file }, 'retention: records exported and dropped')
}

/**
 * Writes a part to its file, verified on the way: against the heads over it, and through to the first head behind it.
 * @throws RetentionRefused when it is not what was signed
 */
async function exportPart({ sql, key }: RetentionOptions, part: Retained, before: Boundary | undefined) {
  const over = await storedHeadOver(sql, part.to + 1)
  const heads = (await storedHeads(sql, part.from - 1, HEADS_MAX)).filter(({ seq }) => seq <= part.to)
  const keys: KeyObject[] = [key.publicKey]
  const digest = createHash('sha256')
  let end: PartEnd | undefined
  await writeDurably(part.file, async write => {
    async function* writing(): AsyncGenerator<Linked[]> {
      for await (const rows of upTo(readRows(sql, part.from - 1), part.to)) {
        const text = rows.map(jsonLine).join('')
        digest.update(text)
        await write(text)
        yield rows.map(linked)
      }
    }
    const own = await verifyPart({ entries: writing(), heads, keys, ...(before && { boundary: before }) })
    const { fault } = own.verdict
    if (fault) throw new RetentionRefused(`record ${fault.seq}: ${fault.what}`)
    if (own.end.seq !== part.to) throw new RetentionRefused(`record ${own.end.seq + 1}: missing`)
    end = own.end
    await requireHeadBehind(sql, own.end, over, keys)
  })
  return { end: end!, sha256: digest.digest('hex'), heads }
}

/** The head behind the part vouches for its end: the records between them have to lead there. */
async function requireHeadBehind(
  sql: Sql,
  { seq, tree }: PartEnd,
  head: Head | undefined,
  keys: readonly KeyObject[],
): Promise<void> {
  if (!head) throw new RetentionRefused(`no head is signed over more than the first ${seq} records`)
  const further = new GrowingTree(tree.peaks())
  for await (const rows of upTo(readRows(sql, seq), head.seq)) {
    for (const { hash } of rows) further.add(Buffer.from(hash, 'hex'))
  }
  if (!verifyHead(head, keys) || further.root().toString('hex') !== head.root)
    throw new RetentionRefused(`records up to ${head.seq} are not what was signed on ${head.time}`)
}

async function* upTo(pages: AsyncIterable<StoredRow[]>, to: number): AsyncGenerator<StoredRow[]> {
  for await (const rows of pages) {
    const inside = rows.filter(({ seq }) => seq <= to)
    if (inside.length > 0) yield inside
    if (inside.length < rows.length) return
  }
}

/**
 * A file that is there whole or not at all, and stays: written under another name, synced, renamed, and its folder synced. One left by a
 * crash is replaced.
 */
async function writeDurably(
  path: string,
  fill: (write: (text: string) => Promise<void>) => Promise<void>,
): Promise<void> {
  const partial = `${path}.partial`
  const file = await open(
    partial,
    constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW,
    0o600,
  )
  try {
    await fill(async text => await file.writeFile(text))
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(partial, path)
  const folder = await open(dirname(path), 'r')
  await folder.sync().finally(() => folder.close())
}
