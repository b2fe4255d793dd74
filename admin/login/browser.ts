import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { newId } from '../../audit/id.ts'
import type { Origin } from '../../audit/record.ts'
import { fingerprint, publicKeyLine } from '../../ca/key.ts'
import { readUserKey } from '../../ca/securitykey.ts'
import { type Control, ENACT_MILLISECONDS_MAX } from '../api/control.ts'
import {
  confirmLogin,
  denyLogin,
  type Login,
  loginByCode,
  loginOfBrowser,
  recognised,
  takeUp,
} from '../register/logins.ts'
import { endSignins, type Person, takeOnce } from '../register/signins.ts'
import { personOf } from './claims.ts'
import { newSecret, readUserCode, secretHash } from './code.ts'
import { readLogout } from './logouttoken.ts'
import { codePage, confirmPage, lastPage, pageHeaders } from './page.ts'
import { type People, ProviderError } from './provider.ts'

/**
 * The browser's part of a sign-in: from the code of a terminal to the provider and back, and a page on which the person
 * confirms that the terminal is theirs. That page is the defence against links sent by others (RFC 8628, section 5.4): the
 * provider may well recognise somebody without asking them anything.
 */

const CODES_PER_MINUTE_MAX = 300
const FORM_BYTES_MAX = 16 << 10
const AGENT_CHARACTERS_MAX = 200

export function browserRoutes(app: FastifyInstance, control: Control, people: People): void {
  const { sql, act, enact } = control
  const { provider, settings, seal } = people
  const base = () => control.places.admin()
  const bounded = { config: { rateLimit: { max: CODES_PER_MINUTE_MAX, timeWindow: 60_000 } } }

  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: FORM_BYTES_MAX },
    (_request, body, done) => done(null, Object.fromEntries(new URLSearchParams(String(body)))),
  )

  app.get('/login', { schema: { hide: true }, ...bounded }, async (request, reply) => {
    const { code: typed } = z
      .object({ code: z.string().max(64).optional() })
      .catch({})
      .parse(request.query)
    if (typed === undefined) return show(reply, 'onward', codePage(undefined))
    const code = readUserCode(typed)
    const login = code === undefined ? undefined : await loginByCode(sql, code)
    if (login === undefined || (login.state !== 'waiting' && login.state !== 'recognised')) {
      return show(
        reply,
        'onward',
        codePage('That code is not known, or its ten minutes are over. Ask your terminal anew.'),
      )
    }
    const cookie = newSecret()
    try {
      const { url, sent } = await provider.send({ redirect: `${base()}/login/callback`, fresh: login.fresh })
      await takeUp(sql, login.id, secretHash(cookie), sent)
      setCookie(reply, cookie)
      return await reply.header('cache-control', 'no-store').redirect(url.href, 302)
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error
      app.log.error({ err: error }, 'the identity provider cannot be asked')
      return show(
        reply,
        'none',
        lastPage('That did not work', 'The identity provider does not answer. Try again.'),
        503,
      )
    }
  })

  app.get('/login/callback', { schema: { hide: true }, ...bounded }, async (request, reply) => {
    const cookie = readCookie(request)
    const login = cookie === undefined ? undefined : await loginOfBrowser(sql, secretHash(cookie))
    // Another browser's answer, a second one, or one nobody waits for (RFC 6749, section 10.12).
    if (cookie === undefined || login?.state !== 'waiting' || login.sent === undefined) return lost(reply)
    const returned = new URL(request.url, `${base()}/`)
    if (returned.searchParams.get('state') !== login.sent.state) return lost(reply)
    let person: ReturnType<typeof personOf>
    try {
      const { claims, refresh } = await provider.receive(returned, { ...login.sent, fresh: login.fresh })
      person = personOf(claims, settings, Date.now())
      if (refresh !== undefined && !('code' in person)) person = { ...person, refresh: seal.close(refresh) }
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error
      app.log.warn({ err: error }, 'sign-in by the identity provider failed')
      const reason =
        error.code === 'refused' ? 'the identity provider refused' : 'the answer of the provider does not hold'
      return await turnAway(request, reply, login, { code: `provider-${error.code}`, reason }, error.message)
    }
    if ('code' in person) return await turnAway(request, reply, login, person)
    const next = newSecret()
    if (!(await recognised(sql, login.id, secretHash(cookie), secretHash(next), person))) return lost(reply)
    setCookie(reply, next)
    // Seen under an address of its own, so that the code in this one is in no history and a reload repeats nothing.
    return await reply.header('cache-control', 'no-store').redirect('/login/confirm', 303)
  })

  app.get('/login/confirm', { schema: { hide: true }, ...bounded }, async (request, reply) => {
    const found = await confirming(request)
    if (found === undefined) return lost(reply)
    const { login, person, cookie } = found
    const page = confirmPage({
      principal: person.principal,
      code: login.code,
      address: login.address,
      client: login.client,
      ...(login.keyBlob && { key: fingerprint(login.keyBlob) }),
      until: new Date(Date.now() + settings.lasts).toUTCString(),
      proof: proofOf(cookie),
    })
    return show(reply, 'ours', page)
  })

  app.post('/login/confirm', { schema: { hide: true }, ...bounded }, async (request, reply) => {
    const found = await confirming(request)
    const form = z.object({ proof: z.string(), answer: z.enum(['allow', 'refuse']) }).safeParse(request.body)
    if (found === undefined || !form.success || !sameText(form.data.proof, proofOf(found.cookie))) return lost(reply)
    const { login, person, cookie } = found
    clearCookie(reply)
    if (form.data.answer === 'refuse') {
      await turnDown(request, login, { code: 'refused', reason: 'it was refused at the browser' }, person.principal)
      return show(reply, 'none', lastPage('Refused', 'Nobody was signed in. You can close this page.'))
    }
    const signin = {
      ...person,
      id: newId('s'),
      address: login.address,
      client: login.client,
      expires: new Date(Date.now() + settings.lasts),
    }
    const key = login.keyBlob && keyOf(login.keyBlob)
    const done = await confirmLogin(act, login.id, secretHash(cookie), signin, key)
    if (done === 'over') return lost(reply)
    if (done !== 'done') {
      const why =
        done === 'locked'
          ? { code: 'locked', reason: 'your access is locked; ask an administrator' }
          : { code: 'key', reason: 'this key was revoked or is registered otherwise; use another one' }
      return await turnAway(request, reply, login, why, why.reason, person.principal)
    }
    // The gate has to know the key before the terminal goes on.
    if (key !== undefined) await enact.settle(ENACT_MILLISECONDS_MAX)
    return show(
      reply,
      'none',
      lastPage('You are signed in', 'Your terminal goes on by itself. You can close this page.'),
    )
  })

  app.post('/login/backchannel', { schema: { hide: true }, ...bounded }, async (request, reply) => {
    reply.header('cache-control', 'no-store')
    const { logout_token: token } = z
      .object({ logout_token: z.string().max(FORM_BYTES_MAX) })
      .catch({ logout_token: '' })
      .parse(request.body)
    const now = Date.now()
    const refuse = async (reason: string) => {
      await refusedRecord(request, { code: 'logout-token', reason })
      return await reply
        .code(400)
        .send({ error: 'invalid_request', error_description: 'the logout token does not hold' })
    }
    let logout: ReturnType<typeof readLogout>
    try {
      logout = readLogout(token, await provider.verifyLogout(token, now), now)
    } catch (error) {
      if (error instanceof ProviderError) throw error
      return await refuse(error instanceof Error ? error.message.slice(0, 200) : 'not understood')
    }
    if ('refused' in logout) return await refuse(logout.refused)
    const { issuer, jti, subject, session, forget } = logout
    const first = await act(change => takeOnce(change, { issuer, jti, expires: new Date(forget) }))
    if (!first) return await refuse('it was taken before')
    const which = { issuer, ...(subject !== undefined && { subject }), ...(session !== undefined && { session }) }
    await endSignins(act, which, { how: 'provider', by: 'drawbridge' })
    await enact.settle(ENACT_MILLISECONDS_MAX)
    return await reply.code(200).send()
  })

  /** The login this browser may confirm, and whom the provider named. */
  async function confirming(request: FastifyRequest) {
    const cookie = readCookie(request)
    const login = cookie === undefined ? undefined : await loginOfBrowser(sql, secretHash(cookie))
    if (cookie === undefined || login?.state !== 'recognised' || login.person === undefined) return undefined
    return { login, person: login.person satisfies Person, cookie }
  }

  async function turnAway(
    request: FastifyRequest,
    reply: FastifyReply,
    login: Login,
    why: { readonly code: string; readonly reason: string },
    forTheLog = why.reason,
    claimed?: string,
  ) {
    await turnDown(request, login, { code: why.code, reason: forTheLog }, claimed, why.reason)
    clearCookie(reply)
    return show(reply, 'none', lastPage('Nobody was signed in', `${why.reason}.`), 403)
  }

  async function turnDown(
    request: FastifyRequest,
    login: Login,
    why: { readonly code: string; readonly reason: string },
    claimed?: string,
    tell = why.reason,
  ): Promise<void> {
    if (await denyLogin(sql, login.id, tell)) await refusedRecord(request, why, claimed)
  }

  async function refusedRecord(
    request: FastifyRequest,
    { code, reason }: { readonly code: string; readonly reason: string },
    claimed?: string,
  ): Promise<void> {
    const origin = originOf(request)
    await act(async change =>
      change.record({ kind: 'signin.refused', origin, code, reason, ...(claimed !== undefined && { claimed }) }),
    )
  }

  const secure = () => base().startsWith('https:')
  /** `__Host-`: no other host, path or plain connection sets or reads it. Lax, since the provider sends the browser back by a link. */
  const cookieName = () => (secure() ? '__Host-drawbridge-login' : 'drawbridge-login')
  const attributes = () => `; Path=/; HttpOnly; SameSite=Lax${secure() ? '; Secure' : ''}`
  function setCookie(reply: FastifyReply, value: string): void {
    reply.header('set-cookie', `${cookieName()}=${value}; Max-Age=900${attributes()}`)
  }
  function clearCookie(reply: FastifyReply): void {
    reply.header('set-cookie', `${cookieName()}=; Max-Age=0${attributes()}`)
  }
  function readCookie({ headers }: FastifyRequest): string | undefined {
    const pairs = (headers.cookie ?? '').split(';').map(pair => pair.trim().split('='))
    const values = pairs.filter(([name]) => name === cookieName()).map(([, value]) => value)
    // Two of one name: somebody has planted one.
    return values.length === 1 && /^[\w-]{43}$/.test(values[0] ?? '') ? values[0] : undefined
  }
}

function show(reply: FastifyReply, form: 'ours' | 'onward' | 'none', page: string, status = 200) {
  return reply.code(status).headers(pageHeaders(form)).send(page)
}

function lost(reply: FastifyReply) {
  const sentence = 'This page belongs to no sign-in that is under way, or it is over. Begin again in your terminal.'
  return show(reply, 'none', lastPage('Begin again', sentence), 400)
}

/** Only a page of ours knows it, since only we and that browser know the cookie. */
function proofOf(cookie: string): string {
  return createHash('sha256').update(`confirm ${cookie}`).digest('base64url')
}

function sameText(one: string, other: string): boolean {
  return one.length === other.length && timingSafeEqual(Buffer.from(one.padEnd(64)), Buffer.from(other.padEnd(64)))
}

function keyOf(blob: Buffer) {
  return { fingerprint: fingerprint(blob), algorithm: readUserKey(blob).type, publicKey: publicKeyLine(blob) }
}

export function originOf(request: FastifyRequest): Origin {
  const agent = (request.headers['user-agent'] ?? '').replace(/[\p{C}]/gu, ' ').slice(0, AGENT_CHARACTERS_MAX)
  return { transport: 'http', address: request.ip ?? 'local', connection: newId('c'), agent }
}
