import type { OpenOperation } from './inbox.ts'
import type { OperationEnd, OperationStart } from './record.ts'

// Ends that are not written by whoever ran the operation.

/** For a start whose caller was told no, and which was written all the same. */
export function endOfRefused(start: OperationStart): OperationEnd {
  return endOf(start, 'refused', 'the ledger did not confirm the start in time')
}

/** For an operation whose proxy died. */
export function endOfInterrupted({ body }: OpenOperation): OperationEnd {
  return endOf(JSON.parse(body) as OperationStart, 'interrupted', 'the proxy died while it ran')
}

function endOf(start: OperationStart, result: OperationEnd['result'], reason: string): OperationEnd {
  const { operation, principal, repository, service, action } = start
  const counts = { bytesIn: 0, bytesOut: 0, milliseconds: 0 }
  return { kind: 'operation.end', operation, principal, repository, service, action, result, reason, ...counts }
}
