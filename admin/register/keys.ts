import type { Sql } from 'postgres'
import type { Act } from './act.ts'
import { bar } from './locks.ts'

export interface RegisteredKey {
  readonly fingerprint: string
  readonly principal: string
  readonly algorithm: string
  /** As authorized_keys has it: algorithm and base64. */
  readonly publicKey: string
  readonly title: string
  readonly created: Date
  readonly createdBy: string
  readonly expires: Date
  /** The sign-in that it stands for its principal by, and ends with; absent for a key that was registered. */
  readonly signin?: string
  readonly revoked?: { readonly at: Date; readonly by: string }
}

export type NewKey = Pick<RegisteredKey, 'fingerprint' | 'principal' | 'algorithm' | 'publicKey' | 'title' | 'expires'>

/**
 * Registers a key. The same person may register it again for longer; a key that was revoked stays revoked, and nobody
 * can register another's.
 */
export async function registerKey(act: Act, key: NewKey, by: string): Promise<'done' | 'revoked' | 'taken'> {
  const { fingerprint, principal, algorithm, publicKey, title, expires } = key
  return await act(async change => {
    const [known] = await change.sql<{ principal: string; revoked: Date | null }[]>`
      select principal, revoked from control.key where fingerprint = ${fingerprint} for update`
    if (known && known.principal !== principal) return 'taken'
    if (known?.revoked) return 'revoked'
    const { count } = await change.sql`
      insert into control.key (fingerprint, principal, algorithm, public_key, title, created_by, expires)
      values (${fingerprint}, ${principal}, ${algorithm}, ${publicKey}, ${title}, ${by}, ${expires})
      on conflict (fingerprint) do update set title = excluded.title, expires = excluded.expires, signin = null
      where key.principal = excluded.principal and key.revoked is null`
    if (count === 0) return 'taken'
    change.record({ kind: 'key.registered', by, fingerprint, principal, expires: expires.toISOString() })
    change.enact(['key', fingerprint])
    return 'done'
  })
}

export async function revokeKey(act: Act, fingerprint: string, by: string): Promise<'done' | 'ended' | 'unknown'> {
  return await act(async change => {
    const [key] = await change.sql<{ principal: string; expires: Date }[]>`
      update control.key set revoked = now(), revoked_by = ${by}
      where fingerprint = ${fingerprint} and revoked is null
      returning principal, expires`
    if (key === undefined) {
      const [known] = await change.sql`select from control.key where fingerprint = ${fingerprint}`
      return known ? 'ended' : 'unknown'
    }
    const { principal, expires } = key
    await bar(change, { principal, credential: `key:${fingerprint}`, reason: 'the key was revoked', expires })
    change.record({ kind: 'key.revoked', by, fingerprint, principal })
    change.enact(['key', fingerprint])
    return 'done'
  })
}

export async function findKey(sql: Sql, fingerprint: string): Promise<RegisteredKey | undefined> {
  const [row] = await sql<KeyRow[]>`select * from control.key where fingerprint = ${fingerprint}`
  return row && keyOf(row)
}

export async function listKeys(
  sql: Sql,
  { principal, after = '', limit }: { principal?: string; after?: string; limit: number },
): Promise<RegisteredKey[]> {
  const rows = await sql<KeyRow[]>`
    select * from control.key
    where fingerprint > ${after} ${principal === undefined ? sql`` : sql`and principal = ${principal}`}
    order by fingerprint limit ${limit}`
  return rows.map(keyOf)
}

interface KeyRow {
  readonly fingerprint: string
  readonly principal: string
  readonly algorithm: string
  readonly public_key: string
  readonly title: string
  readonly created: Date
  readonly created_by: string
  readonly expires: Date
  readonly signin: string | null
  readonly revoked: Date | null
  readonly revoked_by: string | null
}

function keyOf({ public_key, created_by, signin, revoked, revoked_by, ...rest }: KeyRow): RegisteredKey {
  return {
    ...rest,
    ...(signin !== null && { signin }),
    publicKey: public_key,
    createdBy: created_by,
    ...(revoked !== null && { revoked: { at: revoked, by: revoked_by ?? '' } }),
  }
}
