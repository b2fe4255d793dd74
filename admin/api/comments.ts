import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { COMMENT_CHARACTERS_MAX, comment } from '../comment.ts'
import { type Comment, listComments } from '../register/comments.ts'
import { findRequest } from '../register/requests.ts'
import type { Caller } from './access.ts'
import { type Control, callerOf } from './control.ts'
import { iso, line, refusals } from './fields.ts'
import { notFound } from './problem.ts'
import { person } from './requests.ts'
import { isVisible } from './requestview.ts'
import { viaOf } from './via.ts'

const commentView = z.object({
  id: z.string(),
  at: z.string(),
  by: z.string(),
  via: z.string().optional().describe('by which way it came: slack, ssh, cli, api'),
  content: z.string(),
})
const params = z.object({ id: z.string().regex(/^r-[0-9a-z]{1,40}$/, 'is no id of a request: r-…') })

export const comments: FastifyPluginAsyncZod<Control> = async (app, { sql, store, act, policy }) => {
  app.get(
    '/requests/:id/comments',
    {
      schema: {
        summary: 'What was said about a request, the oldest first',
        tags: ['requests'],
        params,
        response: { 200: z.object({ comments: z.array(commentView) }), 404: refusals[400], ...refusals },
      },
    },
    async request => {
      await requireVisible(request.params.id, callerOf(request))
      return { comments: (await listComments(sql, request.params.id)).map(view) }
    },
  )

  app.post(
    '/requests/:id/comments',
    {
      schema: {
        summary: 'Say something about a request: it is told to who asked and who decides, and decides nothing',
        tags: ['requests'],
        params,
        body: z.strictObject({ content: line(COMMENT_CHARACTERS_MAX) }),
        response: { 201: commentView, 404: refusals[400], 409: refusals[400], ...refusals },
      },
    },
    async (request, reply) => {
      const caller = person(callerOf(request))
      const { id } = request.params
      await requireVisible(id, caller)
      const said = { request: id, by: caller.principal, via: viaOf(request), content: request.body.content }
      reply.code(201)
      return view(await comment(act, said, await store.now()))
    },
  )

  /** Another's request is as unknown as one that never was. */
  async function requireVisible(id: string, caller: Caller): Promise<void> {
    const found = await findRequest(sql, id)
    if (found === undefined || !isVisible(found, policy.standing(), caller, await store.now())) {
      throw notFound('request', id)
    }
  }
}

const view = ({ id, at, by, via, content }: Comment) => ({ id, at: iso(at), by, ...(via && { via }), content })
