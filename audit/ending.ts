import type { OperationEnd, OperationStart } from './record.ts'

// Ends that are not written by whoever ran the operation.

/** What an end repeats of its start. */
export type Subject = Pick<OperationStart, 'operation' | 'principal' | 'repository' | 'service' | 'action'>

export function subjectOf({ operation, principal, repository, service, action }: OperationStart): Subject {
  return { operation, principal, repository, service, action }
}

/** For a start whose caller was told no, and which was written all the same. */
export function endOfRefused(start: OperationStart): OperationEnd {
  return endOf(subjectOf(start), 'refused', 'the ledger did not confirm the start in time')
}

/**
 * For an operation whose proxy died.
 * @param start JSON of it, or of its `Subject`, which is all that an earlier version kept
 */
export function endOfInterrupted(start: string): OperationEnd {
  return endOf(subjectOf(JSON.parse(start) as OperationStart), 'interrupted', 'the proxy died while it ran')
}

function endOf(subject: Subject, result: OperationEnd['result'], reason: string): OperationEnd {
  return { kind: 'operation.end', ...subject, result, reason, bytesIn: 0, bytesOut: 0, milliseconds: 0 }
}
