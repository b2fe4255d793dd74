import type { Sql, TransactionSql } from 'postgres'
import type { Linked } from '../chain.ts'
import type { Forwarder } from '../forward/forwarder.ts'
import { linked, list, type Place } from '../read.ts'
import type { Record } from '../record.ts'
import { bypassesOf, LOOK_BACK_MAX } from './bypass.ts'
import { type Fact, HISTORY_MAX, isLarge, type Span, unusual } from './detect.ts'

/** People and windows remembered; beyond them the longest unseen is read again when it comes. */
const REMEMBERED_MAX = 2_000
const RECORDS_PER_BATCH = 500
const NAME = 'anomalies'
/** Refs of one push that are looked after. */
const REFS_MAX = 20

export interface WatchOptions {
  readonly sql: Sql
  /** Makes a change and the record of it in one commit. */
  readonly act: (change: (change: Change) => Promise<void>) => Promise<void>
}

interface Change {
  readonly sql: TransactionSql
  record(record: Record): void
  /** People hear of what is on record already; of the same move of a ref once. */
  announce(record: Record): void
}

/**
 * Reads the record as it grows and writes down what is unusual in it, each thing once: the finding and the place up to which was read are one commit.
 * It is behind everything, and slows nothing.
 */
export function watchAnomalies({ sql, act }: WatchOptions): Forwarder {
  const people = remembering<Fact[]>(REMEMBERED_MAX)
  const windows = remembering<Span>(REMEMBERED_MAX)

  async function historyOf(principal: string, before: number): Promise<Fact[]> {
    const known = people.get(principal)
    if (known) return known
    const entries = await list(sql, { principal }, { before }, HISTORY_MAX)
    const facts = entries.reverse().flatMap(entry => factOf(entry) ?? [])
    people.set(principal, facts)
    return facts
  }

  async function learnWindows(grants: readonly string[]): Promise<void> {
    for (const grant of grants) {
      if (windows.get(grant)) continue
      for (const { record } of await list(sql, { grant, kind: 'grant.issued' }, {}, 1)) learnWindow(record)
      for (const { record } of await list(sql, { grant, kind: 'grant.extended' }, {}, 1)) learnWindow(record)
    }
  }

  function learnWindow(record: Record): void {
    if (record.kind === 'grant.issued') {
      windows.set(record.grant, { starts: Date.parse(record.starts), expires: Date.parse(record.expires) })
    }
    if (record.kind !== 'grant.extended') return
    const known = windows.get(record.grant)
    if (known) windows.set(record.grant, { ...known, expires: Date.parse(record.expires) })
  }

  async function look(entry: Linked): Promise<Record[]> {
    const { record } = entry
    learnWindow(record)
    const bypasses = await lookForBypass(entry)
    const fact = factOf(entry)
    if (!fact || !('principal' in record)) return bypasses
    const { principal } = record
    const history = await historyOf(principal, entry.seq)
    if (fact.kind === 'start') await learnWindows(fact.grants)
    const there = isLarge(fact) && 'repository' in record ? await fetchedFrom(record.repository, entry.seq) : []
    const found = unusual(fact, history, grant => windows.get(grant), there)
    history.push(fact)
    if (history.length > HISTORY_MAX) history.shift()
    const about = {
      principal,
      ...('repository' in record && { repository: record.repository }),
      ...('operation' in record && { operation: record.operation }),
    }
    const findings = found.map(one => ({ kind: 'anomaly.found', by: 'drawbridge', ...about, ...one }) as const)
    return [...bypasses, ...findings]
  }

  async function fetchedFrom(repository: string | undefined, before: number): Promise<number[]> {
    if (repository === undefined) return []
    const filters = { repository, kind: 'operation.end', action: 'fetch' }
    const entries = await list(sql, filters, { before }, HISTORY_MAX)
    return entries.flatMap(({ record }) => (record.kind === 'operation.end' ? [record.bytesOut] : []))
  }

  async function lookForBypass(entry: Linked): Promise<Record[]> {
    const { record, seq } = entry
    if (record.kind !== 'operation.end' || record.action !== 'push' || !record.updates) return []
    const { repository, operation, principal } = record
    const found: Record[] = []
    for (const update of record.updates.slice(0, REFS_MAX)) {
      if (update.result !== 'ok') continue
      const near = await list(sql, { repository, ref: update.ref, action: 'push' }, { before: seq }, LOOK_BACK_MAX)
      const alone = { ...entry, record: { ...record, updates: [update] } }
      for (const { ref, left, found: there, since } of bypassesOf(alone, near.reverse())) {
        if (await isTold(repository, ref, there, { after: since, to: seq - 1 })) continue
        const reason = `${ref} stood at ${there}, where no recorded push had put it`
        found.push({
          kind: 'bypass.suspected',
          by: 'drawbridge',
          repository,
          ref,
          left,
          found: there,
          operation,
          principal,
          reason,
        })
      }
    }
    return found
  }

  /** Whether a listing showed it before this push did. */
  async function isTold(repository: string, ref: string, there: string, place: Place): Promise<boolean> {
    const told = await list(sql, { repository, kind: 'bypass.suspected' }, place, LOOK_BACK_MAX)
    return told.some(({ record }) => record.kind === 'bypass.suspected' && record.ref === ref && record.found === there)
  }

  return {
    name: NAME,
    records: RECORDS_PER_BATCH,
    // What was before the watch began is told by reports.
    begins: 'last',
    async send({ to, rows }) {
      const found: Record[] = []
      try {
        const entries = rows.map(linked)
        for (const entry of entries) found.push(...(await look(entry)))
        // Proxies record what their listings show, and tell nobody else.
        const shown = entries.flatMap(({ record }) => (record.kind === 'bypass.suspected' ? [record] : []))
        if (found.length === 0 && shown.length === 0) return
        await act(async change => {
          await change.sql`update audit.reader set seq = ${to}, sending = null, updated = now() where name = ${NAME}`
          for (const record of found) change.record(record)
          for (const record of shown) change.announce(record)
        })
      } catch (cause) {
        // The same records come again: what was learnt from them must not count twice.
        people.clear()
        throw cause
      }
    },
  }
}

/** What a record says of its person; nothing for those of other kinds. */
function factOf({ at: when, record }: Linked): Fact | undefined {
  const at = Date.parse(when)
  if (record.kind === 'operation.start') {
    const { action, repository, grants } = record
    return { kind: 'start', at, action, repository, grants, address: record.origin.address }
  }
  if (record.kind === 'operation.refused') return { kind: 'refused', at }
  if (record.kind === 'operation.end' && record.action === 'fetch') {
    return { kind: 'fetched', at, repository: record.repository, bytes: record.bytesOut }
  }
  return undefined
}

/** A map that forgets what was longest not asked for. */
function remembering<T>(max: number) {
  const known = new Map<string, T>()
  return {
    get(name: string): T | undefined {
      const value = known.get(name)
      if (value === undefined) return undefined
      known.delete(name)
      known.set(name, value)
      return value
    },
    set(name: string, value: T): void {
      known.delete(name)
      known.set(name, value)
      const [oldest] = known.keys()
      if (known.size > max && oldest !== undefined) known.delete(oldest)
    },
    clear: () => known.clear(),
  }
}
