import type { Client } from '../client.ts'
import { data, plain, say, table, when } from '../say.ts'

/** What is asked for of one repository. */
export interface Target {
  readonly repository: string
  readonly actions: readonly string[]
  readonly refs: readonly string[]
}

/** A request as the gate shows it. */
export interface Request {
  readonly id: string
  readonly state: 'requested' | 'approved' | 'denied' | 'withdrawn' | 'lapsed'
  readonly principal: string
  readonly requester: string
  readonly targets: readonly Target[]
  readonly paths?: readonly (readonly string[])[]
  readonly for: string
  /** The hours, where there is a window each time they come. */
  readonly recurring?: string
  readonly starts_at?: string
  readonly reason: string
  readonly ticket?: string
  /** The request whose window it makes longer. */
  readonly extends?: string
  readonly digest: string
  readonly policy: string
  readonly rules: readonly string[]
  readonly approvers: string
  readonly waiting_for?: string
  readonly votes: readonly {
    readonly by: string
    readonly says: string
    readonly at: string
    readonly comment?: string
  }[]
  readonly made_at: string
  readonly lapses_at: string
  readonly escalates?: { readonly at: string; readonly to: string }
  readonly may_decide: boolean
  readonly grants: readonly {
    readonly id: string
    readonly state: string
    readonly starts_at: string
    readonly expires_at: string
  }[]
  readonly enacted?: boolean
}

/** `2h`, or `Mon 02:00–04:00 Europe/Berlin, 28d` */
const lengthOf = ({ recurring, for: length }: Pick<Request, 'for' | 'recurring'>): string =>
  recurring === undefined ? length : `${recurring}, ${length}`

export const pathOf = (id: string) => `/requests/${encodeURIComponent(id)}`

/** Rows of several requests. */
export function requestTable(requests: readonly Request[]): void {
  table(
    ['ID', 'PRINCIPAL', 'REPOSITORY', 'ACTIONS', 'REFS', 'FOR', 'STATE', 'WAITS FOR', 'LAPSES', 'REASON'],
    requests.flatMap(request =>
      request.targets.map(({ repository, actions, refs }, index) => {
        const what = [repository, actions.join(','), refs.join(',') || '*']
        // Decided as one, and so under one id.
        if (index > 0) return ['', '', ...what]
        return [
          request.id,
          request.principal,
          ...what,
          lengthOf(request),
          request.state,
          request.waiting_for ?? '',
          request.state === 'requested' ? when(request.lapses_at) : '',
          [request.ticket, request.reason].filter(Boolean).join(' '),
        ]
      }),
    ),
  )
}

/** The lists that each have to allow what a push changes. */
const pathsText = (lists: readonly (readonly string[])[]) => lists.map(list => list.join(' ')).join(' and within ')

/** Everything about one request. */
export function showRequest(request: Request): void {
  const { principal, requester } = request
  const rows: [string, string | undefined][] = [
    ['state', request.state],
    ['for', requester === principal ? principal : `${principal}, asked by ${requester}`],
    ...request.targets.flatMap(({ repository, actions, refs }): [string, string][] => [
      ['repository', repository],
      ['actions', actions.join(', ')],
      ['refs', refs.join(', ') || 'every branch and tag'],
    ]),
    ['paths', request.paths && pathsText(request.paths)],
    [
      'window',
      `${lengthOf(request)} from ${request.starts_at === undefined ? 'its approval' : when(request.starts_at)}`,
    ],
    ['makes longer', request.extends],
    ['reason', request.reason || undefined],
    ['ticket', request.ticket],
    ['policy', [request.policy, ...request.rules].join(', ')],
    ['approvers', request.approvers],
    ['waits for', request.waiting_for],
    ['goes on to', request.escalates && `${request.escalates.to}, ${when(request.escalates.at)}`],
    ...request.votes.map(({ by, says, at, comment }): [string, string] => {
      return [says, `${by}, ${when(at)}${comment === undefined ? '' : `: ${comment}`}`]
    }),
    ['lapses', request.state === 'requested' ? when(request.lapses_at) : undefined],
    ...request.grants.map(({ id, state, expires_at }): [string, string] => [
      'grant',
      `${id} ${state}, to ${when(expires_at)}`,
    ]),
  ]
  table(
    ['REQUEST', request.id],
    rows.filter((row): row is [string, string] => row[1] !== undefined),
  )
}

/** What became of it, as a sentence. */
export function sayOutcome(request: Request): void {
  const { id, state, grants, waiting_for } = request
  if (state === 'requested') {
    say(`${id} waits for ${waiting_for ?? 'approval'}, until ${when(request.lapses_at)}`)
    return
  }
  if (state === 'approved' && request.extends !== undefined) {
    say(`${id} is approved: the window of ${request.extends} lasts longer`)
    return
  }
  if (state === 'approved') {
    for (const grant of grants) {
      const stands = grant.state === 'live' || grant.state === 'scheduled'
      const now = stands ? `${grant.state}, to ${when(grant.expires_at)}` : `over: ${grant.state}`
      say(`${id} is approved: ${grant.id} is ${now}`)
    }
    return
  }
  const denial = request.votes.findLast(({ says }) => says === 'deny')
  const by = denial === undefined ? '' : ` by ${denial.by}${denial.comment === undefined ? '' : `: ${denial.comment}`}`
  say(`${id} is ${state}${state === 'denied' ? by : ''}`)
}

const WAIT = '30s'
/** Between answers that come at once, because too many wait. */
const PAUSE_MILLISECONDS = 500

/**
 * Waits until a request is decided and the gate acts on it.
 * @param until milliseconds of the monotonic clock; then what is known is given back, decided or not
 */
export async function untilDecided(client: Client, id: string, until = Number.POSITIVE_INFINITY): Promise<Request> {
  for (;;) {
    const left = until - performance.now()
    const wait = left < 30_000 ? `${Math.max(1, Math.ceil(left / 1000))}s` : WAIT
    const request = await client.call<Request>('GET', `${pathOf(id)}?wait=${wait}`)
    if ((request.state !== 'requested' && request.enacted !== false) || performance.now() >= until) return request
    await new Promise(resolve => setTimeout(resolve, PAUSE_MILLISECONDS))
  }
}

/** A line for a person who decides, with nothing in it that a terminal would act on. */
export function sayAsked(request: Request): void {
  const { principal, requester } = request
  const who = requester === principal ? principal : `${principal} (asked by ${requester})`
  const what = request.targets
    .map(({ repository, actions, refs }) => {
      return `${actions.join(',')} ${repository} ${refs.join(',') || '(every branch and tag)'}`
    })
    .join(' and ')
  const paths = request.paths === undefined ? '' : `, changing only ${pathsText(request.paths)},`
  const why = [request.ticket, request.reason].filter(Boolean).join(' ')
  data(plain(`${request.id}  ${who}  ${what}${paths}  for ${lengthOf(request)}  ${why}`.trimEnd()))
}
