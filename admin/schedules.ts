import { z } from 'zod'
import type { Log } from '../audit/emit.ts'
import type { OnCallSettings } from '../config/oncall.ts'
import { get } from './notify/outward.ts'

/**
 * Who is on call by schedules kept at PagerDuty or Opsgenie. They are asked beforehand, so that no request waits for them, and
 * what they said counts for a short time: a service that is away puts nobody on call.
 */

const ASK_EVERY_MILLISECONDS = 60_000
const ANSWER_MILLISECONDS_MAX = 10_000
/** For so long an answer counts while the service is away. */
const STALE_MILLISECONDS = 300_000
const PEOPLE_MAX = 100

/** Names under which people are known at the service: their addresses. */
export interface Schedules {
  /** Schedule → who is on call; a schedule of which nothing fresh is known is not there. */
  now(): ReadonlyMap<string, readonly string[]>
  close(): void
}

interface Shift {
  readonly address: string
  /** Milliseconds since the epoch; absent: not said. */
  readonly until?: number
}

export function startSchedules(
  sources: readonly OnCallSettings[],
  options: { readonly log: Log; readonly askEvery?: number; readonly stale?: number },
): Schedules {
  const { log, askEvery = ASK_EVERY_MILLISECONDS, stale = STALE_MILLISECONDS } = options
  const known = new Map<string, { readonly shifts: readonly Shift[]; readonly at: number }>()
  const ended = new AbortController()

  const ask = async (source: OnCallSettings) => {
    const at = performance.now()
    try {
      const signal = AbortSignal.any([ended.signal, AbortSignal.timeout(ANSWER_MILLISECONDS_MAX)])
      known.set(source.name, { shifts: await ASK[source.type](source, signal), at })
    } catch (error) {
      if (!ended.signal.aborted) log.warn({ err: error, schedule: source.name }, 'who is on call could not be asked')
    }
    if (!ended.signal.aborted) timers.set(source.name, setTimeout(() => void ask(source), askEvery).unref())
  }
  const timers = new Map<string, NodeJS.Timeout>()
  for (const source of sources) void ask(source)

  return {
    now: () => {
      const fresh = [...known].filter(([, { at }]) => performance.now() - at < stale)
      const stands = ({ until }: Shift) => until === undefined || Date.now() < until
      return new Map(
        fresh.map(([name, { shifts }]) => [name, shifts.filter(stands).map(({ address }) => address)] as const),
      )
    },
    close: () => {
      ended.abort()
      for (const timer of timers.values()) clearTimeout(timer)
    },
  }
}

type Ask = (source: OnCallSettings, signal: AbortSignal) => Promise<readonly Shift[]>

const address = z.string().min(3).max(255).includes('@')

// https://developer.pagerduty.com/api-reference, "List all of the on-calls"
const onCalls = z.object({
  oncalls: z
    .array(
      z.object({
        user: z.object({ email: address }),
        schedule: z.object({ id: z.string() }).nullish(),
        end: z.iso.datetime({ offset: true }).nullish(),
      }),
    )
    .max(PEOPLE_MAX),
})

// https://docs.opsgenie.com/docs/who-is-on-call-api, "Get On Calls", with flat=true
const onCallRecipients = z.object({ data: z.object({ onCallRecipients: z.array(address).max(PEOPLE_MAX) }) })

const ASK: Readonly<Record<OnCallSettings['type'], Ask>> = {
  pagerduty: async ({ api, schedule, token }, signal) => {
    const url = new URL('oncalls', api)
    url.searchParams.append('schedule_ids[]', schedule)
    url.searchParams.append('include[]', 'users')
    url.searchParams.append('limit', String(PEOPLE_MAX))
    const headers = { authorization: `Token token=${token}`, accept: 'application/vnd.pagerduty+json;version=2' }
    const { oncalls } = onCalls.parse(await answer(url, headers, signal))
    return oncalls
      .filter(each => each.schedule?.id === schedule)
      .map(({ user, end }) => ({ address: user.email, ...(end && { until: Date.parse(end) }) }))
  },
  opsgenie: async ({ api, schedule, token }, signal) => {
    const url = new URL(
      `v2/schedules/${encodeURIComponent(schedule)}/on-calls?scheduleIdentifierType=id&flat=true`,
      api,
    )
    const { data } = onCallRecipients.parse(await answer(url, { authorization: `GenieKey ${token}` }, signal))
    return data.onCallRecipients.map(one => ({ address: one }))
  },
}

async function answer(url: URL, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<unknown> {
  const { status, text } = await get(url, headers, signal)
  if (status !== 200) throw new Error(`${url.host} answers ${status}; look at the token and the schedule's id`)
  return JSON.parse(text)
}
