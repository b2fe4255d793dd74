import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { newId } from '../../audit/id.ts'
import { parseUserKeyLine } from '../../ca/securitykey.ts'
import { FormatError } from '../../ca/wire.ts'
import { newSecret, newUserCode, secretHash } from '../login/code.ts'
import { collectLogin, openLogin } from '../register/logins.ts'
import { endSignins, findBySecret, findSignin, type RegisteredSignin, signinStanding } from '../register/signins.ts'
import { type Control, ENACT_MILLISECONDS_MAX } from './control.ts'
import { iso, refusals, role } from './fields.ts'
import { Problem } from './problem.ts'

const LOGIN_MILLISECONDS = 10 * 60_000
/** How long an answer waits for the browser, and how soon it sees that one is done. */
const WAIT_MILLISECONDS_MAX = 8_000
const LOOK_MILLISECONDS = 200
const WAITING_MAX = 500
const DEVICES_PER_MINUTE_MAX = 300

const secret = z.string().regex(/^[\w-]{43}$/, 'is no secret of a sign-in')
const client = z
  .string()
  .min(1)
  .max(100)
  .refine(text => !/\p{C}/u.test(text), 'is one line without control characters')

export const credentialView = z.object({
  id: z.string(),
  principal: z.string(),
  roles: z.array(role),
  groups: z.array(z.string()),
  mfa_at: z.string().optional().describe('when a second factor was last shown'),
  expires_at: z.string(),
})

const deviceView = z.object({
  device_code: z.string(),
  user_code: z.string(),
  verification_uri: z.string(),
  verification_uri_complete: z.string(),
  expires_in: z.number().describe('seconds'),
})

const tokenView = z.object({ token: z.string(), token_expires_at: z.string(), signin: credentialView })

export function viewSignin(signin: RegisteredSignin): z.infer<typeof credentialView> {
  const { id, principal, roles, groups, mfa, expires } = signin
  return {
    id,
    principal,
    roles: [...roles],
    groups: [...groups],
    ...(mfa !== undefined && { mfa_at: iso(mfa) }),
    expires_at: expires.toISOString(),
  }
}

/** Signing in from a terminal, after RFC 8628; open to strangers. */
export const login: FastifyPluginAsyncZod<Control> = async (app, control) => {
  const { sql, act, enact, people, places } = control
  let waiting = 0

  app.get(
    '/login',
    {
      schema: {
        summary: 'Where the gate is, and whether people sign in here',
        tags: ['login'],
        security: [],
        response: {
          200: z.object({
            people: z.boolean().describe('whether an identity provider is set up'),
            http: z.string().optional(),
            ssh: z.string().optional(),
            admin: z.string(),
            host_authorities: z.array(z.string()).describe('keys that sign the host keys of gates, for known_hosts'),
          }),
          429: refusals[429],
        },
      },
    },
    async () => ({
      people: people !== undefined,
      ...(places.http !== undefined && { http: places.http }),
      ...(places.ssh !== undefined && { ssh: places.ssh }),
      admin: places.admin(),
      host_authorities: [...(await hostAuthorities())],
    }),
  )

  app.post(
    '/login/device',
    {
      config: { rateLimit: { max: DEVICES_PER_MINUTE_MAX, timeWindow: 60_000 } },
      schema: {
        summary: 'Begin to sign in from a terminal',
        description: 'Show the code and the address to a person, then ask /login/token.',
        tags: ['login'],
        security: [],
        body: z.strictObject({
          client: client.default('a terminal').describe('what the confirming page calls you'),
          fresh: z
            .boolean()
            .default(false)
            .describe('the provider is to ask again, with a second factor where it knows one'),
        }),
        response: {
          201: deviceView,
          404: refusals[400],
          ...refusals,
        },
      },
    },
    async (request, reply) => {
      const { client, fresh } = request.body
      reply.code(201).header('cache-control', 'no-store')
      return await beginLogin(control, { client, fresh, address: request.ip ?? 'local' })
    },
  )

  app.post(
    '/login/key',
    {
      schema: {
        summary: 'Begin to sign the holder of an SSH key in; for proxies, to which possession of the key was proved',
        tags: ['login'],
        body: z.strictObject({
          public_key: z.string().max(16_384),
          address: z.union([z.ipv4(), z.ipv6()]).describe('where the holder is'),
          client: client.default('ssh'),
          fresh: z.boolean().default(false),
        }),
        response: { 201: deviceView, 404: refusals[400], ...refusals },
      },
    },
    async (request, reply) => {
      const { public_key: line, address, client, fresh } = request.body
      reply.code(201).header('cache-control', 'no-store')
      return await beginLogin(control, { client, fresh, address, keyBlob: readKeyLine(line) })
    },
  )

  app.post(
    '/login/token',
    {
      handlerTimeout: WAIT_MILLISECONDS_MAX + 10_000,
      schema: {
        summary: 'What became of a sign-in that a terminal began',
        description:
          'Waits some seconds for the browser. Once it is done, the secret is in this one answer and nowhere else.',
        tags: ['login'],
        security: [],
        body: z.strictObject({ device_code: secret }),
        response: {
          200: z.discriminatedUnion('state', [
            z.object({ state: z.literal('waiting') }),
            z.object({ state: z.literal('over').describe('not known, too old, or already collected') }),
            z.object({ state: z.literal('denied'), reason: z.string() }),
            z.object({ state: z.literal('bound').describe('the key stands for the person'), signin: credentialView }),
            tokenView.extend({
              state: z.literal('done'),
              secret: secret.describe('renews tokens, until the sign-in ends'),
            }),
          ]),
          ...refusals,
        },
      },
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store')
      const device = secretHash(request.body.device_code)
      const renewal = newSecret()
      const until = performance.now() + WAIT_MILLISECONDS_MAX
      const mayWait = waiting < WAITING_MAX
      waiting++
      try {
        for (;;) {
          const found = await collectLogin(sql, device, secretHash(renewal))
          if (found.state === 'waiting' && mayWait && performance.now() < until && !request.raw.destroyed) {
            await sleep(LOOK_MILLISECONDS)
            continue
          }
          if (found.state !== 'done') return found
          const signin = await findSignin(sql, found.signin)
          if (signin === undefined) return { state: 'over' as const }
          if (!found.withSecret) return { state: 'bound' as const, signin: viewSignin(signin) }
          return { state: 'done' as const, secret: renewal, ...(await newToken(control, signin)) }
        }
      } finally {
        waiting--
      }
    },
  )

  app.post(
    '/login/refresh',
    {
      schema: {
        summary: 'A new token of a sign-in that goes on',
        tags: ['login'],
        security: [],
        body: z.strictObject({ secret }),
        response: { 200: tokenView, ...refusals },
      },
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store')
      const found = await findBySecret(sql, secretHash(request.body.secret))
      if (found === undefined) throw over()
      const standing = await signinStanding(sql, found.id, found.principal)
      if (standing === 'locked')
        throw new Problem(403, 'locked', `${found.principal} is locked`, 'ask an administrator')
      if (typeof standing === 'string') throw over()
      return await newToken(control, standing)
    },
  )

  app.post(
    '/logout',
    {
      schema: {
        summary: 'End a sign-in: its tokens, keys and certificates are refused from now on, and what runs by it is cut',
        tags: ['login'],
        security: [],
        body: z.strictObject({ secret }),
        response: { 200: z.object({ id: z.string(), enacted: z.boolean() }), ...refusals },
      },
    },
    async request => {
      const found = await findBySecret(sql, secretHash(request.body.secret))
      if (found === undefined) throw over()
      await endSignins(act, { id: found.id }, { how: 'logout', by: found.principal })
      return { id: found.id, enacted: await enact.settle(ENACT_MILLISECONDS_MAX) }
    },
  )

  async function hostAuthorities(): Promise<readonly string[]> {
    if (control.authority === undefined) return []
    return await control.authority.trusted().then(
      ({ host }) => host,
      () => [],
    )
  }
}

const over = () => new Problem(401, 'signed-out', 'the sign-in is over', 'git access login')

/** @throws Problem when it is no public key line */
export function readKeyLine(text: string): Buffer {
  try {
    return parseUserKeyLine(text).blob
  } catch (cause) {
    if (cause instanceof FormatError) throw new Problem(400, 'invalid', `public_key: ${cause.message}`)
    throw cause
  }
}

/** Opens a login for a terminal, or for the holder of a key that has proved possession of it. */
async function beginLogin(
  { sql, people, places }: Control,
  from: { readonly client: string; readonly fresh: boolean; readonly address: string; readonly keyBlob?: Buffer },
) {
  if (people === undefined) {
    throw new Problem(404, 'no-provider', 'nobody signs in at this gate', 'ask an administrator for a token')
  }
  const [deviceCode, code] = [newSecret(), newUserCode()]
  const opened = await openLogin(sql, {
    ...from,
    id: newId('x'),
    code,
    device: secretHash(deviceCode),
    expires: new Date(Date.now() + LOGIN_MILLISECONDS),
  })
  if (!opened)
    throw new Problem(429, 'too-many-logins', 'too many sign-ins wait for a browser', 'try again in some minutes')
  const uri = `${places.admin()}/login`
  return {
    device_code: deviceCode,
    user_code: code,
    verification_uri: uri,
    verification_uri_complete: `${uri}?code=${code}`,
    expires_in: LOGIN_MILLISECONDS / 1_000,
  }
}

async function newToken({ people, issueToken }: Control, signin: RegisteredSignin): Promise<z.infer<typeof tokenView>> {
  const { principal, roles, id } = signin
  const expires = Math.min(signin.expires.getTime(), Date.now() + (people?.settings.token ?? 0))
  const token = await issueToken({ id: newId('t'), principal, roles, signin: id, expires })
  return { token, token_expires_at: iso(expires), signin: viewSignin(signin) }
}
