import type { Sql } from 'postgres'
import { asking } from '../config/policy/asking.ts'
import type { Target } from '../config/policy/govern.ts'
import { fullRef } from '../grant/pattern.ts'
import { Problem } from './api/problem.ts'
import type { Standing } from './policy.ts'
import type { Act } from './register/act.ts'
import { endGrant, grantsToRestore } from './register/grants.ts'
import { kindOf } from './voter.ts'

/**
 * What the policy never allows, it does not allow to windows that were given before either: a freeze is a freeze. Asked for
 * is refused by the policy's own answer; this is for what was decided earlier, or by an administrator alone.
 */

/** Why the policy in force forbids any part of this to whoever would get it; undefined when it does not. */
function whyForbidden(
  standing: Standing,
  principal: string,
  targets: readonly Target[],
  now: number,
): string | undefined {
  if (standing.kind !== 'policy') return undefined
  const full = targets.map(target => ({ ...target, refs: target.refs.map(fullRef) }))
  const asked = { asker: { principal, kind: kindOf(principal), groups: [] }, targets: full }
  const said = asking(standing.policy, asked, {}, now)
  return said.kind === 'refused' && said.code === 'forbidden' ? said.reason : undefined
}

/** @throws Problem when the policy forbids it */
export function requireNotForbidden(...asked: Parameters<typeof whyForbidden>): void {
  const why = whyForbidden(...asked)
  if (why !== undefined) throw new Problem(403, 'policy-forbidden', why)
}

/** Ends the open windows that the policy now in force forbids, each once whoever else does. */
export async function endForbidden(sql: Sql, act: Act, standing: Standing, now: number): Promise<number> {
  let ended = 0
  for await (const page of grantsToRestore(sql, true, now)) {
    for (const { id, principal, repository, actions, refs } of page) {
      const why = whyForbidden(standing, principal, [{ repository, actions, refs }], now)
      if (why === undefined) continue
      if ((await endGrant(act, { id, how: 'revoked', by: 'drawbridge', reason: why })) === 'done') ended++
    }
  }
  return ended
}
