/** One HTTP request to a key service and its JSON answer: bounded in time and size, never redirected. */
const ANSWER_BYTES_MAX = 64 << 10
const ANSWER_MILLISECONDS_MAX = 10_000

export interface ServiceRequest {
  readonly method: 'GET' | 'POST'
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

/** Rejects for anything but 200; `what` names the service in the error, which quotes nothing of the request. */
export async function requestJson(what: string, url: URL, request: ServiceRequest): Promise<unknown> {
  refusePlainHttp(what, url)
  const response = await fetch(url, {
    ...request,
    redirect: 'error',
    signal: AbortSignal.timeout(ANSWER_MILLISECONDS_MAX),
  }).catch(cause => {
    throw new Error(`${what} at ${url.host} cannot be reached: ${reasonOf(cause)}`, { cause })
  })
  const text = await boundedText(what, response)
  if (response.status !== 200)
    throw new Error(`${what} answered ${response.status}: ${text.slice(0, 300).replace(/\p{Cc}/gu, ' ')}`)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new Error(`${what} answered something that is not JSON`, { cause })
  }
}

/** A token or a request to sign goes over plain HTTP only within this machine. */
function refusePlainHttp(what: string, url: URL): void {
  const local = ['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname)
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && local))
    throw new Error(`${what}: ${url.origin} is not https`)
}

async function boundedText(what: string, response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > ANSWER_BYTES_MAX) throw new Error(`${what} answered with more than ${ANSWER_BYTES_MAX} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? error.cause.message : error.message
}
