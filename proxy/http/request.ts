import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { setTimeout as after } from 'node:timers/promises'
import { newId } from '../../audit/id.ts'
import type { OperationRefused, Origin, SigninRefused } from '../../audit/record.ts'
import type { Caller, Client, Serve } from '../client.ts'
import { FLUSH, line, printable } from '../git/pktline.ts'
import { errPacket, lines, refusal } from '../refusal.ts'
import type { Throttle } from '../throttle.ts'
import { Answer, say } from './answer.ts'
import { type HttpCredential, parseAuthorization } from './authorization.ts'
import { drain, gunzip, RequestBody } from './body.ts'
import type { Connection } from './connection.ts'
import type { HttpLimits, Log } from './limits.ts'
import { type Route, route } from './route.ts'

export interface RequestOptions {
  readonly serve: Serve
  /** Says who a credential stands for. `refused` goes into the record, not to the client: it must learn nothing of why. */
  identify(credential: HttpCredential, origin: Origin): Promise<Caller | { readonly refused: string }>
  /** The one spelling of the repository at `path`, which is decoded and may begin with `/` and end in `.git`. */
  resolveRepository(path: string): string | undefined
  readonly limits: Pick<HttpLimits, 'bodyIdle' | 'total'>
  onSigninRefused(record: SigninRefused): void
  /** A path that is no repository's name was asked for; everything else is refused, and recorded, by `serve`. */
  onRefused?(record: OperationRefused): void
  readonly throttle: Throttle
  readonly log: Log
}

interface Exchange {
  readonly connection: Connection
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** The client sends its body only when it is told to. */
  readonly awaitsContinue: boolean
}

const HEADERS_MAX = 100
const AGENT_CHARACTERS_MAX = 200
const PROTOCOL_CHARACTERS_MAX = 256
/** What is read of a request that nobody wants before the connection is closed on it; git never sends more unasked. */
const DRAINED_BYTES_MAX = 64 << 20

/** Headers of which a second one would leave open which is meant. */
const ONLY_ONCE = new Set(['authorization', 'content-type', 'content-encoding', 'git-protocol', 'host', 'expect'])

const TOKEN_NEEDED = [
  'this gate needs a token of yours: any user name, the token as the password',
  'get one with: git access login',
].join('\n')
const SLOWED_DOWN = 'too many wrong credentials came from your address; wait, then try again with a good one'
const CANNOT_CHECK = 'the gate cannot check credentials and lets nothing through; try again in some seconds'

type GitRoute = Extract<Route, { kind: 'advertise' | 'exchange' }>

/** Answers one request, from its head to the last byte of its answer. Rejects only for faults of our own. */
export async function answerRequest(exchange: Exchange, options: RequestOptions): Promise<void> {
  const { request, response } = exchange
  const late = setTimeout(() => {
    options.log.warn(
      { connection: exchange.connection.id },
      'an HTTP request took longer than the limit and was broken off',
    )
    request.socket.destroy()
  }, options.limits.total)
  const gone = new AbortController()
  response.on('close', () => {
    clearTimeout(late)
    if (!response.writableFinished) gone.abort()
  })
  // Told by 'close' above as well; without a listener a broken request would be an uncaught error.
  request.on('error', () => {})

  const oddHead = checkHead(request)
  if (oddHead) {
    // Whatever comes behind a head that can be read in two ways is not read at all.
    response.shouldKeepAlive = false
    return refuse(exchange, options, ...oddHead)
  }
  const asked = route(request.method ?? '', request.url ?? '')
  if (asked.kind === 'health') return say(response, 200, 'ok')
  if (asked.kind === 'refused') {
    return refuse(exchange, options, asked.status, asked.text, asked.allow ? { allow: asked.allow } : {})
  }
  const caller = await signIn(exchange, options, gone.signal)
  if (!caller) return
  const body = asked.kind === 'exchange' ? checkBody(request, asked) : 'none'
  if (typeof body !== 'string') return refuse(exchange, options, 415, body.unsupported)
  const repository = options.resolveRepository(asked.path)
  if (repository === undefined) return refuseSpelling(exchange, options, asked, caller)

  await hand(exchange, options, { asked, caller, repository, body, gone: gone.signal })
}

/** Builds the client, lets it be served, and leaves the connection so that nothing of this request is left on it. */
async function hand(
  { request, response, awaitsContinue }: Exchange,
  options: RequestOptions,
  found: { asked: GitRoute; caller: Caller; repository: string; body: 'none' | 'plain' | 'gzip'; gone: AbortSignal },
): Promise<void> {
  const { asked, caller, repository, body, gone } = found
  const { limits } = options
  if (awaitsContinue) response.writeContinue()
  const raw = body === 'none' ? undefined : new RequestBody(request, limits.bodyIdle)
  const answer = new Answer(response, {
    contentType: `application/x-git-${asked.service}-${asked.kind === 'advertise' ? 'advertisement' : 'result'}`,
    ...(asked.kind === 'advertise' && { preamble: PREAMBLES[asked.service] }),
    stall: limits.bodyIdle,
  })
  const client: Client = {
    caller,
    repository,
    service: asked.service,
    protocol: protocolOf(request, asked.service),
    part: asked.kind,
    request: raw === undefined ? nothing() : body === 'gzip' ? gunzip(raw) : raw,
    response: answer,
    gone,
    traceparent: request.headers.traceparent?.toString(),
  }
  // An error in the request that nobody waits for any more.
  client.request.on('error', () => {})
  try {
    await options.serve(client)
  } finally {
    client.request.destroy()
    raw?.destroy()
  }
  if (answer.destroyed) return
  const clean = await drain(request, DRAINED_BYTES_MAX, limits.bodyIdle)
  answer.end()
  if (!clean) response.on('finish', () => request.socket.destroySoon())
}

const PREAMBLES = {
  'upload-pack': Buffer.concat([line('# service=git-upload-pack'), FLUSH]),
  'receive-pack': Buffer.concat([line('# service=git-receive-pack'), FLUSH]),
}

/** The body of a request that has none. */
function nothing(): Readable {
  return new Readable({
    read() {
      this.push(null)
    },
  })
}

/** The highest version named that both sides know, as git itself chooses; 2 exists for upload-pack only. */
function protocolOf(request: IncomingMessage, service: string): 0 | 1 | 2 {
  const header = request.headers['git-protocol']
  if (typeof header !== 'string' || header.length > PROTOCOL_CHARACTERS_MAX) return 0
  const named = new Set(header.split(':'))
  if (named.has('version=2') && service === 'upload-pack') return 2
  return named.has('version=1') ? 1 : 0
}

/** Status and sentence for a head that says too much, or one thing twice. */
function checkHead(request: IncomingMessage): [400 | 417 | 431, string] | undefined {
  const { rawHeaders, headers } = request
  if (rawHeaders.length > HEADERS_MAX * 2) return [431, `a request may have ${HEADERS_MAX} headers`]
  const seen = new Set<string>()
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase()
    if (ONLY_ONCE.has(name) && seen.has(name)) return [400, `a request may have one ${name} header`]
    seen.add(name)
  }
  if (!seen.has('host') && request.httpVersion !== '1.0') return [400, 'a request names its host']
  const expected = headers.expect?.toLowerCase()
  if (expected !== undefined && expected !== '100-continue') return [417, 'the only expectation met is 100-continue']
  // `gzip, chunked` is framing that node takes off by half.
  const coding = headers['transfer-encoding']
  if (coding !== undefined && coding.toLowerCase() !== 'chunked')
    return [400, 'the only transfer coding taken is chunked']
  return undefined
}

function checkBody(request: IncomingMessage, asked: GitRoute): 'plain' | 'gzip' | { readonly unsupported: string } {
  const expected = `application/x-git-${asked.service}-request`
  if (request.headers['content-type'] !== expected) return { unsupported: `the body must be of type ${expected}` }
  const encoding = request.headers['content-encoding']?.toLowerCase() ?? 'identity'
  if (encoding === 'identity') return 'plain'
  if (encoding === 'gzip' || encoding === 'x-gzip') return 'gzip'
  return { unsupported: 'a body may be encoded as gzip, once, or not at all' }
}

/** The caller; undefined when there is none, and the answer has been given. */
async function signIn(exchange: Exchange, options: RequestOptions, gone: AbortSignal): Promise<Caller | undefined> {
  const { connection, request } = exchange
  const { throttle } = options
  const { address } = connection.source
  const agent = printable(request.headers['user-agent'] ?? '', AGENT_CHARACTERS_MAX)
  const origin: Origin = { transport: 'http', address, connection: connection.id, agent }
  const challenge = { 'www-authenticate': 'Basic realm="Drawbridge", charset="UTF-8"' }

  // git sends its first request without any and is asked: no failure, no record.
  const header = request.headers.authorization
  if (header === undefined) {
    await refuse(exchange, options, 401, TOKEN_NEEDED, challenge)
    return undefined
  }
  const wait = throttle.wait(address, header)
  if (wait > 0) {
    await refuse(exchange, options, 429, SLOWED_DOWN, { 'retry-after': String(wait) })
    return undefined
  }
  const credential = parseAuthorization(header)
  const found = credential
    ? await options.identify(credential, origin).catch((cause: unknown) => {
        options.log.error({ connection: connection.id, err: cause }, 'a credential could not be checked')
        return undefined
      })
    : { refused: 'the Authorization header is malformed' }
  // Not a 401: git would throw away a credential that may be good.
  if (!found) {
    await refuse(exchange, options, 503, CANNOT_CHECK, { 'retry-after': '5' })
    return undefined
  }
  if (!('refused' in found)) {
    throttle.succeeded(header)
    return found
  }
  const claimed = printable(credential?.username ?? '', AGENT_CHARACTERS_MAX)
  options.onSigninRefused({
    kind: 'signin.refused',
    origin,
    code: credential ? 'credential' : 'protocol',
    reason: found.refused,
    ...(claimed && { claimed }),
  })
  const delay = throttle.failed(address)
  if (delay > 0) await after(delay, undefined, { signal: gone }).catch(() => {})
  await refuse(exchange, options, 401, TOKEN_NEEDED, challenge)
  return undefined
}

/** What cannot be a repository's name is answered as one to which there is no window: the two must look alike. */
async function refuseSpelling(
  exchange: Exchange,
  options: RequestOptions,
  asked: GitRoute,
  caller: Caller,
): Promise<void> {
  const { request, response } = exchange
  const { service } = asked
  const repository = printable(asked.path.replace(/^\//, ''), 200)
  const refused = refusal(newId('op'), 'no-grant', repository, service)
  const { operation, code, sentence } = refused
  const { principal, identity, origin } = caller
  const action = asked.kind === 'advertise' ? 'list' : service === 'receive-pack' ? 'push' : 'fetch'
  const facts = { operation, principal, repository, service, action, identity, origin } as const
  options.onRefused?.({ kind: 'operation.refused', ...facts, code, reason: `${sentence}: not a repository's name` })
  if (asked.kind === 'exchange') return refuse(exchange, options, 403, lines(refused).join('\n'))
  await drain(request, DRAINED_BYTES_MAX, options.limits.bodyIdle)
  const answer = new Answer(response, {
    contentType: `application/x-git-${asked.service}-advertisement`,
    preamble: PREAMBLES[asked.service],
    stall: options.limits.bodyIdle,
  })
  answer.end(errPacket(refused))
}

/** Says no once the request has been read: git reads no answer before it has sent everything. */
async function refuse(
  { request, response, awaitsContinue }: Exchange,
  { limits }: RequestOptions,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<void> {
  // Whoever waits for "100 Continue" has sent no body and is not asked for it; what comes next cannot be told from one.
  const clean = !awaitsContinue && (await drain(request, DRAINED_BYTES_MAX, limits.bodyIdle))
  if (response.destroyed) return
  if (!clean) response.shouldKeepAlive = false
  say(response, status, text, headers)
}
