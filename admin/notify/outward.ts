import { ChannelError } from './channel.ts'

/**
 * One request to an address the operator configured. Where a request goes is never taken from a person's input, and what answers is
 * not trusted: no redirect is followed, so that nobody there can point us at an address of our own network; the answer is
 * bounded in time by the signal and in size here, and no part of it is shown to anybody but the operator.
 */

const ANSWER_BYTES_MAX = 64 << 10
const RETRY_AFTER_SECONDS_MAX = 3_600

export interface Answer {
  readonly status: number
  readonly text: string
  readonly headers: Headers
}

/** @throws ChannelError when there is no answer, or a redirect */
export async function post(
  url: URL,
  headers: Readonly<Record<string, string>>,
  body: string,
  signal: AbortSignal,
): Promise<Answer> {
  return await call(url, { method: 'POST', headers, body, signal })
}

/** @throws ChannelError when there is no answer, or a redirect */
export async function get(url: URL, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Answer> {
  return await call(url, { headers, signal })
}

/** A request of any form; the operator's settings say where to. @throws ChannelError when there is no answer, or a redirect */
export async function call(url: URL, request: RequestInit & { readonly signal: AbortSignal }): Promise<Answer> {
  let response: Response
  try {
    response = await fetch(url, { ...request, redirect: 'manual' })
  } catch (cause) {
    throw new ChannelError(`${url.host} does not answer: ${reasonOf(cause)}`, { cause })
  }
  const text = await readBounded(response)
  if (response.status >= 300 && response.status < 400) {
    throw new ChannelError(
      `${url.host} answers ${response.status}; redirects are not followed: set the URL it points to`,
    )
  }
  return { status: response.status, text, headers: response.headers }
}

/** @throws ChannelError unless the other side took it */
export function requireTaken({ status, headers }: Answer, host: string): void {
  if (status >= 200 && status < 300) return
  const seconds = Number(headers.get('retry-after') ?? Number.NaN)
  const pause = seconds > 0 ? Math.min(seconds, RETRY_AFTER_SECONDS_MAX) * 1_000 : undefined
  // 410 is how a receiver says that it is there no more.
  throw new ChannelError(`${host} answers ${status}`, { lasting: status === 410, pause })
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  try {
    for await (const chunk of response.body ?? []) {
      bytes += chunk.byteLength
      if (bytes > ANSWER_BYTES_MAX) break
      chunks.push(chunk)
    }
  } catch (cause) {
    throw new ChannelError(`the answer broke off: ${reasonOf(cause)}`, { cause })
  }
  return Buffer.concat(chunks).toString('utf8')
}

function reasonOf(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause !== undefined ? cause.cause : cause
  return String(Reflect.get(Object(inner), 'code') ?? (inner instanceof Error ? inner.message : inner))
}
