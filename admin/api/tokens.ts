import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { newId } from '../../audit/id.ts'
import { findToken, listTokens, type RegisteredToken, registerToken, revokeToken } from '../register/tokens.ts'
import { kindOf } from '../voter.ts'
import { governs } from './access.ts'
import { type Control, callerOf, ENACT_MILLISECONDS_MAX } from './control.ts'
import { endOf, id, length, limit, principal, refusals, role } from './fields.ts'
import { ownOnly } from './grants.ts'
import { notFound, Problem } from './problem.ts'

const TOKEN_MILLISECONDS_MAX = 90 * 86_400_000
const TOKEN_MILLISECONDS = 8 * 3_600_000

const tokenView = z.object({
  id: z.string(),
  principal: z.string(),
  roles: z.array(z.string()),
  created_at: z.string(),
  created_by: z.string(),
  expires_at: z.string(),
  revoked: z.object({ at: z.string(), by: z.string() }).optional(),
})

export const tokens: FastifyPluginAsyncZod<Control> = async (app, { sql, act, enact, issueToken }) => {
  app.get(
    '/tokens',
    {
      schema: {
        summary: 'Tokens, the newest first; never the tokens themselves',
        tags: ['tokens'],
        querystring: z.strictObject({ principal: principal.optional(), before: id.optional(), limit }),
        response: { 200: z.object({ tokens: z.array(tokenView) }), ...refusals },
      },
    },
    async request => {
      const { principal, before, limit } = request.query
      const only = ownOnly(callerOf(request), principal)
      const found = await listTokens(sql, { ...only, ...(before !== undefined && { before }), limit })
      return { tokens: found.map(view) }
    },
  )

  app.post(
    '/tokens',
    {
      schema: {
        summary: 'Make a token',
        description: 'The answer holds the token, which is shown this once and kept nowhere.',
        tags: ['tokens'],
        body: z.strictObject({
          principal,
          roles: z
            .array(role)
            .min(1, 'needs at least one role')
            .max(4)
            // Whoever speaks for others must not be somebody as well.
            .refine(roles => !roles.includes('front') || roles.length === 1, 'front stands alone'),
          ...length,
        }),
        response: { 201: tokenView.extend({ token: z.string() }), ...refusals },
      },
    },
    async (request, reply) => {
      const { body } = request
      if (kindOf(body.principal) === 'service' && !body.roles.includes('front')) {
        const message = `${body.principal} needs somebody who answers for it`
        throw new Problem(400, 'service', message, 'drawbridge service-account create NAME --owner PRINCIPAL')
      }
      const now = Date.now()
      const bounds = { from: now, after: now, longest: TOKEN_MILLISECONDS_MAX, otherwise: TOKEN_MILLISECONDS }
      const made = {
        id: newId('t'),
        principal: body.principal,
        roles: [...new Set(body.roles)],
        expires: endOf(body, bounds),
      }
      await registerToken(act, { ...made, expires: new Date(made.expires) }, callerOf(request).principal)
      const token = await issueToken(made)
      const registered = await findToken(sql, made.id)
      if (registered === undefined) throw notFound('token', made.id)
      reply.code(201).header('cache-control', 'no-store')
      return { ...view(registered), token }
    },
  )

  app.delete(
    '/tokens/:id',
    {
      schema: {
        summary: "Revoke a token: your own, or anybody's as an administrator",
        tags: ['tokens'],
        params: z.object({ id }),
        response: {
          200: tokenView.extend({ enacted: z.boolean() }),
          404: refusals[400],
          409: refusals[400],
          ...refusals,
        },
      },
    },
    async request => {
      const caller = callerOf(request)
      const token = await findToken(sql, request.params.id)
      if (token === undefined || !governs(caller, token.principal)) throw notFound('token', request.params.id)
      const done = await revokeToken(act, token.id, caller.principal)
      if (done !== 'done') throw new Problem(409, 'token-over', `${token.id} is revoked already`)
      const enacted = await enact.settle(ENACT_MILLISECONDS_MAX)
      return { ...view((await findToken(sql, token.id)) ?? token), enacted }
    },
  )
}

function view(token: RegisteredToken): z.infer<typeof tokenView> {
  const { id, principal, roles, created, createdBy, expires, revoked } = token
  return {
    id,
    principal,
    roles: [...roles],
    created_at: created.toISOString(),
    created_by: createdBy,
    expires_at: expires.toISOString(),
    ...(revoked && { revoked: { at: revoked.at.toISOString(), by: revoked.by } }),
  }
}
