import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { html } from '../../audit/report/html.ts'
import { markdown } from '../../audit/report/markdown.ts'
import { createReport } from '../../audit/report/report.ts'
import type { Report } from '../../audit/report/section.ts'
import type { Control } from './control.ts'
import { instant } from './fields.ts'
import { Problem } from './problem.ts'

const USUAL_MILLISECONDS = 30 * 86_400_000
const REPORT_MILLISECONDS_MAX = 15 * 60_000
/** Each reads the ledger through. */
const REPORTS_MAX = 2

const FORMATS = {
  markdown: { type: 'text/markdown; charset=utf-8', file: 'access.md', show: markdown },
  // As a file: the browser that opens it has none of this site's rights.
  html: { type: 'text/html; charset=utf-8', file: 'access.html', show: html },
  json: { type: 'application/json', file: 'access.json', show: (report: Report) => `${JSON.stringify(report)}\n` },
} as const

export const report: FastifyPluginAsyncZod<Control> = async (app, { sql }) => {
  let running = 0

  app.get(
    '/audit/report',
    {
      schema: {
        summary: 'Who had access, who gave it, who used it: for auditors',
        description: 'The last 30 days, unless "since" and "until" say otherwise.',
        tags: ['audit'],
        querystring: z.strictObject({
          since: instant.optional(),
          until: instant.optional(),
          format: z.enum(['markdown', 'html', 'json']).default('markdown'),
        }),
      },
      handlerTimeout: REPORT_MILLISECONDS_MAX,
    },
    async (request, reply) => {
      const { since, until, format } = request.query
      const end = until === undefined ? new Date() : new Date(until)
      const begin = since === undefined ? new Date(end.getTime() - USUAL_MILLISECONDS) : new Date(since)
      if (begin >= end) throw new Problem(400, 'invalid', 'since: is not before until')
      if (running >= REPORTS_MAX) throw new Problem(503, 'busy', `${REPORTS_MAX} reports are being made`, 'try again')
      running++
      try {
        const { type, file, show } = FORMATS[format]
        const shown = show(await createReport(sql, { since: begin, until: end }))
        return await reply.type(type).header('content-disposition', `attachment; filename="${file}"`).send(shown)
      } finally {
        running--
      }
    },
  )
}
