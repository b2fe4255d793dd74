import type { Sql, TransactionSql } from 'postgres'
import type { Role } from '../../ca/token.ts'

/** The roles somebody holds by any token or sign-in that is good now. Whether they are locked is another question. */
export async function rolesOf(sql: Sql | TransactionSql, principal: string): Promise<readonly Role[]> {
  const rows = await sql<{ role: Role }[]>`
    select distinct unnest(roles) as role from (${standing(sql)}) as held where principal = ${principal}`
  return rows.map(({ role }) => role)
}

/** Everybody who holds a role so, by principal. */
export async function holdersOf(sql: Sql | TransactionSql, role: string): Promise<string[]> {
  const rows = await sql<{ principal: string }[]>`
    select distinct principal from (${standing(sql)}) as held where roles @> array[${role}::text] order by principal`
  return rows.map(({ principal }) => principal)
}

function standing(sql: Sql | TransactionSql) {
  return sql`
    select principal, roles from control.token where revoked is null and expires > now()
    union all
    select principal, roles from control.signin where ended is null and expires > now()`
}
