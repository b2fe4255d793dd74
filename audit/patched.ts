import postgres from 'postgres'

/** What `patches/postgres+3.4.9.patch` calls itself; raised there and here together. */
const PATCH = 1

/**
 * Refuses a postgres.js without its patch: unpatched, a connection that breaks inside a transaction ends the process.
 *
 * @throws Error that says how to apply it
 */
export function requirePatchedPostgres(client: object = postgres): void {
  if (Reflect.get(client, 'drawbridgePatch') === PATCH) return
  throw new Error('the installed postgres lacks patches/postgres+3.4.9.patch; run: npx patch-package')
}
