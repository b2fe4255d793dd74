import type { Via } from '../audit/record.ts'
import type { Approver, Plan, Slot } from '../config/policy/approvers.ts'

/**
 * Votes against a plan. Pure. Persons are compared and never principals: whoever has two accounts, a bot or a token more
 * is still one person, and a person fills one slot.
 */

/** Whoever votes, as they were at that moment. */
export interface Voter {
  readonly principal: string
  readonly kind: 'person' | 'ci' | 'service'
  /** From `personOf`. */
  readonly person: string
  readonly groups: readonly string[]
  /** Schedules on which this person is on call now. */
  readonly onCall: readonly string[]
  /** In whose place they may vote now, see `standsInFor`. */
  readonly standsInFor: readonly Authority[]
}

/** What a person may approve by. */
export interface Authority {
  readonly person: string
  readonly groups: readonly string[]
  readonly onCall: readonly string[]
}

export interface Vote {
  readonly voter: Voter
  readonly says: 'approve' | 'deny'
  /** Of exactly what the voter was shown. */
  readonly digest: string
  readonly at: number
  readonly comment?: string
  /** By which way it came. */
  readonly via?: Via
}

/** What votes are held against. */
export interface Ballot {
  readonly plan: Plan
  /** After silence these may fill any slot as well. */
  readonly escalatedTo?: readonly Approver[]
  /** Persons who can never approve: who asked, who gets the window, who started the job. */
  readonly involved: readonly string[]
}

export interface Tally {
  readonly satisfied: boolean
  /** Different people counted so far, and needed in all. */
  readonly counted: number
  readonly needed: number
  /** The open slots of the first step that is not filled: who is to be asked now. */
  readonly waitingFor: readonly Slot[]
}

/** Why this voter has no vote here; undefined when they have. */
export function whyNoVote(ballot: Ballot, voter: Voter): string | undefined {
  if (voter.kind !== 'person') return 'only people approve; this is the credential of a machine'
  if (ballot.involved.includes(voter.person))
    return 'nobody approves or denies what they asked for themselves; to take it back: withdraw'
  const authorities = authoritiesOf(voter, ballot.involved)
  const approvers = slotsOf(ballot).flat(2)
  return approvers.some(approver => authorities.some(authority => fills(authority, approver)))
    ? undefined
    : 'not among those who are asked'
}

/** How far these votes fill the plan. Votes of people who have none are passed over, whoever let them in. */
export function tally(ballot: Ballot, votes: readonly Vote[]): Tally {
  const steps = slotsOf(ballot)
  const slots = steps.flat()
  const filled = new Set(seating(slots, approving(ballot, votes)).values())
  let before = 0
  const open = steps.map(step => {
    const waiting = step.filter((_, index) => !filled.has(before + index))
    before += step.length
    return waiting
  })
  const waitingFor = open.find(waiting => waiting.length > 0) ?? []
  return {
    satisfied: slots.length > 0 && filled.size === slots.length,
    counted: filled.size,
    needed: slots.length,
    waitingFor,
  }
}

/** Whose approvals fill the plan, as the principals they voted as: whoever is one more than it takes is not among them. */
export function approversOf(ballot: Ballot, votes: readonly Vote[]): readonly string[] {
  const approvals = approving(ballot, votes)
  const seats = seating(slotsOf(ballot).flat(), approvals)
  return approvals.filter(approval => seats.has(approval)).map(({ voter }) => voter.principal)
}

/** The slots of each step, with those who joined by escalation. */
function slotsOf({ plan, escalatedTo = [] }: Ballot): readonly (readonly Slot[])[] {
  return plan.steps.map(({ slots }) => slots.map(slot => [...slot, ...escalatedTo]))
}

/** Nobody's place can be taken for what they asked for themselves. */
function authoritiesOf(voter: Voter, involved: readonly string[]): readonly Authority[] {
  return [voter, ...voter.standsInFor.filter(({ person }) => !involved.includes(person))]
}

interface Approval {
  readonly voter: Voter
  /** By what they may. */
  readonly by: readonly Authority[]
}

/** One for each person who approves. */
function approving(ballot: Ballot, votes: readonly Vote[]): readonly Approval[] {
  const people = new Map<string, Voter>()
  for (const { voter, says } of votes) {
    if (says === 'approve' && whyNoVote(ballot, voter) === undefined) people.set(voter.person, voter)
  }
  // A right that is lent counts once: not for the lender and the delegate, nor for two delegates of one lender.
  const used = new Set(people.keys())
  return [...people.values()].map(voter => {
    const lent = authoritiesOf(voter, ballot.involved).filter(
      ({ person }) => person === voter.person || !used.has(person),
    )
    for (const { person } of lent) used.add(person)
    return { voter, by: lent }
  })
}

function fills(authority: Authority, approver: Approver): boolean {
  if (approver.kind === 'person') return approver.name === authority.person
  return (approver.kind === 'group' ? authority.groups : authority.onCall).includes(approver.name)
}

/**
 * Which approval fills which slot, a different one each, as many slots as possible and earlier ones first. First come, first
 * served would spend the one person who is in both groups on the slot that somebody else could have filled. (Kuhn's
 * augmenting paths; a slot that was filled stays filled, only by whom may change.)
 */
function seating(slots: readonly Slot[], approvals: readonly Approval[]): ReadonlyMap<Approval, number> {
  const slotOf = new Map<Approval, number>()
  const seat = (slot: number, tried: Set<Approval>): boolean => {
    for (const approval of approvals) {
      const may = slots[slot]!.some(approver => approval.by.some(authority => fills(authority, approver)))
      if (!may || tried.has(approval)) continue
      tried.add(approval)
      const sitting = slotOf.get(approval)
      if (sitting === undefined || seat(sitting, tried)) {
        slotOf.set(approval, slot)
        return true
      }
    }
    return false
  }
  for (const slot of slots.keys()) seat(slot, new Set())
  return slotOf
}
