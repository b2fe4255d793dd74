import { readFile } from 'node:fs/promises'
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { ControlSettings } from '../config/settings.ts'
import type { Caller } from './client.ts'

/**
 * The control plane's API, asked in the name of somebody whom the gate knows. The data plane does its own work without
 * it: what cannot be asked here is a word that fails, never an operation that is let through.
 */
export interface ControlPlane {
  /**
   * @param wait milliseconds an answer may take beyond the usual
   * @throws ControlError with what the person is to be told
   */
  call<T>(asked: Asked & { readonly wait?: number }): Promise<T>
  /**
   * An answer that goes on: what comes is read as fast as it is taken. Breaks, as an error of the iteration, when nothing has
   * been heard for half a minute, and when the person is gone.
   * @throws ControlError as `call` does
   */
  stream(asked: Omit<Asked, 'method' | 'body'>): Promise<AsyncIterable<Buffer>>
}

/** One question to the control plane. */
export interface Asked {
  /** In whose name; for the login of a key that is nobody's yet, under which user name. */
  readonly caller: Pick<Caller, 'principal' | 'origin'> & Partial<Pick<Caller, 'credentials'>>
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly body?: object
  /** Besides those that say who asks. */
  readonly headers?: Readonly<Record<string, string>>
  readonly gone: AbortSignal
}

/** What the control plane answered instead, or why it did not. */
export class ControlError extends Error {
  /** An exit status, the same as of `git access`: 1 refused, 2 not understood, 3 unreachable, 4 not allowed. */
  readonly status: 1 | 2 | 3 | 4
  readonly hint: string | undefined
  constructor(status: 1 | 2 | 3 | 4, message: string, hint?: string) {
    super(message)
    this.name = 'ControlError'
    this.status = status
    this.hint = hint
  }
}

const BASE = '/api/v1'
const SIGNIN = 'signin:'
const TOKEN = 'token:'
const ANSWER_BYTES_MAX = 4 << 20
const ANSWER_MILLISECONDS_MAX = 15_000
/** Streams say at least every ten seconds that they are still there. */
const SILENCE_MILLISECONDS_MAX = 30_000
const TOKEN_PATTERN = /^[\x21-\x7e]{1,16384}$/

/**
 * @param settings asked for at each call: a reload may have changed them
 * @param onFault of ours, for the log: nothing of it is for the person
 */
export function controlPlane(
  settings: () => ControlSettings | undefined,
  onFault: (error: unknown) => void,
): ControlPlane {
  async function ask<T>(gone: AbortSignal, exchange: (control: ControlSettings) => Promise<T>): Promise<T> {
    const control = settings()
    if (control === undefined) {
      const message = 'this gate was not told where its control plane is, so it can ask nothing for you'
      throw new ControlError(3, message, 'use git access, or have the operator set control.url and control.token_file')
    }
    try {
      return await exchange(control)
    } catch (error) {
      if (error instanceof ControlError) throw error
      // Whoever went away, or would wait no longer, broke it off themselves.
      if (!gone.aborted) onFault(error)
      throw new ControlError(
        3,
        'the gate cannot reach its control plane',
        'try again; if it stays so, tell its operator',
      )
    }
  }

  async function taken(answer: IncomingMessage): Promise<IncomingMessage> {
    const { statusCode: status = 0 } = answer
    if (status < 300) return answer
    const text = await readAll(answer)
    if (status !== 401) throw refusalOf({ status, text })
    // Not the person's fault: it is the gate's own token that is not taken.
    onFault(new Error(`the control plane does not take the token of control.token_file: ${text.slice(0, 500)}`))
    throw new ControlError(3, 'the control plane does not take the token of this gate', 'tell its operator')
  }

  return {
    call: <T>(asked: Asked & { readonly wait?: number }) =>
      ask(asked.gone, async control => {
        const late = AbortSignal.timeout(ANSWER_MILLISECONDS_MAX + (asked.wait ?? 0))
        const answer = await taken(await send(control, asked, AbortSignal.any([asked.gone, late])))
        return JSON.parse(await readAll(answer)) as T
      }),
    stream: asked =>
      ask(asked.gone, async control => {
        const late = new AbortController()
        const timer = setTimeout(() => late.abort(new Error('it does not answer')), ANSWER_MILLISECONDS_MAX)
        try {
          const signal = AbortSignal.any([asked.gone, late.signal])
          const answer = await taken(await send(control, { ...asked, method: 'GET' }, signal, { agent: false }))
          return answer.setTimeout(SILENCE_MILLISECONDS_MAX, () => answer.destroy(new Error('it went silent')))
        } finally {
          clearTimeout(timer)
        }
      }),
  }
}

async function send(
  control: ControlSettings,
  { caller, method, path, body, headers }: Omit<Asked, 'gone'>,
  signal: AbortSignal,
  more: Pick<RequestOptions, 'agent'> = {},
): Promise<IncomingMessage> {
  const [token, ca] = await Promise.all([
    readFile(control.tokenFile, 'utf8'),
    control.caFile === undefined ? undefined : readFile(control.caFile, 'utf8'),
  ])
  if (!TOKEN_PATTERN.test(token.trim())) throw new Error(`${control.tokenFile} holds no token: expected one word`)
  const text = body === undefined ? undefined : JSON.stringify(body)
  // By it the control plane knows the groups that the identity provider named.
  const signin = named(caller, SIGNIN)
  // By it a job's windows are that job's alone.
  const shown = named(caller, TOKEN)
  const options: RequestOptions & { ca?: string } = {
    ...more,
    method,
    signal,
    ...(ca !== undefined && { ca }),
    headers: {
      ...headers,
      authorization: `Bearer ${token.trim()}`,
      // Escaped: a header has no place for what a name may hold.
      'drawbridge-principal': encodeURIComponent(caller.principal),
      'drawbridge-address': caller.origin.address,
      ...(signin !== undefined && { 'drawbridge-signin': signin }),
      ...(shown !== undefined && { 'drawbridge-token': shown }),
      ...(text !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
    },
  }
  const url = new URL(`${control.url.replace(/\/$/, '')}${BASE}${path}`)
  return await new Promise((resolve, reject) => {
    const sent = url.protocol === 'https:' ? httpsRequest(url, options) : httpRequest(url, options)
    sent.once('error', reject)
    sent.once('response', resolve)
    sent.end(text)
  })
}

const named = ({ credentials }: Asked['caller'], kind: string) =>
  credentials?.find(name => name.startsWith(kind))?.slice(kind.length)

async function readAll(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > ANSWER_BYTES_MAX) {
      throw new ControlError(1, `the control plane's answer is longer than ${ANSWER_BYTES_MAX} bytes`, 'ask for less')
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function refusalOf({ status, text }: { readonly status: number; readonly text: string }): ControlError {
  let problem: { detail?: unknown; hint?: unknown } = {}
  try {
    problem = Object(JSON.parse(text))
  } catch {
    // Something in between answered.
  }
  const detail = typeof problem.detail === 'string' ? problem.detail : `the control plane answered ${status}`
  const exit = status === 403 ? 4 : status === 400 ? 2 : status >= 500 || status === 429 ? 3 : 1
  return new ControlError(exit, detail, typeof problem.hint === 'string' ? problem.hint : undefined)
}
