import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { newId } from '../../audit/id.ts'
import { EVENTS } from '../../config/notify.ts'
import { listDeliveries, retryDeliveries } from '../notify/outbox.ts'
import { sampleNotice } from '../notify/sample.ts'
import { type Control, callerOf } from './control.ts'
import { limit, refusals } from './fields.ts'
import { notFound, Problem } from './problem.ts'

/** Less than an answer may take in all. */
const TEST_MILLISECONDS_MAX = 8_000

const channelName = z.string().regex(/^[a-z0-9][a-z0-9-]{0,39}$/, 'is no name of a channel')
const deliveryId = z.string().regex(/^n-[0-9a-z]{1,40}$/, 'is no id of a delivery: n-…')
const deliveryView = z.object({
  id: z.string(),
  event: z.enum(EVENTS),
  thread: z.string().describe('the request, grant or principal it belongs to'),
  channel: z.string(),
  recipient: z.string(),
  state: z.enum(['waiting', 'delivered', 'dead']),
  at: z.string(),
  next_at: z.string().optional(),
  attempts: z.number(),
  fault: z.string().optional(),
})

export const notices: FastifyPluginAsyncZod<Control> = async (app, { sql, notify }) => {
  app.get(
    '/notify/deliveries',
    {
      schema: {
        summary: 'What was told to whom, or could not be, the newest first',
        tags: ['notify'],
        querystring: z.strictObject({
          state: z.enum(['waiting', 'delivered', 'dead']).default('dead'),
          channel: channelName.optional(),
          limit,
        }),
        response: { 200: z.object({ deliveries: z.array(deliveryView) }), ...refusals },
      },
    },
    async request => {
      const found = await listDeliveries(sql, request.query)
      return {
        deliveries: found.map(({ at, due, fault, event, ...rest }) => ({
          ...rest,
          event: z.enum(EVENTS).parse(event),
          at: at.toISOString(),
          ...(rest.state === 'waiting' && { next_at: due.toISOString() }),
          ...(fault !== null && { fault }),
        })),
      }
    },
  )

  app.post(
    '/notify/retry',
    {
      schema: {
        summary: 'Send a dead delivery again, or all those of a channel',
        tags: ['notify'],
        body: z
          .strictObject({ id: deliveryId.optional(), channel: channelName.optional() })
          .refine(({ id, channel }) => (id === undefined) !== (channel === undefined), 'give "id" or "channel"'),
        response: { 200: z.object({ again: z.number() }), 404: refusals[400], ...refusals },
      },
    },
    async request => {
      const { id, channel = '' } = request.body
      const again = await retryDeliveries(sql, id === undefined ? { channel } : { id }, Date.now())
      if (again === 0 && id !== undefined) throw notFound('dead delivery', id)
      notify?.()?.wake()
      return { again }
    },
  )

  app.post(
    '/notify/channels/:name/test',
    {
      schema: {
        summary: 'Show on a channel what people would see',
        tags: ['notify'],
        params: z.object({ name: channelName }),
        body: z.strictObject({ to: z.string().max(320).optional().describe('the address, on channels that have one') }),
        response: { 200: z.object({ id: z.string() }), 404: refusals[400], 502: refusals[400], ...refusals },
      },
    },
    async request => {
      const { name } = request.params
      const channel = notify?.()?.channel(name)
      if (channel === undefined) throw notFound('channel', name)
      const id = newId('n')
      const recipient = request.body.to ?? ''
      const content = sampleNotice(Date.now())
      const { principal } = callerOf(request)
      content.data.by = principal
      const delivery = { id, thread: id, content, recipient, attempt: 1 }
      await channel.send(delivery, AbortSignal.timeout(TEST_MILLISECONDS_MAX)).catch((error: Error) => {
        throw new Problem(502, 'channel', error.message)
      })
      return { id }
    },
  )
}
