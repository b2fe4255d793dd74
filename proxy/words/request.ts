import type { ControlPlane } from '../control.ts'
import { printable } from '../git/pktline.ts'
import type { CommandContext } from '../ssh/session.ts'

/** A request as the control plane's API shows it, as far as it is told here. */
export interface Request {
  readonly id: string
  readonly state: 'requested' | 'approved' | 'denied' | 'withdrawn' | 'lapsed'
  readonly principal: string
  readonly requester: string
  readonly targets: readonly {
    readonly repository: string
    readonly actions: readonly string[]
    readonly refs: readonly string[]
  }[]
  readonly paths?: readonly (readonly string[])[]
  readonly for: string
  /** The hours, where there is a window each time they come. */
  readonly recurring?: string
  readonly reason: string
  readonly ticket?: string
  readonly digest: string
  readonly waiting_for?: string
  readonly lapses_at: string
  readonly may_decide: boolean
  readonly votes: readonly { readonly by: string; readonly says: string; readonly comment?: string }[]
  readonly grants: readonly { readonly id: string; readonly state: string; readonly expires_at: string }[]
  readonly enacted?: boolean
}

/** The control plane as one person has it, for one command. */
export interface Asked {
  get<T>(path: string, wait?: number): Promise<T>
  post<T>(path: string, body: object): Promise<T>
}

export function askedBy({ caller, gone }: CommandContext, control: ControlPlane): Asked {
  return {
    get: (path, wait) => control.call({ caller, gone, method: 'GET', path, ...(wait !== undefined && { wait }) }),
    post: (path, body) => control.call({ caller, gone, method: 'POST', path, body }),
  }
}

export const pathOf = (id: string) => `/requests/${encodeURIComponent(id)}`

/** More than a request can hold: what is cut off would be decided unseen. */
export const LINE_CHARACTERS_MAX = 1 << 20

/** Exactly what is asked for, on one line. */
export function lineOf(request: Request): string {
  const { id, principal, requester, targets, recurring, ticket, reason } = request
  const what = targets
    .map(({ repository, actions, refs }) => {
      return `${actions.join(',')} ${repository} ${refs.join(',') || '(every branch and tag)'}`
    })
    .join(' and ')
  const lists = request.paths?.map(list => list.join(' ')).join(' and within ')
  const paths = lists === undefined ? '' : `, changing only ${lists},`
  const who = requester === principal ? principal : `${principal} (asked by ${requester})`
  const why = [ticket, reason].filter(Boolean).join(' ')
  const length = recurring === undefined ? request.for : `${recurring}, ${request.for}`
  return printable(`${id}  ${who}  ${what}${paths}  for ${length}  ${why}`, LINE_CHARACTERS_MAX)
}

/** What became of it, a sentence a line. */
export function outcomeOf(request: Request): string[] {
  const { id, state, grants } = request
  if (state === 'requested') return [`${id} waits for ${request.waiting_for ?? 'approval'}, until ${request.lapses_at}`]
  if (state === 'approved' && grants.length === 0) return [`${id} is approved`]
  if (state === 'approved') return grants.map(grant => `${id} is approved: ${grantLine(grant)}`)
  const denial = request.votes.findLast(({ says }) => says === 'deny')
  const comment = denial?.comment === undefined ? '' : `: ${denial.comment}`
  return [`${id} is ${state}${state === 'denied' && denial ? ` by ${denial.by}${comment}` : ''}`]
}

function grantLine({ id, state, expires_at }: Request['grants'][number]): string {
  return state === 'live' || state === 'scheduled' ? `${id} is ${state}, to ${expires_at}` : `${id} is over: ${state}`
}

const WAIT_SECONDS = 30
/** Between answers that come at once, because too many wait. */
const PAUSE_MILLISECONDS = 500

/** Waits until a request is decided and the gate acts on it, or the person is gone. */
export async function untilDecided(asked: Asked, id: string, gone: AbortSignal): Promise<Request> {
  for (;;) {
    const request = await asked.get<Request>(`${pathOf(id)}?wait=${WAIT_SECONDS}s`, WAIT_SECONDS * 1000)
    if ((request.state !== 'requested' && request.enacted !== false) || gone.aborted) return request
    await new Promise(resolve => setTimeout(resolve, PAUSE_MILLISECONDS))
  }
}
