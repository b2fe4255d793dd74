import type { Redis } from 'ioredis'
import { z } from 'zod'
import { matchesRepository } from './pattern.ts'
import { answered } from './redis.ts'

/**
 * Which repositories are only observed: what would be refused there is let through and put on record. The control plane says
 * so to the proxies, by way of Redis; who has not been told refuses.
 */
export interface Observed {
  /** Tried from the top: the first with a pattern that matches counts. A repository that none matches is not observed. */
  readonly repositories: readonly { readonly match: readonly string[]; readonly observe: boolean }[]
}

export const NOTHING_OBSERVED: Observed = { repositories: [] }

/** More text than this is no list of repositories. */
const OBSERVED_BYTES_MAX = 4 << 20

const written = z.object({
  repositories: z.array(z.object({ match: z.array(z.string()), observe: z.boolean() })),
})

/** Reads what was written by `JSON.stringify`. @throws when it is something else */
export function readObserved(text: string | undefined): Observed {
  if (text === undefined) return NOTHING_OBSERVED
  if (text.length > OBSERVED_BYTES_MAX) throw new Error('the list of observed repositories is too long')
  return written.parse(JSON.parse(text))
}

export function isObserved({ repositories }: Observed, repository: string): boolean {
  const first = repositories.find(({ match }) => match.some(pattern => matchesRepository(pattern, repository)))
  return first?.observe ?? false
}

/** The patterns of what is observed, for a person. */
export function describeObserved({ repositories }: Observed): string[] {
  return repositories.filter(({ observe }) => observe).flatMap(({ match }) => match)
}

/** Where Redis holds it. Every method rejects with a `StoreError` within a second when Redis cannot be asked. */
export interface ObservedBoard {
  put(observed: Observed): Promise<void>
  /** As it was written; undefined when nothing was. */
  get(): Promise<string | undefined>
}

export function createObservedBoard({ redis, prefix = 'db' }: { redis: Redis; prefix?: string }): ObservedBoard {
  const key = `${prefix}:observed`
  return {
    put: async observed => {
      await answered(redis.set(key, JSON.stringify(observed)))
    },
    get: async () => (await answered(redis.get(key))) ?? undefined,
  }
}
