import type { Sql } from 'postgres'
import { findGrant } from '../register/grants.ts'
import { findRequest } from '../register/requests.ts'
import { requestFacts, windowFacts, writeNotice } from './announce.ts'

/** What nobody does and time alone brings: windows that end soon, and requests that nobody answers. */

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

/** Those who joined because nobody answered are asked once. */
export async function announceEscalations(sql: Sql, now: number): Promise<void> {
  const rows = await sql<{ id: string; once: string }[]>`
    select id, 'escalated:' || id || ':' || floor(extract(epoch from made) * 1000)::bigint as once from control.request
    where state = 'requested' and lapses > ${new Date(now)} and content #> '{conditions,escalation}' is not null
      and made + make_interval(secs => (content #>> '{conditions,escalation,after}')::float8 / 1000) <= ${new Date(now)}
      and not exists (
        select from control.notice
        where once = 'escalated:' || request.id || ':' || floor(extract(epoch from made) * 1000)::bigint)
    order by id limit ${AT_ONCE_MAX}`
  for (const { id, once } of rows) {
    const found = await findRequest(sql, id)
    if (found?.request.state !== 'requested') continue
    const data = {
      by: 'drawbridge',
      principal: found.request.asked.principal,
      reason: 'nobody has answered',
      request: requestFacts(found),
    }
    await writeNotice(sql, {
      thread: id,
      once,
      content: { type: 'request.escalated', timestamp: new Date(now).toISOString(), data },
    })
  }
}
