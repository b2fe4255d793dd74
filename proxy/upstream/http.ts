import { readFileSync } from 'node:fs'
import { Agent as HttpAgent, type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import type { Socket } from 'node:net'
import { pipeline, type Readable } from 'node:stream'
import type { Credential, UpstreamSettings } from '../../config/settings.ts'
import { PacketReader } from '../git/pktline.ts'
import { Slots } from './slots.ts'
import { type Connect, type Target, type Upstream, UpstreamError } from './upstream.ts'

// gitprotocol-http(5), from the client's side.

/** A body that is whole within this is sent with its length: some hosts take chunked requests badly. */
const SIZED_BODY_BYTES_MAX = 64 * 1024
/** `# service=…` and what a host may put beside it. */
const PREAMBLE_BYTES_MAX = 4096
const WARM_MILLISECONDS = 4_000

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

/** A host behind `http:` or `https:`. At most `settings.connections` connections serve all its clients. */
export function httpUpstream(settings: UpstreamSettings): Connect {
  const agents = agentsFor(settings)
  const slots = new Slots(settings.connections, settings.idleTimeout)
  return target => new HttpUpstream(settings, agents, slots, target)
}

interface Agents {
  /** Keeps connections for the next request. */
  readonly warm: HttpAgent
  /** A new connection for each request: a push cannot be sent again when a kept one turns out to be closed. */
  readonly fresh: HttpAgent
}

// An agent hands a connection on only when the answer on it has been read to its end; one that was given up is closed
// (CVE-2026-6733: the rest of it would be taken for the next one's).
function agentsFor({ url, connections }: UpstreamSettings): Agents {
  const Agent = url.protocol === 'https:' ? HttpsAgent : HttpAgent
  const warm = new Agent({ keepAlive: true, maxSockets: connections, maxFreeSockets: connections, noDelay: true })
  const fresh = new Agent({ keepAlive: false, maxSockets: connections, noDelay: true })
  // Closed by us before hosts tire of it: a request on a connection that is being closed is lost.
  warm.on('free', (socket: Socket) => socket.setTimeout(WARM_MILLISECONDS))
  return { warm, fresh }
}

class HttpUpstream implements Upstream {
  readonly conversational = false
  readonly #settings: UpstreamSettings
  readonly #agents: Agents
  readonly #slots: Slots
  readonly #target: Target
  readonly #closed = new AbortController()

  constructor(settings: UpstreamSettings, agents: Agents, slots: Slots, target: Target) {
    this.#settings = settings
    this.#agents = agents
    this.#slots = slots
    this.#target = target
  }

  async advertise(signal: AbortSignal): Promise<Readable> {
    const service = this.#service()
    const answer = await this.#request(signal, {
      method: 'GET',
      path: `${this.#path()}/info/refs?service=git-${service}`,
      accept: `application/x-git-${service}-advertisement`,
    })
    try {
      await skipPreamble(answer, service)
    } catch (cause) {
      answer.destroy()
      throw cause instanceof UpstreamError ? cause : this.#fault(cause)
    }
    return answer
  }

  async exchange(body: Readable, signal: AbortSignal): Promise<Readable> {
    const service = this.#service()
    const small = await wholeIfSmall(body, signal)
    return this.#request(signal, {
      method: 'POST',
      path: `${this.#path()}/git-${service}`,
      accept: `application/x-git-${service}-result`,
      contentType: `application/x-git-${service}-request`,
      body: small ?? body,
    })
  }

  close(): void {
    // A reason of our own: making the default one, a DOMException with its stack, costs more than the rest of this.
    this.#closed.abort(CLOSED)
  }

  #service(): 'upload-pack' | 'receive-pack' {
    const { service } = this.#target
    if (service !== 'upload-archive') return service
    throw new UpstreamError('protocol', 'the Git host offers no archives', 'git archive --remote has no HTTP transport')
  }

  #path(): string {
    const segments = this.#target.path.split('/').map(encodeURIComponent)
    return `${this.#settings.url.pathname}${segments.join('/')}.git`
  }

  /** Sends one request and gives the body of its 200. */
  async #request(signal: AbortSignal, asked: Asked): Promise<Readable> {
    const { protocol } = this.#target
    // Every header there is: what the client sent is not looked at.
    const headers: Record<string, string> = {
      accept: asked.accept,
      'accept-encoding': 'identity',
      'user-agent': `drawbridge/${version}`,
      ...authorization(this.#settings.credential),
      ...(asked.contentType && { 'content-type': asked.contentType }),
      ...(protocol > 0 && { 'git-protocol': `version=${protocol}` }),
    }
    const ends = AbortSignal.any([signal, this.#closed.signal])
    const streamed = asked.body !== undefined && !Buffer.isBuffer(asked.body)
    const leave = await this.#slots.take(streamed, ends)
    let response: IncomingMessage
    try {
      const send = () =>
        this.#send({ ...asked, headers, signal: ends, agent: streamed ? this.#agents.fresh : this.#agents.warm })
      response = await send().catch(cause => {
        // The host closed a kept connection as we took it. What was asked can be asked again.
        if (cause instanceof Error && REUSED in cause && !streamed) return send()
        throw cause
      })
    } catch (cause) {
      leave()
      throw this.#fault(cause)
    }
    response.once('close', leave)
    const refused = this.#check(response, asked)
    if (!refused) return response
    response.on('error', () => {}).destroy()
    throw refused
  }

  /** One request, until its answer's head is there. */
  #send(
    asked: Asked & { headers: Record<string, string>; signal: AbortSignal; agent: HttpAgent },
  ): Promise<IncomingMessage> {
    const { url, idleTimeout, connectTimeout } = this.#settings
    const { method, path, headers, body, signal, agent } = asked
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const options: RequestOptions = { method, path, agent, headers: { ...headers } }
      if (Buffer.isBuffer(body)) options.headers = { ...headers, 'content-length': String(body.length) }
      const request = (url.protocol === 'https:' ? requestHttps : requestHttp)(url.origin, options)
      const late = new Timer(error => request.destroy(error))
      const onAbort = () => request.destroy(new Error('the request was given up'))
      // A host that no longer takes the body. A client that no longer sends it has limits of its own.
      const onSilence = () => request.writableNeedDrain && request.destroy(new Late('answer'))
      signal.addEventListener('abort', onAbort, { once: true })
      request.once('close', () => {
        late.stop()
        signal.removeEventListener('abort', onAbort)
      })
      request.once('error', error => {
        reject(request.reusedSocket && RESET.test(codeOf(error)) ? Object.assign(error, { [REUSED]: true }) : error)
        // After the head, the answer itself carries the error.
        request.on('error', () => {})
      })
      request.once('socket', socket => {
        socket.setTimeout(idleTimeout)
        socket.on('timeout', onSilence)
        request.once('close', () => socket.off('timeout', onSilence))
        if (!socket.connecting) return
        late.start(connectTimeout, 'connect')
        socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', () => late.stop())
      })
      // From the last byte the host took to the head of its answer: a push may take as long as its client likes.
      request.once('finish', () => late.start(idleTimeout, 'answer'))
      request.once('response', response => {
        late.stop()
        boundedSilence(response, idleTimeout)
        resolve(response)
      })
      if (body === undefined || Buffer.isBuffer(body)) request.end(body)
      else pipeline(body, request, () => {})
    })
  }

  #check({ statusCode = 0, headers }: IncomingMessage, { method, path, accept }: Asked): UpstreamError | undefined {
    const where = `${method} ${this.#settings.url.origin}${path}`
    if (statusCode >= 300 && statusCode < 400) {
      const to = String(headers.location ?? 'nowhere')
      const detail = `${where} is redirected to ${withoutSecrets(to)}; redirects are not followed, correct the upstream's url`
      return new UpstreamError('redirect', 'the Git host has moved', detail)
    }
    if (statusCode === 401 || statusCode === 403) {
      const detail = `${where} was answered with ${statusCode}: the credential of upstream ${this.#settings.name} is not taken`
      return new UpstreamError('credential', "the Git host refused the gate's own credential", detail)
    }
    if (statusCode === 404 || statusCode === 410) {
      return new UpstreamError('not-found', 'there is no such repository', `${where} was answered with ${statusCode}`)
    }
    if (statusCode !== 200) {
      return new UpstreamError('failed', 'the Git host failed', `${where} was answered with ${statusCode}`)
    }
    if (headers['content-type'] !== accept) {
      const detail = `${where}: content type ${headers['content-type'] ?? 'missing'} instead of ${accept}; is this git's smart HTTP?`
      return new UpstreamError('protocol', 'the Git host did not answer as one', detail)
    }
    if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
      const detail = `${where}: content encoding ${headers['content-encoding']} was not asked for`
      return new UpstreamError('protocol', 'the Git host did not answer as one', detail)
    }
    // An answer that ends with its connection looks whole wherever it breaks off.
    if (headers['content-length'] === undefined && headers['transfer-encoding'] === undefined) {
      const detail = `${where}: the answer has neither a length nor chunks, so its end could not be told from a failure`
      return new UpstreamError('protocol', 'the Git host did not answer as one', detail)
    }
    return undefined
  }

  #fault(cause: unknown): UpstreamError {
    if (cause instanceof UpstreamError) return cause
    const { origin } = this.#settings.url
    const said = cause instanceof Error ? cause.message : String(cause)
    if (cause instanceof Late) {
      if (cause.awaited === 'answer') {
        return new UpstreamError('timeout', 'the Git host did not answer in time', `${origin}: no byte in time`, cause)
      }
      const detail = `${origin}: no connection in time`
      return new UpstreamError('unreachable', 'the Git host cannot be reached', detail, cause)
    }
    const code = codeOf(cause)
    if (UNREACHABLE.test(code)) {
      return new UpstreamError('unreachable', 'the Git host cannot be reached', `${origin}: ${said} (${code})`, cause)
    }
    return new UpstreamError('failed', 'the Git host broke off', `${origin}: ${said}`, cause)
  }
}

const CLOSED = new Error('the upstream was closed')
const REUSED = Symbol('reused')
const RESET = /^(?:ECONNRESET|EPIPE)$/

/** Something did not come in time. */
class Late extends Error {
  readonly awaited: 'connect' | 'answer'

  constructor(awaited: 'connect' | 'answer') {
    super('the Git host was silent for too long')
    this.awaited = awaited
  }
}

class Timer {
  readonly #onLate: (error: Late) => void
  #timer: NodeJS.Timeout | undefined

  constructor(onLate: (error: Late) => void) {
    this.#onLate = onLate
  }

  start(milliseconds: number, awaited: Late['awaited']): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#onLate(new Late(awaited)), milliseconds)
  }

  stop(): void {
    clearTimeout(this.#timer)
  }
}

/** Ends an answer that is silent while it is waited for; the silence of one that nobody reads for now is ours. */
function boundedSilence(response: IncomingMessage, milliseconds: number): void {
  const { socket } = response
  const onTimeout = () => {
    // Bytes that lie here are waiting for our client, who has limits of their own.
    if (response.readableLength === 0) response.destroy(new Late('answer'))
    else socket.setTimeout(milliseconds)
  }
  socket.setTimeout(milliseconds)
  socket.on('timeout', onTimeout)
  response.once('close', () => {
    socket.off('timeout', onTimeout)
    socket.setTimeout(0)
  })
}

function codeOf(cause: unknown): string {
  return cause instanceof Error && 'code' in cause ? String(cause.code) : ''
}

// No connection, or none that is encrypted to the one we mean (OpenSSL's verification codes).
const UNREACHABLE =
  /^(?:ECONNREFUSED|ENOTFOUND|EAI_|EHOSTUNREACH|ENETUNREACH|EACCES|ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_)/

interface Asked {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly accept: string
  readonly contentType?: string
  readonly body?: Readable | Buffer
}

function authorization(credential: Credential): { authorization?: string } {
  switch (credential.type) {
    case 'basic': {
      const pair = Buffer.from(`${credential.username}:${credential.password}`).toString('base64')
      return { authorization: `Basic ${pair}` }
    }
    case 'bearer':
      return { authorization: `Bearer ${credential.token}` }
    default:
      return {}
  }
}

/** A redirect's target as it may stand in a log: hosts put tokens into queries. */
function withoutSecrets(location: string): string {
  return location
    .replace(/[?#].*$/s, '')
    .replace(/\/\/[^/]*@/, '//')
    .slice(0, 300)
}

/** Takes `# service=…` and its flush off the front, where they are: with protocol 2 a host may leave them out. */
async function skipPreamble(answer: Readable, service: string): Promise<void> {
  const reader = new PacketReader(answer, { limit: PREAMBLE_BYTES_MAX })
  const first = await reader.read()
  if (first?.kind !== 'data') throw new Error('the advertisement does not begin with a line')
  const text = first.payload.toString('latin1')
  if (!text.startsWith('# service=')) {
    reader.rest().unshift(reader.raw())
    return
  }
  if (text.trimEnd() !== `# service=git-${service}`) throw new Error('the advertisement is for another service')
  for (let packet = await reader.read(); packet?.kind !== 'flush'; packet = await reader.read()) {
    if (!packet) throw new Error('the advertisement ends in its preamble')
  }
  reader.rest()
}

/** All of `body` if it ends within `SIZED_BODY_BYTES_MAX`; otherwise undefined, and `body` stands where it stood. */
function wholeIfSmall(body: Readable, signal: AbortSignal): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const taken: Buffer[] = []
    let bytes = 0
    const onReadable = () => {
      for (let chunk: Buffer | null = body.read(); chunk !== null; chunk = body.read()) {
        taken.push(chunk)
        bytes += chunk.length
        if (bytes <= SIZED_BODY_BYTES_MAX) continue
        release()
        body.unshift(Buffer.concat(taken))
        resolve(undefined)
        return
      }
    }
    const onEnd = () => {
      release()
      resolve(Buffer.concat(taken))
    }
    const onError = (error: Error) => {
      release()
      reject(error)
    }
    const onClose = () => onError(new Error('the request was broken off'))
    const onAbort = () => onError(signal.reason)
    function release() {
      signal.removeEventListener('abort', onAbort)
      body.off('readable', onReadable).off('end', onEnd).off('error', onError).off('close', onClose)
    }
    signal.addEventListener('abort', onAbort)
    body.on('readable', onReadable).on('end', onEnd).on('error', onError).on('close', onClose)
    if (signal.aborted) onAbort()
    else if (body.readableEnded) onEnd()
    else if (body.destroyed) onError(body.errored ?? new Error('the request was broken off'))
  })
}
