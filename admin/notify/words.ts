import { writeDuration } from '../../config/units.ts'
import type { Payload, RequestFacts, WindowFacts } from './payload.ts'

/** A notice in words, for every channel that people read. Nothing here is escaped: that is the channel's, which knows for what. */

/** What happened, in one line. */
export function headline({ type, data }: Payload): string {
  const { by, principal, request, window, reason, finding } = data
  const what = request ? wanted(request) : window ? `${window.actions.join(', ')} on ${window.repository}` : ''
  const until = endOf(request, window)
  switch (type) {
    case 'request.made':
      return `${by} asks: ${what}`
    case 'request.escalated':
      return `Nobody has answered ${principal} yet: ${what}`
    case 'request.vote':
      return `${by} approved: ${what}`
    case 'request.comment':
      return `${by} says: ${reason}`
    case 'request.approved':
      return `Approved by ${approversOf(request) || by}: ${what}.${until}`
    case 'request.denied':
      return `Denied by ${by}: ${what}`
    case 'request.withdrawn':
      return `Withdrawn by ${by}: ${what}`
    case 'request.lapsed':
      return `Nobody decided in time: ${what}`
    case 'request.break-glass':
      return `${principal} broke the glass: ${what}.${until}`
    case 'window.issued':
      return `${by} issued a window to ${principal}: ${what}.${until}`
    case 'window.extended':
      return `The window of ${principal} was made longer: ${what}.${until}`
    case 'window.ending':
      return `The window of ${principal} ends soon: ${what}.${until}`
    case 'window.ended':
      return `The window of ${principal} has ended (${window?.ended ?? 'ended'}): ${what}`
    case 'principal.locked':
      return `${principal} was locked out by ${by}`
    case 'principal.unlocked':
      return `${principal} was let in again by ${by}`
    case 'anomaly.found':
      return `Unusual for ${principal}: ${reason}`
    case 'bypass.suspected':
      return `${finding?.repository} may have been pushed to past the gate: ${reason}`
  }
}

/** What a thread about it is called; the same for each of its notices. */
export function subject({ data }: Payload): string {
  const { principal, request, window, finding } = data
  if (request) return `${principal}: ${wanted(request)} [${request.id}]`
  if (finding) return finding.anomaly ? `${principal}: unusual (${finding.anomaly})` : `${finding.repository}: bypass?`
  return window ? `${principal}: ${window.repository} [${window.grant}]` : principal
}

/** Everything somebody has to know to decide: names and what they are. */
export function details({ data }: Payload): readonly (readonly [string, string])[] {
  const { request, reason, principal, by, finding } = data
  const rows: [string, string][] = []
  const row = (name: string, value: string | undefined) => {
    if (value !== undefined && value !== '') rows.push([name, value])
  }
  row(finding?.ref === undefined ? 'For' : 'Found by a push of', principal)
  if (request) {
    if (request.requester !== request.principal) row('Asked by', request.requester)
    for (const { repository, actions, refs } of request.targets) {
      row('Repository', repository)
      row('Actions', actions.join(', '))
      row('Refs', refs.length === 0 ? 'any branch or tag' : refs.join(', '))
    }
    row('How long', length(request))
    row('From', request.starts_at)
    row('Ticket', request.ticket)
    row('Reason', request.reason)
    row('Rule', request.rules.join(', '))
    row('To be approved by', request.approvers)
    row('Waiting for', request.waiting_for)
    for (const vote of request.votes) {
      const way = WAYS.get(vote.via ?? '')
      const who = way === undefined ? vote.by : `${vote.by}, ${way}`
      row(vote.says === 'approve' ? 'Approved by' : 'Denied by', vote.comment ? `${who}: ${vote.comment}` : who)
    }
    if (request.state === 'requested') row('Lapses', request.lapses_at)
    row('Request', request.id)
  }
  if (finding) {
    row('Repository', finding.repository)
    row('Ref', finding.ref)
    row('Left at', finding.left)
    row('Found at', finding.found)
    row('Window', finding.grant)
    row('Operation', finding.operation)
    if (finding.operation) row('Look at it', `drawbridge audit list --operation ${finding.operation}`)
  }
  if (reason !== '' && reason !== request?.reason) row('Said', `${by}: ${reason}`)
  return rows
}

const WAYS: ReadonlyMap<string, string> = new Map([
  ['slack', 'in Slack'],
  ['email', 'by mail'],
  ['teams', 'from Teams'],
  ['ssh', 'over ssh'],
  ['cli', 'on the command line'],
  ['api', 'by the API'],
])

function wanted({ targets }: RequestFacts): string {
  return targets
    .map(({ repository, actions, refs }) => {
      const where = refs.length === 0 ? '' : ` (${refs.map(ref => ref.replace(/^refs\/heads\//, '')).join(', ')})`
      return `${actions.join(', ')} on ${repository}${where}`
    })
    .join('; ')
}

function length(request: RequestFacts): string {
  const idle = request.idle === undefined ? '' : `, or until it is idle for ${writeDuration(request.idle)}`
  return `${writeDuration(request.for)}${idle}`
}

function endOf(request: RequestFacts | undefined, window: WindowFacts | undefined): string {
  const windows = window ? [window] : (request?.windows ?? [])
  const last = windows
    .map(({ expires_at }) => expires_at)
    .sort()
    .at(-1)
  const idle = windows.find(one => one.idle !== undefined)?.idle
  if (last === undefined) return ''
  return ` Ends at ${last}${idle === undefined ? '' : `, or when idle for ${writeDuration(idle)}`}.`
}

const approversOf = (request: RequestFacts | undefined) =>
  request?.votes
    .filter(({ says }) => says === 'approve')
    .map(({ by }) => by)
    .join(' and ')
