import { readFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { storedHeads } from '../../audit/append.ts'
import { storedBoundary } from '../../audit/boundary.ts'
import type { Linked } from '../../audit/chain.ts'
import { exportLedger, FORMATS, type Format } from '../../audit/export.ts'
import { type Head, parseHead } from '../../audit/head.ts'
import { type Filters, lastSeq, list, readIndexed, readRows } from '../../audit/read.ts'
import { type Verdict, verifyLedger } from '../../audit/verify.ts'
import { type Control, refusalSince } from './control.ts'
import { instant, limit, refusals } from './fields.ts'
import { Problem } from './problem.ts'
import { events } from './stream.ts'

const STREAMS_MAX = 200
const HEADS_MAX = 10_000
const HEADS_BYTES_MAX = 8 << 20
/** Answers that go on as long as they are read: the longest a timer takes. */
const READ_MILLISECONDS_MAX = 2 ** 31 - 1
const VERIFY_MILLISECONDS_MAX = 15 * 60_000

const text = z.string().min(1).max(1_000).optional()
const filterFields = {
  principal: text.describe('whom it is about'),
  actor: text.describe('who did it, where that is another'),
  repository: text,
  ref: text.describe('a full ref name'),
  action: text,
  result: text,
  grant: text,
  operation: text,
  kind: text,
  since: instant.optional(),
  until: instant.optional(),
}
const filterSchema = z.strictObject(filterFields)
const sequence = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER)

export const recordView = z.looseObject({
  seq: z.number(),
  recorded: z.string(),
  at: z.string(),
  proxy: z.string(),
  boot: z.string(),
  n: z.number(),
  hash: z.string(),
  record: z.looseObject({ kind: z.string() }),
})
export const headView = z.object({
  seq: z.number(),
  hash: z.string(),
  root: z.string(),
  time: z.string(),
  key: z.string(),
  signature: z.string(),
})

const CONTENT_TYPES: Readonly<Record<Format, string>> = {
  jsonl: 'application/x-ndjson',
  csv: 'text/csv; charset=utf-8',
  cloudevents: 'application/x-ndjson',
  ocsf: 'application/x-ndjson',
}

export const audit: FastifyPluginAsyncZod<Control> = async (app, { sql, tail, heads, heartbeatEvery }) => {
  let streams = 0

  app.get(
    '/audit',
    {
      schema: {
        summary: 'Records of the ledger',
        description: 'The newest first; with "after" the oldest first. Page on with the last sequence number.',
        tags: ['audit'],
        querystring: filterSchema.extend({ after: sequence.optional(), before: sequence.optional(), limit }),
        response: { 200: z.object({ records: z.array(recordView) }), ...refusals },
      },
    },
    async request => {
      const { after, before, limit, ...asked } = request.query
      if (after !== undefined && before !== undefined)
        throw new Problem(400, 'invalid', 'give "after" or "before", not both')
      const place = after !== undefined ? { after } : before !== undefined ? { before } : {}
      const records = await list(sql, filtersOf(asked), place, limit)
      return { records: records.map(plain) }
    },
  )

  app.get(
    '/audit/stream',
    {
      schema: {
        summary: 'Records as they come, as server-sent events',
        description:
          'Each event\'s id is its sequence number: with it as Last-Event-ID (or "after") nothing is missed or repeated.',
        tags: ['audit'],
        querystring: filterSchema.extend({
          after: sequence.optional().describe('from the end of the ledger, if left out'),
        }),
        headers: z.looseObject({ 'last-event-id': sequence.optional() }),
      },
      handlerTimeout: READ_MILLISECONDS_MAX,
    },
    async (request, reply) => {
      if (streams >= STREAMS_MAX)
        throw new Problem(503, 'too-many-streams', `${STREAMS_MAX} followers are the most there can be`)
      const { after, ...asked } = request.query
      const from = request.headers['last-event-id'] ?? after ?? (await lastSeq(sql))
      const gone = new AbortController()
      // It may have gone away while the database was asked; then nothing would ever end the stream.
      if (reply.raw.destroyed) throw new Problem(400, 'gone', 'the reader went away')
      streams++
      reply.raw.once('close', () => {
        gone.abort()
        streams--
      })
      const stream = Readable.from(
        events(tail.follow(from, filtersOf(asked), gone.signal), {
          signal: gone.signal,
          end: () => gone.abort(),
          // Whoever may read no more is not read to.
          refusal: () => refusalSince(request),
          ...(heartbeatEvery !== undefined && { heartbeatEvery }),
        }),
      )
      return await reply
        .type('text/event-stream')
        .header('cache-control', 'no-store')
        .header('x-accel-buffering', 'no')
        .send(stream)
    },
  )

  app.get(
    '/audit/export',
    {
      schema: {
        summary: 'The ledger as a file',
        description: 'jsonl without filters is what audit verify reads.',
        tags: ['audit'],
        querystring: filterSchema.extend({ format: z.enum(FORMATS).default('jsonl'), after: sequence.default(0) }),
      },
      handlerTimeout: READ_MILLISECONDS_MAX,
    },
    async (request, reply) => {
      const { format, after, ...asked } = request.query
      const chunks = exportLedger(readRows(sql, after, filtersOf(asked)), format, 'drawbridge')
      return await reply
        .type(CONTENT_TYPES[format])
        .header('content-disposition', `attachment; filename="ledger.${format === 'csv' ? 'csv' : 'jsonl'}"`)
        .send(Readable.from(chunks, { objectMode: false }))
    },
  )

  app.get(
    '/audit/heads',
    {
      schema: {
        summary: 'Signed heads of the ledger, and the keys they are signed with',
        description: 'Copies for convenience: proof against the owner of this machine is a head kept elsewhere.',
        tags: ['audit'],
        querystring: z.strictObject({ after: sequence.default(0), limit }),
        response: {
          200: z.object({ heads: z.array(headView), keys: z.array(z.string().describe('PEM')) }),
          ...refusals,
        },
      },
    },
    async request => ({
      heads: await storedHeads(sql, request.query.after, request.query.limit),
      keys: heads.keys.map(key => key.export({ type: 'spki', format: 'pem' }).toString()),
    }),
  )

  app.post(
    '/audit/verify',
    {
      schema: {
        summary: 'Check the whole ledger against its heads',
        description: 'Against the heads sent along, else those in the file they were published to.',
        tags: ['audit'],
        body: z.strictObject({ heads: z.array(headView).max(HEADS_MAX).optional() }).default({}),
        response: {
          200: z.object({
            ok: z.boolean(),
            begins: z
              .number()
              .describe('the first record there is: more than 1 behind a boundary that retention signed'),
            records: z.number(),
            heads: z.number(),
            vouched: z.number().describe('up to which record a signed head vouches'),
            fault: z.object({ seq: z.number(), through: z.number().optional(), what: z.string() }).optional(),
            gaps: z.array(
              z.object({ seq: z.number(), proxy: z.string(), boot: z.string(), from: z.number(), to: z.number() }),
            ),
          }),
          ...refusals,
        },
      },
      bodyLimit: HEADS_BYTES_MAX,
      handlerTimeout: VERIFY_MILLISECONDS_MAX,
    },
    async request => {
      const known: readonly Head[] = request.body.heads ?? (await publishedHeads(heads.file))
      const verdict = await verifyAll(sql, known, heads.keys)
      const { fault, gaps, ...rest } = verdict
      return { ...rest, gaps: [...gaps], ...(fault && { fault: { ...fault } }) }
    },
  )
}

/** From the boundary of retention on, where there is one; anew, if retention moved it meanwhile. */
async function verifyAll(
  sql: Control['sql'],
  heads: readonly Head[],
  keys: Control['heads']['keys'],
): Promise<Verdict> {
  for (;;) {
    const boundary = await storedBoundary(sql)
    const verdict = await verifyLedger({ entries: readIndexed(sql, boundary?.seq), heads, keys, boundary })
    if (verdict.ok || (await storedBoundary(sql))?.seq === boundary?.seq) return verdict
  }
}

async function publishedHeads(file: string): Promise<Head[]> {
  const text = await readFile(file, 'utf8').catch(cause => {
    if (Reflect.get(cause, 'code') === 'ENOENT') return ''
    throw cause
  })
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(parseHead)
}

function filtersOf(asked: z.infer<typeof filterSchema>): Filters {
  const { since, until, ...rest } = asked
  const given = Object.entries(rest).filter(([, value]) => value !== undefined)
  return {
    ...Object.fromEntries(given),
    ...(since !== undefined && { since: new Date(since) }),
    ...(until !== undefined && { until: new Date(until) }),
  }
}

/** The record's members as they are; the union itself is described by its own schema. */
function plain(entry: Linked): z.infer<typeof recordView> {
  return { ...entry, record: { ...entry.record } }
}
