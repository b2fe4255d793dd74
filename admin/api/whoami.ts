import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { type Control, callerOf } from './control.ts'
import { iso, refusals, role } from './fields.ts'

export const whoami: FastifyPluginAsyncZod<Control> = async app => {
  app.get(
    '/whoami',
    {
      schema: {
        summary: 'Who the token stands for',
        tags: ['whoami'],
        response: {
          200: z.object({
            principal: z.string(),
            roles: z.array(role),
            token: z.object({ id: z.string(), expires_at: z.string() }).optional().describe('none on the local socket'),
          }),
          ...refusals,
        },
      },
    },
    async request => {
      const { principal, roles, token } = callerOf(request)
      return { principal, roles: [...roles], ...(token && { token: { id: token.id, expires_at: iso(token.expires) } }) }
    },
  )
}
