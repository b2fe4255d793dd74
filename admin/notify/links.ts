import type { FastifyInstance, FastifyReply } from 'fastify'
import { z } from 'zod'
import { Problem } from '../api/problem.ts'
import { findRequest } from '../register/requests.ts'
import { requestFacts } from './announce.ts'
import { withLast } from './last.ts'
import { type LinkClaims, readLink } from './link.ts'
import { forgetMark, isFirst } from './once.ts'
import { decisionPage, lastPage, PAGE_HEADERS } from './page.ts'
import type { Refuse } from './refusals.ts'
import { type Deciding, voteByChannel } from './vote.ts'

/**
 * Where one-time links lead. Looking changes nothing, however often and by whatever program: mail scanners open every link there
 * is. Only the form on the page decides, once, and only about exactly what it showed.
 */

const FORM_BYTES_MAX = 8_192
const LINKS_PER_MINUTE_MAX = 60

const form = z.object({
  says: z.enum(['approve', 'deny']),
  reason: z
    .string()
    .max(500)
    .default('')
    .transform(text => text.replaceAll(/\p{Cc}+/gu, ' ').trim()),
})

export interface LinkOptions extends Deciding {
  readonly linkKey: Buffer
  readonly refuse: Refuse
  readonly clock?: () => number
}

export function linkRoutes(app: FastifyInstance, options: LinkOptions): void {
  const { sql, linkKey, refuse } = options
  const clock = options.clock ?? Date.now
  const route = {
    schema: { hide: true },
    config: { rateLimit: { max: LINKS_PER_MINUTE_MAX, timeWindow: 60_000 } },
  }
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: FORM_BYTES_MAX },
    (_request, body, done) => done(null, Object.fromEntries(new URLSearchParams(String(body)))),
  )

  app.get<{ Params: { token: string } }>('/links/:token', route, async (request, reply) => {
    const found = await open(request.params.token)
    if ('code' in found) return await gone(reply, found, request.ip)
    return await show(reply, 200, decisionPage(found.content, found.claims.person))
  })

  app.post<{ Params: { token: string } }>('/links/:token', route, async (request, reply) => {
    const found = await open(request.params.token)
    if ('code' in found) return await gone(reply, found, request.ip)
    const { claims } = found
    const said = form.safeParse(request.body)
    if (!said.success) return await show(reply, 400, decisionPage(found.content, claims.person))
    // Of two clicks at one moment one counts.
    if (!(await isFirst(sql, claims.id, claims.expires))) {
      return await gone(reply, { code: 'used', reason: 'the link was used already', claims }, request.ip)
    }
    try {
      const { says, reason: comment } = said.data
      const { person, request, digest, channel, via } = claims
      const vote = { person, request, digest, says, channel, via, ...(comment !== '' && { comment }) }
      await voteByChannel(options, vote)
      const done = says === 'approve' ? 'Your approval is counted.' : 'It is denied.'
      return await show(reply, 200, lastPage('Thank you', `${done} You can close this page.`))
    } catch (error) {
      if (error instanceof Problem)
        return await gone(reply, { code: error.code, reason: error.message, claims }, request.ip)
      // The vote was not taken for a reason of our own, so the link is still good for one.
      await forgetMark(sql, claims.id)
      throw error
    }
  })

  type Found =
    | { readonly claims: LinkClaims; readonly content: Parameters<typeof decisionPage>[0] }
    | { readonly code: string; readonly reason: string; readonly claims?: LinkClaims }

  async function open(token: string): Promise<Found> {
    const claims = readLink(linkKey, token, clock())
    if ('refused' in claims) return { code: claims.refused, reason: `a link was not good: ${claims.refused}` }
    const found = await findRequest(sql, claims.request)
    if (found === undefined) return { code: 'unknown', reason: 'the request of the link is not there', claims }
    const { request } = found
    if (request.digest !== claims.digest) return { code: 'changed', reason: 'the request is another one since', claims }
    if (request.state !== 'requested') return { code: 'decided', reason: `the request is ${request.state}`, claims }
    const [used] = await sql`select from control.link_used where id = ${claims.id}`
    if (used) return { code: 'used', reason: 'the link was used already', claims }
    const { asked, made } = request
    const facts = await withLast(sql, requestFacts(found))
    const data = { by: asked.requester, principal: asked.principal, reason: asked.reason, request: facts }
    return { claims, content: { type: 'request.made', timestamp: new Date(made).toISOString(), data } }
  }

  /** One answer for everything that is not good; what it was is in the ledger. */
  async function gone(
    reply: FastifyReply,
    { code, reason, claims }: { code: string; reason: string; claims?: LinkClaims },
    address: string,
  ): Promise<FastifyReply> {
    const claimed = claims === undefined ? {} : { claimed: `${claims.person} on ${claims.request}` }
    await refuse({ channel: claims?.channel ?? 'links', code, reason, address, ...claimed })
    const sentence = 'Links work once, for a while, and for the request as it was. To decide: drawbridge request list'
    return await show(reply, 404, lastPage('There is nothing to decide here', sentence))
  }
}

async function show(reply: FastifyReply, status: number, page: string): Promise<FastifyReply> {
  return await reply.code(status).headers(PAGE_HEADERS).send(page)
}
