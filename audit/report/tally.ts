import type { Linked } from '../chain.ts'
import type { OperationEnd, Record } from '../record.ts'
import { type Counted, counted } from './counted.ts'
import { followWindows, type Windows } from './windows.ts'

/** Single events listed in one table: unused windows, broken glass, gaps. */
export const LISTED_MAX = 2_000
const DAYS_MAX = 4_000

/** Single events, as many as are listed, and how many more there were. */
export interface Listed<T> {
  readonly items: readonly T[]
  readonly more: number
}

/** Who did what where. */
export interface Work {
  fetches: number
  pushes: number
  archives: number
  listings: number
  broken: number
  cut: number
  bytes: number
}

export interface Votes {
  approved: number
  denied: number
}

export interface Times {
  times: number
  last: string
}

/** Of one day. */
export interface Day {
  done: number
  refused: number
}

/** An event that is told by itself. */
export interface Event {
  readonly seq: number
  readonly recorded: string
  readonly record: Record
}

/** Everything the report tells, counted. */
export interface Tally {
  readonly records: number
  readonly first: Linked | undefined
  readonly last: Linked | undefined
  readonly windows: Windows
  readonly work: Counted<Work>
  /** By approver and whom they decided about. */
  readonly votes: Counted<Votes>
  /** By code, principal and repository. */
  readonly refused: Counted<Times>
  /** The same of what was let through all the same, because its repository is only observed. */
  readonly observed: Counted<Times>
  /** By code and address. */
  readonly turnedAway: Counted<Times>
  readonly brokenGlass: Listed<Event>
  /** Windows that no request led to. */
  readonly unasked: Listed<Event>
  readonly suspicious: Listed<Event>
  readonly faults: Listed<Event>
  readonly credentials: Listed<Event>
  readonly rules: Listed<Event>
  readonly days: ReadonlyMap<string, Day>
}

/** Counts records one by one; what it keeps is bounded, however many come. */
export function createTally() {
  const windows = followWindows(LISTED_MAX)
  const work = counted<Work>(() => ({ fetches: 0, pushes: 0, archives: 0, listings: 0, broken: 0, cut: 0, bytes: 0 }))
  const votes = counted<Votes>(() => ({ approved: 0, denied: 0 }))
  const refused = counted<Times>(() => ({ times: 0, last: '' }))
  const observed = counted<Times>(() => ({ times: 0, last: '' }))
  const turnedAway = counted<Times>(() => ({ times: 0, last: '' }))
  const [brokenGlass, unasked, suspicious, faults, credentials, rules] = Array.from({ length: 6 }, listing) as [
    Listing,
    Listing,
    Listing,
    Listing,
    Listing,
    Listing,
  ]
  const days = new Map<string, Day>()
  let records = 0
  let first: Linked | undefined
  let last: Linked | undefined

  function day(recorded: string): Day {
    const name = recorded.slice(0, 10)
    const found = days.get(name) ?? { done: 0, refused: 0 }
    if (days.size < DAYS_MAX) days.set(name, found)
    return found
  }

  function again(group: Times, recorded: string): void {
    group.times++
    group.last = recorded
  }

  function add(entry: Linked): void {
    const { recorded, record } = entry
    records++
    first ??= entry
    last = entry
    if ('observed' in record && record.observed) {
      again(observed.row([record.observed.code, record.principal, record.repository]), recorded)
    }
    switch (record.kind) {
      case 'operation.start':
        for (const grant of record.grants) windows.used(grant, recorded)
        return
      case 'operation.end':
        addWork(work.row([record.principal, record.repository]), record)
        day(recorded).done++
        return
      case 'operation.refused':
        again(refused.row([record.code, record.principal, record.repository]), recorded)
        day(recorded).refused++
        return
      case 'signin.refused':
        again(turnedAway.row([record.code, record.origin.address]), recorded)
        day(recorded).refused++
        return
      case 'grant.issued':
        windows.issued(record)
        if (record.request === undefined) unasked.add(entry)
        return
      case 'grant.extended':
        windows.extended(record.grant, record.expires)
        return
      case 'grant.ended':
        windows.ended(record.grant, record.how)
        return
      case 'request.vote':
        votes.row([record.by, record.principal]).approved++
        return
      case 'request.denied':
        votes.row([record.by, record.principal]).denied++
        return
      case 'request.approved':
        // Nobody's own words: a reason that a person typed does not stand beside this name.
        if (record.by === 'drawbridge' && record.reason.startsWith('break-glass')) brokenGlass.add(entry)
        return
      case 'ledger.gap':
      case 'ledger.duplicate':
        faults.add(entry)
        return
      default:
        list(entry)
    }
  }

  function list(entry: Linked): void {
    const [family] = entry.record.kind.split('.')
    if (family === 'anomaly' || family === 'bypass') suspicious.add(entry)
    else if (family === 'policy' || family === 'config' || family === 'authority' || family === 'ledger')
      rules.add(entry)
    else if (family === 'token' || family === 'key' || family === 'certificate' || family === 'principal')
      credentials.add(entry)
  }

  return {
    add,
    /** Windows that were issued before the time of the report. */
    before(record: Record): void {
      if (record.kind === 'grant.issued') windows.issued(record)
      if (record.kind === 'grant.extended') windows.extended(record.grant, record.expires)
      if (record.kind === 'grant.ended') windows.ended(record.grant, record.how)
    },
    begin: (since: string) => windows.dropEnded(since),
    finish(): Tally {
      windows.finish()
      return {
        ...{ records, first, last, windows, work, votes, refused, observed, turnedAway, days },
        ...{ brokenGlass, unasked, suspicious, faults, credentials, rules },
      }
    },
  }
}

interface Listing extends Listed<Event> {
  add(entry: Linked): void
}

function listing(): Listing {
  const items: Event[] = []
  let more = 0
  return {
    items,
    get more() {
      return more
    },
    add({ seq, recorded, record }) {
      if (items.length < LISTED_MAX) items.push({ seq, recorded, record })
      else more++
    },
  }
}

function addWork(row: Work, { action, result, bytesIn, bytesOut }: OperationEnd): void {
  if (result === 'cut') row.cut++
  else if (result !== 'ok') row.broken++
  else if (action === 'fetch') row.fetches++
  else if (action === 'push') row.pushes++
  else if (action === 'archive') row.archives++
  else row.listings++
  row.bytes += bytesIn + bytesOut
}
