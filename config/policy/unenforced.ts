import type { Policy, Rule } from '../policy.ts'
import type { Plan } from './approvers.ts'

/** What a policy says that this gate cannot do yet, and what happens instead; nothing is passed over in silence. */
export interface Unenforced {
  /** The rule's place in its file. */
  readonly place: string
  readonly sentence: string
}

/** Each is on the safe side: what is said instead opens less than what was written. */
export function unenforced(policy: Policy): readonly Unenforced[] {
  const found: Unenforced[] = []
  for (const rule of policy.rules) {
    for (const [isSaid, sentence] of shortOf(rule, schedule => !policy.rotas.has(schedule))) {
      if (isSaid) found.push({ place: rule.place, sentence: `rule "${rule.name}": ${sentence}` })
    }
  }
  return found
}

function shortOf(rule: Rule, isUnknown: (schedule: string) => boolean): readonly (readonly [boolean, string])[] {
  const { approval, automatic, who } = rule
  return [
    [
      rule.paths !== undefined && rule.forbid !== undefined,
      'paths do not narrow what is forbidden: it forbids the whole; say what may not be changed in the rule that opens',
    ],
    [
      rule.paths !== undefined && rule.forbid === undefined && rule.actions.has('delete'),
      'a window with limits on paths takes nothing away: deletions are refused',
    ],
    [rule.mode === 'observe', 'mode: observe holds for repositories, not for rules; what would be refused is refused'],
    [who?.onCall.some(isUnknown) ?? false, `${UNKNOWN}; it lets nobody ask by that`],
    [automatic?.onCall !== undefined && isUnknown(automatic.onCall), `${UNKNOWN}; nothing is approved by itself`],
    [schedulesOf(approval).some(isUnknown), `${UNKNOWN}; others have to approve`],
  ]
}

const UNKNOWN = 'on_call does not name its schedule; unless the settings do, nobody is on call'

function schedulesOf(plan: Plan | undefined): readonly string[] {
  const approvers = plan?.steps.flatMap(({ slots }) => slots.flat()) ?? []
  return approvers.filter(({ kind }) => kind === 'on-call').map(({ name }) => name)
}
