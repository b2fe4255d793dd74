import type { AskedUpdate } from '../audit/record.ts'
import type { Action, LiveGrant } from '../grant/grant.ts'
import { coversRef, limitsPaths, needs, permits } from '../grant/pattern.ts'
import { namespaceOf } from './git/refname.ts'
import type { RefUpdate } from './git/refupdate.ts'

/** What grants say to each update of a push. */
export interface Judgement {
  readonly asked: readonly AskedUpdate[]
  /** The grants that together cover the push; undefined when one update at least is not covered. */
  readonly covering: readonly LiveGrant[] | undefined
  /** Why not, by ref. */
  readonly reasons: ReadonlyMap<string, string>
}

/** What is known of the paths an update changes; nothing before its pack was read. */
export interface Findings {
  /** Whether they are all within what the grant allows to be changed; undefined when that is not known yet. */
  stays(update: RefUpdate, grant: LiveGrant): boolean | undefined
  /** What is outside, as a sentence. */
  outside(update: RefUpdate): string | undefined
}

const NOTHING_FOUND: Findings = { stays: () => undefined, outside: () => undefined }

/**
 * Judges every update of a push by itself; the push is covered when all of them are. One window has to allow all that an
 * update changes: two that limit paths do not add up.
 */
export function judge(
  updates: readonly RefUpdate[],
  live: readonly LiveGrant[],
  findings: Findings = NOTHING_FOUND,
): Judgement {
  const covering = new Set<LiveGrant>()
  const reasons = new Map<string, string>()
  const asked: AskedUpdate[] = []
  for (const update of updates) {
    const usable = usableFor(update, live, findings)
    const action = actionOf(update, usable)
    const grants = action ? permits(usable, action, update.ref) : []
    const paths = grants.find(limitsPaths)?.bounds?.paths
    asked.push({
      ref: update.ref,
      old: update.old,
      new: update.new,
      action: recorded(update, action),
      ...(paths && { paths }),
    })
    if (!action) reasons.set(update.ref, whyNot(update, live, findings))
    for (const grant of grants) covering.add(grant)
    const undecided = grants.some(grant => limitsPaths(grant) && findings.stays(update, grant) === undefined)
    // Until its paths are known any of these may turn out to be the one.
    if (undecided) for (const grant of alternatives(update, usable)) covering.add(grant)
  }
  return { asked, covering: reasons.size === 0 ? [...covering] : undefined, reasons }
}

/** The grants that what is known of an update's paths does not rule out. */
export function usableFor(update: RefUpdate, grants: readonly LiveGrant[], findings: Findings): readonly LiveGrant[] {
  return grants.filter(grant => !limitsPaths(grant) || findings.stays(update, grant) !== false)
}

/**
 * The action by which these grants allow an update; undefined when they do not. An update that may be forced is not
 * looked into; one that may only go forward is `update`, and that it does is shown before the push lands.
 */
export function actionOf(update: RefUpdate, grants: readonly LiveGrant[]): Action | undefined {
  return candidates(update).find(action => permits(grants, action, update.ref).length > 0)
}

/** All grants by which an update might be allowed, whatever its paths turn out to be. */
function alternatives(update: RefUpdate, grants: readonly LiveGrant[]): readonly LiveGrant[] {
  const free = grants.filter(grant => !limitsPaths(grant))
  return candidates(update).flatMap(action => {
    const needed = needs(action, update.ref)
    const limited = grants.filter(limitsPaths).filter(grant => coversRef(grant, update.ref))
    return [
      ...permits(free, action, update.ref),
      ...limited.filter(grant => needed.some(need => grant.actions.includes(need))),
    ]
  })
}

// A tag that moves is a rewrite of history somebody may have built from: only `force` allows it.
function candidates({ kind, ref }: RefUpdate): readonly Action[] {
  const isTag = namespaceOf(ref) === 'tag'
  if (kind === 'delete') return ['delete']
  if (kind === 'create') return isTag ? ['tag'] : ['create']
  return isTag ? ['force'] : ['force', 'update']
}

function whyNot(update: RefUpdate, live: readonly LiveGrant[], findings: Findings): string {
  const outside = findings.outside(update)
  if (outside !== undefined) return outside
  const limited = update.kind === 'delete' && live.some(grant => limitsPaths(grant) && grant.actions.includes('delete'))
  return limited
    ? 'your window allows to change some paths, and a deletion takes away all of them'
    : `your window does not allow to ${verb(update)} it`
}

function recorded(update: RefUpdate, action: Action | undefined): AskedUpdate['action'] {
  if (update.kind === 'delete') return 'delete'
  if (update.kind === 'create') return namespaceOf(update.ref) === 'tag' ? 'tag' : 'create'
  return action === 'update' ? 'update' : 'update-or-force'
}

function verb(update: RefUpdate): string {
  if (update.kind === 'update') return 'update'
  return update.kind
}
