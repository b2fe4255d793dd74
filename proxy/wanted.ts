import type { AskedUpdate, FetchDetail, OperationStart } from '../audit/record.ts'
import type { Action, LiveGrant } from '../grant/grant.ts'

/** What somebody wants to do, and how to tell whether grants allow it. */
export interface Wanted {
  readonly operation: string
  readonly action: OperationStart['action']
  /** Grants with any of these are asked for. */
  readonly actions: readonly Action[]
  /** The grants among the live ones that cover it; undefined when they do not. Asked anew whenever standing may have changed. */
  covers(live: readonly LiveGrant[]): readonly LiveGrant[] | undefined
  /** Why it is not covered, where that is more than "no grant". */
  explain?(live: readonly LiveGrant[]): string | undefined
  readonly updates?: readonly AskedUpdate[]
  readonly fetch?: FetchDetail
  readonly pushOptions?: readonly string[]
  /** Nothing was asked of the host yet, nor promised to the client: without a window it may wait for one. */
  readonly mayWait?: true
}
