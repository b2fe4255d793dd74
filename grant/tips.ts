import { readFileSync } from 'node:fs'
import type { Redis, Result } from 'ioredis'
import { answered } from './redis.ts'

/** Where the last push through any proxy left a ref. */
export interface Tip {
  readonly id: string
  /** For how long, in milliseconds on Redis's clock. */
  readonly age: number
}

/** What became of a ref: its new id; `gone`; `kept`: the host did not take the push. */
export type Landed =
  | { readonly ref: string; readonly id: string }
  | { readonly ref: string; readonly was: 'gone' | 'kept' }

/**
 * Where pushes left the refs of each repository, as Redis remembers it, to tell that somebody moved one past the gate.
 * Lost with Redis, and then nothing is told until the next push. Every method rejects with a `StoreError` within a second
 * when Redis cannot be asked.
 */
export interface TipBoard {
  /** Before a push can land. What it pushes to is not known until `pushed`, and stays so where nobody sees its end. */
  pushing(repository: string, operation: string, refs: readonly string[]): Promise<void>
  pushed(repository: string, operation: string, landed: readonly Landed[]): Promise<void>
  /** By ref; without those on which a push is under way. */
  standing(repository: string): Promise<ReadonlyMap<string, Tip>>
  /** Remembers a ref where it was found. True for one caller, and only while it is remembered at `left`. */
  moved(repository: string, ref: string, left: string, found: string): Promise<boolean>
}

/** Refs of one repository that are remembered; beyond, one at random is forgotten. */
export const TIPS_MAX = 1_000
/** A repository to which nobody pushed for so long is forgotten. */
const KEEP_MILLISECONDS = 30 * 24 * 3_600_000

declare module 'ioredis' {
  interface RedisCommander<Context> {
    drawbridgePushing(...args: string[]): Result<number, Context>
    drawbridgePushed(...args: string[]): Result<number, Context>
    drawbridgeMoved(...args: string[]): Result<number, Context>
  }
}

const lua = (name: string) => readFileSync(new URL(`${name}.lua`, import.meta.url), 'utf8')
const SCRIPTS = { drawbridgePushing: 'pushing', drawbridgePushed: 'pushed', drawbridgeMoved: 'moved' }

export function createTipBoard({ redis, prefix = 'db' }: { redis: Redis; prefix?: string }): TipBoard {
  for (const [name, file] of Object.entries(SCRIPTS)) redis.defineCommand(name, { numberOfKeys: 1, lua: lua(file) })
  const key = (repository: string) => `${prefix}:tips:${repository}`
  return {
    pushing: async (repository, operation, refs) => {
      // More than can be followed: nothing is known of any.
      if (refs.length > TIPS_MAX) {
        await answered(redis.del(key(repository)))
        return
      }
      const bounds = [String(TIPS_MAX), String(KEEP_MILLISECONDS)]
      await answered(redis.drawbridgePushing(key(repository), operation, ...bounds, ...refs))
    },
    pushed: async (repository, operation, landed) => {
      if (landed.length > TIPS_MAX) return
      const told = landed.flatMap(one => {
        if ('id' in one) return [one.ref, one.id]
        return [one.ref, one.was === 'kept' ? '=' : '-']
      })
      await answered(redis.drawbridgePushed(key(repository), operation, ...told))
    },
    standing: async repository => {
      // Its clock is read first: what is remembered is rather taken for younger than it is.
      const [time, tips] = await Promise.all([answered(redis.time()), answered(redis.hgetall(key(repository)))])
      const now = Number(time[0]) * 1_000 + Math.floor(Number(time[1]) / 1_000)
      const standing = new Map<string, Tip>()
      for (const [ref, value] of Object.entries(tips)) {
        const [since, id = '-', operation] = value.split(' ')
        if (id !== '-' && operation === '-') standing.set(ref, { id, age: now - Number(since) })
      }
      return standing
    },
    moved: async (repository, ref, left, found) =>
      (await answered(redis.drawbridgeMoved(key(repository), ref, left, found))) === 1,
  }
}
