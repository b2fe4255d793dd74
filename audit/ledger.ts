import type { Sql } from 'postgres'
import { createAlarm } from './alarm.ts'
import {
  type ChainEnd,
  ChainMoved,
  commitMove,
  hashAt,
  headOfChain,
  inChain,
  lastStoredHead,
  loadChain,
  type Move,
  type OwnRecord,
  type Placed,
  readInbox,
  readSources,
  storeHead,
} from './append.ts'
import { storedBoundary, verifyBoundary } from './boundary.ts'
import { canonical } from './canonical.ts'
import { entryForm, link } from './chain.ts'
import type { Log } from './emit.ts'
import type { Head, HeadKey } from './head.ts'
import type { Arrival } from './inbox.ts'
import { GrowingTree, type Subtree } from './merkle.ts'
import { type Ends, tellEnds } from './open.ts'
import { type Publisher, publication } from './publish.ts'
import type { Record } from './record.ts'

/** Whoever holds this advisory lock is the writer. Must never change. */
const WRITER_LOCK = 7_236_112_002
/** How long the inbox can lie unread when nobody woke the writer. */
const POLL_MILLISECONDS = 100
/** How often a standby asks for the lock, and a writer in trouble tries again. */
const STANDBY_MILLISECONDS = 1_000
/** Remembered runs of proxies; beyond them they are read again. */
const SOURCES_MAX = 10_000
/** The writer's own records bear this name. */
const SELF = 'ledger'

/** The database holds another past than the one that was signed. Nothing more is written or signed until somebody has looked. */
export class LedgerTampered extends Error {
  readonly code = 'ERR_LEDGER_TAMPERED'
  readonly seq: number

  constructor(seq: number, message: string) {
    super(message)
    this.name = 'LedgerTampered'
    this.seq = seq
  }
}

export interface WriterOptions {
  readonly sql: Sql
  /** This run of the writer; never used before. */
  readonly boot: string
  readonly key: HeadKey
  readonly publishers: readonly Publisher[]
  /** A head is signed after so many records, and after so many milliseconds with any new record. */
  readonly headEvery?: { readonly records: number; readonly milliseconds: number }
  /** The last head known to have been published: the database must still agree with it. */
  readonly lastHead?: Head
  /**
   * A client with one connection and no life time, for nothing but the advisory lock that lets only one of several writers work.
   * Left out with PGlite, which has but one connection; the chain stays right in either case, because a move is refused if another
   * came first. A reserved connection of the pool would not do: postgres 3.4.9 throws past every `catch` when one breaks.
   */
  readonly lock?: Sql
  /** Called after each move with the last sequence number, to wake those who follow. */
  readonly appended?: (seq: number) => void
  readonly log: Log
}

export interface WriterState {
  readonly role: 'standby' | 'writer' | 'stopped'
  readonly seq: number
  /** The last head signed here. */
  readonly head: Head | undefined
  /** Why it stopped, when it did by itself. */
  readonly fault: LedgerTampered | undefined
}

export interface Writer {
  /** There is something in the inbox. */
  wake(): void
  state(): WriterState
  /** Moves what is in the inbox, signs a last head, publishes it, and gives the lock back. */
  close(): Promise<void>
}

/** Records in the places they are to have, not yet moved there. */
interface LinkedBatch extends Omit<Move, 'advanced'> {
  readonly arrivals: readonly Arrival[]
  readonly ends: Ends
  /** By run. */
  readonly advanced: Map<string, { readonly proxy: string; readonly boot: string; readonly last: number }>
  /** The last number of the writer's own records. */
  readonly ownLast: number
}

/**
 * The one place where records get their order: takes them from the inbox as they arrived, gives each the next sequence number and
 * links it to the one before.
 */
export function startWriter(options: WriterOptions): Writer {
  const { sql, log, boot } = options
  const every = options.headEvery ?? { records: 1_000, milliseconds: 10_000 }
  const heads = publication(options.publishers, log)
  const sources = new Map<string, number>()
  /** The server process behind the lock's connection, while it is held. */
  let lockedBy: number | undefined
  let chain: ChainEnd | undefined
  /** What this writer last knew to be there. */
  let known: { readonly seq: number; readonly hash: string } | undefined = options.lastHead
  let head: Head | undefined = options.lastHead
  let signedAt = 0
  let ownRecords = 0
  let fault: LedgerTampered | undefined
  let closing = false
  const alarm = createAlarm()
  // A standby, or a writer in trouble, keeps its own pace however much the proxies send.
  const stopping = createAlarm()

  async function run(): Promise<void> {
    while (!closing && !fault) {
      try {
        if (!(await becomeWriter())) {
          await stopping.sleep(STANDBY_MILLISECONDS)
          continue
        }
        await drainInbox()
        await alarm.sleep(POLL_MILLISECONDS)
      } catch (cause) {
        await stepDown(cause)
        if (!fault) await stopping.sleep(STANDBY_MILLISECONDS)
      }
    }
    if (!fault) await lastRound()
    await releaseLock()
    await heads.close()
  }

  /** While the database takes one batch the next is read and linked behind it: both have work all the time. */
  async function drainInbox(): Promise<void> {
    let batch = await linkNext(chain!)
    if (!batch && headIsDue()) await sealHead()
    while (batch) {
      const [moved, next] = await Promise.allSettled([move(batch), linkNext(batch.to, batch)])
      if (moved.status === 'rejected') throw moved.reason
      if (headIsDue()) await sealHead()
      if (next.status === 'rejected') throw next.reason
      batch = next.value
    }
  }

  async function lastRound(): Promise<void> {
    if (!chain) return
    try {
      await drainInbox()
      if (chain.seq > (head?.seq ?? 0)) await sealHead()
    } catch (cause) {
      log.warn({ err: cause }, 'ledger writer stopped with records left in the inbox; the next one takes them')
    }
  }

  /** True once this is the writer and knows the end of the chain. */
  async function becomeWriter(): Promise<boolean> {
    if (chain) return true
    if (!(await takeLock())) return false
    const end = await loadChain(sql)
    await checkPast(end)
    head ??= await lastStoredHead(sql, options.key)
    chain = end
    sources.clear()
    log.info({ seq: end.seq }, 'ledger writer')
    return true
  }

  async function takeLock(): Promise<boolean> {
    if (!options.lock || lockedBy !== undefined) return true
    const [answer] = await options.lock<{ locked: boolean; pid: number }[]>`
      select pg_try_advisory_lock(${WRITER_LOCK}::bigint) as locked, pg_backend_pid() as pid`
    if (answer?.locked) lockedBy = answer.pid
    return lockedBy !== undefined
  }

  /** Before anything is linked to the past, it must still be the one that was published or that this writer wrote. */
  async function checkPast(end: ChainEnd): Promise<void> {
    if (!known || known.seq === 0) return
    const there = await hashAt(sql, known.seq)
    if (there === known.hash) return
    // A writer that stood by for long may know nothing younger than what retention has taken since.
    const boundary = there === undefined ? await storedBoundary(sql) : undefined
    if (boundary && boundary.seq >= known.seq && verifyBoundary(boundary, [options.key.publicKey])) return
    const what = there ? 'was changed after it was signed' : `is missing: the ledger ends at ${end.seq}`
    throw new LedgerTampered(known.seq, `record ${known.seq} ${what}; run: drawbridge audit verify`)
  }

  async function stepDown(cause: unknown): Promise<void> {
    if (cause instanceof LedgerTampered) {
      fault = cause
      log.error({ err: cause, seq: cause.seq }, 'LEDGER TAMPERED WITH: nothing more is linked or signed')
    } else if (!closing) {
      log.error({ err: cause }, 'ledger writer: trying again')
    }
    chain = undefined
    await releaseLock()
  }

  async function releaseLock(): Promise<void> {
    if (lockedBy === undefined) return
    lockedBy = undefined
    await options.lock!`select pg_advisory_unlock_all()`.catch(() => {})
  }

  /** The lock lives as long as its connection: a writer that has lost it must not go on beside the next one. */
  async function checkLock(): Promise<void> {
    if (lockedBy === undefined) return
    const [answer] = await options.lock!<{ pid: number }[]>`select pg_backend_pid() as pid`
    if (answer?.pid !== lockedBy) throw new ChainMoved('the connection that held the lock of the ledger writer is gone')
  }

  /** Reads what comes next and links it behind `from`, where `under` may be on its way to. Changes nothing in the database. */
  async function linkNext(from: ChainEnd, under?: LinkedBatch): Promise<LinkedBatch | undefined> {
    const arrivals = await readInbox(sql, under?.arrivals)
    if (arrivals.length === 0) return undefined
    await learnSources(arrivals)
    const lastBefore = (run: string) => under?.advanced.get(run)?.last ?? sources.get(run) ?? 0
    const present = await alreadyThere(arrivals, lastBefore)
    const fresh = arrivals.filter(one => !present.has(numberKey(one)))
    const ends = await tellEnds(sql, fresh, under?.ends)

    const subtrees: Subtree[] = []
    const tree = new GrowingTree(from.tree.peaks(), subtree => subtrees.push(subtree))
    const recorded = Math.max(Date.now(), from.recorded)
    let { seq, hash } = from
    const place = ({ proxy, boot, n, at, body }: Pick<Arrival, 'proxy' | 'boot' | 'n' | 'at' | 'body'>) => {
      seq++
      hash = link(hash, seq, entryForm({ proxy, boot, n, at: iso(at), recorded: iso(recorded), seq }, body))
      tree.add(hash)
      return { seq, hash }
    }

    const placed: Placed[] = []
    const own: OwnRecord[] = []
    const dropped = arrivals.filter(one => present.has(numberKey(one))).map(({ arrival }) => arrival)
    const advanced: LinkedBatch['advanced'] = new Map()
    let ownLast = under?.ownLast ?? ownRecords
    for (const one of fresh) {
      const last = advanced.get(runKey(one))?.last ?? lastBefore(runKey(one))
      if (one.n > last + 1) {
        const gap = gapBefore(one, last, ++ownLast)
        own.push({ ...gap, ...place(gap) })
        advanced.set(runKey(gap), { proxy: SELF, boot, last: gap.n })
      }
      if (ends.duplicates.has(one.arrival)) {
        const duplicate = duplicateOf(one)
        own.push({ ...duplicate, ...place(duplicate) })
        dropped.push(one.arrival)
      } else {
        placed.push({ arrival: one.arrival, ...place(one) })
      }
      advanced.set(runKey(one), { proxy: one.proxy, boot: one.boot, last: Math.max(last, one.n) })
    }
    const to = { seq, hash, recorded, tree }
    return { arrivals, from, to, placed, own, subtrees, dropped, ends, advanced, ownLast }
  }

  async function move(batch: LinkedBatch): Promise<void> {
    const { from, to, advanced, ownLast } = batch
    await checkLock()
    await commitMove(sql, { ...batch, advanced: [...advanced.values()] })
    ownRecords = ownLast
    for (const [run, { last }] of advanced) sources.set(run, last)
    chain = to
    known = { seq: to.seq, hash: to.hash.toString('hex') }
    if (to.seq > from.seq) options.appended?.(to.seq)
  }

  function gapBefore(found: Arrival, last: number, n: number) {
    const { proxy, boot: run } = found
    const record: Record = { kind: 'ledger.gap', by: SELF, proxy, boot: run, from: last + 1, to: found.n - 1 }
    log.error(record, 'records of a proxy are missing from the ledger')
    return { proxy: SELF, boot, n, at: Date.now(), body: canonical(record), record }
  }

  async function learnSources(arrivals: readonly Arrival[]): Promise<void> {
    if (sources.size > SOURCES_MAX) sources.clear()
    const unknown = new Map(arrivals.filter(one => !sources.has(runKey(one))).map(one => [runKey(one), one]))
    if (unknown.size === 0) return
    for (const run of unknown.keys()) sources.set(run, 0)
    for (const run of await readSources(sql, [...unknown.values()])) {
      // The batch that is being moved may have brought it further meanwhile.
      sources.set(runKey(run), Math.max(run.last, sources.get(runKey(run)) ?? 0))
    }
  }

  /** Which of those that come after a later number of their run are in the chain already: sent twice, not late. */
  async function alreadyThere(
    arrivals: readonly Arrival[],
    lastBefore: (run: string) => number,
  ): Promise<ReadonlySet<string>> {
    const behind = arrivals.filter(one => one.n <= lastBefore(runKey(one)))
    return behind.length === 0 ? new Set() : new Set((await inChain(sql, behind)).map(numberKey))
  }

  function headIsDue(): boolean {
    const records = chain!.seq - (head?.seq ?? 0)
    return records >= every.records || (records > 0 && performance.now() - signedAt >= every.milliseconds)
  }

  async function sealHead(): Promise<void> {
    head = headOfChain(options.key, chain!, Date.now())
    signedAt = performance.now()
    heads.publish(head)
    await storeHead(sql, head)
  }

  const running = run()
  return {
    wake: () => alarm.ring(),
    state: () => ({
      role: closing || fault ? 'stopped' : chain ? 'writer' : 'standby',
      seq: chain?.seq ?? 0,
      head,
      fault,
    }),
    async close() {
      closing = true
      alarm.ring()
      stopping.ring()
      await running
    },
  }
}

/** Stands in the place of an end after the first, under its number. */
function duplicateOf({ proxy, boot, n, at, operation }: Arrival) {
  const record: Record = { kind: 'ledger.duplicate', operation: operation! }
  return { proxy, boot, n, at, body: canonical(record), record }
}

const iso = (milliseconds: number) => new Date(milliseconds).toISOString()
const runKey = ({ proxy, boot }: { proxy: string; boot: string }) => `${proxy}\n${boot}`
const numberKey = (one: { proxy: string; boot: string; n: number }) => `${one.n}\n${runKey(one)}`
