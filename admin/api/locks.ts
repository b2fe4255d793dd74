import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { checkNetwork } from '../../config/policy/network.ts'
import { networkOf } from '../../grant/network.ts'
import { listLocks, lockPrincipal, unlockPrincipal } from '../register/locks.ts'
import { isService } from '../register/services.ts'
import { type Control, callerOf, ENACT_MILLISECONDS_MAX } from './control.ts'
import { principal, reason, refusals } from './fields.ts'
import { Problem } from './problem.ts'

const lockView = z.object({
  principal: z.string(),
  reason: z.string(),
  locked_at: z.string(),
  locked_by: z.string(),
})

const outcome = z.object({ principal: z.string(), locked: z.boolean(), enacted: z.boolean() })

export const locks: FastifyPluginAsyncZod<Control> = async (app, { sql, act, enact }) => {
  app.get(
    '/locks',
    {
      schema: {
        summary: 'Principals that are locked out',
        tags: ['locks'],
        response: { 200: z.object({ locks: z.array(lockView) }), ...refusals },
      },
    },
    async () => {
      const locked = (await listLocks(sql)).filter(lock => lock.locked)
      return {
        locks: locked.map(({ principal, reason, changed, changedBy }) => ({
          principal,
          reason,
          locked_at: changed.toISOString(),
          locked_by: changedBy,
        })),
      }
    },
  )

  app.put(
    '/locks/:principal',
    {
      schema: {
        summary: 'Lock a principal out of everything, and cut what they have running',
        description:
          'Grants, tokens and keys stay, and work again when the lock is lifted. Of network:203.0.113.0/24 nothing is let in from there.',
        tags: ['locks'],
        params: z.object({ principal }),
        body: z.strictObject({ reason }),
        response: { 200: outcome, ...refusals },
      },
    },
    async request => {
      const { principal } = request.params
      const network = networkOf(principal)
      const fault = network === undefined ? undefined : checkNetwork(network)
      if (fault !== undefined) throw new Problem(400, 'invalid', fault, 'lock it as network:203.0.113.0/24')
      await lockPrincipal(act, { principal, by: callerOf(request).principal, reason: request.body.reason })
      return { principal, locked: true, enacted: await enact.settle(ENACT_MILLISECONDS_MAX) }
    },
  )

  app.delete(
    '/locks/:principal',
    {
      schema: {
        summary: 'Lift a lock',
        tags: ['locks'],
        params: z.object({ principal }),
        querystring: z.strictObject({ reason: reason.optional() }),
        response: { 200: outcome, 404: refusals[400], ...refusals },
      },
    },
    async request => {
      const { principal } = request.params
      const by = callerOf(request).principal
      const reason = request.query.reason ?? `unlocked by ${by}`
      if (!(await unlockPrincipal(act, { principal, by, reason }))) {
        const hint = isService(principal) ? 'a service account that was revoked stays out' : undefined
        throw new Problem(404, 'not-found', `${principal} is not locked`, hint)
      }
      return { principal, locked: false, enacted: await enact.settle(ENACT_MILLISECONDS_MAX) }
    },
  )
}
