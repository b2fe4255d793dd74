import postgres from 'postgres'

/** What became of a statement. `unknown`: its answer was lost, so it may have been carried out or may yet be. */
export type Outcome = 'written' | 'not written' | 'unknown' | 'unwritable'

/** Errors of connecting: the statement never left. The last five are Postgres's: starting up, too many clients, login, database. */
const NEVER_SENT: ReadonlySet<unknown> = new Set([
  ...['ECONNREFUSED', 'ENOENT', 'ENOTFOUND', 'EAI_AGAIN', 'CONNECT_TIMEOUT'],
  ...['57P03', '53300', '28000', '28P01', '3D000'],
])

/** Of a statement that the server answered with an ERROR nothing is in the database; FATAL may have hit after the commit. */
export function outcomeOf(error: Error): Outcome {
  if (NEVER_SENT.has(Reflect.get(error, 'code'))) return 'not written'
  if (!(error instanceof postgres.PostgresError) || error.severity !== 'ERROR') return 'unknown'
  // Data exceptions, and limits of the program: the same rows would fail for ever and hold up everything behind them.
  return error.code.startsWith('22') || error.code.startsWith('54') ? 'unwritable' : 'not written'
}

/** No answer in time. */
export class TookTooLong extends Error {}

/** The work's result, or `TookTooLong`; the work itself goes on. */
export async function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new TookTooLong(`no answer within ${milliseconds} ms`)), milliseconds)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
    // The abandoned attempt may still fail later; nobody is left to hear of it.
    work.catch(() => {})
  }
}
