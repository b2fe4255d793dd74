import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { RetentionRefused } from '../../audit/retain.ts'
import type { Control } from './control.ts'
import { refusals } from './fields.ts'
import { Problem } from './problem.ts'

const RETAIN_MILLISECONDS_MAX = 15 * 60_000

export const retain: FastifyPluginAsyncZod<Control> = async (app, { retention }) => {
  app.post(
    '/audit/retain',
    {
      schema: {
        summary: 'Export what is older than ledger.retention, and take it out of the database',
        description: 'By itself this happens once an hour. With "dry_run" only what would go is told.',
        tags: ['audit'],
        body: z.strictObject({ dry_run: z.boolean().default(false) }).default({ dry_run: false }),
        response: {
          200: z.object({
            dry_run: z.boolean(),
            parts: z.array(z.object({ from: z.number(), to: z.number(), recorded: z.string(), file: z.string() })),
          }),
          ...refusals,
        },
      },
      handlerTimeout: RETAIN_MILLISECONDS_MAX,
    },
    async request => {
      if (!retention) throw new Problem(409, 'no-retention', 'the settings have no ledger.retention: records stay')
      const { dry_run } = request.body
      try {
        return { dry_run, parts: dry_run ? await retention.due() : await retention.run() }
      } catch (cause) {
        if (!(cause instanceof RetentionRefused)) throw cause
        throw new Problem(409, 'not-retained', `nothing was taken out: ${cause.message}`, 'drawbridge audit verify')
      }
    },
  )
}
