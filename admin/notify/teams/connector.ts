import { z } from 'zod'
import type { TeamsBotSettings } from '../../../config/notify.ts'
import { ChannelError } from '../channel.ts'
import { type Answer, call, requireTaken } from '../outward.ts'

/**
 * The Bot Connector, as far as the gate speaks to it: with a token of the bot's own by client credentials.
 * https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-api-reference
 */

const SCOPE = 'https://api.botframework.com/.default'
/** A token is not used to its last moment. */
const EARLY_MILLISECONDS = 60_000

const tokenAnswer = z.object({ access_token: z.string().max(16_384), expires_in: z.number().min(0).max(86_400) })

export interface Connector {
  /**
   * @param path below the service URL
   * @returns nothing, where what was asked for is not there
   * @throws ChannelError unless it was taken
   */
  call(method: 'GET' | 'POST' | 'PUT', path: string, body: string | undefined, signal: AbortSignal): Promise<unknown>
}

export function connectTeams(settings: TeamsBotSettings, clock: () => number): Connector {
  const { appId, secret, service, tenant } = settings
  const login = below(settings.login, `${tenant}/oauth2/v2.0/token`)
  let held: { readonly token: string; readonly until: number } | undefined

  async function token(signal: AbortSignal): Promise<string> {
    if (held !== undefined && clock() < held.until) return held.token
    const form = { grant_type: 'client_credentials', client_id: appId, client_secret: secret, scope: SCOPE }
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    const answer = await call(login, { method: 'POST', headers, body: new URLSearchParams(form).toString(), signal })
    requireTaken(answer, login.host)
    const { access_token, expires_in } = read(tokenAnswer, answer, login.host)
    held = { token: access_token, until: clock() + expires_in * 1_000 - EARLY_MILLISECONDS }
    return access_token
  }

  return {
    call: async (method, path, body, signal) => {
      const headers = {
        authorization: `Bearer ${await token(signal)}`,
        'user-agent': 'drawbridge',
        ...(body !== undefined && { 'content-type': 'application/json' }),
      }
      const answer = await call(below(service, path), {
        method,
        headers,
        signal,
        ...(body !== undefined && { body }),
      })
      if (answer.status === 401) held = undefined
      if (answer.status === 404 && method === 'GET') return undefined
      requireTaken(answer, service.host)
      return answer.text === '' ? undefined : read(z.unknown(), answer, service.host)
    },
  }
}

/** Whether or not somebody wrote the slash at the end of the base. */
const below = (base: URL, path: string) => new URL(path, base.href.replace(/\/?$/, '/'))

function read<T>(schema: z.ZodType<T>, { text }: Answer, host: string): T {
  try {
    return schema.parse(JSON.parse(text))
  } catch (cause) {
    throw new ChannelError(`${host} answers what is not understood`, { cause })
  }
}
