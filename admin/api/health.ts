import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Control } from './control.ts'

const QUESTION_MILLISECONDS_MAX = 2_000

const verdict = z.object({ ready: z.boolean(), checks: z.record(z.string(), z.string()) })

/** For machines that watch: no token, and nothing that says who does what. */
export const health: FastifyPluginAsyncZod<Control> = async (app, control) => {
  app.get('/healthz', { schema: { hide: true } }, async (_, reply) => reply.type('text/plain').send('ok\n'))

  app.get(
    '/readyz',
    {
      schema: {
        summary: 'Whether all it needs is there',
        tags: ['health'],
        security: [],
        response: { 200: verdict, 503: verdict },
      },
    },
    async (_, reply) => {
      const checks = await controlChecks(control)
      const ready = Object.values(checks).every(said => said === 'ok')
      reply.code(ready ? 200 : 503)
      return { ready, checks }
    },
  )

  app.get('/metrics', { schema: { hide: true } }, async (_, reply) => {
    const { metrics } = control
    return await reply.type(metrics.contentType).send(await metrics.metrics())
  })
}

type Checked = Pick<Control, 'sql' | 'store' | 'enact' | 'ledgerFault'>

/** What the control plane needs, each `ok` or what is wrong. */
export async function controlChecks({ sql, store, enact, ledgerFault }: Checked): Promise<Record<string, string>> {
  return {
    postgres: await check(sql`select`.then(() => undefined)),
    redis: await check(
      store.confirmed().then(yes => (yes ? undefined : 'not confirmed: it is being told what it may have lost')),
    ),
    enactment: enact.state().fault ?? 'ok',
    ledger: ledgerFault() ?? 'ok',
  }
}

async function check(question: Promise<string | undefined>): Promise<string> {
  let late: NodeJS.Timeout | undefined
  const bound = new Promise<string>(resolve => {
    late = setTimeout(() => resolve('does not answer'), QUESTION_MILLISECONDS_MAX)
  })
  const said = await Promise.race([question.catch(messageOf), bound])
  clearTimeout(late)
  return said ?? 'ok'
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
