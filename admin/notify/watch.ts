import type { Sql } from 'postgres'
import { findGrant } from '../register/grants.ts'
import { findRequest } from '../register/requests.ts'
import { requestFacts, windowFacts, writeNotice } from './announce.ts'

/** What nobody does and time alone brings, and no record says: windows that end soon. */

const AT_ONCE_MAX = 200

/**
 * Announces each coming end once; a later end is announced again. A window that is hardly longer than the warning gets none.
 * @param now Redis's clock, by which windows end
 */
export async function announceEndings(sql: Sql, before: number, now: number): Promise<void> {
  const rows = await sql<{ id: string }[]>`
    select id from control.grant as open
    where ended is null and starts <= ${new Date(now)} and expires > ${new Date(now)} and expires <= ${new Date(now + before)}
      and expires - starts > make_interval(secs => ${(2 * before) / 1_000})
      and not exists (
        select from control.notice
        where once = 'ending:' || open.id || ':' || floor(extract(epoch from expires) * 1000)::bigint)
    order by expires limit ${AT_ONCE_MAX}`
  for (const { id } of rows) {
    const grant = await findGrant(sql, id)
    if (grant === undefined || grant.ended !== undefined) continue
    const found = grant.request === undefined ? undefined : await findRequest(sql, grant.request)
    await writeNotice(sql, {
      thread: grant.request ?? id,
      once: `ending:${id}:${grant.expires}`,
      content: {
        type: 'window.ending',
        timestamp: new Date(now).toISOString(),
        data: {
          by: 'drawbridge',
          principal: grant.principal,
          reason: `it ends at ${new Date(grant.expires).toISOString()}`,
          ...(found && { request: requestFacts(found) }),
          window: windowFacts(grant),
        },
      },
    })
  }
}
