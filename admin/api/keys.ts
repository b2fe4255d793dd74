import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { fingerprint, publicKeyLine } from '../../ca/key.ts'
import { parseUserKeyLine } from '../../ca/securitykey.ts'
import { FormatError } from '../../ca/wire.ts'
import { findKey, listKeys, type RegisteredKey, registerKey, revokeKey } from '../register/keys.ts'
import { kindOf } from '../voter.ts'
import { governs } from './access.ts'
import { type Control, callerOf, ENACT_MILLISECONDS_MAX } from './control.ts'
import { endOf, length, limit, principal, refusals, title } from './fields.ts'
import { ownOnly } from './grants.ts'
import { notFound, Problem } from './problem.ts'

const KEY_MILLISECONDS_MAX = 366 * 86_400_000
const KEY_MILLISECONDS = 90 * 86_400_000

const keyFingerprint = z
  .string()
  .regex(/^SHA256:[A-Za-z0-9+/]{43}$/, 'is no fingerprint: SHA256:… as ssh-keygen -l prints it')

const keyView = z.object({
  fingerprint: z.string(),
  principal: z.string(),
  algorithm: z.string(),
  public_key: z.string(),
  title: z.string(),
  created_at: z.string(),
  created_by: z.string(),
  expires_at: z.string(),
  revoked: z.object({ at: z.string(), by: z.string() }).optional(),
})

export const keys: FastifyPluginAsyncZod<Control> = async (app, { sql, act, enact }) => {
  app.get(
    '/keys',
    {
      schema: {
        summary: 'Registered SSH public keys',
        tags: ['keys'],
        querystring: z.strictObject({ principal: principal.optional(), after: keyFingerprint.optional(), limit }),
        response: { 200: z.object({ keys: z.array(keyView) }), ...refusals },
      },
    },
    async request => {
      const { principal, after, limit } = request.query
      const only = ownOnly(callerOf(request), principal)
      const found = await listKeys(sql, { ...only, ...(after !== undefined && { after }), limit })
      return { keys: found.map(view) }
    },
  )

  app.post(
    '/keys',
    {
      schema: {
        summary: 'Register an SSH public key: your own, or for anybody as an administrator',
        description: 'Registering it again moves its expiry. A key that was revoked cannot come back.',
        tags: ['keys'],
        body: z.strictObject({
          public_key: z.string().max(16_384).describe('the line of the .pub file'),
          principal: principal.optional().describe('you, if left out'),
          title: title.optional(),
          ...length,
        }),
        response: { 201: keyView.extend({ enacted: z.boolean() }), 409: refusals[400], ...refusals },
      },
    },
    async (request, reply) => {
      const { caller, body } = { caller: callerOf(request), body: request.body }
      const principal = body.principal ?? caller.principal
      if (!governs(caller, principal)) {
        throw new Problem(403, 'not-yours', `a key for ${principal} is registered by ${principal} or an administrator`)
      }
      // Otherwise a token of minutes would make a key of months.
      if (kindOf(caller.principal) !== 'person' && !caller.roles.includes('admin')) {
        throw new Problem(403, 'machine', 'a machine registers no keys', 'ask an administrator, or use the token')
      }
      const key = readKey(body.public_key)
      const now = Date.now()
      const bounds = { from: now, after: now, longest: KEY_MILLISECONDS_MAX, otherwise: KEY_MILLISECONDS }
      const expires = new Date(endOf(body, bounds))
      const title = body.title ?? key.comment
      const done = await registerKey(act, { ...key, principal, title, expires }, caller.principal)
      if (done === 'revoked') {
        throw new Problem(409, 'key-revoked', `${key.fingerprint} was revoked`, 'make a new key: ssh-keygen -t ed25519')
      }
      if (done === 'taken') throw new Problem(409, 'key-taken', `${key.fingerprint} is somebody else's`)
      const enacted = await enact.settle(ENACT_MILLISECONDS_MAX)
      const registered = await findKey(sql, key.fingerprint)
      if (registered === undefined) throw notFound('key', key.fingerprint)
      reply.code(201)
      return { ...view(registered), enacted }
    },
  )

  app.delete(
    '/keys/:fingerprint',
    {
      schema: {
        summary: "Revoke a key for good: your own, or anybody's as an administrator",
        tags: ['keys'],
        params: z.object({ fingerprint: keyFingerprint }),
        response: {
          200: keyView.extend({ enacted: z.boolean() }),
          404: refusals[400],
          409: refusals[400],
          ...refusals,
        },
      },
    },
    async request => {
      const caller = callerOf(request)
      const key = await findKey(sql, request.params.fingerprint)
      if (key === undefined || !governs(caller, key.principal)) throw notFound('key', request.params.fingerprint)
      const done = await revokeKey(act, key.fingerprint, caller.principal)
      if (done !== 'done') throw new Problem(409, 'key-over', `${key.fingerprint} is revoked already`)
      const enacted = await enact.settle(ENACT_MILLISECONDS_MAX)
      return { ...view((await findKey(sql, key.fingerprint)) ?? key), enacted }
    },
  )
}

function readKey(text: string): { fingerprint: string; algorithm: string; publicKey: string; comment: string } {
  let key: ReturnType<typeof parseUserKeyLine>
  try {
    key = parseUserKeyLine(text)
  } catch (cause) {
    if (cause instanceof FormatError) throw new Problem(400, 'invalid', `public_key: ${cause.message}`)
    throw cause
  }
  // A comment is whatever its owner typed.
  const comment = key.comment.replace(/\p{Cc}/gu, ' ').slice(0, 100)
  const { type: algorithm, blob } = key
  return { fingerprint: fingerprint(blob), algorithm, publicKey: publicKeyLine(blob), comment }
}

function view(key: RegisteredKey): z.infer<typeof keyView> {
  const { fingerprint, principal, algorithm, publicKey, title, created, createdBy, expires, revoked } = key
  return {
    fingerprint,
    principal,
    algorithm,
    public_key: publicKey,
    title,
    created_at: created.toISOString(),
    created_by: createdBy,
    expires_at: expires.toISOString(),
    ...(revoked && { revoked: { at: revoked.at.toISOString(), by: revoked.by } }),
  }
}
