import { type Logger, pino } from 'pino'

/** Keys whose values never reach the log, wherever they stand; the audit record is the place for who did what. */
const SECRET_KEYS = ['password', 'passphrase', 'token', 'authorization', 'cookie', 'privateKey', 'secret']

/** JSON lines on stderr. `DRAWBRIDGE_LOG` sets the level: trace, debug, info, warn, error, silent. */
export function createLog(role: string, name: string, env: NodeJS.ProcessEnv): Logger {
  const paths = SECRET_KEYS.flatMap(key => [key, `*.${key}`, `*.*.${key}`, `*.*.*.${key}`, `*.headers["${key}"]`])
  const level = env.DRAWBRIDGE_LOG ?? 'info'
  return pino(
    {
      level: level in pino.levels.values || level === 'silent' ? level : 'info',
      base: { role, name },
      redact: { paths, censor: '[not shown]' },
    },
    // Synchronous: what is said last, before an end, must be there.
    pino.destination({ fd: 2, sync: true }),
  )
}
