import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { cutSession, listSessions } from '../../grant/sessions.ts'
import { type Control, callerOf } from './control.ts'
import { iso, operationId, principal, reason, refusals } from './fields.ts'
import { ownOnly } from './grants.ts'
import { Problem } from './problem.ts'

const sessionView = z.object({
  operation: z.string(),
  principal: z.string(),
  repository: z.string(),
  service: z.string(),
  action: z.string(),
  grants: z.array(z.string()),
  transport: z.string(),
  address: z.string(),
  started_at: z.string(),
  proxy: z.string(),
})

export const sessions: FastifyPluginAsyncZod<Control> = async (app, { redis, act }) => {
  app.get(
    '/sessions',
    {
      schema: {
        summary: 'Operations that run at this moment, the oldest first',
        description: 'Those that end within a fraction of a second are not shown; the ledger has them all.',
        tags: ['sessions'],
        querystring: z.strictObject({ principal: principal.optional() }),
        response: { 200: z.object({ sessions: z.array(sessionView) }), ...refusals },
      },
    },
    async request => {
      const only = ownOnly(callerOf(request), request.query.principal).principal
      const running = await listSessions(redis)
      return {
        sessions: running
          .filter(session => only === undefined || session.principal === only)
          .map(({ started, ...session }) => ({ ...session, grants: [...session.grants], started_at: iso(started) })),
      }
    },
  )

  app.post(
    '/sessions/:operation/cut',
    {
      schema: {
        summary: 'End one running operation',
        description: 'Its grants stay: whoever is cut may begin again. Revoke the grant to end that as well.',
        tags: ['sessions'],
        params: z.object({ operation: operationId }),
        body: z.strictObject({ reason: reason.optional() }).default({}),
        response: { 202: z.object({ operation: z.string() }), 404: refusals[400], ...refusals },
      },
    },
    async (request, reply) => {
      const by = callerOf(request).principal
      const { operation } = request.params
      const session = (await listSessions(redis)).find(running => running.operation === operation)
      if (session === undefined) {
        throw new Problem(
          404,
          'not-found',
          `${operation} does not run`,
          'it may be over: drawbridge audit list --operation',
        )
      }
      const { principal } = session
      const reason = request.body.reason ?? `cut by ${by}`
      await act(async change => change.record({ kind: 'session.cut', by, operation, principal, reason }))
      await cutSession(redis, { operation, principal, reason })
      reply.code(202)
      return { operation }
    },
  )
}
