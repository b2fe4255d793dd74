import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyRequest, LogController } from 'fastify'
import {
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from 'fastify-type-provider-zod'
import { ACCESS, type Caller, OPEN } from './api/access.ts'
import { audit } from './api/audit.ts'
import { authorityFiles } from './api/authority.ts'
import { autoRequests } from './api/autorequest.ts'
import { requireWithin } from './api/bound.ts'
import { cliFiles } from './api/cli.ts'
import { comments } from './api/comments.ts'
import type { Control } from './api/control.ts'
import { FOR_ITSELF, spokenFor } from './api/front.ts'
import { grants } from './api/grants.ts'
import { health } from './api/health.ts'
import { keys } from './api/keys.ts'
import { locks } from './api/locks.ts'
import { login } from './api/login.ts'
import { notices } from './api/notify.ts'
import { Problem, problemOf } from './api/problem.ts'
import { proofs } from './api/proofs.ts'
import { requests } from './api/requests.ts'
import { review } from './api/review.ts'
import { services } from './api/services.ts'
import { sessions } from './api/sessions.ts'
import { signins } from './api/signins.ts'
import { tokens } from './api/tokens.ts'
import { whoami } from './api/whoami.ts'
import { workloads } from './api/workloads.ts'
import { hookRoutes } from './hooks/routes.ts'
import { browserRoutes } from './login/browser.ts'
import { inboundRoutes } from './notify/inbound.ts'
import { linkRoutes } from './notify/links.ts'
import { signinStanding } from './register/signins.ts'
import { tokenStanding } from './register/tokens.ts'

const BODY_BYTES_MAX = 64 << 10
const PARAMETER_CHARACTERS_MAX = 512
const REQUEST_MILLISECONDS_MAX = 30_000
/** A database that hangs answers nothing; whoever asked is told so. */
const ANSWER_MILLISECONDS_MAX = 10_000
const REQUESTS_PER_MINUTE_MAX = 1_200
const BASE = '/api/v1'

/**
 * The admin API: JSON over HTTP, each answer that is no success an `application/problem+json`. Not listening yet.
 *
 * @param control what the routes need
 */
export async function createApi(
  control: Control,
  options: {
    readonly log: FastifyBaseLogger
    readonly tls?: { readonly cert: string; readonly key: string }
    readonly requestsPerMinute?: number
    readonly answerWithin?: number
    /** Who everybody is that can reach this listener; left out: who their token says. */
    readonly everybody?: Caller
  },
): Promise<FastifyInstance> {
  const { log, tls, requestsPerMinute = REQUESTS_PER_MINUTE_MAX } = options
  const settings = {
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_MILLISECONDS_MAX,
    handlerTimeout: options.answerWithin ?? ANSWER_MILLISECONDS_MAX,
    routerOptions: { maxParamLength: PARAMETER_CHARACTERS_MAX },
    // Followers of the ledger never end by themselves.
    forceCloseConnections: true,
    exposeHeadRoutes: false,
  }
  const plain = tls ? fastify({ ...settings, https: { ...tls, minVersion: 'TLSv1.2' } }) : fastify(settings)
  const app = (plain as FastifyInstance).withTypeProvider<ZodTypeProvider>()
  app.setValidatorCompiler(validatorCompiler)
  app.setSerializerCompiler(serializerCompiler)
  app.decorateRequest('caller', null)
  app.decorateRequest('admit', null)

  app.setErrorHandler((error, request, reply) => {
    const { body, ours } = problemOf(error)
    if (ours) log.error({ err: error, method: request.method, route: request.routeOptions.url }, body.detail)
    if (body.status === 401) reply.header('www-authenticate', 'Bearer realm="drawbridge"')
    return reply.code(body.status).type('application/problem+json').serializer(JSON.stringify).send(body)
  })
  app.setNotFoundHandler((request, reply) => {
    const detail = `${request.method} ${request.url.slice(0, 200)} is nothing this API has`
    const { body } = problemOf(new Problem(404, 'not-found', detail, 'what there is: /docs'))
    return reply.code(404).type('application/problem+json').serializer(JSON.stringify).send(body)
  })

  await app.register(helmet, {
    contentSecurityPolicy: { directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
    // Said over TLS only; a listener without it stands behind something that says so itself.
    strictTransportSecurity: tls !== undefined,
  })
  await app.register(rateLimit, { global: false })
  // For everything, and before anybody is identified: strangers are counted first.
  app.addHook(
    'onRequest',
    app.rateLimit({
      max: requestsPerMinute,
      timeWindow: 60_000,
      // A socket file has no address.
      keyGenerator: request => request.ip ?? 'local',
    }),
  )
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Drawbridge',
        version: '1',
        description: 'Requests, grants, sessions, locks, tokens, keys and the ledger.',
      },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
      security: [{ token: [] }],
    },
    transform: jsonSchemaTransform,
  })
  await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: true, uiConfig: { tryItOutEnabled: false } })

  await app.register(health, control)
  const { links, sql, act, policy, store } = control
  if (control.notify) await app.register(async hooks => inboundRoutes(hooks, () => control.notify?.()))
  const inbound = control.hooks
  if (inbound) await app.register(async hooks => hookRoutes(hooks, { sql, act, ...inbound }))
  if (links)
    await app.register(async pages => linkRoutes(pages, { sql, act, policy, now: () => store.now(), ...links }))
  await app.register(authorityFiles, control)
  await app.register(cliFiles)
  const { people } = control
  if (people !== undefined) await app.register(async pages => browserRoutes(pages, control, people))
  await app.register(
    async api => {
      api.addHook('onRoute', route => {
        const named = `${route.method} ${route.url.slice(BASE.length)}`
        if (named === 'GET /openapi.json' || OPEN.includes(named)) return
        const roles = ACCESS[named]
        if (roles === undefined) throw new Error(`${named} is not in the table of who may call what`)
        route.config = { ...route.config, roles }
      })
      // Before the body is read: a stranger sends none.
      api.addHook('onRequest', async request => {
        const roles = request.routeOptions.config.roles
        if (roles === undefined) return
        const admit = async () => {
          const known = options.everybody ?? (await identify(request, control))
          const route = `${request.method} ${request.routeOptions.url?.slice(BASE.length)}`
          const speaks = known.roles.includes('front') && !FOR_ITSELF.has(route)
          const caller = speaks ? await spokenFor(control.sql, known, request, route) : known
          if (caller.roles.some(role => roles.includes(role))) return caller
          const have = caller.roles.length > 0 ? caller.roles.join(', ') : 'none'
          throw new Problem(403, 'role', `this needs the role ${roles.join(' or ')}; your token has ${have}`)
        }
        request.caller = await admit()
        request.admit = admit
      })
      // Where every field may be left out, so may the body.
      api.addHook('preValidation', async request => {
        if (request.routeOptions.schema?.body) request.body ??= {}
      })
      api.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
      for (const routes of [
        login,
        workloads,
        signins,
        whoami,
        requests,
        comments,
        autoRequests,
        review,
        grants,
        sessions,
        locks,
        tokens,
        services,
        keys,
        audit,
        proofs,
      ])
        await api.register(routes, control)
      await api.register(notices, control)
    },
    { prefix: BASE },
  )
  await app.ready()
  return app as unknown as FastifyInstance
}

declare module 'fastify' {
  interface FastifyContextConfig {
    roles?: readonly string[]
  }
}

/** Who sent this. Whether the token was revoked or its principal locked is asked each time, of the database that says so first. */
async function identify(request: FastifyRequest, { sql, verifyToken }: Control): Promise<Caller> {
  const [, token] = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(request.headers.authorization ?? '') ?? []
  if (token === undefined) throw new Problem(401, 'no-token', 'send a token: Authorization: Bearer …')
  const caller = await verifyToken(token)
  if ('refused' in caller) throw new Problem(401, 'bad-token', caller.refused)
  if (caller.token.signin !== undefined) return await bySignin(sql, caller, caller.token.signin)
  switch (await tokenStanding(sql, caller.token.id, caller.principal)) {
    case 'good':
      requireWithin(caller, request)
      return caller
    case 'revoked':
      throw new Problem(401, 'bad-token', 'the token was revoked')
    case 'ended':
      throw new Problem(401, 'bad-token', 'the token has ended: another one took its place')
    case 'unknown':
      throw new Problem(401, 'bad-token', 'the token is not one of this installation')
    case 'locked':
      throw new Problem(403, 'locked', `${caller.principal} is locked`, 'ask an administrator')
  }
}

/** A token of a sign-in has no row of its own: the sign-in decides, and says more of the person. */
async function bySignin(sql: Control['sql'], caller: Caller, id: string): Promise<Caller> {
  const standing = await signinStanding(sql, id, caller.principal)
  if (standing === 'locked') throw new Problem(403, 'locked', `${caller.principal} is locked`, 'ask an administrator')
  if (standing === 'ended') throw new Problem(401, 'signed-out', 'the sign-in is over', 'git access login')
  if (standing === 'unknown') throw new Problem(401, 'bad-token', 'the sign-in is not one of this installation')
  const { groups, mfa } = standing
  return { ...caller, groups, ...(mfa !== undefined && { mfa }) }
}
