import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Target } from '../../config/policy/govern.ts'
import { readDuration, writeDuration } from '../../config/units.ts'
import { ACTIONS } from '../../grant/grant.ts'
import { fullRef } from '../../grant/pattern.ts'
import { castVote, withdrawRequest } from '../decide.ts'
import { extensionWish } from '../extend.ts'
import { beneficiaryOf, fileRequest, type Prospect, prospectOf, type Wish } from '../file.ts'
import { findRequest, listRequests, type RegisteredRequest } from '../register/requests.ts'
import type { Caller } from './access.ts'
import { type Control, callerOf, ENACT_MILLISECONDS_MAX } from './control.ts'
import {
  action,
  duration,
  endOf,
  id,
  instant,
  length,
  limit,
  pathList,
  principal,
  reason,
  refPatterns,
  refusals,
  repositoryPattern,
  WINDOW_MILLISECONDS_MAX,
} from './fields.ts'
import { notFound, Problem } from './problem.ts'
import { changesTheGate, enactedView, isOwn, isVisible, recurrence, requestView, STATES, view } from './requestview.ts'
import { viaOf } from './via.ts'

const TARGETS_MAX = 20
/** How long an answer waits for a decision. */
const WAIT_MILLISECONDS_MAX = 60_000
/** How soon somebody who waits sees what another control plane decided. */
const LOOK_MILLISECONDS = 250
/** Who waits beyond this many is answered at once, and asks again. */
const WAITING_MAX = 500
/** How far back a list looks for what an approver may decide. */
const LOOKED_THROUGH_MAX = 2_000

const requestId = z.string().regex(/^r-[0-9a-z]{1,40}$/, 'is no id of a request: r-…')

const ticket = z.string().regex(/^[\x21-\x7e]{1,100}$/, 'is one word')

const target = z.strictObject({
  repository: repositoryPattern.describe('<upstream>/<path>; * within a part, ** across parts'),
  actions: z.array(action).min(1, 'needs at least one action').max(ACTIONS.length),
  refs: refPatterns,
})

export const wish = target.extend({
  also: z
    .array(target)
    .max(TARGETS_MAX - 1, `a request names at most ${TARGETS_MAX} repositories`)
    .default([])
    .describe('decided with it as one, and opened at the same moment'),
  principal: principal.optional().describe('who gets the windows; you, if left out'),
  paths: pathList
    .optional()
    .describe('what a push is to change: docs/**, and !docs/legal for what not; whatever the rules give, if left out'),
  ...length,
  starts_at: instant.optional().describe('when it is approved, if left out'),
  reason: reason.optional(),
  ticket: ticket.optional(),
  break_glass: z
    .boolean()
    .optional()
    .describe('at once, where the policy allows it; everything is reviewed afterwards'),
  recurring: z
    .boolean()
    .optional()
    .describe('a window each time that the hours come which the rule names as recurring, for so long ahead'),
})

export const requests: FastifyPluginAsyncZod<Control> = async (app, { sql, store, act, enact, policy }) => {
  let waiting = 0

  app.post(
    '/requests',
    {
      schema: {
        summary: 'Ask for a window',
        description:
          'Asking again for what is pending finds the same request; with another length or reason it starts over.',
        tags: ['requests'],
        body: wish,
        response: { 200: enactedView, 201: enactedView, 409: refusals[400], ...refusals },
      },
    },
    async (request, reply) => {
      const caller = person(callerOf(request))
      const now = await store.now()
      return await file(wishOf(request.body, now), { caller, address: addressOf(request), now, reply })
    },
  )

  app.post(
    '/requests/explain',
    {
      schema: {
        summary: 'What would come of asking; nothing is filed',
        tags: ['requests'],
        body: wish,
        response: {
          200: z.object({
            possible: z.boolean(),
            policy: z.string().optional(),
            rules: z.array(z.string()),
            for: z.string().optional(),
            recurring: z.string().optional().describe('the hours, where there is a window each time they come'),
            way: z.string().optional(),
            code: z.string().optional(),
            reason: z.string().optional(),
          }),
          ...refusals,
        },
      },
    },
    async request => {
      const caller = person(callerOf(request))
      const now = await store.now()
      const wish = wishOf(request.body, now)
      const beneficiary = await beneficiaryOf(sql, caller, wish)
      const from = { standing: policy.standing(), caller, address: addressOf(request) }
      return explained(prospectOf({ ...from, ...(beneficiary && { beneficiary }) }, wish, {}, now))
    },
  )

  app.get(
    '/requests',
    {
      schema: {
        summary:
          'Requests, the newest first: your own, and those you may decide; all of them for auditors and administrators',
        tags: ['requests'],
        querystring: z.strictObject({
          state: z.enum(STATES).optional(),
          mine: z.enum(['true', 'false']).optional().describe('only your own, or only those of others'),
          before: id.optional().describe('for the next page: the last id of this one'),
          limit,
        }),
        response: { 200: z.object({ requests: z.array(requestView) }), ...refusals },
      },
    },
    async request => {
      const caller = callerOf(request)
      const { state, mine, before, limit } = request.query
      const now = await store.now()
      const standing = policy.standing()
      const filters = {
        ...(state !== undefined && { state }),
        ...(before !== undefined && { before }),
        ...(mine === 'true' && { principal: caller.principal }),
      }
      const found = await listRequests(sql, { ...filters, limit: mine === 'true' ? limit : LOOKED_THROUGH_MAX })
      const visible = found.filter(
        one => isVisible(one, standing, caller, now) && !(mine === 'false' && isOwn(one, caller)),
      )
      return { requests: visible.slice(0, limit).map(one => view(one, standing, caller, now)) }
    },
  )

  app.get(
    '/requests/:id',
    {
      handlerTimeout: WAIT_MILLISECONDS_MAX + 2 * ENACT_MILLISECONDS_MAX,
      schema: {
        summary: 'One request',
        description:
          'With `wait` the answer comes when it is decided, or after that time; and once the gate acts on it.',
        tags: ['requests'],
        params: z.object({ id: requestId }),
        querystring: z.strictObject({ wait: duration.optional().describe('at most 60s') }),
        response: { 200: enactedView, 404: refusals[400], ...refusals },
      },
    },
    async (request, reply) => {
      const caller = callerOf(request)
      const wait = Math.min(readDuration(request.query.wait ?? '0s') ?? 0, WAIT_MILLISECONDS_MAX)
      const gone = new AbortController()
      reply.raw.once('close', () => gone.abort())
      const found = await decided(request.params.id, caller, wait, gone.signal)
      return { ...view(found, policy.standing(), caller, await store.now()), enacted: await enacted(found) }
    },
  )

  for (const says of ['approve', 'deny'] as const) {
    app.post(
      `/requests/:id/${says}`,
      {
        schema: {
          summary:
            says === 'approve'
              ? 'Say yes to exactly what you were shown'
              : 'Say no; one no ends it, and what it opened',
          tags: ['requests'],
          params: z.object({ id: requestId }),
          body: z.strictObject({
            digest: z.string().max(100).describe('of the request as you saw it'),
            reason: reason.optional(),
          }),
          response: { 200: enactedView, 404: refusals[400], 409: refusals[400], ...refusals },
        },
      },
      async request => {
        const caller = callerOf(request)
        const { digest, reason: comment } = request.body
        const now = await store.now()
        await visible(request.params.id, caller, now)
        const via = viaOf(request)
        const vote = { id: request.params.id, says, digest, via, ...(comment !== undefined && { comment }) }
        await castVote(act, { standing: policy.standing(), caller }, vote, now)
        return await outcome(request.params.id, caller)
      },
    )
  }

  app.post(
    '/requests/:id/withdraw',
    {
      schema: {
        summary: 'Take your own request back, and the windows it opened',
        tags: ['requests'],
        params: z.object({ id: requestId }),
        body: z.strictObject({ reason: reason.optional() }).default({}),
        response: { 200: enactedView, 404: refusals[400], 409: refusals[400], ...refusals },
      },
    },
    async request => {
      const caller = callerOf(request)
      const from = { standing: policy.standing(), caller }
      await withdrawRequest(act, from, request.params.id, request.body.reason ?? '', await store.now())
      return await outcome(request.params.id, caller)
    },
  )

  app.post(
    '/requests/:id/extend',
    {
      schema: {
        summary: 'Ask for more time in a window of yours',
        description: 'A request of its own, decided by the same rules. "for" counts from its approval.',
        tags: ['requests'],
        params: z.object({ id: requestId }),
        body: z.strictObject({ ...length, reason: reason.optional(), ticket: ticket.optional() }),
        response: { 200: enactedView, 201: enactedView, 404: refusals[400], 409: refusals[400], ...refusals },
      },
    },
    async (request, reply) => {
      const caller = person(callerOf(request))
      const now = await store.now()
      const found = await visible(request.params.id, caller, now)
      const { reason, ticket } = request.body
      const window = endOf(request.body, { from: now, after: now, longest: WINDOW_MILLISECONDS_MAX }) - now
      const more = { window, ...(reason !== undefined && { reason }), ...(ticket !== undefined && { ticket }) }
      return await file(extensionWish(found, caller, more, now), { caller, address: addressOf(request), now, reply })
    },
  )

  async function file(
    wish: Wish,
    from: {
      readonly caller: Caller
      readonly address: string
      readonly now: number
      readonly reply: FastifyReply
    },
  ): Promise<z.infer<typeof enactedView>> {
    const { caller, address, now, reply } = from
    const standing = policy.standing()
    const { found, filed } = await fileRequest(act, { standing, caller, address }, wish, now)
    reply.code(filed === 'same' ? 200 : 201).header('location', `/api/v1/requests/${found.request.id}`)
    return { ...view(found, standing, caller, now), enacted: await enacted(found) }
  }

  /** Whether the gate acts on what has been decided; it is waited for, within bounds. */
  async function enacted(found: RegisteredRequest): Promise<boolean> {
    return !changesTheGate(found) || (await enact.settle(ENACT_MILLISECONDS_MAX))
  }

  async function outcome(request: string, caller: Caller): Promise<z.infer<typeof enactedView>> {
    const found = await findRequest(sql, request)
    if (found === undefined) throw notFound('request', request)
    const settled = await enact.settle(ENACT_MILLISECONDS_MAX)
    return { ...view(found, policy.standing(), caller, await store.now()), enacted: settled }
  }

  /** Another's request is as unknown as one that never was. */
  async function visible(request: string, caller: Caller, now: number): Promise<RegisteredRequest> {
    const found = await findRequest(sql, request)
    if (found === undefined || !isVisible(found, policy.standing(), caller, now)) throw notFound('request', request)
    return found
  }

  /** The request once it is decided, or when the time is over. Others may decide it elsewhere, so it is looked at again and again. */
  async function decided(request: string, caller: Caller, wait: number, gone: AbortSignal): Promise<RegisteredRequest> {
    const until = performance.now() + wait
    let found = await visible(request, caller, await store.now())
    if (waiting >= WAITING_MAX) return found
    waiting++
    try {
      while (found.request.state === 'requested' && performance.now() < until && !gone.aborted) {
        await sleep(LOOK_MILLISECONDS)
        found = await visible(request, caller, await store.now())
      }
      return found
    } finally {
      waiting--
    }
  }
}

/** Where the person is: for one who came over SSH, where the proxy saw them. */
export const addressOf = (request: FastifyRequest): string => callerOf(request).via?.address ?? request.ip

/** Whoever holds the local socket can make a token for anybody, but is nobody. */
export function person(caller: Caller): Caller {
  if (caller.token !== undefined) return caller
  throw new Problem(403, 'no-person', 'the local socket stands for no person', 'use a token')
}

export function wishOf(body: z.infer<typeof wish>, now: number): Wish {
  // An end that was asked for comes when it was asked for, however late the approval.
  const begun = body.expires_at === undefined ? undefined : now
  const starts = body.starts_at === undefined ? begun : Date.parse(body.starts_at)
  const from = starts ?? now
  const timed = body.for !== undefined || body.expires_at !== undefined
  const window = timed ? endOf(body, { from, after: from, longest: WINDOW_MILLISECONDS_MAX }) - from : undefined
  return {
    ...targetOf(body),
    also: body.also.map(targetOf),
    ...(body.principal !== undefined && { principal: body.principal }),
    ...(body.paths && { paths: body.paths }),
    ...(window !== undefined && { window }),
    ...(starts !== undefined && { starts }),
    ...(body.reason !== undefined && { reason: body.reason }),
    ...(body.ticket !== undefined && { ticket: body.ticket }),
    ...(body.break_glass && { breakGlass: true }),
    ...(body.recurring && { recurring: true }),
  }
}

const targetOf = ({ repository, actions, refs }: z.infer<typeof target>): Target => {
  const inOrder = ACTIONS.filter(action => actions.includes(action))
  return { repository, actions: inOrder, refs: [...new Set(refs.map(fullRef))] }
}

function explained(prospect: Prospect) {
  if (prospect.kind === 'refused') {
    const { code, reason, rule } = prospect
    return { possible: false, rules: rule === undefined ? [] : [rule], code, reason }
  }
  const { conditions, asked, way } = prospect
  const rules = [...conditions.rules]
  return {
    possible: true,
    policy: conditions.policy,
    rules,
    for: writeDuration(asked.window),
    ...recurrence(asked),
    way,
  }
}
