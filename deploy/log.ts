import { type Logger, pino } from 'pino'

/** Keys whose values never reach the log, wherever they stand; the audit record is the place for who did what. */
const SECRET_KEYS = ['password', 'passphrase', 'token', 'authorization', 'cookie', 'privateKey', 'secret']
/** A secret shorter than this would blot out half of every line. */
const SECRET_CHARACTERS_MIN = 8
const CAUSES_MAX = 5
const NOT_SHOWN = '[not shown]'

/**
 * JSON lines on stderr. `DRAWBRIDGE_LOG` sets the level: trace, debug, info, warn, error, silent. None of `secrets` is in
 * them, whoever said it: a Git host may answer with the very credential it was sent. The set may grow.
 */
export function createLog(
  role: string,
  name: string,
  env: NodeJS.ProcessEnv,
  secrets: ReadonlySet<string> = new Set(),
): Logger {
  const paths = SECRET_KEYS.flatMap(key => [key, `*.${key}`, `*.*.${key}`, `*.*.*.${key}`, `*.headers["${key}"]`])
  const level = env.DRAWBRIDGE_LOG ?? 'info'
  return pino(
    {
      level: level in pino.levels.values || level === 'silent' ? level : 'info',
      base: { role, name },
      redact: { paths, censor: NOT_SHOWN },
      serializers: { err: error => shown(error) },
      hooks: { streamWrite: line => conceal(line, secrets) },
    },
    // Synchronous: what is said last, before an end, must be there.
    pino.destination({ fd: 2, sync: true }),
  )
}

function conceal(line: string, secrets: ReadonlySet<string>): string {
  let out = line
  for (const secret of secrets) {
    if (secret.length < SECRET_CHARACTERS_MIN) continue
    // As JSON writes it, quotes and backslashes escaped.
    out = out.replaceAll(JSON.stringify(secret).slice(1, -1), NOT_SHOWN)
  }
  return out
}

/**
 * What is told of an error, and no more: libraries hang onto theirs what they were about to send, and for Redis that is the
 * password.
 */
function shown(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return { message: String(error) }
  const { name, message, stack, cause } = error
  const code = 'code' in error ? { code: error.code } : {}
  const errors = error instanceof AggregateError ? error.errors : []
  return {
    type: name,
    message,
    ...code,
    stack,
    ...(cause !== undefined && depth < CAUSES_MAX && { cause: shown(cause, depth + 1) }),
    ...(errors.length > 0 &&
      depth < CAUSES_MAX && { errors: errors.slice(0, CAUSES_MAX).map(each => shown(each, depth + 1)) }),
  }
}
