/** An event of a stream of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
export interface ServerEvent {
  readonly id: string | undefined
  readonly name: string
  readonly data: string
}

const EVENT_CHARACTERS_MAX = 16 << 20

/** Reads events as they come; comments and what is cut off at the end are passed over. */
export async function* events(chunks: AsyncIterable<Buffer>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of chunks) {
    rest += decoder.decode(chunk, { stream: true })
    let end = rest.indexOf('\n\n')
    while (end >= 0) {
      const event = readEvent(rest.slice(0, end))
      rest = rest.slice(end + 2)
      if (event) yield event
      end = rest.indexOf('\n\n')
    }
    if (rest.length > EVENT_CHARACTERS_MAX) throw new Error(`an event longer than ${EVENT_CHARACTERS_MAX} characters`)
  }
}

function readEvent(block: string): ServerEvent | undefined {
  const fields = { id: undefined as string | undefined, event: 'message', data: [] as string[] }
  for (const line of block.split('\n')) {
    const [, name, value = ''] = /^(\w+):? ?(.*)$/.exec(line) ?? []
    if (name === 'id') fields.id = value
    else if (name === 'event') fields.event = value
    else if (name === 'data') fields.data.push(value)
  }
  if (fields.data.length === 0) return undefined
  return { id: fields.id, name: fields.event, data: fields.data.join('\n') }
}

const RETRY_MILLISECONDS = 1_000

/** The ledger's side says that the reader may read no more, and why. */
export class FollowingEnded extends Error {
  readonly code = 'ERR_FOLLOWING_ENDED'
  override readonly name = 'FollowingEnded'
}

export interface FollowOptions {
  /** Opens `/audit/stream` behind a sequence number. */
  open(after: number): Promise<AsyncIterable<Buffer>>
  /** Whether trying again is of no use. */
  isLasting(error: unknown): boolean
  /** It broke, and is tried again; told once until it goes on. */
  onBroken(error: unknown): void
  onAgain(): void
  /** Ends the iteration; it does not throw. */
  readonly signal?: AbortSignal
  readonly retryMilliseconds?: number
}

/**
 * The ledger as its API streams it: what breaks is opened anew behind the last entry seen, so each comes once and none is left out.
 * The next is read when the one before has been dealt with: a reader that is slow makes the other side wait.
 *
 * @throws FollowingEnded when the reader may read no more, or what was lasting
 */
export async function* follow<Entry>(after: number, options: FollowOptions): AsyncGenerator<Entry> {
  const { open, isLasting, onBroken, onAgain, signal, retryMilliseconds = RETRY_MILLISECONDS } = options
  let last = after
  let broken = false
  while (!signal?.aborted) {
    try {
      const chunks = await open(last)
      if (broken) onAgain()
      broken = false
      for await (const { id, name, data } of events(chunks)) {
        if (signal?.aborted) return
        if (name === 'end') throw new FollowingEnded(data)
        if (id === undefined) continue
        yield JSON.parse(data) as Entry
        last = Number(id)
      }
    } catch (error) {
      if (signal?.aborted) return
      if (error instanceof FollowingEnded || isLasting(error)) throw error
      if (!broken) onBroken(error)
      broken = true
    }
    await pause(retryMilliseconds, signal)
  }
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(done, milliseconds)
    function done() {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    signal?.addEventListener('abort', done)
    if (signal?.aborted) done()
  })
}
