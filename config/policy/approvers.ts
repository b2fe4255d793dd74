/** Who has to say yes. A plan is what an approval is held against; how votes fill it is `admin/approval.ts`. */

/** `person` is a person's id, `group` a group of the policy or of the identity provider, `on-call` a schedule. */
export interface Approver {
  readonly kind: 'person' | 'group' | 'on-call'
  readonly name: string
}

/** One slot wants one person out of these. */
export type Slot = readonly Approver[]

/** Slots that are asked together. */
export interface Step {
  readonly slots: readonly Slot[]
}

/** Steps are asked one after the other. Over the whole plan each slot wants a different person. Without steps nobody is needed. */
export interface Plan {
  readonly steps: readonly Step[]
}

export const NOBODY: Plan = { steps: [] }

/** How many different people a plan takes. */
export const peopleNeeded = (plan: Plan): number => plan.steps.reduce((sum, step) => sum + step.slots.length, 0)

/**
 * One plan that fills all of these. Who approves sees the whole request, so a step that another of the plans asks for as well,
 * with as many slots or more, is asked once. Otherwise steps follow each other and want different people, as those of one plan
 * always do, even where they read the same.
 */
export function mergePlans(plans: readonly Plan[]): Plan {
  const steps: Step[] = []
  for (const plan of plans) {
    const filled = new Set<number>()
    for (const step of plan.steps) {
      const free = (fits: (other: Step) => boolean) => steps.findIndex((other, at) => !filled.has(at) && fits(other))
      const wider = free(other => holds(other, step))
      const narrower = wider < 0 ? free(other => holds(step, other)) : -1
      const at = wider >= 0 ? wider : narrower >= 0 ? narrower : steps.length
      if (at !== wider) steps[at] = step
      filled.add(at)
    }
  }
  return { steps }
}

/** Whether a step has each slot of another, as often. */
function holds(wide: Step, narrow: Step): boolean {
  const left = wide.slots.map(slotKey)
  return narrow.slots.map(slotKey).every(key => {
    const at = left.indexOf(key)
    if (at >= 0) left.splice(at, 1)
    return at >= 0
  })
}

const slotKey = (slot: Slot): string => slot.map(approverText).sort().join(' ')

/** The same plan with at least `people` slots: the last step is asked of more of the same approvers. */
export function raisePlan(plan: Plan, people: number): Plan {
  const last = plan.steps.at(-1)
  const missing = people - peopleNeeded(plan)
  const model = last?.slots.at(-1)
  if (!last || !model || missing <= 0) return plan
  const raised: Step = { slots: [...last.slots, ...Array.from({ length: missing }, () => model)] }
  return { steps: [...plan.steps.slice(0, -1), raised] }
}

/** `group:leads`, `person:mona`, `on-call:payments`: the form that has only one meaning. */
export const approverText = (approver: Approver): string => `${approver.kind}:${approver.name}`

/** `2 of leads or security, then one of on-call payments`. */
export function describePlan(plan: Plan): string {
  if (plan.steps.length === 0) return 'nobody'
  return plan.steps.map(describeStep).join(', then ')
}

function describeStep(step: Step): string {
  const counts = new Map<string, number>()
  for (const slot of step.slots) {
    const who = describeApprovers(slot)
    counts.set(who, (counts.get(who) ?? 0) + 1)
  }
  return [...counts].map(([who, count]) => (count === 1 ? `one of ${who}` : `${count} of ${who}`)).join(' and ')
}

/** `leads or on-call payments` */
export const describeApprovers = (slot: Slot): string => slot.map(describeApprover).join(' or ')

const describeApprover = (approver: Approver) =>
  approver.kind === 'on-call' ? `on-call ${approver.name}` : approver.name
