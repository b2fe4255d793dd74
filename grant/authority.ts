import type { Redis } from 'ioredis'
import { answered } from './redis.ts'

/** What every gate has to know of the certificate authority, as Redis holds it. The text is opaque here. */
export interface AuthorityBoard {
  put(state: { readonly version: string; readonly text: string }): Promise<void>
  /** Nothing is known of the authority: its certificates are refused until something is put again. */
  clear(): Promise<void>
  /** Names the present state; undefined when there is none. */
  version(): Promise<string | undefined>
  get(): Promise<{ readonly version: string; readonly text: string } | undefined>
}

/** Every method rejects with a `StoreError` within a second when Redis cannot be asked. */
export function createAuthorityBoard({ redis, prefix = 'db' }: { redis: Redis; prefix?: string }): AuthorityBoard {
  // One hash, so that version and text are written, read and lost together.
  const key = `${prefix}:authority`
  return {
    put: async ({ version, text }) => {
      await answered(redis.hset(key, { version, text }))
    },
    clear: async () => {
      await answered(redis.del(key))
    },
    version: async () => (await answered(redis.hget(key, 'version'))) ?? undefined,
    get: async () => {
      const [version, text] = await answered(redis.hmget(key, 'version', 'text'))
      return version && text ? { version, text } : undefined
    },
  }
}
