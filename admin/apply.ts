import type { Sql } from 'postgres'
import { networkOf } from '../grant/network.ts'
import type { Store } from '../grant/store.ts'
import { findGrant, plainGrant, type RegisteredGrant, recordedBytes, recordedUses } from './register/grants.ts'
import { findKey, type RegisteredKey } from './register/keys.ts'
import { type Bar, findBar, findLock, type Lock } from './register/locks.ts'
import type { Order } from './register/outbox.ts'

/**
 * Carries one order out: looks up what Postgres says now and makes Redis say the same. The same order may come twice, or
 * a later one first; the store keeps ends, so the outcome is the same.
 *
 * @returns what Redis said, where it said no
 */
export async function apply(sql: Sql, store: Store, order: Order): Promise<'full' | undefined> {
  const [first = '', second = ''] = order.subject
  switch (order.kind) {
    case 'grant': {
      const grant = await findGrant(sql, first)
      return grant && (await applyGrant(store, grant))
    }
    case 'lock': {
      const lock = await findLock(sql, first)
      if (lock) await applyLock(store, lock)
      return undefined
    }
    case 'bar': {
      const bar = await findBar(sql, first, second)
      if (bar) await applyBar(store, bar)
      return undefined
    }
    case 'key': {
      const key = await findKey(sql, first)
      if (key) await applyKey(store, key)
      return undefined
    }
  }
}

export async function applyGrant(store: Store, grant: RegisteredGrant): Promise<'full' | undefined> {
  const { id, principal, expires, ended } = grant
  if (ended) {
    await store.revoke({ principal, grant: id, reason: ended.reason, expires })
    return undefined
  }
  const put = await store.put(plainGrant(grant), since(grant, grant.usesLeft))
  return put === 'full' ? 'full' : undefined
}

/**
 * Puts a grant back that Redis may have lost. Its count of uses may be behind what was really used; the ledger is not, since
 * each use is recorded before it is let through. Better a use too few than one too many.
 */
export async function restoreGrant(sql: Sql, store: Store, grant: RegisteredGrant): Promise<void> {
  const { id, uses, usesLeft, bounds } = grant
  const left =
    uses === undefined ? undefined : Math.max(0, Math.min(usesLeft ?? uses, uses - (await recordedUses(sql, id))))
  const carried = bounds?.bytes === undefined ? {} : { carried: await recordedBytes(sql, id) }
  await store.put(plainGrant(grant), { ...since(grant, left), ...carried })
}

export async function applyLock(store: Store, { principal, locked, reason, version }: Lock): Promise<void> {
  const network = networkOf(principal)
  if (network !== undefined) await store.lockNetwork(network, locked ? reason : undefined, version)
  else if (locked) await store.lock(principal, reason, version)
  else await store.unlock(principal, version)
}

export async function applyBar(store: Store, { principal, credential, reason, expires, begins }: Bar): Promise<void> {
  await store.bar(principal, credential, {
    reason,
    ...(expires && { expires: expires.getTime() }),
    ...(begins && { begins: begins.getTime() }),
  })
}

export async function applyKey(store: Store, key: RegisteredKey): Promise<void> {
  const { fingerprint, principal, expires, signin, revoked } = key
  if (revoked) await store.dropKey(fingerprint, expires.getTime())
  else await store.putKey({ fingerprint, principal, expires: expires.getTime(), ...(signin && { signin }) })
}

function since(grant: RegisteredGrant, left: number | undefined): { lastUsed?: number; left?: number } {
  return { ...(grant.lastUsed !== undefined && { lastUsed: grant.lastUsed }), ...(left !== undefined && { left }) }
}
