import type { Caller } from './api/access.ts'
import { iso } from './api/fields.ts'
import { notFound, Problem } from './api/problem.ts'
import type { Wish } from './file.ts'
import type { RegisteredRequest } from './register/requests.ts'
import { next } from './request.ts'
import { isStanding } from './window.ts'

/** Making a window longer: a request of its own, decided by the same rules, that names the request it extends. */

/**
 * What to ask for so that the windows of this request last until `window` milliseconds from the approval.
 * @throws Problem when it is not the caller's, is over, or lasts that long already
 */
export function extensionWish(
  found: RegisteredRequest,
  caller: Caller,
  more: { readonly window: number; readonly reason?: string; readonly ticket?: string },
  now: number,
): Wish {
  const { request } = next(found.request, { kind: 'tick', at: now })
  const { asked, id } = request
  if (asked.principal !== caller.principal && asked.requester !== caller.principal)
    throw notFound('request of yours', id)
  if (asked.recurring) {
    throw new Problem(
      409,
      'recurring',
      `the windows of ${id} have their own ends`,
      'ask for new ones: git access request',
    )
  }
  const standing = request.windows.filter(isStanding)
  const named = new Set(standing.map(({ repository }) => repository))
  const [target, ...also] = asked.targets.filter(({ repository }) => named.has(repository))
  if (target === undefined) {
    throw new Problem(409, 'request-over', `${id} has no window that stands`, 'ask for a new one: git access request')
  }
  const until = Math.min(...standing.map(({ expires }) => expires))
  if (now + more.window <= until) throw new Problem(400, 'invalid', `for: the window lasts until ${iso(until)} already`)
  const { reason = asked.reason, ticket = asked.ticket } = more
  return {
    ...target,
    also,
    principal: asked.principal,
    ...(asked.paths && { paths: asked.paths }),
    window: more.window,
    reason,
    extends: id,
    ...(ticket !== undefined && { ticket }),
  }
}
