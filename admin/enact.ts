import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import type { Sql } from 'postgres'
import type { Log } from '../audit/emit.ts'
import { CLOCK_MILLISECONDS_MAX } from '../grant/clock.ts'
import type { Observed, ObservedBoard } from '../grant/observe.ts'
import type { Store } from '../grant/store.ts'
import { apply, applyBar, applyGrant, applyKey, applyLock, restoreGrant } from './apply.ts'
import type { Act } from './register/act.ts'
import {
  grantsThatMayEnd,
  grantsToRestore,
  type Over,
  passedGrants,
  type RegisteredGrant,
  sweepGrants,
} from './register/grants.ts'
import { listKeys } from './register/keys.ts'
import { listBars, listLocks } from './register/locks.ts'
import { databaseClock, ordersDone, pendingOrders } from './register/outbox.ts'
import { sweepRequests } from './sweep.ts'

const ROUND_MILLISECONDS = 500
const SWEEP_MILLISECONDS = 1_000
const ORDERS_AT_ONCE_MAX = 500
const KEYS_AT_ONCE_MAX = 1_000
const AGAIN_MILLISECONDS = 50
const CLOSE_MILLISECONDS_MAX = 2_000
const COPY_BEHIND_MILLISECONDS_MAX = 60_000

export interface EnactState {
  /** Why Redis is not what Postgres says, when it is not. */
  readonly fault: string | undefined
  /** When a round last came through, milliseconds since the epoch. */
  readonly lastRound: number
  /** How often everything was put back because Redis could have lost it. */
  readonly restored: number
}

export interface Enact {
  /** There is something in the outbox. */
  wake(): void
  /** Carries out what is in the outbox now. False when that could not be done in time; it will be later. */
  settle(milliseconds: number): Promise<boolean>
  state(): EnactState
  close(): Promise<void>
}

export interface EnactOptions {
  readonly sql: Sql
  readonly store: Store
  readonly act: Act
  /** The public keys that tokens are verified with; put into Redis for the proxies. */
  readonly tokenKeys: string
  /** Puts what is known of the certificate authority back. */
  readonly restoreAuthority?: () => Promise<void>
  /** What the policy in force has only observed. */
  readonly observed?: { readonly board: Pick<ObservedBoard, 'put'>; now(): Observed }
  readonly log: Log
  readonly roundEvery?: number
  readonly sweepEvery?: number
  /** Clocks to hold Redis's against, milliseconds since the epoch: Postgres's and this machine's. */
  readonly clocks?: () => Promise<readonly number[]>
}

/**
 * Makes Redis say what Postgres says, again and again until it does. Any number of these may run side by side: what they do to
 * Redis can be done twice and in any order.
 */
export function startEnact(options: EnactOptions): Enact {
  const { sql, store, act, tokenKeys, log } = options
  const clocks = options.clocks ?? (async () => [await databaseClock(sql), Date.now()])
  let fault: string | undefined
  let lastRound = 0
  let restored = 0
  let swept = Number.NEGATIVE_INFINITY
  let told: Observed | undefined
  let closing = false
  let running: Promise<boolean> | undefined
  let again = false

  async function round(): Promise<void> {
    await checkClock()
    if (!(await store.confirmed())) await restore()
    else {
      await drain()
      await tellObserved()
    }
    if (performance.now() - swept >= (options.sweepEvery ?? SWEEP_MILLISECONDS)) {
      await sweep()
      swept = performance.now()
    }
  }

  async function drain(): Promise<void> {
    for (;;) {
      const orders = await pendingOrders(sql, ORDERS_AT_ONCE_MAX)
      if (orders.length === 0) return
      for (const order of orders) {
        if ((await apply(sql, store, order)) === 'full') {
          log.error({ grant: order.subject[0] }, 'a grant is not live: its principal holds too many')
        }
      }
      await ordersDone(
        sql,
        orders.map(({ id }) => id),
      )
    }
  }

  /**
   * Redis may have lost anything: it was started, flushed, or is another one than before. What was taken away goes back first and what
   * was given second; the fence opens last, and only if it is still the same Redis with the same data.
   */
  async function restore(): Promise<void> {
    if (await store.evicts()) {
      throw new Error(
        'Redis may throw away locks and revocations when memory runs short; nothing is allowed until maxmemory-policy is noeviction',
      )
    }
    const begun = performance.now()
    const ticket = await store.doubt()
    const now = await store.now()
    for await (const page of grantsToRestore(sql, false, now)) await Promise.all(page.map(g => applyGrant(store, g)))
    await Promise.all((await listLocks(sql)).map(lock => applyLock(store, lock)))
    await Promise.all((await listBars(sql, now)).map(bar => applyBar(store, bar)))
    for await (const page of allKeys()) await Promise.all(page.map(key => applyKey(store, key)))
    for await (const page of grantsToRestore(sql, true, now)) {
      for (const grant of page) await restoreGrant(sql, store, grant)
    }
    await store.putTokenKeys(tokenKeys)
    await options.restoreAuthority?.()
    told = undefined
    await tellObserved()
    // What was revoked while this ran was acknowledged, so it has to be there before the fence opens.
    await drain()
    if (await store.confirm(ticket)) {
      restored++
      log.info(
        { milliseconds: Math.round(performance.now() - begun) },
        'Redis has been told everything; the gate is open',
      )
    } else {
      log.warn({}, 'Redis changed while it was being told; starting over')
    }
  }

  async function tellObserved(): Promise<void> {
    const now = options.observed?.now()
    if (!now || now === told) return
    await options.observed?.board.put(now)
    told = now
  }

  async function* allKeys() {
    let after = ''
    for (;;) {
      const page = await listKeys(sql, { after, limit: KEYS_AT_ONCE_MAX })
      if (page.length === 0) return
      yield page
      after = page.at(-1)!.fingerprint
    }
  }

  /** A Redis whose clock is behind keeps windows open past their end, so the fence closes while the other clocks agree that it is. */
  async function checkClock(): Promise<void> {
    const redis = await store.now()
    const behind = Math.min(...(await clocks())) - redis
    if (behind <= CLOCK_MILLISECONDS_MAX) return
    if (await store.confirmed()) await store.doubt()
    throw new Error(
      `Redis's clock is ${Math.round(behind)} ms behind this machine's and Postgres's; nothing is allowed until it is set right`,
    )
  }

  async function sweep(): Promise<void> {
    const now = await store.now()
    const over: Over[] = await passedGrants(sql, now, ORDERS_AT_ONCE_MAX)
    const used: { id: string; lastUsed: number; left?: number }[] = []
    for (const [principal, grants] of Map.groupBy(await grantsThatMayEnd(sql), grant => grant.principal)) {
      const standing = await store.standing(principal)
      for (const grant of grants) {
        const found = standing.grants.find(({ id }) => id === grant.id)
        if (found === undefined) continue
        const { id, lastUsed, left, state } = found
        if (worthNoting(grant, lastUsed, left)) used.push({ id, lastUsed, ...(left !== undefined && { left }) })
        if (state === 'idle') over.push({ id, how: state, reason: 'it was not used for its idle time' })
        if (state === 'used') {
          const reason = left === 0 ? 'its uses are used up' : 'its bytes are used up'
          over.push({ id, how: state, reason })
        }
      }
    }
    await sweepGrants(act, { used, over })
    await sweepRequests(sql, act, now, ORDERS_AT_ONCE_MAX)
  }

  /** One round at a time; a call during a round gets the next one, since the present one may be past what it is about. */
  function run(): Promise<boolean> {
    again = running !== undefined
    running ??= rounds()
    return running
  }

  async function rounds(): Promise<boolean> {
    for (;;) {
      again = false
      try {
        await round()
        if (fault !== undefined) log.info({}, 'Redis says again what Postgres says')
        fault = undefined
        lastRound = Date.now()
      } catch (cause) {
        const message = cause instanceof Error ? cause.message : String(cause)
        if (fault !== message) log.error({ err: cause }, 'Redis does not say what Postgres says; trying again')
        fault = message
        // Who came meanwhile is owed a round of their own: this one may have failed of what is over by now.
        if (again && !closing) continue
        running = undefined
        return false
      }
      if (again && !closing) continue
      running = undefined
      return true
    }
  }

  const timer = setInterval(() => void run(), options.roundEvery ?? ROUND_MILLISECONDS)
  void run()

  return {
    wake: () => {
      if (!closing) void run()
    },
    settle: async milliseconds => {
      const late = AbortSignal.timeout(milliseconds)
      const bound = once(late, 'abort').then(() => false)
      // A connection that was made while its engine was still starting fails one round and not the next.
      while (!late.aborted && !closing) {
        if (await Promise.race([run(), bound])) return true
        await setTimeout(AGAIN_MILLISECONDS)
      }
      return false
    },
    state: () => ({ fault, lastRound, restored }),
    close: async () => {
      closing = true
      clearInterval(timer)
      // A database that hangs must not keep us; what was not carried out is still in the outbox.
      await Promise.race([running, setTimeout(CLOSE_MILLISECONDS_MAX, undefined, { ref: false })])
    },
  }
}

/** A busy grant is used many times a second; a copy that is a little behind only ends an idle window a little early. */
function worthNoting(grant: RegisteredGrant, lastUsed: number, left: number | undefined): boolean {
  if (left !== grant.usesLeft) return true
  const behind = lastUsed - (grant.lastUsed ?? grant.starts)
  return grant.idle !== undefined && behind > Math.min(grant.idle / 4, COPY_BEHIND_MILLISECONDS_MAX)
}
