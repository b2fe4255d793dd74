import { type Context, ROOT_CONTEXT, type Span, SpanKind, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import type { Log } from '../audit/emit.ts'
import type { TracesSettings } from '../config/telemetry.ts'
import type { Client } from './client.ts'
import type { Ended, Trace, Tracing } from './trace.ts'
import type { Wanted } from './wanted.ts'

// OpenTelemetry, and imported only where the settings name a receiver. Spans are made after the event of what is said in records; they
// hold no ref, no reason and nothing a host said, which may repeat what it was sent.

/** Spans that wait for the receiver; beyond them new ones are dropped. A span takes about 1 KB. */
const QUEUE_SPANS_MAX = 4_096
const BATCH_SPANS_MAX = 512
const EVERY_MILLISECONDS = 1_000
const ANSWER_MILLISECONDS_MAX = 5_000
const GOODBYE_MILLISECONDS_MAX = 2_000
const TEXT_CHARACTERS_MAX = 256
const ATTRIBUTES_MAX = 32

/** Follows operations and sends them to an OTLP/HTTP receiver, many in one request, behind everybody's back. */
export function otlpTracing(
  { url, ratio, headers, acceptParent }: TracesSettings,
  { name, log }: { readonly name: string; readonly log: Log },
): Tracing {
  const exporter = new OTLPTraceExporter({
    url: url.href,
    headers: Object.fromEntries(headers.map(({ name, secret }) => [name, secret])),
    timeoutMillis: ANSWER_MILLISECONDS_MAX,
  })
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'drawbridge', 'service.instance.id': name }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio) }),
    spanLimits: { attributeValueLengthLimit: TEXT_CHARACTERS_MAX, attributeCountLimit: ATTRIBUTES_MAX },
    spanProcessors: [
      new BatchSpanProcessor({
        exporter: telling(exporter, log),
        maxQueueSize: QUEUE_SPANS_MAX,
        maxExportBatchSize: BATCH_SPANS_MAX,
        scheduledDelayMillis: EVERY_MILLISECONDS,
        exportTimeoutMillis: ANSWER_MILLISECONDS_MAX,
      }),
    ],
  })
  const tracer = provider.getTracer('drawbridge')

  function begin(client: Client, { operation, action }: Wanted): Trace {
    const { caller, repository, service, protocol, traceparent } = client
    const { origin } = caller
    const parent = acceptParent ? contextOf(traceparent) : ROOT_CONTEXT
    const attributes = {
      'drawbridge.operation': operation,
      'drawbridge.action': action,
      'drawbridge.service': service,
      'drawbridge.git_protocol': protocol,
      'enduser.id': caller.principal,
      'vcs.repository.name': repository,
      'network.protocol.name': origin.transport,
      'client.address': origin.address,
      'user_agent.original': origin.agent,
    }
    const span = tracer.startSpan(`git ${action}`, { kind: SpanKind.SERVER, attributes }, parent)
    return follow(span)
  }

  function follow(span: Span): Trace {
    const inside = trace.setSpan(ROOT_CONTEXT, span)
    return {
      async step(step, work, facts = {}) {
        const kind = step === 'upstream' ? SpanKind.CLIENT : SpanKind.INTERNAL
        const attributes = Object.fromEntries(Object.entries(facts).map(([key, value]) => [`drawbridge.${key}`, value]))
        const child = tracer.startSpan(step, { kind, attributes }, inside)
        try {
          return await work()
        } catch (error) {
          fail(child, codeOf(error))
          throw error
        } finally {
          child.end()
        }
      },
      refused({ code }) {
        span.setAttribute('drawbridge.result', 'refused')
        fail(span, code)
        span.end()
      },
      ended: session => {
        describe(span, session)
        span.end()
      },
    }
  }

  return {
    begin,
    async close() {
      const late = new Promise<void>(resolve => setTimeout(resolve, GOODBYE_MILLISECONDS_MAX).unref())
      await Promise.race([provider.shutdown(), late]).catch(() => {})
    },
  }
}

function describe(span: Span, { start, outcome, bytesIn, bytesOut, reuse }: Ended): void {
  const result = outcome?.result ?? 'failed'
  span.setAttributes({
    'drawbridge.result': result,
    'drawbridge.grants': [...start.grants],
    'drawbridge.bytes.in': bytesIn,
    'drawbridge.bytes.out': bytesOut,
    ...(reuse && { 'drawbridge.reuse': reuse }),
  })
  if (result !== 'ok') fail(span, result)
}

/** A stable word and no sentence: sentences may repeat what a host said. */
function fail(span: Span, type: string): void {
  span.setAttribute('error.type', type)
  span.setStatus({ code: SpanStatusCode.ERROR })
}

function codeOf(error: unknown): string {
  const code = Reflect.get(Object(error), 'code')
  return typeof code === 'string' ? code : 'aborted'
}

/** https://www.w3.org/TR/trace-context/, version 00: trace id, parent id, flags. */
const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/

/** The span somebody in front of the gate has begun; what is not understood begins anew. */
function contextOf(traceparent: string | undefined): Context {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent ?? '') ?? []
  if (traceId === undefined || spanId === undefined) return ROOT_CONTEXT
  const traceFlags = Number.parseInt(flags ?? '', 16) & TraceFlags.SAMPLED
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags, isRemote: true })
}

/** Says once that the receiver takes nothing, and once that it does again. */
function telling(exporter: SpanExporter, log: Log): SpanExporter {
  let failing = false
  return {
    export: (spans, done) =>
      exporter.export(spans, result => {
        const { error } = result
        if (error && !failing) log.warn({ err: error }, 'traces: the receiver takes none; they are dropped')
        if (!error && failing) log.info({}, 'traces: the receiver takes them again')
        failing = error !== undefined
        done(result)
      }),
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
    shutdown: () => exporter.shutdown(),
  }
}
