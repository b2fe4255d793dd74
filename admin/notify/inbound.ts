import type { FastifyInstance } from 'fastify'
import type { Notify } from './notify.ts'

/** Where the other side of a channel sends to: `POST /channels/NAME`. Bytes are handed on as they came, for signatures to be held against. */

const BODY_BYTES_MAX = 256 << 10
const PER_MINUTE_MAX = 600

export function inboundRoutes(app: FastifyInstance, notify: () => Pick<Notify, 'channel'> | undefined): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: BODY_BYTES_MAX }, (_request, body, done) =>
    done(null, body),
  )
  app.post<{ Params: { name: string } }>(
    '/channels/:name',
    { schema: { hide: true }, config: { rateLimit: { max: PER_MINUTE_MAX, timeWindow: 60_000 } } },
    async (request, reply) => {
      const channel = notify()?.channel(request.params.name)
      // A channel that takes nothing looks like one that is not there.
      if (channel?.receive === undefined || !Buffer.isBuffer(request.body)) return await reply.code(404).send()
      const header = (name: string) => {
        const value = request.headers[name]
        return typeof value === 'string' ? value : undefined
      }
      const { status, body } = await channel.receive({ raw: request.body, header, address: request.ip })
      reply.code(status)
      return body === undefined ? await reply.send() : await reply.type('application/json').send(JSON.stringify(body))
    },
  )
}
