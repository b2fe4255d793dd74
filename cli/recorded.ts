import type { ReplayOperation } from '../config/policy/replay.ts'

/** Operations as the ledger has them, in the form that a policy can be asked about: `drawbridge policy replay --since`. */

/** An entry of the ledger, as much of it as is looked at here. */
export interface RecordedEntry {
  readonly seq: number
  readonly at: string
  readonly record: RecordedOperation | RecordedSignin
}

interface RecordedSignin {
  readonly kind: 'signin.made'
  readonly principal: string
  readonly groups?: readonly string[]
  readonly roles?: readonly string[]
  readonly mfa?: string
}

interface RecordedOperation {
  readonly kind: 'operation.start' | 'operation.refused'
  readonly operation: string
  readonly principal: string
  readonly repository: string
  readonly service: string
  readonly action: 'list' | 'fetch' | 'push' | 'archive'
  readonly origin: { readonly address: string }
  readonly updates?: readonly { readonly ref: string; readonly action: Action | 'update-or-force' }[]
  /** Of a refused one. */
  readonly code?: string
}

type Action = ReplayOperation['action']

/** Refused for want of a window. Everything else that is refused says nothing of the policy. */
const WANTING: ReadonlySet<string> = new Set(['no-grant', 'not-here', 'spent', 'ref-refused'])

/**
 * What was done or refused, each with what its principal's last sign-in told of groups and second factor. The ledger does not
 * say what a token handed out or a CI job was known by; of those no group and no claim is known, and unknown opens nothing.
 * @param entries oldest first
 */
export function operationsOf(entries: readonly RecordedEntry[]): ReplayOperation[] {
  const known = new Map<string, Pick<ReplayOperation, 'groups' | 'mfa'>>()
  return entries.flatMap(({ at, record }) => {
    if (record.kind === 'signin.made') {
      const groups = [...(record.groups ?? []), ...(record.roles ?? []).map(role => `role:${role}`)]
      known.set(record.principal, { groups, ...(record.mfa !== undefined && { mfa: Date.parse(record.mfa) }) })
      return []
    }
    const result = record.kind === 'operation.start' ? 'allowed' : 'refused'
    if (record.kind === 'operation.refused' && !WANTING.has(record.code ?? '')) return []
    const { operation: id, principal, repository, origin } = record
    return partsOf(record).map(({ action, refs }): ReplayOperation => {
      const who = { groups: [], ...known.get(principal), principal, kind: kindOf(principal), address: origin.address }
      return { ...who, id, at: Date.parse(at), action, repository, refs, result }
    })
  })
}

function partsOf({ kind, action, service, updates }: RecordedOperation): { action: Action; refs: readonly string[] }[] {
  if (action === 'fetch' || action === 'archive') return [{ action, refs: [] }]
  if (action === 'push') {
    return (updates ?? []).map(update => {
      return { action: update.action === 'update-or-force' ? 'update' : update.action, refs: [update.ref] }
    })
  }
  // Where a listing was let through, what it was for follows; where it was refused, nothing does.
  if (kind === 'operation.start') return []
  const wanted = { 'receive-pack': 'update', 'upload-archive': 'archive' } as const
  return [{ action: wanted[service as keyof typeof wanted] ?? 'fetch', refs: [] }]
}

function kindOf(principal: string): ReplayOperation['kind'] {
  const [, kind] = /^(ci|service):/.exec(principal) ?? []
  return kind === 'ci' || kind === 'service' ? kind : 'person'
}
