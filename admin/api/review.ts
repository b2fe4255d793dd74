import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { reviewWindows } from '../../audit/report/review.ts'
import type { Control } from './control.ts'
import { instant, refusals } from './fields.ts'
import { Problem } from './problem.ts'

const USUAL_MILLISECONDS = 30 * 86_400_000
const REVIEW_MILLISECONDS_MAX = 5 * 60_000
/** Told at once; the rest are counted. */
const TOLD_MAX = 1_000

const reviewedWindow = z.object({
  grant: z.string(),
  request: z.string().optional(),
  principal: z.string(),
  by: z.string(),
  repository: z.string(),
  actions: z.array(z.string()),
  refs: z.array(z.string()),
  starts: z.string(),
  expires: z.string(),
  ended: z.string().optional(),
  findings: z.array(z.enum(['unused', 'actions', 'refs', 'repositories', 'length'])),
  used: z.object({
    operations: z.number(),
    last: z.string().optional(),
    repositories: z.array(z.string()),
    actions: z.array(z.string()),
    refs: z.array(z.string()),
  }),
  enough: z.array(z.string()).optional().describe('what would have been enough, as it is asked for'),
})

export const review: FastifyPluginAsyncZod<Control> = async (app, { sql }) => {
  let running = false

  app.get(
    '/review',
    {
      schema: {
        summary: 'Windows that were not used, or were far wider than what was done in them',
        description: 'Of those open in the last 30 days, unless "since" and "until" say otherwise; the worst first.',
        tags: ['grants'],
        querystring: z.strictObject({ since: instant.optional(), until: instant.optional() }),
        response: {
          200: z.object({
            since: z.string(),
            until: z.string(),
            windows: z.number().describe('how many were looked at'),
            more: z.number().describe('found, and not told'),
            found: z.array(reviewedWindow),
          }),
          ...refusals,
        },
      },
      handlerTimeout: REVIEW_MILLISECONDS_MAX,
    },
    async request => {
      const end = request.query.until === undefined ? new Date() : new Date(request.query.until)
      const { since } = request.query
      const begin = since === undefined ? new Date(end.getTime() - USUAL_MILLISECONDS) : new Date(since)
      if (begin >= end) throw new Problem(400, 'invalid', 'since: is not before until')
      // It reads the ledger through.
      if (running) throw new Problem(503, 'busy', 'a review is being made', 'try again')
      running = true
      try {
        const { found, ...rest } = await reviewWindows(sql, { since: begin, until: end })
        return { ...rest, more: Math.max(0, found.length - TOLD_MAX), found: found.slice(0, TOLD_MAX) }
      } finally {
        running = false
      }
    },
  )
}
