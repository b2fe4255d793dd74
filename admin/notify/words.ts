import { writeDuration } from '../../config/units.ts'
import { describePaths } from '../../grant/paths.ts'
import type { Payload, RequestFacts, WindowFacts } from './payload.ts'

/** A notice in words, for every channel that people read. Nothing here is escaped: that is the channel's, which knows for what. */

/** What happened, in one line. */
export function headline({ type, timestamp, data }: Payload): string {
  const { by, principal, request, window, reason, finding } = data
  const what = request ? wanted(request) : window ? `${window.actions.join(', ')} on ${window.repository}` : ''
  const until = endOf(windowsOf(data), Date.parse(timestamp))
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
      return `Approved by ${approversOf(request) || by}.${until} ${principal}: ${what}`
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
    row('Changing only', request.paths && describePaths(request.paths))
    row('How long', length(request))
    row('From', request.starts_at)
    row('Ticket', request.ticket)
    row('Reason', request.reason)
    row('Rule', request.rules.join(', '))
    row('To be approved by', request.approvers)
    row('Waiting for', request.waiting_for)
    if (request.state === 'requested') row('Did last', request.last ? lastOf(request.last) : 'nothing on record here')
    for (const vote of request.votes) {
      const way = WAYS.get(vote.via ?? '')
      const who = way === undefined ? vote.by : `${vote.by}, ${way}`
      row(vote.says === 'approve' ? 'Approved by' : 'Denied by', vote.comment ? `${who}: ${vote.comment}` : who)
    }
    if (request.state === 'requested') row('Lapses', request.lapses_at)
    row('Request', request.id)
  }
  row('Ends', windowsOf(data).at(-1)?.expires_at)
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
  const hours = request.recurring === undefined ? '' : `${request.recurring}, for `
  return `${hours}${writeDuration(request.for)}${idle}`
}

/** What is told of, the last to end behind the others. */
function windowsOf({ request, window }: Payload['data']): readonly WindowFacts[] {
  const windows = window ? [window] : (request?.windows ?? [])
  return windows.toSorted((one, other) => Date.parse(one.expires_at) - Date.parse(other.expires_at))
}

/** As of when it is told: " Ends in 30 minutes, or when idle for 10." */
function endOf(windows: readonly WindowFacts[], now: number): string {
  const [last] = windows.slice(-1)
  if (last === undefined) return ''
  const { starts_at, expires_at, idle } = last
  if (Date.parse(starts_at) > now + MINUTE) return ` Opens at ${starts_at}, ends at ${expires_at}.`
  const left = inWords(Date.parse(expires_at) - now)
  const unused = idle === undefined ? undefined : inWords(idle)
  const brief = unused?.unit === left.unit ? `${unused.count}` : unused?.text
  return ` Ends in ${left.text}${brief === undefined ? '' : `, or when idle for ${brief}`}.`
}

const MINUTE = 60_000
const UNITS = [
  ['day', 1_440],
  ['hour', 60],
  ['minute', 1],
] as const

/** To the minute, in the largest unit of which it is a whole number. */
function inWords(milliseconds: number): { readonly count: number; readonly unit: string; readonly text: string } {
  const minutes = Math.max(1, Math.round(milliseconds / MINUTE))
  const [unit, length] = UNITS.find(([, length]) => minutes % length === 0) ?? ['minute', 1]
  const count = minutes / length
  return { count, unit, text: `${count} ${unit}${count === 1 ? '' : 's'}` }
}

const lastOf = ({ at, action, repository, result }: NonNullable<RequestFacts['last']>) =>
  `${action} ${action === 'push' ? 'to' : 'of'} ${repository}, ${result}, ${at}`

const approversOf = (request: RequestFacts | undefined) =>
  request?.votes
    .filter(({ says }) => says === 'approve')
    .map(({ by }) => by)
    .join(' and ')
