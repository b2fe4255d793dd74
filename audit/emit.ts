import type { Sql } from 'postgres'
import { type Outcome, outcomeOf, TookTooLong, within } from './attempt.ts'
import { type Spelled, speller } from './clean.ts'
import { endOfInterrupted, endOfRefused } from './ending.ts'
import { insertRecords, type Numbered } from './inbox.ts'
import { type OpenOperation, openOperations } from './open.ts'
import type { Emit, Record } from './record.ts'
import { openSpool, type Spool } from './spool.ts'

/** Records and bytes waiting to become durable; beyond either the next is turned away at once. */
const QUEUE_RECORDS_MAX = 20_000
const QUEUE_BYTES_MAX = 64 << 20
/** How long ends that nobody waits for are gathered: they share a commit, and a start seldom finds one under way that it has to wait for. */
const GATHER_MILLISECONDS = 10
/** In one commit. Half of what may come at once, so that the next ones are spelled while the database takes these. */
const BATCH_RECORDS_MAX = 500
const BATCH_BYTES_MAX = 8 << 20
/** How long a caller waits for its record to be durable before it is told no. */
const EMIT_WAIT_MILLISECONDS = 2_000
/** With a spool to turn to, how long one insert may take before its records go there. */
const SPOOL_AFTER_MILLISECONDS = 1_000
/** After this an insert without any answer is given up, and with it the connection it hangs on. */
const INSERT_ABANDON_MILLISECONDS = 5_000
const RETRY_MILLISECONDS = 200
const SWEEP_MILLISECONDS = 50

/** The record is not durable, and whatever waited for it must not happen. */
export class LedgerError extends Error {
  readonly code:
    | 'ERR_LEDGER_UNREACHABLE'
    | 'ERR_LEDGER_FULL'
    | 'ERR_LEDGER_RECORD'
    | 'ERR_LEDGER_CLOSED'
    | 'ERR_LEDGER_SPOOL'

  constructor(code: LedgerError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'LedgerError'
    this.code = code
  }
}

/** The part of pino that is used here. */
export interface Log {
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
  error(facts: object, message: string): void
}

export interface EmitterOptions {
  /** Two connections are enough. With PGlite, its one. */
  readonly sql: Sql
  /** Unique among the processes that share a ledger: a second one by the same name would close the first one's operations. */
  readonly proxy: string
  /** This run of it; never used before. */
  readonly boot: string
  /**
   * Where records wait while Postgres is away, at most `bytes`; left out: they are refused instead. `bytes: 0` refuses as well,
   * but first brings in what an earlier run left there.
   */
  readonly spool?: { readonly file: string; readonly bytes: number }
  /** Values that must never stand in a record: the upstreams' passwords and tokens. */
  readonly secrets?: readonly string[]
  /** A new client for the same database, taken when the present one hangs; without it a hung connection is waited out. */
  readonly reconnect?: () => Sql
  /** Called after each commit, to wake the ledger writer. */
  readonly committed?: () => void
  readonly log: Log
}

export interface EmitterState {
  /** Records go to Postgres, go to the spool, or are being refused because Postgres does not take them. */
  readonly ledger: 'there' | 'spooling' | 'away'
  readonly queued: number
  readonly spooledBytes: number
}

export interface Emitter {
  /** Rejects with a `LedgerError` within two seconds when the record could not be made durable. */
  readonly emit: Emit
  /** Operations an earlier run of this proxy started and did not end. */
  unfinished(): Promise<readonly OpenOperation[]>
  /** Ends each of them as `interrupted`, once each, after what that run had spooled is in. Resolves to how many there were. */
  recover(): Promise<number>
  state(): EmitterState
  /** Values that must not stand in a record either, from now on. */
  conceal(secrets: readonly string[]): void
  /** Takes no more records, gives those waiting their two seconds, and lets go of the spool. */
  close(): Promise<void>
}

interface Waiting {
  readonly record: Record
  readonly body: string
  readonly at: number
  readonly expires: number
  readonly resolve: () => void
  readonly reject: (error: LedgerError) => void
  /** Its caller was told no. */
  rejected: boolean
}

interface Batch {
  readonly waiting: readonly Waiting[]
  readonly records: readonly Numbered[]
  /** An attempt ended without an answer: whatever later ones say, that one may have been carried out. */
  doubtful: boolean
}

/**
 * Makes records durable, many in one commit: whatever arrives while an insert is under way goes together in the next one.
 * Each record gets this run's next number when it is first sent, and keeps it until it is known to be there or known not to be,
 * so that the numbers of a run have no gap and no number means two records.
 */
export async function createEmitter(options: EmitterOptions): Promise<Emitter> {
  const { proxy, boot, log } = options
  const secrets = new Set(options.secrets)
  let spell = speller([...secrets])
  const spool: Spool | undefined = options.spool && (await openSpool(options.spool.file, options.spool.bytes))
  const spools = (options.spool?.bytes ?? 0) > 0

  let sql = options.sql
  let next = 1
  let queue: Waiting[] = []
  let queuedBytes = 0
  /** Sent, and not known to be there. Nothing newer is sent before it is settled. */
  let unsettled: Batch | undefined
  let mode: 'direct' | 'spooling' = spool && spool.bytes > 0 ? 'spooling' : 'direct'
  let lastError: Error | undefined
  let closing = false
  let wake = () => {}
  /** Ends that nobody waits for, on their way into the queue. */
  let gathered: Waiting[] = []
  let gathering: NodeJS.Timeout | undefined
  let draining: Promise<void> | undefined
  let drained = Promise.withResolvers<void>()
  if (mode === 'direct') drained.resolve()

  async function emit(record: Record): Promise<void> {
    let spelled: Spelled
    try {
      spelled = spell(record)
    } catch (cause) {
      throw new LedgerError('ERR_LEDGER_RECORD', `${record.kind}: ${messageOf(cause)}`, { cause })
    }
    if (closing) throw new LedgerError('ERR_LEDGER_CLOSED', 'the ledger is closed: this process is stopping')
    const { body } = spelled
    const share = shareOfQueue(record)
    if (
      queue.length + gathered.length >= QUEUE_RECORDS_MAX * share ||
      queuedBytes + body.length > QUEUE_BYTES_MAX * share
    ) {
      throw new LedgerError('ERR_LEDGER_FULL', 'too many records wait for the database; try again shortly')
    }
    const at = Date.now()
    return await new Promise<void>((resolve, reject) => {
      const expires = performance.now() + EMIT_WAIT_MILLISECONDS
      const one = { ...spelled, at, expires, resolve, reject, rejected: false }
      queuedBytes += body.length
      if (nobodyWaits(record)) {
        gathered.push(one)
        gathering ??= setTimeout(sendGathered, GATHER_MILLISECONDS)
        return
      }
      queue.push(one)
      wake()
    })
  }

  function sendGathered(): void {
    clearTimeout(gathering)
    gathering = undefined
    queue = [...queue, ...gathered]
    gathered = []
    wake()
  }

  /** The one loop that sends. */
  async function run(): Promise<void> {
    while (!closing || queue.length > 0 || unsettled) {
      if (queue.length === 0 && !unsettled) {
        await new Promise<void>(resolve => {
          wake = resolve
        })
        continue
      }
      const batch = unsettled ?? takeBatch()
      unsettled = batch
      const outcome = mode === 'spooling' ? await append(batch) : await insert(batch)
      if (outcome === 'written') settle(batch)
      else if (outcome === 'unwritable') refuse(batch)
      else {
        batch.doubtful ||= outcome === 'unknown'
        // Numbers that may be in the database already must not be given to other records.
        if (!batch.doubtful) putBack(batch)
        if (closing) return refuseAll()
        await pause(RETRY_MILLISECONDS)
      }
    }
  }

  function takeBatch(): Batch {
    let bytes = 0
    let count = 0
    for (const { body } of queue) {
      if (count === BATCH_RECORDS_MAX || (count > 0 && bytes + body.length > BATCH_BYTES_MAX)) break
      bytes += body.length
      count++
    }
    const waiting = queue.slice(0, count)
    queue = queue.slice(count)
    queuedBytes -= bytes
    const records = waiting.map(({ record, body, at }): Numbered => ({ proxy, boot, n: next++, at, record, body }))
    return { waiting, records, doubtful: false }
  }

  async function insert(batch: Batch): Promise<Outcome> {
    const milliseconds = spools ? SPOOL_AFTER_MILLISECONDS : INSERT_ABANDON_MILLISECONDS
    const outcome = await tryInsert(batch.records, milliseconds, batch.doubtful ? 'again' : 'first')
    if (outcome === 'written' || outcome === 'unwritable' || !spools) return outcome
    log.warn({ err: lastError }, 'ledger database away: records go to the spool')
    const appended = await append(batch)
    if (appended === 'written') {
      mode = 'spooling'
      drained = Promise.withResolvers<void>()
      draining = drain()
      return 'written'
    }
    return outcome
  }

  /** One attempt, bounded in time; `unknown` when the bound passed or the connection broke. */
  async function tryInsert(
    records: readonly Numbered[],
    milliseconds: number,
    attempt: 'first' | 'again',
  ): Promise<Outcome> {
    const client = sql
    try {
      await within(milliseconds, insertRecords(client, records, attempt))
      if (lastError) log.info({}, 'ledger database is back')
      lastError = undefined
      options.committed?.()
      return 'written'
    } catch (cause) {
      const error = cause instanceof Error ? cause : new Error(String(cause))
      if (!lastError) log.error({ err: error }, 'ledger database does not take records')
      lastError = error
      if (error instanceof TookTooLong && options.reconnect) {
        // A hung connection answers nothing for as long as TCP believes in it.
        void client.end({ timeout: 0 }).catch(() => {})
        sql = options.reconnect()
      }
      return outcomeOf(error)
    }
  }

  async function append(batch: Batch): Promise<Outcome> {
    try {
      await spool!.append(batch.records)
      return 'written'
    } catch (cause) {
      lastError = new LedgerError('ERR_LEDGER_SPOOL', `the spool takes no record: ${messageOf(cause)}`, { cause })
      log.error({ err: cause }, 'the spool takes no record')
      return mode === 'spooling' ? 'unwritable' : 'not written'
    }
  }

  /** Brings the spool in, oldest first; while it does, new records queue up behind it in the same file. */
  async function drain(): Promise<void> {
    try {
      await bringIn()
    } catch (cause) {
      // What is on the disk stays there; new records are still added behind it until it is full.
      log.error({ err: cause }, 'the spool cannot be brought in')
    }
  }

  async function bringIn(): Promise<void> {
    let from = 0
    while (!closing) {
      const { records, end } = await spool!.read(from)
      if (records.length === 0) {
        if (!(await spool!.clear(from))) continue
        from = 0
        // Nothing else runs between this check and the change of mode, so no record can slip into a spool nobody reads.
        if (unsettled || spool!.bytes > 0) continue
        mode = 'direct'
        drained.resolve()
        log.info({}, 'the spool is in the ledger')
        return
      }
      const outcome = await tryInsert(records, INSERT_ABANDON_MILLISECONDS, 'again')
      if (outcome === 'written') from = end
      else await pause(RETRY_MILLISECONDS)
    }
  }

  function settle({ waiting }: Batch): void {
    unsettled = undefined
    for (const one of waiting) {
      one.resolve()
      // Its caller was told no and let nothing through; the record is there all the same and needs its end.
      if (one.rejected && one.record.kind === 'operation.start') void emit(endOfRefused(one.record)).catch(() => {})
    }
  }

  function recount(): void {
    queuedBytes = [...queue, ...gathered].reduce((bytes, { body }) => bytes + body.length, 0)
  }

  /** Nothing of the batch was written or ever will be, so its numbers are free again. */
  function unnumber(batch: Batch): void {
    unsettled = undefined
    next = batch.records[0]!.n
  }

  function putBack(batch: Batch): void {
    unnumber(batch)
    queue = [...batch.waiting.filter(one => !one.rejected || outlivesCaller(one.record)), ...queue]
    recount()
  }

  function refuse(batch: Batch): void {
    unnumber(batch)
    for (const one of batch.waiting) rejectOne(one)
  }

  function refuseAll(): void {
    for (const one of [...(unsettled?.waiting ?? []), ...queue]) rejectOne(one)
    queue = []
    unsettled = undefined
  }

  function rejectOne(one: Waiting): void {
    if (one.rejected) return
    one.rejected = true
    const because = lastError ? `: ${lastError.message}` : ''
    if (lastError instanceof LedgerError) one.reject(lastError)
    else one.reject(new LedgerError('ERR_LEDGER_UNREACHABLE', `the ledger did not take the record in time${because}`))
  }

  /** Tells callers no whose time is up. What only states a fact stays in the queue and is written later. */
  function sweep(): void {
    const now = performance.now()
    const late = (one: Waiting) => one.expires <= now
    for (const one of unsettled?.waiting ?? []) if (late(one)) rejectOne(one)
    if (!queue[0] || !late(queue[0])) return
    for (const one of queue) if (late(one)) rejectOne(one)
    queue = queue.filter(one => !one.rejected || outlivesCaller(one.record))
    recount()
  }

  async function recover(): Promise<number> {
    await drained.promise
    const open = await openOperations(sql, proxy, boot)
    for (let i = 0; i < open.length; i += BATCH_RECORDS_MAX) {
      await Promise.all(open.slice(i, i + BATCH_RECORDS_MAX).map(({ body }) => emit(endOfInterrupted(body))))
    }
    return open.length
  }

  const sweeper = setInterval(sweep, SWEEP_MILLISECONDS)
  sweeper.unref()
  if (mode === 'spooling') draining = drain()
  const running = run()

  return {
    emit,
    unfinished: () => openOperations(sql, proxy, boot),
    recover,
    conceal(more) {
      for (const secret of more) secrets.add(secret)
      spell = speller([...secrets])
    },
    state: () => ({
      ledger: mode === 'spooling' ? 'spooling' : lastError ? 'away' : 'there',
      queued: queue.length + gathered.length + (unsettled?.waiting.length ?? 0),
      spooledBytes: spool?.bytes ?? 0,
    }),
    async close() {
      closing = true
      sendGathered()
      await running
      await draining
      clearInterval(sweeper)
      await spool?.close()
      if (sql !== options.sql) await sql.end({ timeout: 1 })
    },
  }
}

/** A flood of refusals must not keep out starts, nor those the ends of what is already running. */
function shareOfQueue(record: Record): number {
  if (record.kind === 'operation.end') return 1
  return record.kind === 'operation.refused' || record.kind === 'signin.refused' ? 0.5 : 0.8
}

/** Before the end of a push is durable its client is not told how it went; nothing else ends while somebody waits for the record. */
function nobodyWaits(record: Record): boolean {
  return record.kind === 'operation.end' && record.action !== 'push'
}

/** Records of what has already happened are true whether or not anybody still waits for them. */
function outlivesCaller(record: Record): boolean {
  return record.kind === 'operation.end' || record.kind === 'operation.refused' || record.kind === 'signin.refused'
}

function pause(milliseconds: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, milliseconds))
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
