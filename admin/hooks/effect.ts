import type { Sql } from 'postgres'
import { lockOfNetwork } from '../../grant/network.ts'
import { matchesRepository } from '../../grant/pattern.ts'
import type { Act } from '../register/act.ts'
import { endGrant } from '../register/grants.ts'
import { revokeKey } from '../register/keys.ts'
import { lockPrincipal } from '../register/locks.ts'

/** What a hook can bring about. All of it takes access away, so what comes twice, late or by a thief of old messages opens nothing. */
export type Effect =
  | { readonly kind: 'lock'; readonly principal: string }
  /** Every window that covers the repository, patterns too. */
  | { readonly kind: 'end'; readonly repository: string }
  /** The windows of this name alone: it is a repository no more. Hosts tell names apart without case. */
  | { readonly kind: 'gone'; readonly repository: string }
  /** The windows of everything below this path: it is called otherwise now. */
  | { readonly kind: 'gone-below'; readonly path: string }
  | { readonly kind: 'key'; readonly fingerprint: string }
  | { readonly kind: 'network'; readonly network: string }

export async function carryOut(
  to: { readonly sql: Sql; readonly act: Act },
  effect: Effect,
  how: { readonly by: string; readonly reason: string },
): Promise<void> {
  const { sql, act } = to
  switch (effect.kind) {
    case 'lock':
      return await lockPrincipal(act, { principal: effect.principal, ...how })
    case 'network':
      return await lockPrincipal(act, { principal: lockOfNetwork(effect.network), ...how })
    case 'key':
      await revokeKey(act, effect.fingerprint, how.by)
      return
    case 'end':
    case 'gone':
    case 'gone-below': {
      const open = await sql<{ id: string; repository: string }[]>`
        select id, repository from control.grant where ended is null order by id`
      const concerned = open.filter(({ repository }) => concerns(effect, repository))
      for (const { id } of concerned) await endGrant(act, { id, how: 'revoked', ...how })
    }
  }
}

/** @param pattern of a window's repositories */
function concerns(effect: Extract<Effect, { kind: 'end' | `gone${string}` }>, pattern: string): boolean {
  const written = pattern.toLowerCase()
  if (effect.kind === 'gone-below') return written.startsWith(`${effect.path.toLowerCase()}/`)
  return (
    written === effect.repository.toLowerCase() ||
    (effect.kind === 'end' && matchesRepository(pattern, effect.repository))
  )
}
