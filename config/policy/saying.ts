import { describePaths } from '../../grant/paths.ts'
import { writeDuration } from '../units.ts'
import { approverText, describePlan } from './approvers.ts'
import { describeHours } from './hours.ts'
import type { Terms } from './terms.ts'

/** What a request by these terms needs, and what it gets, a sentence each: for whoever wants to know beforehand. */
export function sayTerms(terms: Terms): string[] {
  return [...needs(terms), ...gets(terms)]
}

function* needs({ immediate, plan, mfa, reasons, tickets, networks, paths, hours, escalation }: Terms) {
  if (!immediate) yield `needs ${describePlan(plan)}`
  if (escalation) {
    const after = writeDuration(escalation.after)
    yield `after ${after} without an answer ${escalation.to.map(approverText).join(', ')} may approve as well`
  }
  if (mfa !== undefined) yield `needs a second factor shown within ${writeDuration(mfa)}: git access login --mfa`
  for (const reason of reasons) yield `needs a reason${like(reason)}`
  for (const ticket of tickets) yield `needs a ticket${like(ticket)}`
  for (const { written } of networks) yield `only from ${written.join(', ')}`
  if (paths.length > 0) yield `lets a push change only ${describePaths(paths)}`
  for (const each of hours) yield `only ${describeHours(each)}`
}

function* gets({ longest, longestBy, usual, idle, uses, bytes, recurring }: Terms) {
  yield `gets a window of ${writeDuration(usual)}, of ${writeDuration(longest)} at most (${longestBy})`
  if (idle !== undefined) yield `which ends after ${writeDuration(idle)} without use`
  if (uses !== undefined) yield `which is good for ${uses} ${uses === 1 ? 'push or pack' : 'pushes and packs'}`
  if (bytes !== undefined) yield `which is good for ${bytes} bytes`
  if (recurring) {
    const ahead = writeDuration(recurring.longest)
    yield `gets one each ${describeHours(recurring.hours)} for ${ahead} ahead at most, where it says --recurring`
  }
}

function like({ pattern, example }: Terms['reasons'][number]): string {
  const form = pattern === undefined ? '' : ` that matches ${pattern.text}`
  return example === undefined ? form : `${form}, for example: ${example}`
}
