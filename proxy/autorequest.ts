import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from './client.ts'
import { ControlError, type ControlPlane } from './control.ts'
import type { Refusal } from './refusal.ts'
import { countDown } from './words/countdown.ts'
import { outcomeOf, pathOf, type Request } from './words/request.ts'

/**
 * What follows a refusal for want of a window where the policy says `auto_request`: the control plane files the request, or
 * finds it, and the operation may wait for the answer. It waits before anything was asked of the Git host, so that nothing
 * is held but the client's own connection; and it is let through by nothing but the gate, asked again.
 */

/** A refusal is not to take longer because the control plane does: without an answer by then nothing is asked for. */
const FILING_MILLISECONDS_MAX = 1_500
/** After the control plane could not be asked, nobody else is made to find that out for so long. */
const AWAY_MILLISECONDS = 10_000
const FILING_MAX = 32
/** A program that tries again and again is refused as ever, and asks no more of the control plane than this. */
const FILED_PER_MINUTE_MAX = 12
const REMEMBERED_MAX = 10_000
const WAITING_MAX = 200
const WAITING_PER_PERSON_MAX = 4
/** git shows nothing meanwhile, and what stands in front of a gate gives an answer up after a minute. */
const HTTP_WAIT_MILLISECONDS_MAX = 45_000
const SSH_WAIT_MILLISECONDS_MAX = 3_600_000
/** One question to the control plane; it answers as soon as the request is decided. */
const LOOK_MILLISECONDS = 30_000
/** Between answers that come at once, because too many wait. */
const PAUSE_MILLISECONDS = 500

/**
 * @param stopping aborted when the gate is being stopped: then nobody waits any longer
 * @returns 'decided' when the gate is to be asked again, or what the person is told
 */
export type AfterRefusal = (client: Client, refused: Refusal, stopping: AbortSignal) => Promise<Refusal | 'decided'>

export function autoRequests(control: Pick<ControlPlane, 'call'>): AfterRefusal {
  let filing = 0
  let away = Number.NEGATIVE_INFINITY
  const filed = perMinute()
  const waiting = new Map<string, number>()
  let waitingInAll = 0

  return async (client, refused, stopping) => {
    const { principal, request: bound } = client.caller
    // A credential for one request opens no other's window, so another request would be of no use to it.
    if (bound !== undefined) return refused
    if (filing >= FILING_MAX || performance.now() < away || !filed.take(principal)) return refused
    const answer = await file(client, refused)
    if (answer?.request === undefined) return refused
    const { request, wait_seconds } = answer
    if (isOpened(request)) return 'decided'
    const longest = client.stderr ? SSH_WAIT_MILLISECONDS_MAX : HTTP_WAIT_MILLISECONDS_MAX
    const wait = Math.min(wait_seconds * 1000, longest)
    const mine = waiting.get(principal) ?? 0
    if (request.state !== 'requested' || wait <= 0 || waitingInAll >= WAITING_MAX || mine >= WAITING_PER_PERSON_MAX)
      return told(refused, request)

    waitingInAll++
    waiting.set(principal, mine + 1)
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(), wait)
    const over = AbortSignal.any([client.gone, stopping, late.signal])
    const line = client.stderr && countDown(client.stderr, request, wait)
    try {
      const decided = await untilDecided(client, request, over)
      return isOpened(decided) ? 'decided' : told(refused, decided)
    } finally {
      clearTimeout(timer)
      line?.end()
      waitingInAll--
      const others = (waiting.get(principal) ?? 1) - 1
      if (others > 0) waiting.set(principal, others)
      else waiting.delete(principal)
    }
  }

  async function file(client: Client, { operation }: Refusal) {
    const { caller, repository, service, gone } = client
    const body = { repository, service, operation }
    const bounded = AbortSignal.any([gone, AbortSignal.timeout(FILING_MILLISECONDS_MAX)])
    filing++
    try {
      return await control.call<Filed>({ caller, method: 'POST', path: '/requests/auto', body, gone: bounded })
    } catch (error) {
      if (!(error instanceof ControlError)) throw error
      if (error.status === 3 && !gone.aborted) away = performance.now() + AWAY_MILLISECONDS
      return undefined
    } finally {
      filing--
    }
  }

  /** The request as it is known when it is decided, or when nobody waits any longer. */
  async function untilDecided({ caller }: Client, request: Request, over: AbortSignal): Promise<Request> {
    const path = `${pathOf(request.id)}?wait=${LOOK_MILLISECONDS / 1000}s`
    let known = request
    while (!over.aborted) {
      try {
        known = await control.call<Request>({ caller, gone: over, method: 'GET', path, wait: LOOK_MILLISECONDS })
      } catch (error) {
        // The control plane may be away for a moment; who waits goes on waiting.
        if (!(error instanceof ControlError)) throw error
      }
      if (known.state !== 'requested' && known.enacted !== false) return known
      await sleep(PAUSE_MILLISECONDS, undefined, { signal: over }).catch(() => {})
    }
    return known
  }
}

interface Filed {
  readonly request?: Request
  readonly wait_seconds: number
}

const isOpened = ({ state, enacted, grants }: Request): boolean =>
  state === 'approved' && enacted !== false && grants.some(grant => grant.state === 'live')

/** The refusal with what became of the request. The form of the line is known to `git access run`. */
function told(refused: Refusal, request: Request): Refusal {
  const [outcome = request.id] = outcomeOf(request)
  if (request.state !== 'requested') return { ...refused, sentence: `${refused.sentence}: ${outcome}` }
  return { ...refused, hint: `asked for: ${outcome}; then try again, or: git access wait ${request.id}` }
}

/** Counts what each person does in the running minute. */
function perMinute() {
  let minute = 0
  const counts = new Map<string, number>()
  return {
    take(principal: string): boolean {
      const now = Math.floor(performance.now() / 60_000)
      if (now !== minute) counts.clear()
      minute = now
      const count = counts.get(principal) ?? 0
      if (count >= FILED_PER_MINUTE_MAX || (count === 0 && counts.size >= REMEMBERED_MAX)) return false
      counts.set(principal, count + 1)
      return true
    },
  }
}
