import type { Caller } from './api/access.ts'
import { iso } from './api/fields.ts'
import { notFound, Problem } from './api/problem.ts'
import type { Wish } from './file.ts'
import type { Change } from './register/act.ts'
import { writeExtension } from './register/grants.ts'
import { lockRequest, type RegisteredRequest } from './register/requests.ts'
import { next, type Request } from './request.ts'
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
  const [target] = asked.targets
  if (asked.principal !== caller.principal || target === undefined) throw notFound('request of yours', id)
  const standing = request.windows.filter(isStanding)
  if (standing.length === 0) {
    throw new Problem(409, 'request-over', `${id} has no window that stands`, 'ask for a new one: git access request')
  }
  const until = Math.min(...standing.map(({ expires }) => expires))
  if (now + more.window <= until) throw new Problem(400, 'invalid', `for: the window lasts until ${iso(until)} already`)
  const { reason = asked.reason, ticket = asked.ticket } = more
  return { ...target, window: more.window, reason, extends: id, ...(ticket !== undefined && { ticket }) }
}

/**
 * Moves the ends of the windows an approved extension names. Of a revocation at the same moment the grant's row decides who
 * was first; a window that is over stays over.
 * @throws Problem when nothing is left to extend; then the approval is taken back with the rest of the change
 */
export async function lengthenWindows(change: Change, extension: Request, by: string, now: number): Promise<void> {
  const { extends: id = '', reason } = extension.asked
  const found = await lockRequest(change, id)
  if (found === undefined) throw notFound('request', id)
  const { request, refused } = next(found.request, { kind: 'extend', at: now, extension })
  if (refused !== undefined) throw new Problem(409, 'request-over', refused)
  for (const [index, grant] of found.grants.entries()) {
    const expires = request.windows[index]?.expires ?? grant.expires
    if (grant.ended !== undefined || expires <= grant.expires) continue
    const done = await writeExtension(change, { id: grant.id, expires, by, reason: `${extension.id}: ${reason}` }, now)
    if (done === 'ended') throw new Problem(409, 'grant-over', `${grant.id} is over; ask for a new window`)
  }
}
