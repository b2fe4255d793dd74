import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { Unprovable } from '../../audit/prove.ts'
import { consistencyOf, type Receipt, receiptOf } from '../../audit/receipt.ts'
import { readsLedger } from './access.ts'
import { headView, recordView } from './audit.ts'
import { type Control, callerOf } from './control.ts'
import { refusals } from './fields.ts'
import { notFound, Problem } from './problem.ts'
import { report } from './report.ts'
import { retain } from './retain.ts'

const hash = z.string().describe('SHA-256, lower-case hex')
const proof = z.array(hash).describe('RFC 9162, section 2.1: lowest first')
const place = z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER)

const receiptView = z.object({
  kind: z.literal('drawbridge.receipt'),
  version: z.literal(1),
  of: z.string(),
  records: z.array(z.object({ entry: recordView, previous: hash, proof })),
  head: headView,
})
const consistencyView = z.object({
  kind: z.literal('drawbridge.consistency'),
  version: z.literal(1),
  first: headView,
  second: headView,
  proof,
})

/** What is given to auditors, and what its holder can check without us: `drawbridge audit verify --receipt`. */
export const proofs: FastifyPluginAsyncZod<Control> = async (app, control) => {
  const { sql } = control
  await app.register(report, control)
  await app.register(retain, control)

  app.get(
    '/audit/receipts/:of',
    {
      schema: {
        summary: 'Proof that the records of an operation are in the ledger',
        description:
          'The records, and for each the way to a signed head. Without the role auditor or admin: of what one did oneself. ' +
          'Until a head is signed over them (10 seconds at the most) the answer is 409 no-head-yet.',
        tags: ['audit'],
        params: z.object({
          of: z.string().regex(/^(op-[0-9a-z]{1,40}|[1-9]\d{0,15})$/, 'is an operation (op-…) or a sequence number'),
        }),
        response: { 200: receiptView, ...refusals },
      },
    },
    async request => {
      const caller = callerOf(request)
      const { of } = request.params
      const asked = of.startsWith('op-') ? { operation: of } : { seq: Number(of) }
      const receipt = await provable(receiptOf(sql, asked, readsLedger(caller) ? undefined : caller.principal))
      if (receipt === 'unknown') throw notFound('record of yours of', of)
      if (receipt === 'no head yet') {
        throw new Problem(409, 'no-head-yet', `no head is signed over ${of} yet`, 'ask again in a few seconds')
      }
      return plain(receipt)
    },
  )

  app.get(
    '/audit/consistency',
    {
      schema: {
        summary: 'Proof that the ledger of one head is the beginning of the ledger of another',
        tags: ['audit'],
        querystring: z.strictObject({
          first: place.describe('seq of a head'),
          second: place.describe('seq of a later head'),
        }),
        response: { 200: consistencyView, ...refusals },
      },
    },
    async request => {
      const { first, second } = request.query
      if (first > second) throw new Problem(400, 'invalid', 'first: is after second')
      const shown = await provable(consistencyOf(sql, first, second))
      if (!shown) throw new Problem(404, 'not-found', 'there is no such head', 'GET /api/v1/audit/heads lists them')
      return { ...shown, proof: [...shown.proof] }
    },
  )
}

async function provable<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (cause) {
    if (!(cause instanceof Unprovable)) throw cause
    throw new Problem(410, 'retained', cause.message, 'the archive that retention wrote holds them')
  }
}

function plain(receipt: Receipt): z.infer<typeof receiptView> {
  const records = receipt.records.map(({ entry, previous, proof }) => ({
    entry: { ...entry, record: { ...entry.record } },
    previous,
    proof: [...proof],
  }))
  return { ...receipt, records }
}
