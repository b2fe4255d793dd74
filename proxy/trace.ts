import type { OperationRefused, OperationStart } from '../audit/record.ts'
import type { Client } from './client.ts'
import type { Connect, Upstream } from './upstream/upstream.ts'
import type { Wanted } from './wanted.ts'

/**
 * Where an operation's time goes: `gate` is the question for its grants, with any waiting for one; `record` a record until it is
 * durable; `upstream` a question to the host until it begins to answer; `held tail` a push whose last bytes wait.
 */
export type Step = 'gate' | 'record' | 'upstream' | 'held tail'

/** What is told of an operation that has ended; a session is one. */
export interface Ended {
  readonly start: Pick<OperationStart, 'grants'>
  readonly outcome: { readonly result: string } | undefined
  readonly bytesIn: number
  readonly bytesOut: number
  readonly reuse: string | undefined
}

/** One operation, followed from the question for its grants to its end record. */
export interface Trace {
  step<T>(step: Step, work: () => Promise<T>, facts?: Readonly<Record<string, string>>): Promise<T>
  refused(record: OperationRefused): void
  ended(session: Ended): void
}

/** Follows operations in time, where somebody wants to see it; see `otlp.ts`. Nobody waits for it. */
export interface Tracing {
  begin(client: Client, wanted: Wanted): Trace
  /** Says goodbye to the receiver, for a bounded time. */
  close(): Promise<void>
}

/** Does the work, as a step of the trace where there is one. */
export function stepOf<T>(trace: Trace | undefined, step: Step, work: () => Promise<T>): Promise<T> {
  return trace ? trace.step(step, work) : work()
}

/** What carries a session's bytes knows its signal and nothing else of it. */
const bySignal = new WeakMap<AbortSignal, Trace>()

/** The trace goes on in whatever listens to the signal. */
export function traceBy(signal: AbortSignal, trace: Trace): void {
  bySignal.set(signal, trace)
}

/** Questions to the host as steps of whose operation they are for. */
export function traceUpstream(name: string, connect: Connect): Connect {
  return target => {
    const upstream = connect(target)
    const asking = <T>(question: string, signal: AbortSignal, ask: () => Promise<T>) => {
      const trace = bySignal.get(signal)
      return trace ? trace.step('upstream', ask, { upstream: name, question }) : ask()
    }
    const traced: Upstream = {
      get conversational() {
        return upstream.conversational
      },
      advertise: signal => asking('advertise', signal, () => upstream.advertise(signal)),
      exchange: (body, signal) => asking('exchange', signal, () => upstream.exchange(body, signal)),
      close: () => upstream.close(),
    }
    return traced
  }
}
