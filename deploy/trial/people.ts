import { join } from 'node:path'
import { newId } from '../../audit/id.ts'
import { issueToken, loadOrCreateTokenKey, type Role, SESSION_AUDIENCE, SESSION_ISSUER } from '../../ca/token.ts'

/** Somebody to be while trying things out. */
export interface Person {
  readonly principal: string
  readonly roles: readonly Role[]
  readonly token: string
}

const PEOPLE: readonly { readonly principal: string; readonly roles: readonly Role[] }[] = [
  { principal: 'alice', roles: ['developer'] },
  { principal: 'bob', roles: ['approver', 'admin'] },
  { principal: 'carol', roles: ['auditor'] },
]

const DAYS_30 = 30 * 24 * 3_600_000

/** The three people of the trial with tokens that last a month, signed by the key the roles trust. */
export async function trialPeople(state: string, now = Date.now()): Promise<Person[]> {
  const key = await loadOrCreateTokenKey(join(state, 'tokens'))
  const claims = { audience: SESSION_AUDIENCE, issuer: SESSION_ISSUER, now, expires: now + DAYS_30 }
  return await Promise.all(
    PEOPLE.map(async person => ({
      ...person,
      token: await issueToken(key, { ...person, ...claims, id: newId('t', now) }),
    })),
  )
}
