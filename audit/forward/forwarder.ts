import type { Sql } from 'postgres'
import { createAlarm } from '../alarm.ts'
import type { Log } from '../emit.ts'
import { lastSeq, readStride, type StoredRow } from '../read.ts'

/** How long a new record waits when nobody wakes the forwarder. */
const POLL_MILLISECONDS = 1_000
const RETRY_MILLISECONDS_MIN = 1_000
const RETRY_MILLISECONDS_MAX = 60_000
const BATCH_BYTES_MAX = 8 << 20
const FAULT_CHARACTERS_MAX = 500

/** Takes records away to another system. */
export interface Forwarder {
  readonly name: string
  /** At most so many go together. */
  readonly records: number
  /** With fewer than that, how long the oldest waits for company, in milliseconds. */
  readonly linger?: number
  /**
   * Where the other side acknowledges nothing: how long after a send a failure still means that it may not have arrived, in milliseconds. What was
   * sent in that time is then sent again.
   */
  readonly settle?: number
  /** Where it begins the first time it runs: at the first record, unless it says at the last. */
  readonly begins?: 'last'
  /** Resolves when the other side has them. Called again with the same records, of the same `from` and `to`, until it does. */
  send(batch: Batch, signal: AbortSignal): Promise<void>
  close?(): void
}

/** Consecutive records, as the ledger holds them. */
export interface Batch {
  readonly from: number
  readonly to: number
  readonly rows: readonly StoredRow[]
}

export interface ForwardingState {
  readonly name: string
  /** Up to which record everything was sent. */
  readonly seq: number
  /** Why it does not go on, while it does not. */
  readonly failing: string | undefined
}

export interface Forwarding {
  /** There are new records. */
  wake(): void
  state(): readonly ForwardingState[]
  close(): Promise<void>
}

/**
 * Runs forwarders, each at its own pace with a place of its own in the database: one that hangs or is away holds up nobody, and takes up where it
 * was when it is back. Every record is sent, in order, at least once; its sequence number tells a repeat.
 */
export function startForwarding(options: {
  readonly sql: Sql
  readonly forwarders: readonly Forwarder[]
  /** Only the process that writes the ledger forwards it. */
  readonly isWriter: () => boolean
  readonly retryMilliseconds?: number
  readonly log: Log
}): Forwarding {
  const lanes = options.forwarders.map(forwarder => startLane({ ...options, forwarder }))
  return {
    wake: () => {
      for (const lane of lanes) lane.wake()
    },
    state: () => lanes.map(lane => lane.state()),
    close: async () => void (await Promise.all(lanes.map(lane => lane.close()))),
  }
}

function startLane({
  sql,
  forwarder,
  isWriter,
  retryMilliseconds = RETRY_MILLISECONDS_MIN,
  log,
}: {
  readonly sql: Sql
  readonly forwarder: Forwarder
  readonly isWriter: () => boolean
  readonly retryMilliseconds?: number
  readonly log: Log
}) {
  const { name, records, linger = 0, settle = 0 } = forwarder
  const stop = new AbortController()
  const alarm = createAlarm()
  // One that is failing is not hurried by every new record.
  const retry = createAlarm()
  let failing: string | undefined
  let failures = 0
  let settled = 0

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      try {
        if (isWriter()) await forward()
        else await alarm.sleep(POLL_MILLISECONDS)
      } catch (cause) {
        if (stop.signal.aborted) return
        if (failing === undefined) log.warn({ err: cause, forwarder: name, seq: settled }, 'forwarding: trying again')
        failing = faultOf(cause)
        // Where the database is what fails, it cannot be told; then nothing else is either.
        await saveFault(sql, name, failing).catch(() => {})
        await retry.sleep(Math.min(retryMilliseconds * 2 ** failures++, RETRY_MILLISECONDS_MAX))
      }
    }
  }

  /**
   * From where it last stood for certain; ends by an error, by being stopped, or when another process writes the ledger: that one goes on, and should
   * this one take over again, it has to look anew where the other came to.
   */
  async function forward(): Promise<void> {
    const place = await loadPlace(sql, forwarder)
    settled = place.seq
    let sent = place.seq
    let again = place.sending
    const unsettled: { readonly seq: number; readonly at: number }[] = []
    while (!stop.signal.aborted && isWriter()) {
      const batch = await nextBatch(sent, again)
      if (batch) {
        // Written down first: after a crash the same records go under the same name.
        if (settle === 0) await saveSending(sql, name, { seq: settled, sending: batch.to })
        await forwarder.send(batch, stop.signal)
        if (batch.from > sent + 1) missed(sent + 1, batch.from - 1)
        sent = batch.to
        again = undefined
        unsettled.push({ seq: sent, at: performance.now() })
        if (failing !== undefined) log.info({ forwarder: name, seq: sent }, 'forwarding again')
        failing = undefined
        failures = 0
      }
      const sure = unsettled.findLast(({ at }) => performance.now() - at >= settle)
      if (sure) {
        unsettled.splice(0, unsettled.indexOf(sure) + 1)
        settled = sure.seq
        await saveArrival(sql, name, settled)
      }
      if (!batch) await alarm.sleep(POLL_MILLISECONDS)
    }
  }

  async function nextBatch(after: number, upTo: number | undefined): Promise<Batch | undefined> {
    const rows = await readStride(sql, after)
    // Not there any more: retention was faster.
    const limit = upTo !== undefined && rows[0] && rows[0].seq <= upTo ? upTo : undefined
    const taken: StoredRow[] = []
    let bytes = 0
    for (const row of rows) {
      bytes += Buffer.byteLength(row.body)
      const full = taken.length >= records || (taken.length > 0 && bytes > BATCH_BYTES_MAX)
      if (limit === undefined ? full : row.seq > limit) break
      taken.push(row)
    }
    const [first] = taken
    if (!first) return undefined
    const young = Date.now() - Date.parse(first.recorded) < linger
    if (limit === undefined && young && taken.length < records && bytes <= BATCH_BYTES_MAX) return undefined
    return { from: first.seq, to: taken.at(-1)!.seq, rows: taken }
  }

  function missed(from: number, to: number): void {
    log.error({ forwarder: name, from, to }, 'forwarding: retention took these records before they were sent')
  }

  const running = run()
  return {
    wake: () => alarm.ring(),
    state: () => ({ name, seq: settled, failing }),
    async close() {
      stop.abort()
      alarm.ring()
      retry.ring()
      await running
      forwarder.close?.()
    },
  }
}

interface Place {
  readonly seq: number
  /** Up to here a send had begun. */
  readonly sending: number | undefined
}

async function loadPlace(sql: Sql, { name, begins }: Forwarder): Promise<Place> {
  const [row] = await sql<{ seq: string; sending: string | null }[]>`
    select seq, sending from audit.reader where name = ${name}`
  if (row) return { seq: Number(row.seq), sending: row.sending === null ? undefined : Number(row.sending) }
  const seq = begins === 'last' ? await lastSeq(sql) : 0
  await sql`insert into audit.reader (name, seq) values (${name}, ${seq}) on conflict do nothing`
  return { seq, sending: undefined }
}

async function saveSending(sql: Sql, name: string, { seq, sending }: Place): Promise<void> {
  await sql`update audit.reader set seq = ${seq}, sending = ${sending ?? null}, updated = now() where name = ${name}`
}

async function saveArrival(sql: Sql, name: string, seq: number): Promise<void> {
  await sql`
    update audit.reader set seq = ${seq}, sending = null, updated = now(), succeeded = now(), failing = null, fault = null
    where name = ${name}`
}

async function saveFault(sql: Sql, name: string, fault: string): Promise<void> {
  await sql`update audit.reader set failing = coalesce(failing, now()), fault = ${fault} where name = ${name}`
}

/** What a person has to know of it: `fetch` says only that it failed, and its cause why. */
function faultOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause).slice(0, FAULT_CHARACTERS_MAX)
  const why = cause.cause instanceof Error ? `: ${Reflect.get(cause.cause, 'code') ?? cause.cause.message}` : ''
  return `${cause.message}${why}`.slice(0, FAULT_CHARACTERS_MAX)
}
