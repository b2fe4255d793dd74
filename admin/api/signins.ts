import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { certificateLine } from '../../ca/certificate.ts'
import { fingerprint } from '../../ca/key.ts'
import { findKey } from '../register/keys.ts'
import { endSignins, findSignin, listSignins, type RegisteredSignin } from '../register/signins.ts'
import { governs } from './access.ts'
import { type Control, callerOf, ENACT_MILLISECONDS_MAX } from './control.ts'
import { id, limit, principal, refusals } from './fields.ts'
import { ownOnly } from './grants.ts'
import { credentialView, readKeyLine, viewSignin } from './login.ts'
import { notFound, Problem } from './problem.ts'

const signinView = credentialView.extend({
  made_at: z.string(),
  address: z.string(),
  client: z.string(),
  ended: z.object({ at: z.string(), how: z.string(), by: z.string() }).optional(),
})

/** Names, in a certificate, the sign-in that it was given out for: it ends with that. */
const SIGNIN_EXTENSION = 'signin@drawbridge'

export const signins: FastifyPluginAsyncZod<Control> = async (app, { sql, act, enact, authority, places }) => {
  app.get(
    '/signins',
    {
      schema: {
        summary: 'Sign-ins, the newest first',
        tags: ['login'],
        querystring: z.strictObject({
          principal: principal.optional(),
          open: z.stringbool().optional(),
          before: id.optional(),
          limit,
        }),
        response: { 200: z.object({ signins: z.array(signinView) }), ...refusals },
      },
    },
    async request => {
      const { principal, open, before, limit } = request.query
      const only = ownOnly(callerOf(request), principal)
      const found = await listSignins(sql, {
        ...only,
        ...(open !== undefined && { open }),
        ...(before !== undefined && { before }),
        limit,
      })
      return { signins: found.map(view) }
    },
  )

  app.delete(
    '/signins/:id',
    {
      schema: {
        summary: "End a sign-in: your own, or anybody's as an administrator",
        tags: ['login'],
        params: z.object({ id }),
        response: {
          200: signinView.extend({ enacted: z.boolean() }),
          404: refusals[400],
          409: refusals[400],
          ...refusals,
        },
      },
    },
    async request => {
      const caller = callerOf(request)
      const signin = await findSignin(sql, request.params.id)
      if (signin === undefined || !governs(caller, signin.principal)) throw notFound('sign-in', request.params.id)
      const how = signin.principal === caller.principal ? 'logout' : 'revoked'
      const ended = await endSignins(act, { id: signin.id }, { how, by: caller.principal })
      if (ended.length === 0) throw new Problem(409, 'signin-over', `${signin.id} is over already`)
      const enacted = await enact.settle(ENACT_MILLISECONDS_MAX)
      return { ...view((await findSignin(sql, signin.id)) ?? signin), enacted }
    },
  )

  app.get(
    '/upstreams',
    {
      schema: {
        summary: 'The Git hosts behind this gate, by the first part of their repositories’ names',
        tags: ['login'],
        response: {
          200: z.object({ upstreams: z.array(z.object({ name: z.string(), url: z.string() })) }),
          ...refusals,
        },
      },
    },
    async () => ({ upstreams: [...places.upstreams] }),
  )

  app.post(
    '/certificates',
    {
      schema: {
        summary: 'An SSH certificate for a key of yours, good until your sign-in ends',
        tags: ['login'],
        body: z.strictObject({ public_key: z.string().max(16_384).describe('the line of the .pub file') }),
        response: {
          201: z.object({ certificate: z.string(), serial: z.string(), expires_at: z.string() }),
          404: refusals[400],
          409: refusals[400],
          ...refusals,
        },
      },
    },
    async (request, reply) => {
      const { principal, token, via } = callerOf(request)
      const publicKey = readKeyLine(request.body.public_key)
      // Over SSH it is the key in use that is signed, and its own sign-in that speaks for it.
      const key = via && (await findKey(sql, fingerprint(publicKey)))
      const named = key?.principal === principal && !key.revoked ? key.signin : token?.signin
      const found = named === undefined ? undefined : await findSignin(sql, named)
      const signin = found?.principal === principal && !found.ended ? found : undefined
      if (signin === undefined) {
        throw new Problem(403, 'no-signin', 'certificates are for people who have signed in', 'git access login')
      }
      if (authority === undefined) throw new Problem(404, 'no-authority', 'this gate issues no certificates')
      const asked = {
        type: 'user' as const,
        by: principal,
        publicKey,
        keyId: principal,
        // `git`, the user name in every URL of the gate, is taken where the key id itself is a principal.
        principals: [principal],
        expires: signin.expires.getTime(),
        extensions: new Map([[SIGNIN_EXTENSION, signin.id]]),
      }
      const issued = await authority.issue(asked).catch((cause: unknown) => {
        request.log.error({ err: cause }, 'the certificate authority')
        throw new Problem(503, 'authority-unreachable', 'the certificate authority does not answer', 'try again')
      })
      if (!issued.ok) throw new Problem(409, `certificate-${issued.code}`, issued.reason)
      reply.code(201)
      return {
        certificate: certificateLine(issued.certificate),
        serial: String(issued.certificate.serial),
        expires_at: signin.expires.toISOString(),
      }
    },
  )
}

function view(signin: RegisteredSignin): z.infer<typeof signinView> {
  const { made, address, client, ended } = signin
  return {
    ...viewSignin(signin),
    made_at: made.toISOString(),
    address,
    client,
    ...(ended && { ended: { at: ended.at.toISOString(), how: ended.how, by: ended.by } }),
  }
}
