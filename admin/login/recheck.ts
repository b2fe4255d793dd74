import type { Sql } from 'postgres'
import type { Log } from '../../audit/emit.ts'
import type { Act } from '../register/act.ts'
import { dueSignins, endSignins, keepRefresh } from '../register/signins.ts'
import type { Provider } from './provider.ts'
import type { Seal } from './seal.ts'

const ROUND_MILLISECONDS = 5_000
/** Asked about at once; what is due beyond that comes in the next round. */
const BATCH = 20

export interface RecheckOptions {
  readonly sql: Sql
  readonly act: Act
  readonly provider: Pick<Provider, 'renew'>
  readonly seal: Seal
  /** How long an answer of the provider is good, milliseconds. */
  readonly every: number
  readonly log: Log
}

/**
 * Asks the provider about everybody who is signed in, again and again: it renews the tokens it gave, or says that the account or
 * its session is over, and then the sign-in is over as well. For providers without a back channel, and for what those do not
 * say. A provider that does not answer decides nothing: sign-ins stand until it does, or they run out.
 */
export function startRecheck(options: RecheckOptions): { close(): Promise<void> } {
  const { sql, act, provider, seal, every, log } = options
  let said: string | undefined

  async function ask({ id, refresh }: { readonly id: string; readonly refresh: string }): Promise<void> {
    const token = seal.open(refresh)
    const answer = token === undefined ? 'over' : await provider.renew(token)
    if (answer !== 'over') return await keepRefresh(sql, id, seal.close(answer.refresh))
    await endSignins(act, { id }, { how: 'provider', by: 'drawbridge' })
  }

  async function round(): Promise<void> {
    try {
      const due = await dueSignins(sql, every, BATCH)
      const answers = await Promise.allSettled(due.map(ask))
      const failed = answers.find(answer => answer.status === 'rejected')
      if (failed !== undefined) throw failed.reason
      if (due.length > 0) said = undefined
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause)
      if (message !== said) log.warn({ err: cause }, 'the provider could not be asked who is still there; asking again')
      said = message
    }
  }

  let running: Promise<void> | undefined
  const timer = setInterval(
    () => {
      running ??= round().finally(() => {
        running = undefined
      })
    },
    Math.min(ROUND_MILLISECONDS, every),
  )
  timer.unref()
  return {
    close: async () => {
      clearInterval(timer)
      await running
    },
  }
}
