import { readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import type { Credential, UpstreamSettings } from '../../config/settings.ts'
import { PacketReader } from '../git/pktline.ts'
import { type Asked, Late, type Response } from './http/connection.ts'
import { Connections } from './http/connections.ts'
import { Slots } from './slots.ts'
import { type Connect, type Target, type Upstream, UpstreamError } from './upstream.ts'

// gitprotocol-http(5), from the client's side.

/** A body that is whole within this is sent with its length: some hosts take chunked requests badly. */
const SIZED_BODY_BYTES_MAX = 64 * 1024
/** `# service=…` and what a host may put beside it. */
const PREAMBLE_BYTES_MAX = 4096

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

/** A host behind `http:` or `https:`. At most `settings.connections` connections serve all its clients. */
export function httpUpstream(settings: UpstreamSettings): Connect {
  const means: Means = {
    connections: new Connections(settings),
    slots: new Slots(settings.connections, settings.idleTimeout),
    common: commonHead(settings),
  }
  return target => new HttpUpstream(settings, means, target)
}

/** What all clients of one host share. */
interface Means {
  readonly connections: Connections
  readonly slots: Slots
  /** The headers of every request. */
  readonly common: string
}

class HttpUpstream implements Upstream {
  readonly conversational = false
  readonly #settings: UpstreamSettings
  readonly #means: Means
  readonly #target: Target
  readonly #running = new Set<Asked>()
  #closed = false

  constructor(settings: UpstreamSettings, means: Means, target: Target) {
    this.#settings = settings
    this.#means = means
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
    this.#closed = true
    for (const asked of this.#running) asked.giveUp(CLOSED)
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
  async #request(signal: AbortSignal, wanted: Wanted): Promise<Readable> {
    const { connections, slots } = this.#means
    const { body } = wanted
    const streamed = body !== undefined && !Buffer.isBuffer(body)
    const leave = await slots.take(streamed, signal)
    if (this.#closed || signal.aborted) {
      leave()
      throw this.#closed ? CLOSED : signal.reason
    }
    // A push is sent once, on a connection of its own: on a kept one that turns out to be closed nobody could say whether
    // the host has seen it.
    const once = streamed || (body !== undefined && this.#target.service === 'receive-pack')
    const asked = connections.ask({ head: this.#head(wanted, once), ...(body && { body }) }, !once)
    this.#running.add(asked)
    const onAbort = () => asked.giveUp(GIVEN_UP)
    signal.addEventListener('abort', onAbort)
    const over = () => {
      signal.removeEventListener('abort', onAbort)
      this.#running.delete(asked)
      leave()
    }
    let response: Response
    try {
      response = await asked.answer
    } catch (cause) {
      over()
      throw this.#fault(cause)
    }
    response.body.once('close', over)
    const refused = this.#check(response, wanted)
    if (!refused) return response.body
    response.body.destroy()
    throw refused
  }

  /** Every header there is but the body's length: what the client sent is not looked at. */
  #head({ method, path, accept, contentType }: Wanted, once: boolean): string {
    const { protocol } = this.#target
    const type = contentType === undefined ? '' : `Content-Type: ${contentType}\r\n`
    const version = protocol > 0 ? `Git-Protocol: version=${protocol}\r\n` : ''
    const connection = once ? 'close' : 'keep-alive'
    return `${method} ${path} HTTP/1.1\r\n${this.#means.common}Accept: ${accept}\r\n${type}${version}Connection: ${connection}\r\n`
  }

  #check({ status, headers, framing }: Response, { method, path, accept }: Wanted): UpstreamError | undefined {
    const where = `${method} ${this.#settings.url.origin}${path}`
    if (status >= 300 && status < 400) {
      const to = String(headers.get('location') ?? 'nowhere')
      const detail = `${where} is redirected to ${withoutSecrets(to)}; redirects are not followed, correct the upstream's url`
      return new UpstreamError('redirect', 'the Git host has moved', detail)
    }
    if (status === 401 || status === 403) {
      const detail = `${where} was answered with ${status}: the credential of upstream ${this.#settings.name} is not taken`
      return new UpstreamError('credential', "the Git host refused the gate's own credential", detail)
    }
    if (status === 404 || status === 410) {
      return new UpstreamError('not-found', 'there is no such repository', `${where} was answered with ${status}`)
    }
    if (status !== 200) {
      return new UpstreamError('failed', 'the Git host failed', `${where} was answered with ${status}`)
    }
    if (headers.get('content-type') !== accept) {
      const detail = `${where}: content type ${headers.get('content-type') ?? 'missing'} instead of ${accept}; is this git's smart HTTP?`
      return new UpstreamError('protocol', 'the Git host did not answer as one', detail)
    }
    if ((headers.get('content-encoding') ?? 'identity') !== 'identity') {
      const detail = `${where}: content encoding ${headers.get('content-encoding')} was not asked for`
      return new UpstreamError('protocol', 'the Git host did not answer as one', detail)
    }
    // An answer that ends with its connection looks whole wherever it breaks off.
    if (framing === 'close') {
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
const GIVEN_UP = new Error('the request was given up')

function codeOf(cause: unknown): string {
  return cause instanceof Error && 'code' in cause ? String(cause.code) : ''
}

// No connection, or none that is encrypted to the one we mean (OpenSSL's verification codes).
const UNREACHABLE =
  /^(?:ECONNREFUSED|ENOTFOUND|EAI_|EHOSTUNREACH|ENETUNREACH|EACCES|ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_)/

interface Wanted {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly accept: string
  readonly contentType?: string
  readonly body?: Readable | Buffer
}

/** @throws for a header value that would be more than one; the settings were checked for it before */
function commonHead({ url, credential }: UpstreamSettings): string {
  const authorization = authorizationOf(credential)
  if (/[^\t\x20-\x7e\x80-\xff]/.test(authorization)) throw new Error('a credential holds a byte no header can carry')
  const signed = authorization && `Authorization: ${authorization}\r\n`
  return `Host: ${url.host}\r\nUser-Agent: drawbridge/${version}\r\nAccept-Encoding: identity\r\n${signed}`
}

function authorizationOf(credential: Credential): string {
  switch (credential.type) {
    case 'basic':
      return `Basic ${Buffer.from(`${credential.username}:${credential.password}`).toString('base64')}`
    case 'bearer':
      return `Bearer ${credential.token}`
    default:
      return ''
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
