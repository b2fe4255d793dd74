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
