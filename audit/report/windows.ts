import type { ControlRecord } from '../record.ts'
import { type Counted, counted } from './counted.ts'

/** Windows followed one by one at a time; beyond them the oldest that are over are let go, and then they are only counted. */
const FOLLOWED_MAX = 50_000

type Issued = Extract<ControlRecord, { kind: 'grant.issued' }>

/** A window as the report tells it. */
export interface Window {
  readonly grant: string
  readonly principal: string
  readonly repository: string
  readonly actions: readonly string[]
  readonly refs: readonly string[]
  readonly by: string
  readonly reason: string
  readonly request: string | undefined
  readonly starts: string
  expires: string
  ended: string | undefined
  uses: number
  lastUse: string | undefined
}

/** What one person had on one repository or pattern. */
export interface Access {
  windows: number
  unused: number
  uses: number
  last: string | undefined
}

/** Follows windows from their opening to their last use. */
export interface Windows {
  issued(record: Issued): void
  extended(grant: string, expires: string): void
  ended(grant: string, how: string): void
  used(grant: string, at: string): void
  /** Forgets what was over before the time of the report. */
  dropEnded(before: string): void
  /** Counts those still followed; the result is final. */
  finish(): void
  readonly access: Counted<Access>
  readonly unused: readonly Window[]
  readonly unusedMore: number
  /** Uses by a window that was not followed. */
  readonly astray: number
}

/** @param listMax how many windows that were never used are listed */
export function followWindows(listMax: number): Windows {
  const followed = new Map<string, Window>()
  const over = new Set<string>()
  const access = counted<Access>(() => ({ windows: 0, unused: 0, uses: 0, last: undefined }))
  const unused: Window[] = []
  let unusedMore = 0
  let astray = 0

  function count(window: Window): void {
    const { principal, repository, uses, lastUse } = window
    const row = access.row([principal, repository])
    row.windows++
    row.uses += uses
    if (lastUse !== undefined && (row.last === undefined || lastUse > row.last)) row.last = lastUse
    if (uses > 0) return
    row.unused++
    if (unused.length < listMax) unused.push(window)
    else unusedMore++
  }

  function makeRoom(): void {
    if (followed.size < FOLLOWED_MAX) return
    // The first that is over, else the first: both keep the order in which they came.
    const [name] = over.size > 0 ? over : followed.keys()
    const oldest = name === undefined ? undefined : followed.get(name)
    if (!oldest) return
    over.delete(oldest.grant)
    followed.delete(oldest.grant)
    count(oldest)
  }

  return {
    issued({ grant, principal, repository, actions, refs, by, reason, request, starts, expires }) {
      makeRoom()
      const facts = { grant, principal, repository, actions, refs, by, reason, request, starts, expires }
      followed.set(grant, { ...facts, ended: undefined, uses: 0, lastUse: undefined })
    },
    extended(grant, expires) {
      const window = followed.get(grant)
      if (window) window.expires = expires
    },
    ended(grant, how) {
      const window = followed.get(grant)
      if (!window) return
      window.ended = how
      over.add(grant)
    },
    used(grant, at) {
      const window = followed.get(grant)
      if (!window) {
        astray++
        return
      }
      window.uses++
      window.lastUse = at
    },
    dropEnded(before) {
      for (const [grant, { ended, expires }] of followed)
        if (ended !== undefined || expires < before) followed.delete(grant)
      over.clear()
    },
    finish() {
      for (const window of followed.values()) count(window)
      followed.clear()
    },
    access,
    unused,
    get unusedMore() {
      return unusedMore
    },
    get astray() {
      return astray
    },
  }
}
