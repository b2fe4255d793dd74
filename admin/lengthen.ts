import { notFound, Problem } from './api/problem.ts'
import type { Change } from './register/act.ts'
import { writeExtension } from './register/grants.ts'
import { approvalOf, lockRequest } from './register/requests.ts'
import { next, type Request } from './request.ts'

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
  const answers = approvalOf(extension)
  for (const [index, grant] of found.grants.entries()) {
    const expires = request.windows[index]?.expires ?? grant.expires
    if (grant.ended !== undefined || expires <= grant.expires) continue
    const longer = { id: grant.id, expires, by, reason: `${extension.id}: ${reason}`, answers }
    const done = await writeExtension(change, longer, now)
    if (done === 'ended') throw new Problem(409, 'grant-over', `${grant.id} is over; ask for a new window`)
  }
}
