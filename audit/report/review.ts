import type { Sql } from 'postgres'
import { linked, readRows } from '../read.ts'
import type { ControlRecord, OperationStart, Record } from '../record.ts'

/**
 * Windows that nobody needed as they were: never used, or far wider than what was done in them. It reads the ledger, so that
 * windows that are over are looked at as well, and it changes nothing: people decide what they ask for, and approve, next time.
 */

/** Followed at a time; of more, the newest. */
const FOLLOWED_MAX = 50_000
/** Told of one window. */
const NAMES_MAX = 10
/** A window that has just opened is not unused yet. */
const UNUSED_AFTER_MILLISECONDS = 3_600_000
/** Shorter ones are never called too long. */
const LONG_MILLISECONDS = 4 * 3_600_000
/** Of a long window, the part within which all of the work was done. */
const LONG_PART = 1 / 8
/** So few were used of everything: they could have been named. */
const FEW = 3

/** `unused` says all there is to say; the others say in which way a used window was too wide. */
export type Finding = 'unused' | 'actions' | 'refs' | 'repositories' | 'length'

export interface ReviewedWindow {
  readonly grant: string
  readonly request?: string
  readonly principal: string
  readonly by: string
  readonly repository: string
  readonly actions: string[]
  readonly refs: string[]
  readonly starts: string
  readonly expires: string
  readonly ended?: string
  readonly findings: Finding[]
  readonly used: {
    readonly operations: number
    readonly last?: string
    readonly repositories: string[]
    readonly actions: string[]
    readonly refs: string[]
  }
  /** What would have been enough, as it is asked for: a line for each repository. Absent where it was not used. */
  readonly enough?: string[]
}

export interface Review {
  readonly since: string
  readonly until: string
  /** Windows looked at. */
  readonly windows: number
  readonly found: ReviewedWindow[]
}

/** Looks at every window that was open between two moments. */
export async function reviewWindows(sql: Sql, range: { readonly since: Date; readonly until: Date }): Promise<Review> {
  const { since, until } = range
  const review = followUse()
  for (const kind of ['grant.issued', 'grant.extended', 'grant.ended']) {
    for await (const rows of readRows(sql, 0, { kind, until: since }))
      for (const row of rows) review.add(linked(row).record, row.recorded)
  }
  review.dropClosed(since.toISOString())
  for (const kind of ['grant.issued', 'grant.extended', 'grant.ended', 'operation.start']) {
    for await (const rows of readRows(sql, 0, { kind, since, until }))
      for (const row of rows) review.add(linked(row).record, row.recorded)
  }
  return { since: since.toISOString(), until: until.toISOString(), ...review.finish(until) }
}

type Issued = Extract<ControlRecord, { kind: 'grant.issued' }>

interface Followed {
  readonly issued: Issued
  expires: string
  ended: string | undefined
  operations: number
  last: string | undefined
  /** By repository, what was done there. */
  readonly repositories: Map<string, { readonly actions: Set<string>; readonly refs: Set<string> }>
}

/** Takes records of windows, then those of their use; what it keeps is bounded. */
export function followUse() {
  const followed = new Map<string, Followed>()

  function issue(issued: Issued): void {
    if (followed.size >= FOLLOWED_MAX) followed.delete(followed.keys().next().value as string)
    const nothing = { ended: undefined, operations: 0, last: undefined, repositories: new Map() }
    followed.set(issued.grant, { issued, expires: issued.expires, ...nothing })
  }

  function use(start: OperationStart, recorded: string): void {
    for (const grant of start.grants) {
      const window = followed.get(grant)
      if (!window) continue
      window.operations++
      window.last = recorded
      const known = window.repositories.get(start.repository)
      const there = known ?? { actions: new Set<string>(), refs: new Set<string>() }
      if (!known && window.repositories.size < NAMES_MAX) window.repositories.set(start.repository, there)
      for (const action of actionsIn(start)) if (window.issued.actions.includes(action)) there.actions.add(action)
      for (const { ref } of start.updates ?? []) if (there.refs.size < NAMES_MAX) there.refs.add(ref)
    }
  }

  return {
    add(record: Record, recorded: string): void {
      if (record.kind === 'operation.start') use(record, recorded)
      else if (record.kind === 'grant.issued') issue(record)
      else if (record.kind === 'grant.extended' || record.kind === 'grant.ended') {
        const window = followed.get(record.grant)
        if (!window) return
        if (record.kind === 'grant.extended') window.expires = record.expires
        else window.ended = recorded
      }
    },
    /** Forgets what was over before the time that is looked at. */
    dropClosed(before: string): void {
      for (const [grant, { ended, expires }] of followed)
        if (ended !== undefined || expires < before) followed.delete(grant)
    },
    finish(now: Date): Pick<Review, 'windows' | 'found'> {
      const found = [...followed.values()]
        .map(window => told(window, now))
        .filter(({ findings }) => findings.length > 0)
      // Those that were not needed at all first, then the widest.
      const weight = ({ findings }: ReviewedWindow) => (findings.includes('unused') ? FINDINGS_MAX : findings.length)
      return { windows: followed.size, found: found.sort((a, b) => weight(b) - weight(a)) }
    },
  }
}

const FINDINGS_MAX = 5

/** An update that could have been either counts as both: nobody is told to do without what they may have used. */
function actionsIn({ action, updates = [] }: OperationStart): string[] {
  if (action === 'fetch' || action === 'archive') return [action]
  return updates.flatMap(update => (update.action === 'update-or-force' ? ['update', 'force'] : [update.action]))
}

function told(window: Followed, now: Date): ReviewedWindow {
  const { issued, expires, ended, operations, last, repositories } = window
  const { grant, request, principal, by, repository, actions, refs, starts } = issued
  const done = [...repositories.values()]
  const used = {
    operations,
    ...(last !== undefined && { last }),
    repositories: [...repositories.keys()],
    actions: [...new Set(done.flatMap(there => [...there.actions]))],
    refs: [...new Set(done.flatMap(there => [...there.refs]))],
  }
  const findings = findingsOf(window, used, now)
  const lines = [...repositories].map(([name, there]) => askingFor(name, there.actions, there.refs))
  return {
    grant,
    ...(request !== undefined && { request }),
    ...{ principal, by, repository, starts, expires },
    actions: [...actions],
    refs: [...refs],
    ...(ended !== undefined && { ended }),
    findings,
    used,
    ...(operations > 0 && { enough: lines.filter(line => line !== undefined) }),
  }
}

function findingsOf({ issued, expires, ended, last }: Followed, used: ReviewedWindow['used'], now: Date): Finding[] {
  const { repository, actions, refs, starts } = issued
  const over = Math.min(Date.parse(ended ?? expires), now.getTime())
  if (last === undefined) return over - Date.parse(starts) >= UNUSED_AFTER_MILLISECONDS ? ['unused'] : []
  const findings: Finding[] = []
  const kinds = (list: readonly string[]) => new Set(list.flatMap(action => KIND_OF[action] ?? []))
  const usedKinds = kinds(used.actions)
  if ([...kinds(actions)].some(kind => !usedKinds.has(kind))) findings.push('actions')
  const anyRef = refs.length === 0 || refs.some(ref => ref.includes('**'))
  if (anyRef && used.refs.length > 0 && used.refs.length <= FEW) findings.push('refs')
  const few = repository.includes('**') ? FEW : repository.includes('*') ? 1 : 0
  if (used.repositories.length <= few) findings.push('repositories')
  const length = Date.parse(expires) - Date.parse(starts)
  const closed = now.getTime() >= Date.parse(expires)
  if (closed && length >= LONG_MILLISECONDS && Date.parse(last) - Date.parse(starts) < length * LONG_PART)
    findings.push('length')
  return findings
}

/** What is asked for together counts as one: who pushes to a branch need not create one too. */
const KIND_OF: Readonly<{ [action: string]: string }> = {
  fetch: '--fetch',
  'lfs-download': '--fetch',
  create: '--push',
  update: '--push',
  'lfs-upload': '--push',
  force: '--force',
  delete: '--delete',
  tag: '--tag',
  archive: '--archive',
}

function askingFor(repository: string, actions: ReadonlySet<string>, refs: ReadonlySet<string>): string | undefined {
  const flags = new Set([...actions].map(action => KIND_OF[action]))
  if (flags.size === 0) return undefined
  const named = refs.size <= FEW ? [...refs].map(ref => `--ref ${ref.replace(/^refs\/heads\//, '')}`) : []
  return `git access request ${[repository, ...flags, ...named].join(' ')}`
}
