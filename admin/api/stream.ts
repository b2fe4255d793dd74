import type { Linked } from '../../audit/chain.ts'

/** A comment at least so often, so that whatever stands in between sees life. */
const HEARTBEAT_MILLISECONDS = 10_000

/**
 * Records as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). Each is asked for when the one
 * before has been taken, so a slow reader costs nothing. Ends when the reader may not go on.
 */
export async function* events(
  records: AsyncGenerator<Linked>,
  options: {
    readonly signal: AbortSignal
    /** Lets the records go: called at the end, whoever ended it. A generator that waits hears of nothing else. */
    readonly end: () => void
    /** Why the reader may read no more, once that is so. */
    readonly refusal: () => Promise<string | undefined>
    readonly heartbeatEvery?: number
  },
): AsyncGenerator<string> {
  const { signal, end, refusal, heartbeatEvery = HEARTBEAT_MILLISECONDS } = options
  try {
    // Sent at once, so that the reader knows that it is connected.
    yield 'retry: 1000\n\n'
    let next = records.next()
    let beat = later(heartbeatEvery, signal)
    for (;;) {
      // The beat first: records that come faster than they are taken must not put off the question.
      const result = await Promise.race([beat, next])
      if (signal.aborted) return
      if (result === 'beat') {
        const refused = await refusal()
        if (refused !== undefined) {
          yield `event: end\ndata: ${refused.replaceAll(/[\r\n]+/g, ' ')}\n\n`
          return
        }
        beat = later(heartbeatEvery, signal)
        yield ': still here\n\n'
        continue
      }
      if (result.done) return
      const entry = result.value
      next = records.next()
      yield `id: ${entry.seq}\nevent: ${entry.record.kind}\ndata: ${JSON.stringify(entry)}\n\n`
    }
  } finally {
    end()
    await records.return(undefined)
  }
}

function later(milliseconds: number, signal: AbortSignal): Promise<'beat'> {
  return new Promise(resolve => {
    const timer = setTimeout(done, milliseconds)
    function done() {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve('beat')
    }
    signal.addEventListener('abort', done)
  })
}
