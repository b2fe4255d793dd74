import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { newId } from '../../audit/id.ts'
import { fileRequest } from '../file.ts'
import { originOf } from '../login/browser.ts'
import { judgeWorkload } from '../login/workload.ts'
import { findLock } from '../register/locks.ts'
import { takeOnce } from '../register/signins.ts'
import { writeToken } from '../register/tokens.ts'
import type { Caller } from './access.ts'
import { type Control, ENACT_MILLISECONDS_MAX } from './control.ts'
import { iso, refusals } from './fields.ts'
import { Problem } from './problem.ts'
import { wish, wishOf } from './requests.ts'
import { enactedView, view } from './requestview.ts'

const EXCHANGES_PER_MINUTE_MAX = 600

/**
 * A job of a CI system shows its own token, once, and gets one of the gate's for as long as a job may take. Where it says what
 * for, the window is asked for in the same breath, the token opens nothing else, and nobody else's token opens the window.
 */
export const workloads: FastifyPluginAsyncZod<Control> = async (app, control) => {
  const { act, enact, policy, store, workloads, issueToken } = control
  app.post(
    '/login/workload',
    {
      config: { rateLimit: { max: EXCHANGES_PER_MINUTE_MAX, timeWindow: 60_000 } },
      schema: {
        summary: 'Exchange the token of a CI job for one of the gate, once',
        tags: ['login'],
        security: [],
        body: z.strictObject({
          token: z.string().min(1).max(20_000),
          request: wish.optional().describe('the one window the job is to have; as in POST /requests'),
        }),
        response: {
          201: z.object({
            id: z.string(),
            principal: z.string(),
            workload: z.string(),
            token: z.string(),
            expires_at: z.string(),
            request: enactedView.optional(),
          }),
          404: refusals[400],
          ...refusals,
        },
      },
    },
    async (request, reply) => {
      if (workloads === undefined) throw new Problem(404, 'no-workloads', 'no CI system is set up at this gate')
      const now = Date.now()
      const judged = await judgeWorkload(request.body.token, workloads.settings, { keysOf: workloads.keysOf, now })
      const refuse = async (code: string, reason: string) => {
        const origin = originOf(request)
        await act(async change => change.record({ kind: 'signin.refused', origin, code, reason }))
        // One sentence for everything: the exact rule is the operator's to read.
        return new Problem(
          401,
          'workload',
          'the token of this job is not taken here',
          'its operator finds the reason in the ledger',
        )
      }
      if (!judged.ok) throw await refuse(judged.code, judged.reason)
      const { principal, workload, issuer, jti, expires: until } = judged
      const id = newId('t')
      const caller: Caller = { principal, roles: ['developer'], token: { id, expires: now + workload.lasts } }
      const standing = policy.standing()
      const windowsNow = await store.now()
      const given = await act(async change => {
        if ((await findLock(change.sql, principal))?.locked) return 'locked'
        // Remembered past its own end by the clocks that may differ.
        const taken = { issuer, jti, expires: new Date(until + REMEMBER_MILLISECONDS) }
        if (!(await takeOnce(change, taken))) return 'replayed'
        // Part of this commit: a job that the policy refuses can show its token again.
        const asked = request.body.request && wishOf(request.body.request, windowsNow)
        const from = { standing, caller, address: request.ip }
        const filed = asked && (await fileRequest(inner => inner(change), from, asked, windowsNow)).found
        const ends = filed?.grants.map(grant => grant.expires) ?? []
        const expires = ends.length === 0 ? now + workload.lasts : Math.min(now + workload.lasts, Math.max(...ends))
        await writeToken(change, { id, principal, roles: caller.roles, expires: new Date(expires) }, principal)
        return { filed, expires }
      })
      if (typeof given === 'string') throw await refuse(`workload-${given}`, `${principal}: ${given}`)
      const { filed, expires } = given
      const bound = filed === undefined ? {} : { request: filed.request.id }
      reply.code(201).header('cache-control', 'no-store')
      return {
        id,
        principal,
        workload: workload.name,
        token: await issueToken({ id, principal, roles: caller.roles, expires, ...bound }),
        expires_at: iso(expires),
        ...(filed && {
          request: {
            ...view(filed, standing, caller, windowsNow),
            enacted: await enact.settle(ENACT_MILLISECONDS_MAX),
          },
        }),
      }
    },
  )
}

const REMEMBER_MILLISECONDS = 120_000
