import type { Sql } from 'postgres'
import type { Act } from './act.ts'
import { findLock } from './locks.ts'
import { type BoundKey, bindKey, type NewSignin, type Person, writeSignin } from './signins.ts'

/** A terminal that waits for a person at a browser. */
export interface Login {
  readonly id: string
  /** What terminal and browser both show. */
  readonly code: string
  readonly address: string
  readonly client: string
  /** The provider is to ask again, even somebody it remembers. */
  readonly fresh: boolean
  /** The key whose holder waits. */
  readonly keyBlob?: Buffer
  readonly state: 'waiting' | 'recognised' | 'confirmed' | 'denied'
  readonly sent?: { readonly state: string; readonly nonce: string; readonly verifier: string }
  readonly person?: Person
  readonly refusal?: string
}

/** Terminals that wait at once, from one address and in all. Beyond that somebody only fills the table. */
const WAITING_OF_ADDRESS_MAX = 50
const WAITING_MAX = 10_000

/**
 * Writes down that a terminal waits, unless too many do.
 * @param login.device SHA-256 of the device code
 */
export async function openLogin(
  sql: Sql,
  login: Pick<Login, 'id' | 'code' | 'address' | 'client' | 'fresh' | 'keyBlob'> & {
    readonly device: Buffer
    readonly expires: Date
  },
): Promise<boolean> {
  const { id, device, code, address, client, fresh, keyBlob, expires } = login
  await sql`delete from control.login where expires < now()`
  const { count } = await sql`
    insert into control.login (id, device, code, address, client, fresh, key_blob, expires)
    select ${id}, ${device}, ${code}, ${address}, ${client}, ${fresh}, ${keyBlob ?? null}, ${expires}
    where (select count(*) from control.login where address = ${address}) < ${WAITING_OF_ADDRESS_MAX}
      and (select count(*) from control.login) < ${WAITING_MAX}`
  return count === 1
}

/**
 * A browser takes the login up, or takes it over from another: whoever confirms in the end is asked by name.
 * @param browser SHA-256 of the cookie it is given
 */
export async function takeUp(
  sql: Sql,
  id: string,
  browser: Buffer,
  sent: { readonly state: string; readonly nonce: string; readonly verifier: string },
): Promise<boolean> {
  const { count } = await sql`
    update control.login
    set browser = ${browser}, provider_state = ${sent.state}, nonce = ${sent.nonce}, verifier = ${sent.verifier},
      person = null, state = 'waiting'
    where id = ${id} and state in ('waiting', 'recognised') and expires > now()`
  return count === 1
}

/** The provider named somebody: kept for the browser, now known by another cookie, to confirm. The answer counts once. */
export async function recognised(
  sql: Sql,
  id: string,
  before: Buffer,
  after: Buffer,
  person: Person,
): Promise<boolean> {
  const { count } = await sql`
    update control.login
    set state = 'recognised', person = ${JSON.stringify(person)}::text::jsonb, browser = ${after},
      provider_state = null, nonce = null, verifier = null
    where id = ${id} and browser = ${before} and state = 'waiting' and expires > now()`
  return count === 1
}

/** Ends it without a sign-in; the terminal is told why. */
export async function denyLogin(sql: Sql, id: string, refusal: string): Promise<boolean> {
  const { count } = await sql`
    update control.login set state = 'denied', refusal = ${refusal}, person = null
    where id = ${id} and state in ('waiting', 'recognised')`
  return count === 1
}

/** The person confirms: from here on it is a sign-in, and the key that waited, if one did, stands for them. */
export async function confirmLogin(
  act: Act,
  id: string,
  browser: Buffer,
  signin: NewSignin,
  key: BoundKey | undefined,
): Promise<'done' | 'over' | 'locked' | 'key-refused'> {
  return await act(async change => {
    const [row] = await change.sql<{ state: string }[]>`
      select state from control.login where id = ${id} and browser = ${browser} and expires > now() for update`
    if (row?.state !== 'recognised') return 'over'
    if ((await findLock(change.sql, signin.principal))?.locked) return 'locked'
    await writeSignin(change, signin)
    // Thrown, so that nothing of the sign-in stays.
    if (key !== undefined && (await bindKey(change, key, signin)) === 'refused') throw new KeyRefused()
    await change.sql`update control.login set state = 'confirmed', signin = ${signin.id} where id = ${id}`
    return 'done' as const
  }).catch((error: unknown) => {
    if (error instanceof KeyRefused) return 'key-refused'
    throw error
  })
}

class KeyRefused extends Error {}

/**
 * What the terminal hears. A confirmed login is handed over once: `secret` (a hash) is from then on what it renews tokens
 * with, unless it waited for its key alone.
 */
export async function collectLogin(
  sql: Sql,
  device: Buffer,
  secret: Buffer,
): Promise<
  | { readonly state: 'waiting' | 'over' }
  | { readonly state: 'denied'; readonly reason: string }
  | { readonly state: 'done'; readonly signin: string; readonly withSecret: boolean }
> {
  const [row] = await sql<{ id: string; state: Login['state']; refusal: string | null; expires: Date }[]>`
    select id, state, refusal, expires from control.login where device = ${device}`
  if (row === undefined || row.expires.getTime() <= Date.now()) return { state: 'over' }
  if (row.state === 'waiting' || row.state === 'recognised') return { state: 'waiting' }
  if (row.state === 'denied') return { state: 'denied', reason: row.refusal ?? 'it was refused at the browser' }
  let collected: { signin: string; withSecret: boolean } | undefined
  await sql.begin(async transaction => {
    // Whoever deletes the row has it; a device code opens one sign-in once.
    const [taken] = await transaction<{ signin: string; key_blob: Buffer | null }[]>`
      delete from control.login where id = ${row.id} and state = 'confirmed' returning signin, key_blob`
    if (taken === undefined) return
    const withSecret = taken.key_blob === null
    if (withSecret) {
      await transaction`update control.signin set secret = ${secret} where id = ${taken.signin} and ended is null`
    }
    collected = { signin: taken.signin, withSecret }
  })
  return collected === undefined ? { state: 'over' } : { state: 'done', ...collected }
}

export async function loginByCode(sql: Sql, code: string): Promise<Login | undefined> {
  const [row] = await sql<LoginRow[]>`select * from control.login where code = ${code} and expires > now()`
  return row && loginOf(row)
}

/** The login that this browser has taken up. */
export async function loginOfBrowser(sql: Sql, browser: Buffer): Promise<Login | undefined> {
  const [row] = await sql<LoginRow[]>`select * from control.login where browser = ${browser} and expires > now()`
  return row && loginOf(row)
}

interface LoginRow {
  readonly id: string
  readonly code: string
  readonly address: string
  readonly client: string
  readonly fresh: boolean
  readonly key_blob: Buffer | null
  readonly state: Login['state']
  readonly provider_state: string | null
  readonly nonce: string | null
  readonly verifier: string | null
  readonly person: Person | null
  readonly refusal: string | null
}

function loginOf(row: LoginRow): Login {
  const { id, code, address, client, fresh, state, provider_state, nonce, verifier, key_blob, person, refusal } = row
  return {
    id,
    code,
    address,
    client,
    fresh,
    state,
    ...(key_blob !== null && { keyBlob: Buffer.from(key_blob) }),
    ...(provider_state !== null &&
      nonce !== null &&
      verifier !== null && { sent: { state: provider_state, nonce, verifier } }),
    ...(person !== null && { person }),
    ...(refusal !== null && { refusal }),
  }
}
