import { join } from 'node:path'
import type { Sql } from 'postgres'
import type { Log } from './emit.ts'
import { type HeadKey, loadHeadKey } from './head.ts'
import { startWriter, type Writer } from './ledger.ts'
import { fileHeads, lastHeadIn, type Publisher } from './publish.ts'
import { createTail, type Tail } from './tail.ts'

export interface LedgerOptions {
  readonly sql: Sql
  /** Folder for the head key and the file of published heads; it must not lie with the database. */
  readonly state: string
  /** This run; never used before. */
  readonly boot: string
  /** Further places for heads: stdout, a webhook, a Redis stream. */
  readonly publishers?: readonly Publisher[]
  readonly headEvery?: { readonly records: number; readonly milliseconds: number }
  /** A client of one connection for the writer's lock (see `WriterOptions`); left out with PGlite. */
  readonly lock?: Sql
  /** Tells other processes that the ledger grew, say through Redis. */
  readonly notify?: (seq: number) => void
  readonly log: Log
}

export interface Ledger {
  readonly writer: Writer
  readonly tail: Tail
  readonly key: HeadKey
  /** Called when a proxy has put something into the inbox. */
  wake(): void
  close(): Promise<void>
}

/** The file of the key and of the heads in the state folder. */
export const HEAD_KEY_FILE = 'ledger-head.key'
export const HEADS_FILE = 'ledger-heads.jsonl'

/** The ledger's part of a role: the writer with its heads, and the tail. */
export async function startLedger(options: LedgerOptions): Promise<Ledger> {
  const { sql, state, boot, log, notify } = options
  const key = await loadHeadKey(join(state, HEAD_KEY_FILE))
  const heads = join(state, HEADS_FILE)
  const lastHead = await lastHeadIn(heads)
  const tail = createTail({ sql, log })
  const writer = startWriter({
    sql,
    boot,
    key,
    log,
    publishers: [fileHeads(heads), ...(options.publishers ?? [])],
    ...(lastHead && { lastHead }),
    ...(options.headEvery && { headEvery: options.headEvery }),
    ...(options.lock && { lock: options.lock }),
    appended(seq) {
      tail.wake()
      notify?.(seq)
    },
  })
  return {
    writer,
    tail,
    key,
    wake: writer.wake,
    async close() {
      await writer.close()
      await tail.close()
    },
  }
}
