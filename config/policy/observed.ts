import { NOTHING_OBSERVED, type Observed } from '../../grant/observe.ts'
import type { Policy } from '../policy.ts'

/**
 * What a policy has only observed. A rule that says `mode: enforce` keeps every repository it speaks of from being so, whoever
 * else and whatever else it speaks of: the gate knows no rules, and what it lets through by mistake it cannot take back.
 */
export function observedBy({ mode, rules, standings }: Policy): Observed {
  const enforced = rules.filter(rule => rule.mode === 'enforce').map(({ repositories }) => repositories)
  const repositories = [
    ...enforced.map(match => ({ match, observe: false })),
    ...standings.map(each => ({ match: each.match, observe: (each.mode ?? mode) === 'observe' })),
    { match: ['**'], observe: mode === 'observe' },
  ]
  return repositories.some(({ observe }) => observe) ? { repositories } : NOTHING_OBSERVED
}
