import type { Record } from './record.ts'

/** What the indexes of the ledger know of a record; each repeats something that stands in its body. */
export interface Facets {
  readonly kind: string
  readonly operation: string | null
  /** Whom it is about. */
  readonly principal: string | null
  /** Who did it, where that is somebody else: the administrator, the approver, `drawbridge`. */
  readonly actor: string | null
  readonly repository: string | null
  readonly action: string | null
  readonly result: string | null
  readonly grants: readonly string[] | null
  /** Full names of the refs asked for or done. */
  readonly refs: readonly string[] | null
}

/** Refs beyond this many are in the record but not in the index. */
const INDEXED_REFS_MAX = 1_000

/** Reads the indexed facts out of a record. */
export function facets(record: Record): Facets {
  const updates = 'updates' in record ? record.updates : undefined
  return {
    kind: record.kind,
    operation: 'operation' in record ? record.operation : null,
    principal: 'principal' in record ? record.principal : null,
    actor: 'by' in record ? record.by : null,
    repository: 'repository' in record ? record.repository : null,
    action: 'action' in record ? record.action : null,
    result: resultOf(record),
    grants: grantsOf(record),
    refs: updates?.length ? [...new Set(updates.slice(0, INDEXED_REFS_MAX).map(update => update.ref))] : null,
  }
}

function resultOf(record: Record): string | null {
  switch (record.kind) {
    case 'operation.end':
      return record.result
    case 'operation.refused':
    case 'signin.refused':
    case 'certificate.refused':
      return 'refused'
    default:
      return null
  }
}

function grantsOf(record: Record): readonly string[] | null {
  if (record.kind === 'operation.start') return record.grants.length > 0 ? record.grants : null
  return 'grant' in record ? [record.grant] : null
}
