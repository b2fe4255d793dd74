import type { Action } from '../../grant/grant.ts'
import { evaluate, type Question } from '../evaluate.ts'
import type { Policy } from '../policy.ts'
import type { Asker } from './govern.ts'
import { allOnCallAt } from './rota.ts'

/** One operation as the ledger has it, with what was known of its principal. */
export interface ReplayOperation extends Asker {
  readonly id: string
  readonly at: number
  readonly action: Action
  readonly repository: string
  readonly refs: readonly string[]
  readonly result: 'allowed' | 'refused'
}

/** An operation that would have met another answer. */
export interface Change {
  readonly operation: ReplayOperation
  /** Under the policy before, or as it was recorded. */
  readonly was: string
  readonly becomes: string
  /** `narrower`: what could be had no longer can; `wider`: the other way round; `other`: can be had, on other terms. */
  readonly direction: 'narrower' | 'wider' | 'other'
}

interface Answer {
  readonly open: boolean
  readonly text: string
}

/**
 * What a new policy would change for operations that were recorded: each is asked again at its own time. With `before`, the
 * two policies are compared; without, the new one with what happened, where an allowed operation is one that could be had.
 */
export function replay(policy: Policy, operations: Iterable<ReplayOperation>, before?: Policy): readonly Change[] {
  const changes: Change[] = []
  for (const operation of operations) {
    const is = answer(policy, operation)
    const was = before ? answer(before, operation) : recorded(operation)
    if (was.open === is.open && (!before || was.text === is.text)) continue
    const direction = was.open === is.open ? 'other' : is.open ? 'wider' : 'narrower'
    changes.push({ operation, was: was.text, becomes: is.text, direction })
  }
  return changes
}

const recorded = ({ result }: ReplayOperation): Answer => ({ open: result === 'allowed', text: result })

function answer(policy: Policy, operation: ReplayOperation): Answer {
  const question: Question = operation
  const facts = { onCall: allOnCallAt(policy.rotas, operation.at) }
  const asked = evaluate(policy, question, { ...facts, grants: [] }, operation.at)
  if (asked.kind === 'observed') return { open: true, text: 'let through, only observed' }
  if (asked.kind !== 'needed') return { open: false, text: asked.kind === 'refused' ? asked.reason : asked.kind }
  // With a window in hand: the source network and the hours of that moment.
  const used = evaluate(policy, question, { ...facts, grants: [windowFor(operation)] }, operation.at)
  return used.kind === 'refused' ? { open: false, text: used.reason } : { open: true, text: asked.needed.way }
}

function windowFor({ principal, repository, action, refs, at }: ReplayOperation) {
  const actions: Action[] = [action, 'tag', 'force', 'create']
  return { id: 'replayed', principal, repository, actions, refs, starts: at, expires: at + 1, reason: '' }
}
