import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { newId } from '../../audit/id.ts'
import { readDuration, writeDuration } from '../../config/units.ts'
import { ACTIONS, type Grant } from '../../grant/grant.ts'
import { GRANTS_PER_PRINCIPAL_MAX } from '../../grant/store.ts'
import { requireNotForbidden } from '../forbid.ts'
import {
  countOpenGrants,
  type Ending,
  endGrant,
  extendGrant,
  findGrant,
  issueGrant,
  listGrants,
  type RegisteredGrant,
} from '../register/grants.ts'
import { type Caller, seesAll } from './access.ts'
import { type Control, callerOf, ENACT_MILLISECONDS_MAX } from './control.ts'
import {
  action,
  duration,
  endOf,
  id,
  instant,
  iso,
  length,
  limit,
  pathList,
  paths,
  pathsOf,
  principal,
  reason,
  refPatterns,
  refusals,
  repositoryPattern,
  WINDOW_MILLISECONDS_MAX,
} from './fields.ts'
import { notFound, Problem } from './problem.ts'

const USES_MAX = 1_000_000

const endings = ['expired', 'revoked', 'released', 'idle', 'used', 'locked'] as const satisfies readonly Ending[]

const grantView = z.object({
  id: z.string(),
  principal: z.string(),
  repository: z.string(),
  actions: z.array(action),
  refs: z.array(z.string()),
  state: z.enum(['scheduled', 'live', ...endings]),
  starts_at: z.string(),
  expires_at: z.string(),
  idle: z.string().optional().describe('ends when not used for so long'),
  uses: z.number().optional(),
  uses_left: z.number().optional(),
  bytes: z.number().optional(),
  paths: paths.optional().describe('a push changes only what each of these lists allows'),
  last_used_at: z.string().optional(),
  reason: z.string(),
  request: z.string().optional(),
  issued_at: z.string(),
  issued_by: z.string(),
  ended: z.object({ at: z.string(), by: z.string(), reason: z.string() }).optional(),
})

/** Whether the gate acts on it already. False: it is durable, and will as soon as Redis answers. */
const enacted = z.object({ enacted: z.boolean() })

export const grants: FastifyPluginAsyncZod<Control> = async (app, { sql, store, act, enact, policy }) => {
  app.get(
    '/grants',
    {
      schema: {
        summary: 'Grants, the newest first',
        tags: ['grants'],
        querystring: z.strictObject({
          principal: principal.optional(),
          repository: z.string().max(512).optional(),
          open: z.enum(['true', 'false']).optional().describe('only those that are not over, or only those that are'),
          before: id.optional().describe('for the next page: the last id of this one'),
          limit,
        }),
        response: { 200: z.object({ grants: z.array(grantView) }), ...refusals },
      },
    },
    async request => {
      const { principal, open, ...rest } = request.query
      const found = await listGrants(sql, {
        ...definedOnly(rest),
        limit: rest.limit,
        ...ownOnly(callerOf(request), principal),
        ...(open !== undefined && { open: open === 'true' }),
      })
      const now = Date.now()
      return { grants: found.map(grant => view(grant, now)) }
    },
  )

  app.get(
    '/grants/:id',
    {
      schema: {
        summary: 'One grant',
        tags: ['grants'],
        params: z.object({ id }),
        response: { 200: grantView, ...refusals },
      },
    },
    async request => view(await visibleGrant(callerOf(request), request.params.id), Date.now()),
  )

  app.post(
    '/grants',
    {
      schema: {
        summary: 'Issue a grant',
        description: 'To somebody else: nobody gives access to themselves.',
        tags: ['grants'],
        body: z.strictObject({
          principal,
          repository: repositoryPattern.describe('<upstream>/<path>; * within a part, ** across parts'),
          actions: z.array(action).min(1, 'needs at least one action').max(ACTIONS.length),
          refs: refPatterns,
          ...length,
          starts_at: instant.optional().describe('now, if left out'),
          idle: duration.optional(),
          uses: z.int().min(1).max(USES_MAX).optional(),
          bytes: z.int().min(1).optional().describe('in both directions; then it ends'),
          paths: pathList.optional().describe('what a push may change: docs/**, and !docs/legal for what not'),
          reason,
        }),
        response: { 201: grantView.extend(enacted.shape), 409: refusals[400], ...refusals },
      },
    },
    async (request, reply) => {
      const { caller, body } = { caller: callerOf(request), body: request.body }
      notToOneself(caller, body.principal)
      const now = await store.now()
      const starts = body.starts_at === undefined ? now : Date.parse(body.starts_at)
      if (starts - now > WINDOW_MILLISECONDS_MAX) throw new Problem(400, 'invalid', 'starts_at: at most 90 days ahead')
      const expires = endOf(body, { from: starts, after: Math.max(now, starts), longest: WINDOW_MILLISECONDS_MAX })
      const idle = body.idle === undefined ? undefined : readDuration(body.idle)
      if ((await countOpenGrants(sql, body.principal)) >= GRANTS_PER_PRINCIPAL_MAX) {
        const message = `${body.principal} holds ${GRANTS_PER_PRINCIPAL_MAX} grants already`
        throw new Problem(409, 'too-many-grants', message, 'revoke some first, or use a wider pattern')
      }
      requireNotForbidden(policy.standing(), body.principal, [body], now)
      const grant: Grant = {
        id: newId('g'),
        principal: body.principal,
        repository: body.repository,
        actions: [...new Set(body.actions)],
        refs: [...new Set(body.refs)],
        starts,
        expires,
        ...(idle !== undefined && { idle }),
        ...(body.uses !== undefined && { uses: body.uses }),
        ...((body.bytes !== undefined || body.paths) && {
          bounds: {
            ...(body.bytes !== undefined && { bytes: body.bytes }),
            ...(body.paths && { paths: [body.paths] }),
          },
        }),
        reason: body.reason,
      }
      await issueGrant(act, grant, caller.principal)
      const enacted = await enact.settle(ENACT_MILLISECONDS_MAX)
      reply.code(201).header('location', `/api/v1/grants/${grant.id}`)
      return { ...view(await known(grant.id), now), enacted }
    },
  )

  app.post(
    '/grants/:id/revoke',
    {
      schema: {
        summary: 'End a grant, and cut what runs under it',
        tags: ['grants'],
        params: z.object({ id }),
        body: z.strictObject({ reason: reason.optional() }).default({}),
        response: { 200: grantView.extend(enacted.shape), 404: refusals[400], 409: refusals[400], ...refusals },
      },
    },
    async request => {
      const by = callerOf(request).principal
      return await end(request.params.id, 'revoked', by, request.body.reason ?? `revoked by ${by}`)
    },
  )

  app.post(
    '/grants/:id/release',
    {
      schema: {
        summary: 'End one of your own grants',
        tags: ['grants'],
        params: z.object({ id }),
        body: z.strictObject({ reason: reason.optional() }).default({}),
        response: { 200: grantView.extend(enacted.shape), 404: refusals[400], 409: refusals[400], ...refusals },
      },
    },
    async request => {
      const caller = callerOf(request)
      const grant = await findGrant(sql, request.params.id)
      if (grant?.principal !== caller.principal) throw notFound('grant of yours', request.params.id)
      return await end(grant.id, 'released', caller.principal, request.body.reason ?? 'no longer needed')
    },
  )

  app.post(
    '/grants/:id/extend',
    {
      schema: {
        summary: 'Move the end of a window further',
        description: '"for" counts from the present end. A grant that is over stays over.',
        tags: ['grants'],
        params: z.object({ id }),
        body: z.strictObject({ ...length, reason }),
        response: { 200: grantView.extend(enacted.shape), 404: refusals[400], 409: refusals[400], ...refusals },
      },
    },
    async request => {
      const caller = callerOf(request)
      const grant = await visibleGrant(caller, request.params.id)
      notToOneself(caller, grant.principal)
      const now = await store.now()
      const expires = endOf(request.body, { from: grant.expires, after: now, longest: WINDOW_MILLISECONDS_MAX })
      if (expires - grant.starts > WINDOW_MILLISECONDS_MAX) {
        throw new Problem(400, 'invalid', 'for: with what it has had the window would be longer than 90 days')
      }
      await stillLive(grant)
      const extension = { id: grant.id, expires, by: caller.principal, reason: request.body.reason }
      const done = await extendGrant(act, extension, now)
      if (done === 'ended') throw await overAlready(grant.id)
      if (done === 'nearer')
        throw new Problem(400, 'invalid', `expires_at: the window lasts until ${iso(grant.expires)} already`)
      const enacted = await enact.settle(ENACT_MILLISECONDS_MAX)
      return { ...view(await known(grant.id), now), enacted }
    },
  )

  async function end(grant: string, how: 'revoked' | 'released', by: string, reason: string) {
    const done = await endGrant(act, { id: grant, how, by, reason })
    if (done === 'unknown') throw notFound('grant', grant)
    if (done === 'ended') throw await overAlready(grant)
    const enacted = await enact.settle(ENACT_MILLISECONDS_MAX)
    return { ...view(await known(grant), Date.now()), enacted }
  }

  async function known(grant: string): Promise<RegisteredGrant> {
    const found = await findGrant(sql, grant)
    if (found === undefined) throw notFound('grant', grant)
    return found
  }

  /** Another's grant is as unknown as one that never was. */
  async function visibleGrant(caller: Caller, grant: string): Promise<RegisteredGrant> {
    const found = await findGrant(sql, grant)
    if (found === undefined || (found.principal !== caller.principal && !seesAll(caller)))
      throw notFound('grant', grant)
    return found
  }

  /** Idle and used up are known to Redis before the sweep writes them down. */
  async function stillLive(grant: RegisteredGrant): Promise<void> {
    const standing = await store.standing(grant.principal)
    const state = standing.grants.find(({ id }) => id === grant.id)?.state
    if (state === 'idle' || state === 'used' || state === 'expired') {
      throw new Problem(409, 'grant-over', `${grant.id} is over: ${state}`, 'issue a new one')
    }
  }

  async function overAlready(grant: string): Promise<Problem> {
    const { ended } = await known(grant)
    const how = ended ? `${ended.how} by ${ended.by}, ${iso(ended.at)}` : 'its window has passed'
    return new Problem(409, 'grant-over', `${grant} is over: ${how}`, 'issue a new one')
  }
}

/** Whoever could give access to themselves would have it standing. */
function notToOneself(caller: Caller, principal: string): void {
  if (caller.principal !== principal) return
  throw new Problem(403, 'own-grant', 'nobody gives access to themselves', 'ask another administrator')
}

/** The filter a list gets: whoever sees only their own asks for their own, and is told when they ask for another's. */
export function ownOnly(caller: Caller, principal: string | undefined): { principal?: string } {
  if (seesAll(caller)) return principal === undefined ? {} : { principal }
  if (principal !== undefined && principal !== caller.principal) {
    throw new Problem(403, 'not-yours', `your role shows you only what is ${caller.principal}'s`)
  }
  return { principal: caller.principal }
}

function definedOnly<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }
}

function view(grant: RegisteredGrant, now: number): z.infer<typeof grantView> {
  const { id, principal, repository, actions, refs, starts, expires, idle, uses, usesLeft, reason, request, ended } =
    grant
  return {
    id,
    principal,
    repository,
    actions: [...actions],
    refs: [...refs],
    state: ended?.how ?? (now < starts ? 'scheduled' : now < expires ? 'live' : 'expired'),
    starts_at: iso(starts),
    expires_at: iso(expires),
    ...(idle !== undefined && { idle: writeDuration(idle) }),
    ...(uses !== undefined && { uses }),
    ...(usesLeft !== undefined && { uses_left: usesLeft }),
    ...(grant.bounds?.bytes !== undefined && { bytes: grant.bounds.bytes }),
    ...pathsOf(grant.bounds),
    ...(grant.lastUsed !== undefined && { last_used_at: iso(grant.lastUsed) }),
    reason,
    ...(request !== undefined && { request }),
    issued_at: iso(grant.issued),
    issued_by: grant.issuedBy,
    ...(ended && { ended: { at: iso(ended.at), by: ended.by, reason: ended.reason } }),
  }
}
