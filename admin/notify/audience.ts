import type { Sql, TransactionSql } from 'postgres'
import type { Event, Reach } from '../../config/notify.ts'
import type { Approver, Slot } from '../../config/policy/approvers.ts'
import { foldIdentity } from '../../config/policy.ts'
import { READS_LEDGER } from '../api/access.ts'
import { tally } from '../approval.ts'
import { type OnCall, onCallNow } from '../oncall.ts'
import { roleGroup, type Standing } from '../policy.ts'
import { findRequest } from '../register/requests.ts'
import { holdersOf } from '../register/roles.ts'
import { ballotOf, next, type Request } from '../request.ts'
import { personBehind, withInvolved } from '../voter.ts'
import type { Audience } from './channel.ts'
import type { Payload } from './payload.ts'

/** Who hears of a notice, as persons; how a person is reached is the channel's business. */

/** After these nothing more is decided about a request; who was asked is told so. */
const OUTCOMES: ReadonlySet<Event> = new Set([
  'request.approved',
  'request.denied',
  'request.withdrawn',
  'request.lapsed',
  'request.break-glass',
])

/** With these whoever can decide is asked to. */
const ASKING: ReadonlySet<Event> = new Set(['request.made', 'request.vote', 'request.escalated'])

const ADDRESS = /^[^\s@<>"(),:;[\]\\]{1,64}@[A-Za-z0-9.-]{1,253}$/

/** Whether this can be written to; nothing in it that a mail header would take for more than one address. */
const isAddress = (text: string): boolean => ADDRESS.test(text)

export function directory(standing: Standing, people: ReadonlyMap<string, Reach>): (person: string) => Reach {
  const identities = new Map<string, string[]>()
  if (standing.kind === 'policy') {
    for (const [identity, person] of standing.policy.people.persons) {
      identities.set(person, [...(identities.get(person) ?? []), identity])
    }
  }
  const reaches = new Map([...people].map(([name, reach]) => [personBehind(standing, name), reach]))
  return person => {
    const email = [person, ...(identities.get(person) ?? [])].find(isAddress)
    return { ...(email !== undefined && { email }), ...reaches.get(person) }
  }
}

export async function audienceOf(
  sql: Sql | TransactionSql,
  standing: Standing,
  people: ReadonlyMap<string, Reach>,
  content: Payload,
  now: number,
): Promise<Audience> {
  const reach = directory(standing, people)
  const { type, data } = content
  const person = (principal: string) => personBehind(standing, principal)
  if (data.finding !== undefined) return { asked: [], told: await watchers(sql, standing, content), reach }
  const found = data.request && (await findRequest(sql, data.request.id))
  if (found === undefined) return { asked: [], told: [person(data.principal)], reach }

  const request = withInvolved(standing, found.request)
  const parties = [data.principal, request.asked.requester].map(person)
  const onCall = onCallNow(standing, now)
  const approvers = await personsOf(sql, standing, slotsOf(request), onCall)
  // By what was true when the notice was made: a late one asks nobody about what is decided since.
  const open = data.request?.state === 'requested' && request.state === 'requested'
  const asking = open ? await askedNow(sql, standing, request, type === 'request.escalated', onCall) : []
  const asked = ASKING.has(type) ? asking : []
  // Of the vote that decided, people hear by its outcome, which comes with it.
  const decided = type === 'request.vote' && data.request?.state !== 'requested'
  const heard = type === 'request.made' || decided ? [] : parties
  const outcome = OUTCOMES.has(type) ? approvers : []
  const approved = request.votes.filter(({ says }) => says === 'approve').map(({ voter }) => voter.person)
  const ending = type === 'window.ending' ? approved : []
  const talking = type === 'request.comment' ? [...asking, ...request.votes.map(({ voter }) => voter.person)] : []
  const told = new Set(
    [...heard, ...outcome, ...ending, ...talking].filter(one => !asked.includes(one) && one !== person(data.by)),
  )
  return { asked, told: [...told], reach }
}

/** Who reads the ledger. Not the one it is about, who is warned of nothing; of a bypass, that is only who came upon it. */
async function watchers(sql: Sql | TransactionSql, standing: Standing, { type, data }: Payload): Promise<string[]> {
  const readers = READS_LEDGER.map(role => ({ kind: 'group', name: roleGroup(role) }) as const)
  const persons = await personsOf(sql, standing, [readers], new Map())
  const about = personBehind(standing, data.principal)
  return type === 'bypass.suspected' ? persons : persons.filter(person => person !== about)
}

async function askedNow(
  sql: Sql | TransactionSql,
  standing: Standing,
  request: Request,
  escalated: boolean,
  onCall: OnCall,
): Promise<string[]> {
  const settled = escalated
    ? { ...request, escalated: true }
    : next(request, { kind: 'tick', at: request.made }).request
  const { waitingFor } = tally(ballotOf(settled), settled.votes)
  const voted = new Set(settled.votes.map(({ voter }) => voter.person))
  const persons = await personsOf(sql, standing, waitingFor, onCall)
  return persons.filter(person => !request.involved.includes(person) && !voted.has(person))
}

function slotsOf({ conditions }: Request): Slot[] {
  const { plan, review, escalation } = conditions
  const steps = [...plan.steps, ...(review?.plan.steps ?? [])]
  return [...steps.flatMap(({ slots }) => slots), ...(escalation ? [escalation.to] : [])]
}

/** Everybody these slots name, as far as it is known here who is in a group. */
async function personsOf(
  sql: Sql | TransactionSql,
  standing: Standing,
  slots: readonly Slot[],
  onCall: OnCall,
): Promise<string[]> {
  const approvers = new Map(slots.flat().map((approver): [string, Approver] => [JSON.stringify(approver), approver]))
  const persons = await Promise.all(
    [...approvers.values()].map(async ({ kind, name }) => {
      if (kind === 'person') return [name]
      if (kind === 'on-call') return [...(onCall.get(name) ?? [])]
      const role = ['approver', 'auditor', 'admin', 'developer'].find(one => roleGroup(one) === name)
      if (role !== undefined) return (await holdersOf(sql, role)).map(one => personBehind(standing, one))
      if (standing.kind !== 'policy') return []
      return [...standing.policy.people.groups].filter(([, groups]) => groups.has(name)).map(([member]) => member)
    }),
  )
  return [...new Set(persons.flat().map(foldIdentity))]
}
