import { STATUS_CODES } from 'node:http'
import { LedgerError } from '../../audit/emit.ts'
import { StoreError } from '../../grant/redis.ts'

/** What the API answers instead of what was asked for: RFC 9457, `application/problem+json`. */
export interface ProblemBody {
  readonly type: string
  readonly title: string
  readonly status: number
  /** Stable, for programs. */
  readonly code: string
  /** One sentence, for people. */
  readonly detail: string
  /** What to do next. */
  readonly hint?: string
  /** Which fields are wrong, and how. */
  readonly errors?: readonly { readonly field: string; readonly message: string }[]
}

/** Thrown by a route to refuse; everything else that is thrown is our own fault and answered without its text. */
export class Problem extends Error {
  readonly status: number
  readonly code: string
  readonly hint: string | undefined
  constructor(status: number, code: string, message: string, hint?: string) {
    super(message)
    this.name = 'Problem'
    this.status = status
    this.code = code
    this.hint = hint
  }
}

export const notFound = (what: string, id: string) => new Problem(404, 'not-found', `there is no ${what} ${id}`)

/** The answer to an error, whoever threw it; `ours` when it is to be logged. */
export function problemOf(error: unknown): { readonly body: ProblemBody; readonly ours: boolean } {
  if (error instanceof Problem) {
    return {
      body: body(error.status, error.code, error.message, { ...(error.hint && { hint: error.hint }) }),
      ours: false,
    }
  }
  if (error instanceof StoreError) {
    const hint = 'nothing was changed that is not said to be; try again, or look at /readyz'
    return { body: body(503, `redis-${error.code}`, error.message, { hint }), ours: true }
  }
  if (error instanceof LedgerError || isDatabaseAway(error)) {
    const detail = 'Postgres does not answer, so nothing can be recorded and nothing was done'
    return { body: body(503, 'postgres-unreachable', detail, { hint: 'try again, or look at /readyz' }), ours: true }
  }
  const wrong = fieldErrors(error)
  if (wrong !== undefined) {
    const detail = wrong.map(({ field, message }) => `${field}: ${message}`).join('; ')
    return { body: body(400, 'invalid', detail, { errors: wrong }), ours: false }
  }
  if (Reflect.get(Object(error), 'code') === 'FST_ERR_HANDLER_TIMEOUT') {
    const hint = 'whether it was done is not known; look before you try again'
    return { body: body(503, 'timeout', 'Postgres or Redis did not answer in time', { hint }), ours: true }
  }
  const status = statusOf(error)
  if (status !== undefined && status < 500) {
    const code = status === 429 ? 'too-many-requests' : status === 413 ? 'too-large' : 'bad-request'
    return { body: body(status, code, error instanceof Error ? error.message : 'bad request'), ours: false }
  }
  return { body: body(500, 'internal', 'something went wrong here; the log of the admin role says what'), ours: true }
}

function body(status: number, code: string, detail: string, more: Partial<ProblemBody> = {}): ProblemBody {
  return {
    type: `urn:drawbridge:problem:${code}`,
    title: STATUS_CODES[status] ?? 'Error',
    status,
    code,
    detail,
    ...more,
  }
}

/** fastify's validation errors, whose instance paths are JSON pointers. */
function fieldErrors(error: unknown): { field: string; message: string }[] | undefined {
  if (typeof error !== 'object' || error === null || !('validation' in error) || !Array.isArray(error.validation)) {
    return undefined
  }
  const context = Reflect.get(error, 'validationContext')
  return error.validation.slice(0, 50).map((issue: { instancePath?: string; message?: string }) => ({
    field: (issue.instancePath ?? '').replace(/^\//, '').replaceAll('/', '.') || String(context ?? 'body'),
    message: issue.message ?? 'is wrong',
  }))
}

function statusOf(error: unknown): number | undefined {
  const status = typeof error === 'object' && error !== null ? Reflect.get(error, 'statusCode') : undefined
  return typeof status === 'number' ? status : undefined
}

/** Errors of reaching Postgres, and those by which it says that it is not there: shutting down, starting up, too many clients. */
function isDatabaseAway(error: unknown): boolean {
  const code = typeof error === 'object' && error !== null ? Reflect.get(error, 'code') : undefined
  return (
    typeof code === 'string' &&
    /^(ECONNREFUSED|ECONNRESET|ENOENT|EPIPE|CONNECT_TIMEOUT|CONNECTION_(CLOSED|ENDED|DESTROYED)|57P0[123]|53300|08\w{3})$/.test(
      code,
    )
  )
}
