import type { AskedUpdate } from '../audit/record.ts'
import type { Action, LiveGrant } from '../grant/grant.ts'
import { permits } from '../grant/pattern.ts'
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

/** Judges every update of a push by itself; the push is covered when all of them are. */
export function judge(updates: readonly RefUpdate[], live: readonly LiveGrant[]): Judgement {
  const covering = new Set<LiveGrant>()
  const reasons = new Map<string, string>()
  const asked: AskedUpdate[] = []
  for (const update of updates) {
    const action = actionOf(update, live)
    asked.push({ ref: update.ref, old: update.old, new: update.new, action: recorded(update, action) })
    if (!action) reasons.set(update.ref, `your window does not allow to ${verb(update)} it`)
    else for (const grant of permits(live, action, update.ref)) covering.add(grant)
  }
  return { asked, covering: reasons.size === 0 ? [...covering] : undefined, reasons }
}

/**
 * The action by which these grants allow an update; undefined when they do not. An update that may be forced is not
 * looked into; one that may only go forward is `update`, and that it does is shown before the push lands.
 */
export function actionOf(update: RefUpdate, grants: readonly LiveGrant[]): Action | undefined {
  return candidates(update).find(action => permits(grants, action, update.ref).length > 0)
}

// A tag that moves is a rewrite of history somebody may have built from: only `force` allows it.
function candidates({ kind, ref }: RefUpdate): readonly Action[] {
  const isTag = namespaceOf(ref) === 'tag'
  if (kind === 'delete') return ['delete']
  if (kind === 'create') return isTag ? ['tag'] : ['create']
  return isTag ? ['force'] : ['force', 'update']
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
