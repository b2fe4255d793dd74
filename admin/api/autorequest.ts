import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { requestForRefused } from '../autorequest.ts'
import { type Control, callerOf, ENACT_MILLISECONDS_MAX } from './control.ts'
import { operationId, refusals, repositoryPattern } from './fields.ts'
import { addressOf, person } from './requests.ts'
import { changesTheGate, enactedView, view } from './requestview.ts'

/** What a proxy asks in the name of somebody whom it has just refused. */
export const autoRequests: FastifyPluginAsyncZod<Control> = async (app, { store, act, enact, policy }) => {
  app.post(
    '/requests/auto',
    {
      schema: {
        summary: 'File, or find, the request for an operation that was refused, where the policy says auto_request',
        tags: ['requests'],
        body: z.strictObject({
          repository: repositoryPattern.refine(name => !name.includes('*'), 'names one repository'),
          service: z.enum(['upload-pack', 'receive-pack', 'upload-archive']),
          operation: operationId.describe('the operation that was refused'),
        }),
        response: {
          200: z.object({
            request: enactedView.optional().describe('absent: nothing is asked for by itself'),
            wait_seconds: z.number().describe('how long the operation may wait for the answer'),
          }),
          409: refusals[400],
          ...refusals,
        },
      },
    },
    async request => {
      const caller = person(callerOf(request))
      const now = await store.now()
      const standing = policy.standing()
      const filed = await requestForRefused(act, { standing, caller, address: addressOf(request) }, request.body, now)
      if (filed === undefined) return { wait_seconds: 0 }
      const enacted = !changesTheGate(filed.found) || (await enact.settle(ENACT_MILLISECONDS_MAX))
      return {
        request: { ...view(filed.found, standing, caller, now), enacted },
        wait_seconds: Math.floor(filed.wait / 1000),
      }
    },
  )
}
