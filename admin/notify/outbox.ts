import type { Sql, TransactionSql } from 'postgres'
import type { Payload } from './payload.ts'

/** The rows behind the notices; see `deploy/migrations/040_notify.sql`. All times are milliseconds since the epoch. */

const DAY = 86_400_000
/** How long delivered notices are kept, and dead ones. */
const KEPT_MILLISECONDS = 7 * DAY
const KEPT_DEAD_MILLISECONDS = 30 * DAY

export interface UnspreadNotice {
  readonly id: string
  readonly thread: string
  readonly content: Payload
}

/**
 * Turns notices into deliveries, oldest first, `limit` at most. One at a time over all control planes: two side by side could
 * make the second notice of a request go out before the first. A notice that cannot be spread stays, and holds up no other.
 */
export async function spreadNotices(
  sql: Sql,
  limit: number,
  spread: (transaction: TransactionSql, notice: UnspreadNotice) => Promise<void>,
  failed: (notice: UnspreadNotice, error: unknown) => void,
): Promise<number> {
  let count = 0
  await sql.begin(async transaction => {
    await transaction`select pg_advisory_xact_lock(hashtextextended('notices', 0))`
    const notices = await transaction<UnspreadNotice[]>`
      select id, thread, content from control.notice where not spread order by id limit ${limit}`
    const ids: string[] = []
    for (const notice of notices) {
      await transaction
        .savepoint(savepoint => spread(savepoint, notice))
        .then(() => ids.push(notice.id))
        .catch(error => failed(notice, error))
    }
    if (ids.length > 0) await transaction`update control.notice set spread = true where id = any(${ids}::bigint[])`
    count = ids.length
  })
  return count
}

export async function writeDelivery(
  sql: TransactionSql,
  to: {
    readonly id: string
    readonly notice: UnspreadNotice
    readonly channel: string
    readonly recipient: string
    readonly person: string | undefined
    readonly due: number
    /** It is told together with others. */
    readonly digest: boolean
  },
): Promise<void> {
  const { id, notice, channel, recipient, person, due, digest } = to
  await sql`
    insert into control.delivery (id, notice, channel, recipient, person, thread, due, since, digest)
    values (
      ${id}, ${notice.id}, ${channel}, ${recipient}, ${person ?? null}, ${notice.thread}, ${new Date(due)}, ${new Date(due)},
      ${digest})
    on conflict do nothing`
}

export interface ClaimedDelivery {
  readonly id: string
  readonly thread: string
  readonly recipient: string
  readonly person: string | null
  readonly attempts: number
  readonly since: Date
  readonly content: Payload
  readonly first: string | null
}

/**
 * Takes what is due on a channel, and nothing for which an earlier delivery of the same thread still waits. Until `lease` nobody
 * else takes it; a sender that dies leaves it to the next one.
 */
export async function claimDeliveries(
  sql: Sql,
  claim: { readonly channel: string; readonly now: number; readonly lease: number; readonly limit: number },
): Promise<ClaimedDelivery[]> {
  const { channel, now, lease, limit } = claim
  const claimed = await sql<ClaimedDelivery[]>`
    with due as (
      select delivery.id from control.delivery
      where channel = ${channel} and state = 'waiting' and not digest and due <= ${new Date(now)}
        and not exists (
          select from control.delivery as earlier
          where earlier.channel = delivery.channel and earlier.recipient = delivery.recipient
            and earlier.thread = delivery.thread and earlier.notice < delivery.notice and earlier.state = 'waiting'
            and not earlier.digest)
      order by notice limit ${limit} for update skip locked)
    update control.delivery set due = ${new Date(lease)}, attempts = attempts + 1
    from due, control.notice
    where delivery.id = due.id and notice.id = delivery.notice
    returning delivery.id, delivery.thread, recipient, person, attempts, since, content, (
      select reference from control.delivery as earlier
      where earlier.channel = delivery.channel and earlier.recipient = delivery.recipient
        and earlier.thread = delivery.thread and earlier.notice < delivery.notice and earlier.reference is not null
      order by earlier.notice limit 1) as first`
  return [...claimed]
}

/**
 * Takes all that is due to be told together to one recipient, the oldest first; nothing where nobody has to be told. Whoever else
 * wants the same waits for this, and then finds it taken: one recipient gets one digest, from one sender.
 */
export async function claimDigest(
  sql: Sql,
  claim: { readonly channel: string; readonly now: number; readonly lease: number; readonly limit: number },
): Promise<ClaimedDelivery[]> {
  const { channel, now, lease, limit } = claim
  const claimed = await sql<(ClaimedDelivery & { readonly notice: string })[]>`
    with due as (
      select id from control.delivery
      where channel = ${channel} and state = 'waiting' and digest and due <= ${new Date(now)}
        and recipient = (
          select recipient from control.delivery
          where channel = ${channel} and state = 'waiting' and digest and due <= ${new Date(now)}
          order by due, recipient limit 1)
      order by notice limit ${limit} for update)
    update control.delivery set due = ${new Date(lease)}, attempts = attempts + 1
    from due, control.notice
    where delivery.id = due.id and notice.id = delivery.notice
    returning delivery.id, delivery.notice, delivery.thread, recipient, person, attempts, since, content, null as first`
  return claimed.toSorted((one, other) => Number(one.notice) - Number(other.notice))
}

/** All at once, or none. */
export async function deliveriesDone(
  sql: Sql,
  ids: readonly string[],
  reference: string | undefined,
  now: number,
): Promise<void> {
  await sql`
    update control.delivery set state = 'delivered', reference = ${reference ?? null}, fault = null, done = ${new Date(now)}
    where id = any(${[...ids]}::text[]) and state = 'waiting'`
}

/** They are due again together. */
export async function deliveriesFailed(sql: Sql, ids: readonly string[], fault: string, due: number): Promise<void> {
  await sql`
    update control.delivery set fault = ${fault}, due = ${new Date(due)}
    where id = any(${[...ids]}::text[]) and state = 'waiting'`
}

export async function deliveryDead(sql: Sql, id: string, fault: string, now: number): Promise<void> {
  await sql`
    update control.delivery set state = 'dead', fault = ${fault}, done = ${new Date(now)}
    where id = ${id} and state = 'waiting'`
}

export interface ListedDelivery {
  readonly id: string
  readonly event: string
  readonly thread: string
  readonly channel: string
  readonly recipient: string
  readonly state: 'waiting' | 'delivered' | 'dead'
  readonly at: Date
  readonly due: Date
  readonly attempts: number
  readonly fault: string | null
}

/** The newest first. */
export async function listDeliveries(
  sql: Sql,
  filters: { readonly state: ListedDelivery['state']; readonly channel?: string | undefined; readonly limit: number },
): Promise<ListedDelivery[]> {
  const { state, channel, limit } = filters
  return await sql<ListedDelivery[]>`
    select delivery.id, event, delivery.thread, channel, recipient, state, at, due, attempts, fault
    from control.delivery join control.notice on notice.id = delivery.notice
    where state = ${state} ${channel === undefined ? sql`` : sql`and channel = ${channel}`}
    order by delivery.notice desc, delivery.id limit ${limit}`
}

/** Sends a dead delivery again, or all of a channel. Resolves to how many. */
export async function retryDeliveries(
  sql: Sql,
  which: { readonly id: string } | { readonly channel: string },
  now: number,
): Promise<number> {
  const { count } = await sql`
    update control.delivery set state = 'waiting', due = ${new Date(now)}, since = ${new Date(now)}, attempts = 0, done = null
    where state = 'dead' and ${'id' in which ? sql`id = ${which.id}` : sql`channel = ${which.channel}`}`
  return count
}

/** How many deliveries wait, and how many were given up. */
export async function deliveryCounts(sql: Sql): Promise<{ readonly waiting: number; readonly dead: number }> {
  const [row] = await sql<{ waiting: number; dead: number }[]>`
    select count(*) filter (where state = 'waiting')::int as waiting, count(*) filter (where state = 'dead')::int as dead
    from control.delivery where state <> 'delivered'`
  return row ?? { waiting: 0, dead: 0 }
}

/** What is long past goes. */
export async function forgetNotices(sql: Sql, now: number): Promise<void> {
  await sql`
    delete from control.notice
    where spread and at < ${new Date(now - KEPT_MILLISECONDS)}
      and not exists (
        select from control.delivery
        where delivery.notice = notice.id and (state = 'waiting' or state = 'dead' and done > ${new Date(now - KEPT_DEAD_MILLISECONDS)}))`
  await sql`delete from control.link_used where expires < ${new Date(now)}`
}

/** Which request a message of a channel is about, while the notice is kept. */
export async function requestOfMessage(sql: Sql, channel: string, reference: string): Promise<string | undefined> {
  const [row] = await sql<{ thread: string }[]>`
    select delivery.thread from control.delivery join control.request on request.id = delivery.thread
    where channel = ${channel} and reference = ${reference} limit 1`
  return row?.thread
}
