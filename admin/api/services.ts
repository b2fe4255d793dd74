import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { DURATION_FORM, readDuration } from '../../config/units.ts'
import {
  assignService,
  createService,
  endService,
  findService,
  listServices,
  type NewServiceToken,
  type RegisteredService,
  rotateService,
  servicePrincipal,
} from '../register/services.ts'
import { kindOf, personBehind } from '../voter.ts'
import type { Caller } from './access.ts'
import { type Control, callerOf, ENACT_MILLISECONDS_MAX } from './control.ts'
import { endOf, length, limit, principal, reason, refusals } from './fields.ts'
import { ownOnly } from './grants.ts'
import { notFound, Problem } from './problem.ts'

const TOKEN_MILLISECONDS = 30 * 86_400_000
const TOKEN_MILLISECONDS_MAX = 90 * 86_400_000
const OVERLAP_MILLISECONDS = 86_400_000
const OVERLAP_MILLISECONDS_MAX = 7 * 86_400_000

const name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'is a name of small letters, digits, ".", "_" and "-", at most 63')
  .describe('after `service:`; never given twice')
const owner = principal.refine(text => kindOf(text) === 'person', 'is a machine; a person answers for an account')
const overlap = z
  .string()
  .max(50)
  .refine(text => readDuration(text) !== undefined, `is ${DURATION_FORM}`)
  .describe('how long the token before stays good; 0s ends it at once')

const serviceView = z.object({
  name: z.string(),
  principal: z.string(),
  owner: z.string(),
  owner_locked: z.boolean(),
  owner_seen_at: z.string().optional().describe('when the owner last signed in'),
  created_at: z.string(),
  created_by: z.string(),
  tokens: z.array(z.object({ id: z.string(), expires_at: z.string() })).describe('those that are good, newest first'),
  ended: z.object({ at: z.string(), by: z.string(), reason: z.string() }).optional(),
})
const withToken = serviceView.extend({ token: z.string(), token_expires_at: z.string(), enacted: z.boolean() })
const enacted = serviceView.extend({ enacted: z.boolean() })

/** Service accounts: for programs whose surroundings give them no identity. Each has an owner, and its tokens end. */
export const services: FastifyPluginAsyncZod<Control> = async (app, control) => {
  const { sql, act, enact, policy, issueToken } = control

  app.get(
    '/services',
    {
      schema: {
        summary: 'Service accounts: all of them, or those that are yours',
        tags: ['services'],
        querystring: z.strictObject({ after: name.optional(), limit }),
        response: { 200: z.object({ services: z.array(serviceView) }), ...refusals },
      },
    },
    async request => {
      const { after, limit } = request.query
      const only = ownOnly(callerOf(request), undefined)
      const found = await listServices(sql, { ...only, ...(after !== undefined && { after }), limit })
      return { services: found.map(view) }
    },
  )

  app.post(
    '/services',
    {
      schema: {
        summary: 'Create a service account, with an owner and a first token',
        description: 'The answer holds the token, which is shown this once and kept nowhere.',
        tags: ['services'],
        body: z.strictObject({ name, owner, ...length }),
        response: { 201: withToken, 404: refusals[400], 409: refusals[400], ...refusals },
      },
    },
    async (request, reply) => {
      const { name, owner, ...ending } = request.body
      const made = await createService(act, { name, owner, expires: expiryOf(ending) }, callerOf(request).principal)
      if (made === 'taken') {
        const message = `there is or was a service account ${name}, and names are given once`
        throw new Problem(409, 'service-taken', message, 'take another name')
      }
      if (made === 'owner-locked') throw ownerLocked(owner)
      reply.code(201).header('cache-control', 'no-store')
      return await handOver(name, made)
    },
  )

  app.post(
    '/services/:name/rotate',
    {
      schema: {
        summary: 'Another token for a service account; the one before stays good for an overlap',
        description: 'For its owner, for administrators, and for the account itself by its newest token.',
        tags: ['services'],
        params: z.object({ name }),
        body: z.strictObject({ overlap: overlap.optional(), ...length }),
        response: { 201: withToken, 404: refusals[400], 409: refusals[400], ...refusals },
      },
    },
    async (request, reply) => {
      const caller = callerOf(request)
      const { name } = request.params
      const { overlap: asked, ...ending } = request.body
      const own = caller.principal === servicePrincipal(name) && caller.token
      const service = own ? await found(name) : await governed(caller, name)
      const lasts = asked === undefined ? OVERLAP_MILLISECONDS : (readDuration(asked) ?? 0)
      if (lasts > OVERLAP_MILLISECONDS_MAX) throw new Problem(400, 'invalid', 'overlap: at most 7 days')
      const rotation = {
        name,
        expires: expiryOf(ending),
        ...(lasts > 0 && { until: new Date(Date.now() + lasts) }),
        ...(own && { with: own.id }),
      }
      const made = await rotateService(act, rotation, caller.principal)
      if (made === 'unknown') throw notFound('service account', name)
      if (made === 'ended') throw over(service)
      if (made === 'old-token') {
        const message = `${name} was rotated already, and only its newest token rotates it`
        throw new Problem(403, 'old-token', message, 'if that was not you, tell its owner: the token has leaked')
      }
      reply.code(201).header('cache-control', 'no-store')
      return await handOver(name, made)
    },
  )

  app.post(
    '/services/:name/assign',
    {
      schema: {
        summary: 'Give a service account to another owner',
        tags: ['services'],
        params: z.object({ name }),
        body: z.strictObject({ owner }),
        response: { 200: enacted, 404: refusals[400], 409: refusals[400], ...refusals },
      },
    },
    async request => {
      const { name } = request.params
      const { owner } = request.body
      const done = await assignService(act, { name, owner }, callerOf(request).principal)
      if (done === 'owner-locked') throw ownerLocked(owner)
      if (done === 'unknown') throw notFound('service account', name)
      const service = await found(name)
      if (done === 'ended') throw over(service)
      return { ...view(service), enacted: await enact.settle(ENACT_MILLISECONDS_MAX) }
    },
  )

  app.delete(
    '/services/:name',
    {
      schema: {
        summary: 'End a service account for good, and cut what it has running',
        tags: ['services'],
        params: z.object({ name }),
        querystring: z.strictObject({ reason: reason.default('revoked') }),
        response: { 200: enacted, 404: refusals[400], 409: refusals[400], ...refusals },
      },
    },
    async request => {
      const caller = callerOf(request)
      const { name } = request.params
      const service = await governed(caller, name)
      const done = await endService(act, { name, reason: request.query.reason }, caller.principal)
      if (done !== 'done') throw over(service)
      return { ...view(await found(name)), enacted: await enact.settle(ENACT_MILLISECONDS_MAX) }
    },
  )

  const answersFor = ({ principal }: Caller, { owner }: RegisteredService): boolean => {
    const person = (who: string) => personBehind(policy.standing(), who)
    return kindOf(principal) === 'person' && person(principal) === person(owner)
  }

  async function found(name: string): Promise<RegisteredService> {
    const service = await findService(sql, name)
    if (service === undefined) throw notFound('service account', name)
    return service
  }

  /** For its owner and administrators; to everybody else there is no such account. */
  async function governed(caller: Caller, name: string): Promise<RegisteredService> {
    const service = await found(name)
    if (!caller.roles.includes('admin') && !answersFor(caller, service)) throw notFound('service account', name)
    return service
  }

  async function handOver(name: string, made: NewServiceToken) {
    const { expires, ...content } = made
    const token = await issueToken({ ...content, expires: expires.getTime() })
    const isEnacted = await enact.settle(ENACT_MILLISECONDS_MAX)
    return { ...view(await found(name)), token, token_expires_at: expires.toISOString(), enacted: isEnacted }
  }
}

function expiryOf(ending: Parameters<typeof endOf>[0]): Date {
  const now = Date.now()
  const bounds = { from: now, after: now, longest: TOKEN_MILLISECONDS_MAX, otherwise: TOKEN_MILLISECONDS }
  return new Date(endOf(ending, bounds))
}

const over = ({ name }: RegisteredService) => new Problem(409, 'service-over', `${name} has ended`, 'create another')

const ownerLocked = (owner: string) =>
  new Problem(409, 'owner-locked', `${owner} is locked`, 'name somebody else to answer for the account')

function view(service: RegisteredService): z.infer<typeof serviceView> {
  const { name, owner, ownerLocked, ownerSeen, created, createdBy, tokens, ended } = service
  return {
    name,
    principal: servicePrincipal(name),
    owner,
    owner_locked: ownerLocked,
    ...(ownerSeen && { owner_seen_at: ownerSeen.toISOString() }),
    created_at: created.toISOString(),
    created_by: createdBy,
    tokens: tokens.map(({ id, expires }) => ({ id, expires_at: expires.toISOString() })),
    ...(ended && { ended: { at: ended.at.toISOString(), by: ended.by, reason: ended.reason } }),
  }
}
