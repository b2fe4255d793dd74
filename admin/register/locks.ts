import type { Sql } from 'postgres'
import type { Act, Change } from './act.ts'

export interface Lock {
  readonly principal: string
  readonly locked: boolean
  readonly version: number
  readonly reason: string
  readonly changed: Date
  readonly changedBy: string
}

/** Locks a principal out of everything. A second lock changes the reason. */
export async function lockPrincipal(act: Act, lock: { principal: string; by: string; reason: string }): Promise<void> {
  const { principal, by, reason } = lock
  await act(async change => {
    await change.sql`
      insert into control.lock (principal, locked, version, reason, changed_by)
      values (${principal}, true, 1, ${reason}, ${by})
      on conflict (principal) do update
      set locked = true, version = lock.version + 1, reason = excluded.reason, changed = now(), changed_by = excluded.changed_by`
    change.record({ kind: 'principal.locked', by, principal, reason })
    change.enact(['lock', principal])
  })
}

/** @returns false when the principal was not locked */
export async function unlockPrincipal(
  act: Act,
  unlock: { principal: string; by: string; reason: string },
): Promise<boolean> {
  const { principal, by, reason } = unlock
  return await act(async change => {
    const { count } = await change.sql`
      update control.lock
      set locked = false, version = version + 1, reason = ${reason}, changed = now(), changed_by = ${by}
      where principal = ${principal} and locked`
    if (count === 0) return false
    change.record({ kind: 'principal.unlocked', by, principal, reason })
    change.enact(['lock', principal])
    return true
  })
}

export async function findLock(sql: Sql | Change['sql'], principal: string): Promise<Lock | undefined> {
  const [row] = await sql<LockRow[]>`select * from control.lock where principal = ${principal}`
  return row && lockOf(row)
}

/** Every principal that was ever locked, locked now or not. */
export async function listLocks(sql: Sql): Promise<Lock[]> {
  return (await sql<LockRow[]>`select * from control.lock order by principal`).map(lockOf)
}

export interface Bar {
  readonly principal: string
  readonly credential: string
  readonly reason: string
  readonly expires: Date | null
}

/** Refuses a credential from now on, until it would have expired. */
export async function bar(change: Change, barred: Bar): Promise<void> {
  const { principal, credential, reason, expires } = barred
  await change.sql`
    insert into control.bar (principal, credential, reason, expires)
    values (${principal}, ${credential}, ${reason}, ${expires})
    on conflict do nothing`
  change.enact(['bar', principal, credential])
}

export async function findBar(sql: Sql, principal: string, credential: string): Promise<Bar | undefined> {
  const [row] = await sql<Bar[]>`
    select principal, credential, reason, expires from control.bar
    where principal = ${principal} and credential = ${credential}`
  return row
}

/** The bars that still matter. */
export async function listBars(sql: Sql, now: number): Promise<Bar[]> {
  return await sql<Bar[]>`
    select principal, credential, reason, expires from control.bar where expires is null or expires > ${new Date(now)}`
}

interface LockRow {
  readonly principal: string
  readonly locked: boolean
  readonly version: string
  readonly reason: string
  readonly changed: Date
  readonly changed_by: string
}

function lockOf({ version, changed_by, ...rest }: LockRow): Lock {
  return { ...rest, version: Number(version), changedBy: changed_by }
}
