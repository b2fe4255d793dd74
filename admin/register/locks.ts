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

interface LockChange {
  readonly principal: string
  readonly by: string
  readonly reason: string
}

/** Locks a principal out of everything, and the service accounts they answer for. A second lock changes the reason. */
export async function lockPrincipal(act: Act, lock: LockChange): Promise<void> {
  const { principal, by, reason } = lock
  await act(async change => {
    await holdOwner(change, principal)
    await writeLock(change, lock)
    const owned = await change.sql<{ principal: string }[]>`
      select 'service:' || name as principal from control.service
      where owner = ${principal} and ended is null
        and not exists (select from control.lock where lock.principal = 'service:' || name and locked)
      order by name`
    for (const service of owned) {
      const why = `its owner ${principal} is locked: ${reason}`
      await writeLock(change, { principal: service.principal, by, reason: why, through: principal })
    }
  })
}

/** Serialises the lock of an owner with accounts that are being given to them: none slips in between. */
export async function holdOwner(change: Change, owner: string): Promise<void> {
  await change.sql`select pg_advisory_xact_lock(hashtextextended(${`owner ${owner}`}, 0))`
}

/**
 * The same as part of a larger change.
 * @param lock.through the owner whose lock this one follows, and ends with
 */
export async function writeLock(change: Change, lock: LockChange & { readonly through?: string }): Promise<void> {
  const { principal, by, reason, through = null } = lock
  await change.sql`
    insert into control.lock (principal, locked, version, reason, changed_by, through)
    values (${principal}, true, 1, ${reason}, ${by}, ${through})
    on conflict (principal) do update
    set locked = true, version = lock.version + 1, reason = excluded.reason, changed = now(),
      changed_by = excluded.changed_by, through = excluded.through`
  change.record({ kind: 'principal.locked', by, principal, reason })
  change.enact(['lock', principal])
}

/** @returns false when the principal was not locked, or is a service account that has ended */
export async function unlockPrincipal(act: Act, unlock: LockChange): Promise<boolean> {
  const { principal, by, reason } = unlock
  return await act(async change => {
    const { count } = await change.sql`
      select from control.service where 'service:' || name = ${principal} and ended is not null`
    if (count > 0 || !(await liftLock(change, unlock))) return false
    const owned = await change.sql<{ principal: string }[]>`
      select principal from control.lock where through = ${principal} and locked order by principal`
    for (const service of owned) {
      const why = `its owner ${principal} is unlocked: ${reason}`
      await liftLock(change, { principal: service.principal, by, reason: why })
    }
    return true
  })
}

/** Lifts one lock as part of a larger change. False when there was none. */
export async function liftLock(change: Change, unlock: LockChange): Promise<boolean> {
  const { principal, by, reason } = unlock
  const { count } = await change.sql`
    update control.lock
    set locked = false, version = version + 1, reason = ${reason}, changed = now(), changed_by = ${by}, through = null
    where principal = ${principal} and locked`
  if (count === 0) return false
  change.record({ kind: 'principal.unlocked', by, principal, reason })
  change.enact(['lock', principal])
  return true
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
  /** From when on; absent or null: at once. */
  readonly begins?: Date | null
}

/** Refuses a credential until it would have expired. A bar that stands is never put off. */
export async function bar(change: Change, barred: Bar): Promise<void> {
  const { principal, credential, reason, expires, begins = null } = barred
  await change.sql`
    insert into control.bar (principal, credential, reason, expires, begins)
    values (${principal}, ${credential}, ${reason}, ${expires}, ${begins})
    on conflict (principal, credential) do update
    set begins = case when bar.begins is null or excluded.begins is null then null
      else least(bar.begins, excluded.begins) end`
  change.enact(['bar', principal, credential])
}

export async function findBar(sql: Sql, principal: string, credential: string): Promise<Bar | undefined> {
  const [row] = await sql<Bar[]>`
    select principal, credential, reason, expires, begins from control.bar
    where principal = ${principal} and credential = ${credential}`
  return row
}

/** The bars that still matter. */
export async function listBars(sql: Sql, now: number): Promise<Bar[]> {
  return await sql<Bar[]>`
    select principal, credential, reason, expires, begins from control.bar where expires is null or expires > ${new Date(now)}`
}

interface LockRow {
  readonly principal: string
  readonly locked: boolean
  readonly version: string
  readonly reason: string
  readonly changed: Date
  readonly changed_by: string
  readonly through: string | null
}

function lockOf({ version, changed_by, through: _, ...rest }: LockRow): Lock {
  return { ...rest, version: Number(version), changedBy: changed_by }
}
