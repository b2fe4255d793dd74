import { readFileSync, statSync } from 'node:fs'
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { type KeptSignin, keep, keptSignin } from './kept.ts'
import { CommandError, EXIT, say } from './say.ts'

const BASE = '/api/v1'
const CONNECT_MILLISECONDS_MAX = 10_000
const ANSWER_BYTES_MAX = 64 << 20
const TOKEN_CHARACTERS_MAX = 16_384

/** Where the gate is and who asks. */
export interface Connection {
  readonly url?: string | undefined
  readonly tokenFile?: string | undefined
  readonly caFile?: string | undefined
}

/** The admin API, for one command. */
export interface Client {
  /** @throws CommandError saying why it did not come to pass */
  call<T>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: object): Promise<T>
  /** An answer that comes piece by piece. */
  stream(path: string, headers?: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<IncomingMessage>
}

/**
 * Finds out whom to ask and as whom. The token is in the file named, else in DRAWBRIDGE_TOKEN; never an argument, since those
 * are for everybody on the machine to see.
 *
 * @throws CommandError when that is not enough to ask anybody
 */
export function createClient(
  connection: Connection,
  env: NodeJS.ProcessEnv,
  who: 'somebody' | 'stranger' = 'somebody',
): Client {
  const signedIn = who === 'somebody' ? keptSignin(env, connection.url || undefined) : undefined
  const where = connection.url || signedIn?.gate
  if (where === undefined || where === '') {
    throw new CommandError(
      EXIT.usage,
      'nobody to ask',
      'git access login --url https://…, or set DRAWBRIDGE_URL: the admin address of the gate',
    )
  }
  const socketPath = /^unix:(?:\/\/)?(.+)$/.exec(where)?.[1]
  const base = socketPath === undefined ? readUrl(where) : new URL('http://localhost')
  const given = who === 'somebody' ? readToken(connection, env) : undefined
  if (who === 'somebody' && socketPath === undefined && given === undefined && signedIn === undefined) {
    throw new CommandError(
      EXIT.denied,
      'no token, and nobody is signed in',
      `git access login --url ${where}; or set DRAWBRIDGE_TOKEN or DRAWBRIDGE_TOKEN_FILE`,
    )
  }
  const caFile = connection.caFile ?? signedIn?.caFile
  const ca = caFile === undefined ? undefined : readText(caFile, '--ca-file')
  /** What was handed out goes before what a sign-in gives. */
  const tokenNow = async (): Promise<string | undefined> => {
    if (given !== undefined || signedIn === undefined || socketPath !== undefined) return given
    return (await renewed(signedIn, env)).token
  }

  const send = async (
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    body?: string,
    signal?: AbortSignal,
  ) => {
    const token = await tokenNow()
    return await new Promise<IncomingMessage>((resolve, reject) => {
      const options: RequestOptions & { ca?: string } = {
        method,
        path: `${base.pathname.replace(/\/$/, '')}${BASE}${path}`,
        headers: {
          ...headers,
          'user-agent': 'drawbridge-cli',
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
          ...(body !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        },
        timeout: CONNECT_MILLISECONDS_MAX,
        ...(signal && { signal }),
        ...(socketPath === undefined
          ? { host: base.hostname.replace(/^\[(.*)\]$/, '$1'), port: base.port }
          : { socketPath }),
        ...(ca !== undefined && { ca }),
      }
      const sent = base.protocol === 'https:' ? httpsRequest(options) : httpRequest(options)
      sent.once('socket', socket => {
        // Only connecting is bounded: an answer that waits for somebody may take long. One kept from before is connected already.
        if (socket.connecting) socket.once('connect', () => socket.setTimeout(0))
        else socket.setTimeout(0)
      })
      sent.once('timeout', () => sent.destroy(new Error('it does not answer')))
      sent.once('error', cause => {
        const code = Reflect.get(cause, 'code')
        reject(
          new CommandError(
            EXIT.unreachable,
            `cannot reach ${where}: ${code ?? cause.message}`,
            'is the gate running there?',
          ),
        )
      })
      sent.once('response', resolve)
      sent.end(body)
    })
  }

  return {
    call: async <T>(method: string, path: string, body?: object) => {
      const answer = await send(method, path, {}, body && JSON.stringify(body))
      const text = await readAll(answer)
      if (answer.statusCode !== undefined && answer.statusCode < 300) return parse(text, where) as T
      throw refusal(answer.statusCode ?? 0, text, where)
    },
    stream: async (path, headers = {}, signal) => {
      const answer = await send('GET', path, headers, undefined, signal)
      if (answer.statusCode === 200) return answer
      throw refusal(answer.statusCode ?? 0, await readAll(answer), where)
    },
  }
}

/** A token is renewed before it ends, so that it is still good when it arrives. */
const RENEW_MILLISECONDS = 60_000

/**
 * The sign-in with a token that is good for a while, renewed at the gate where needed.
 * @throws CommandError when the sign-in is over
 */
export async function renewed(kept: KeptSignin, env: NodeJS.ProcessEnv): Promise<KeptSignin> {
  if (Date.parse(kept.tokenExpires) - Date.now() > RENEW_MILLISECONDS) return kept
  const client = createClient({ url: kept.gate, caFile: kept.caFile }, env, 'stranger')
  const { token, token_expires_at: tokenExpires } = await client.call<{ token: string; token_expires_at: string }>(
    'POST',
    '/login/refresh',
    { secret: kept.secret },
  )
  const fresh = { ...kept, token, tokenExpires }
  keep(env, fresh)
  return fresh
}

/** `?a=1&b=2` of what is given; nothing for what is not. */
export function query(parameters: Readonly<Record<string, string | number | boolean | undefined>>): string {
  const given = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) given.set(name, String(value))
  return given.size === 0 ? '' : `?${given}`
}

function readUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new CommandError(EXIT.usage, `--url: expected https://HOST:PORT or unix:PATH, not ${JSON.stringify(text)}`)
  }
  // A token sent in the clear is everybody's on the way.
  if (url.protocol === 'http:' && !/^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)) {
    throw new CommandError(
      EXIT.usage,
      `--url: ${url.host} is another machine, and http would show it the token`,
      'use https',
    )
  }
  return url
}

function readToken(connection: Connection, env: NodeJS.ProcessEnv): string | undefined {
  const file = connection.tokenFile || undefined
  const token = file === undefined ? env.DRAWBRIDGE_TOKEN : readText(file, '--token-file')
  if (file !== undefined && statSync(file).mode & 0o077) say(`${file} can be read by others; chmod 600 it`)
  if (token === undefined || token.trim() === '') return undefined
  if (token.length > TOKEN_CHARACTERS_MAX || !/^[\x21-\x7e]+$/.test(token.trim())) {
    throw new CommandError(EXIT.usage, `${file ?? 'DRAWBRIDGE_TOKEN'} holds no token: expected one word`)
  }
  return token.trim()
}

/** @throws CommandError naming the option and the file */
export function readText(file: string, option: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (cause) {
    throw new CommandError(
      EXIT.usage,
      `${option}: cannot read ${file}: ${Reflect.get(cause as object, 'code') ?? cause}`,
    )
  }
}

async function readAll(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > ANSWER_BYTES_MAX)
      throw new CommandError(EXIT.failed, 'the answer is too long', 'ask for less, or use audit export')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function parse(text: string, where: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new CommandError(EXIT.failed, `${where} does not answer as a gate does`, 'is that the admin address?')
  }
}

function refusal(status: number, text: string, where: string): CommandError {
  const exit =
    status === 401 || status === 403
      ? EXIT.denied
      : status === 400
        ? EXIT.usage
        : status >= 500 || status === 429
          ? EXIT.unreachable
          : EXIT.failed
  let problem: { detail?: unknown; hint?: unknown; code?: unknown } = {}
  try {
    problem = Object(JSON.parse(text))
  } catch {
    // Something in between answered.
  }
  const detail = typeof problem.detail === 'string' ? problem.detail : `${where} answered ${status}`
  const hint = typeof problem.hint === 'string' ? problem.hint : undefined
  return new CommandError(exit, detail, hint, typeof problem.code === 'string' ? problem.code : undefined)
}
