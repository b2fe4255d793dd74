import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { newId } from '../../audit/id.ts'
import { originOf } from '../login/browser.ts'
import { judgeWorkload } from '../login/workload.ts'
import { findLock } from '../register/locks.ts'
import { takeOnce } from '../register/signins.ts'
import { writeToken } from '../register/tokens.ts'
import type { Control } from './control.ts'
import { iso, refusals } from './fields.ts'
import { Problem } from './problem.ts'

const EXCHANGES_PER_MINUTE_MAX = 600

/** A job of a CI system shows its own token, once, and gets one of the gate's for as long as a job may take. */
export const workloads: FastifyPluginAsyncZod<Control> = async (app, { act, workloads, issueToken }) => {
  app.post(
    '/login/workload',
    {
      config: { rateLimit: { max: EXCHANGES_PER_MINUTE_MAX, timeWindow: 60_000 } },
      schema: {
        summary: 'Exchange the token of a CI job for one of the gate, once',
        tags: ['login'],
        security: [],
        body: z.strictObject({ token: z.string().min(1).max(20_000) }),
        response: {
          201: z.object({
            id: z.string(),
            principal: z.string(),
            workload: z.string(),
            token: z.string(),
            expires_at: z.string(),
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
      const made = { id: newId('t'), principal, roles: ['developer'] as const, expires: now + workload.lasts }
      const given = await act(async change => {
        if ((await findLock(change.sql, principal))?.locked) return 'locked'
        // Remembered past its own end by the clocks that may differ.
        const taken = { issuer, jti, expires: new Date(until + REMEMBER_MILLISECONDS) }
        if (!(await takeOnce(change, taken))) return 'replayed'
        await writeToken(change, { ...made, expires: new Date(made.expires) }, principal)
        return 'given'
      })
      if (given !== 'given') throw await refuse(`workload-${given}`, `${principal}: ${given}`)
      reply.code(201).header('cache-control', 'no-store')
      return {
        id: made.id,
        principal,
        workload: workload.name,
        token: await issueToken(made),
        expires_at: iso(made.expires),
      }
    },
  )
}

const REMEMBER_MILLISECONDS = 120_000
