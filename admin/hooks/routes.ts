import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Sql } from 'postgres'
import type { HookSettings } from '../../config/hooks.ts'
import type { Incoming } from '../notify/channel.ts'
import type { Refuse } from '../notify/refusals.ts'
import { fromBitbucket } from './bitbucket.ts'
import { carryOut } from './effect.ts'
import { fromGitea } from './gitea.ts'
import { fromGithub } from './github.ts'
import { fromGitlab } from './gitlab.ts'
import type { Heard } from './heard.ts'
import { fromWatcher } from './revoke.ts'
import { type Triggering, trigger } from './trigger.ts'

/** `POST /hooks/NAME`: what may end access from outside, and what hosts say began. Whatever is believed gets 204, anything else an empty 404. */

const BODY_BYTES_MAX = 1 << 20
/** What the listener does not read to its end. */
const UNREAD: { readonly [status: number]: string } = { 400: 'malformed', 413: 'too-large' }
const PER_MINUTE_MAX = 600
/** How long a delivery that comes again is known. */
const REMEMBERED_MILLISECONDS = 86_400_000

export interface HookOptions extends Triggering {
  readonly sql: Sql
  readonly refuse: Refuse
  readonly hooks: () => readonly HookSettings[]
}

interface Named {
  readonly Params: { readonly name: string }
}
type To = FastifyRequest<Named>

export function hookRoutes(app: FastifyInstance, options: HookOptions): void {
  const { sql, act, refuse, hooks } = options
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: BODY_BYTES_MAX }, (_request, body, done) =>
    done(null, body),
  )
  const hookOf = ({ params }: To) => hooks().find(({ name }) => name === params.name)

  /** Why is on record; the sender learns nothing, not even whether there is such a hook. */
  async function turnAway(request: To, reply: FastifyReply, code: string): Promise<FastifyReply> {
    const channel = hookOf(request)?.name
    if (channel !== undefined) {
      const reason = `what came to /hooks/${channel} was not believed: ${code}`
      await refuse({ channel, code, reason, address: request.ip })
    }
    return await reply.code(404).send()
  }

  app.post<Named>(
    '/hooks/:name',
    {
      schema: { hide: true },
      config: { rateLimit: { max: PER_MINUTE_MAX, timeWindow: 60_000 } },
      errorHandler: async (error: FastifyError, request: To, reply) => {
        const code = UNREAD[error.statusCode ?? 500]
        if (code === undefined) throw error
        return await turnAway(request, reply, code)
      },
    },
    async (request, reply) => {
      const hook = hookOf(request)
      if (hook === undefined || !Buffer.isBuffer(request.body)) return await turnAway(request, reply, 'empty')
      const header = (name: string) => {
        const value = request.headers[name]
        return typeof value === 'string' ? value : undefined
      }
      const heard = hear(hook, { raw: request.body, header, address: request.ip })
      if ('refused' in heard) return await turnAway(request, reply, heard.refused)
      const id = heard.id === undefined ? undefined : `hook:${hook.name}:${heard.id.slice(0, 200)}`
      if (id !== undefined && (await isKnown(id))) return await reply.code(204).send()
      const how = { by: `hook:${hook.name}`, reason: heard.reason }
      for (const effect of heard.effects) await carryOut({ sql, act }, effect, how)
      if (heard.happening !== undefined && hook.type !== 'revoke')
        await trigger(options, { hook, delivery: id ?? `hook:${hook.name}`, happening: heard.happening })
      // Only now: what failed half-way is to be done when it comes again.
      if (id !== undefined) await remember(id)
      return await reply.code(204).send()
    },
  )

  const isKnown = async (id: string) => (await sql`select from control.link_used where id = ${id}`).length > 0

  async function remember(id: string): Promise<void> {
    const expires = new Date(Date.now() + REMEMBERED_MILLISECONDS)
    await sql`insert into control.link_used (id, expires) values (${id}, ${expires}) on conflict do nothing`
  }
}

function hear(hook: HookSettings, incoming: Incoming): Heard {
  switch (hook.type) {
    case 'revoke':
      return fromWatcher(hook, incoming)
    case 'github':
      return fromGithub(hook, incoming)
    case 'bitbucket':
      return fromBitbucket(hook, incoming)
    case 'gitea':
      return fromGitea(hook, incoming)
    case 'gitlab':
      return fromGitlab(hook, incoming)
  }
}
