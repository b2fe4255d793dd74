import type { Sql } from 'postgres'
import { carry } from './decide.ts'
import type { Act } from './register/act.ts'
import { dueRequests, lockRequest } from './register/requests.ts'
import { next } from './request.ts'

/**
 * What time alone makes of requests that nobody answers: others are asked as well, and in the end they lapse. Each once, whoever
 * else sweeps and whatever was restarted in between: what is due stands in the row, and is read again under its lock.
 *
 * @returns how many were looked at
 */
export async function sweepRequests(sql: Sql, act: Act, now: number, limit: number): Promise<number> {
  const due = await dueRequests(sql, now, limit)
  for (const id of due) {
    await act(async change => {
      const before = await lockRequest(change, id)
      if (before?.request.state !== 'requested') return
      const { request: after } = next(before.request, { kind: 'tick', at: now })
      if (after.state === 'requested' && after.escalated === before.request.escalated) return
      const [person = ''] = before.request.involved
      await carry(change, { before, after, by: 'drawbridge', person, step: 'tick', reason: '', now })
    })
  }
  return due.length
}
