import type { Linked } from '../chain.ts'
import type { OperationEnd, Record } from '../record.ts'

/** So many records on one ref are looked back. */
export const LOOK_BACK_MAX = 100

/** A ref that was not where the record says that it should be. */
export interface Bypass {
  readonly ref: string
  /** Where the last recorded push left it. */
  readonly left: string
  /** Where the next one found it. */
  readonly found: string
  /** The sequence number of that recorded push. */
  readonly since: number
}

/**
 * A Git host takes an update only if the ref stands at its old id. So if a push landed, and its old id is none that a recorded push can have left
 * there, somebody moved the ref past the gate.
 *
 * Ends are written behind the answer, so those of two pushes may be recorded in the wrong order, and of an interrupted push nobody knows whether it
 * landed. But starts are recorded before anything lands, and a push that builds on another begins after that one landed: the order of the starts
 * is the order in which they landed.
 * @param before records on the repository before `end`, in order
 */
export function bypassesOf(end: Linked, before: readonly Linked[]): Bypass[] {
  const begun = new Map<string, number>()
  for (const [i, { record }] of before.entries()) if (record.kind === 'operation.start') begun.set(record.operation, i)
  // One whose start is too long ago to be at hand began before all others.
  const startOf = ({ record }: Linked) => ('operation' in record ? begun.get(record.operation ?? '') : undefined) ?? -1

  const found: Bypass[] = []
  for (const { ref, old } of landed(end)) {
    const landings = before
      .flatMap(entry =>
        landed(entry).flatMap(update =>
          update.ref === ref ? [{ update, start: startOf(entry), seq: entry.seq }] : [],
        ),
      )
      .sort((a, b) => a.start - b.start)
    const last = landings.at(-1)
    // A later push has landed and is recorded already: it looked after what this one left.
    if (!last || last.start > startOf(end) || last.update.new === old) continue
    if (mayStandAt(old, ref, before.slice(last.start + 1))) continue
    found.push({ ref, left: last.update.new, found: old, since: last.seq })
  }
  return found
}

function landed({ record }: Linked) {
  if (record.kind !== 'operation.end' || record.action !== 'push') return []
  return (record.updates ?? []).filter(({ result }) => result === 'ok')
}

/** Whether a push that has no end yet, or whose end nobody saw, wanted the ref there. */
function mayStandAt(id: string, ref: string, since: readonly Linked[]): boolean {
  const certain = new Set(since.flatMap(({ record }) => (isCertain(record) ? [record.operation] : [])))
  return since.some(
    ({ record }) =>
      record.kind === 'operation.start' &&
      !certain.has(record.operation) &&
      record.updates?.some(update => update.ref === ref && update.new === id),
  )
}

/** What broke off may have landed all the same. */
function isCertain(record: Record): record is OperationEnd {
  if (record.kind !== 'operation.end' || (record.result !== 'ok' && record.result !== 'refused')) return false
  return !record.updates?.some(({ result }) => result === 'unknown')
}
