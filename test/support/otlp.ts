import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A span as a receiver has it, attributes by their names. */
export interface ReceivedSpan {
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string | undefined
  readonly kind: number
  readonly failed: boolean
  readonly attributes: Readonly<Record<string, unknown>>
  readonly resource: Readonly<Record<string, unknown>>
}

export interface OtlpReceiver {
  readonly url: URL
  readonly spans: ReceivedSpan[]
  /** Each request as it came: its headers and its body. */
  readonly requests: { readonly headers: Readonly<Record<string, unknown>>; readonly body: string }[]
  /** `hang` takes requests and never answers; `refuse` answers 400. */
  manner: 'take' | 'hang' | 'refuse'
  close(): void
}

interface Attribute {
  readonly key: string
  readonly value: Readonly<Record<string, unknown>>
}
interface Body {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] }
    readonly scopeSpans: readonly {
      readonly spans: readonly (Omit<ReceivedSpan, 'attributes' | 'resource' | 'failed'> & {
        readonly attributes: readonly Attribute[]
        readonly status: { readonly code?: number }
      })[]
    }[]
  }[]
}

const byName = (attributes: readonly Attribute[]) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))

const ERROR = 2

/** A receiver of OpenTelemetry traces: OTLP over HTTP, in JSON. */
export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    receiver.requests.push({ headers: request.headers, body })
    if (receiver.manner === 'hang') return
    if (receiver.manner === 'refuse') return void response.writeHead(400).end()
    for (const { resource, scopeSpans } of (JSON.parse(body) as Body).resourceSpans) {
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
        const { attributes, status, ...rest } = span
        const own = { attributes: byName(attributes), resource: byName(resource.attributes) }
        receiver.spans.push({ ...rest, ...own, failed: status.code === ERROR })
      }
    }
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const receiver: OtlpReceiver = {
    url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`),
    spans: [],
    requests: [],
    manner: 'take',
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
  return receiver
}
