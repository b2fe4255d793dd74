import { readFileSync } from 'node:fs'
import type { Redis, Result } from 'ioredis'
import { watchClock } from './clock.ts'
import { type Answer, APPROVERS_MAX, type Ask, type CutNotice, type Grant, type LiveGrant } from './grant.ts'
import { type LockedNetwork, lockOfNetwork } from './network.ts'
import { answered, StoreError } from './redis.ts'

/** How many windows one principal may hold at a time. Each ask reads them all. */
export const GRANTS_PER_PRINCIPAL_MAX = 256

export type GrantState = 'scheduled' | 'live' | 'expired' | 'idle' | 'used'

/** A grant with all that Redis knows of it, live or not. */
export interface StandingGrant extends LiveGrant {
  readonly lastUsed: number
  readonly state: GrantState
}

export interface Standing {
  readonly now: number
  readonly locked?: string
  readonly grants: readonly StandingGrant[]
}

/**
 * What is live, in Redis. Every rule that must hold between two processes is a Lua script; Redis's clock decides what is
 * over. Every method rejects with a `StoreError` within a second when Redis cannot be asked.
 *
 * Proxies ask; only the control plane changes anything, and only after Postgres has it.
 */
export interface Store {
  /**
   * One attempt's question, in one round trip. An operation that runs on asks again with the same `consume`: a use that
   * it has counted before counts nothing more, and its grant stays live for it though no use is left for others.
   */
  ask(ask: Ask): Promise<Answer>
  /** Redis's clock, in milliseconds since the epoch. */
  now(): Promise<number>

  /**
   * Makes a grant live. Doing it again changes nothing, except that the end can move further, uses can shrink and bytes grow.
   * `ended`: it was revoked before and stays so; `over`: its window has passed; `full`: the principal holds too many.
   */
  put(
    grant: Grant,
    since?: { lastUsed?: number; left?: number; carried?: number },
  ): Promise<'put' | 'ended' | 'over' | 'full'>
  /** Moves the end of a window further; `ended` when it is over for any reason. */
  extend(extension: { principal: string; grant: string; expires: number }): Promise<'extended' | 'ended' | 'missing'>
  /** Ends a grant for good and tells every proxy. `expires`, where known, bounds how long this has to be remembered. */
  revoke(end: { principal: string; grant: string; reason: string; expires?: number }): Promise<void>
  /** Locks a principal out. `version` orders it among locks and unlocks: an older one that comes late does nothing. */
  lock(principal: string, reason: string, version: number): Promise<void>
  unlock(principal: string, version: number): Promise<void>
  /** The same for a network, which has no standing of its own. @param reason undefined: it is let in again */
  lockNetwork(network: string, reason: string | undefined, version: number): Promise<void>
  lockedNetworks(): Promise<LockedNetwork[]>
  /**
   * Refuses a credential (see `Ask.credentials`) for good, or until it would have expired anyway; at once, or from `begins` on.
   * A moment that comes late never puts off one that came before.
   */
  bar(principal: string, credential: string, end: { reason: string; expires?: number; begins?: number }): Promise<void>

  /** `signin`: the sign-in that it stands for its principal by, and ends with. */
  putKey(key: { fingerprint: string; principal: string; expires: number; signin?: string }): Promise<void>
  /** A dropped key cannot be put again. */
  dropKey(fingerprint: string, expires: number): Promise<void>
  /** Whose registered key this is; undefined when it is nobody's, expired or dropped. */
  findKey(fingerprint: string): Promise<{ principal: string; expires: number; signin?: string } | undefined>

  /** The grants that are live now, of one principal or of all. */
  live(principal?: string): Promise<LiveGrant[]>
  standing(principal: string): Promise<Standing>

  /** The public keys (a JSON Web Key Set) that access tokens are signed with. */
  tokenKeys(): Promise<string | undefined>
  putTokenKeys(jwks: string): Promise<void>

  /** Whether the server throws keys away when memory runs short, and with them locks and revocations. */
  evicts(): Promise<boolean>
  /** Whether this run of this server has been told of everything that was revoked. Until then every ask is `unconfirmed`. */
  confirmed(): Promise<boolean>
  /** Marks the server as not knowing everything, and gives the ticket to confirm with. */
  doubt(): Promise<string>
  /** Opens the fence, once revocations, locks and grants are back. False when the server or its data changed meanwhile. */
  confirm(ticket: string): Promise<boolean>
}

declare module 'ioredis' {
  interface RedisCommander<Context> {
    drawbridgeAsk(...args: string[]): Result<string[], Context>
    drawbridgePut(...args: string[]): Result<'put' | 'ended' | 'over' | 'full', Context>
    drawbridgeExtend(...args: string[]): Result<'extended' | 'ended' | 'missing', Context>
    drawbridgeRevoke(...args: string[]): Result<number, Context>
    drawbridgeLock(...args: string[]): Result<number, Context>
    drawbridgeNetwork(...args: string[]): Result<number, Context>
    drawbridgeBar(...args: string[]): Result<number, Context>
    drawbridgeRead(...args: string[]): Result<string[], Context>
    drawbridgeKey(...args: string[]): Result<string[] | null, Context>
    drawbridgeFence(...args: string[]): Result<number, Context>
  }
}

const lua = (...names: string[]) =>
  names.map(name => readFileSync(new URL(`${name}.lua`, import.meta.url), 'utf8')).join('\n')

const SCRIPTS = {
  drawbridgeAsk: { numberOfKeys: 3, lua: lua('match', 'standing', 'ask') },
  drawbridgePut: { numberOfKeys: 2, lua: lua('standing', 'put') },
  drawbridgeExtend: { numberOfKeys: 1, lua: lua('standing', 'extend') },
  drawbridgeRevoke: { numberOfKeys: 2, lua: lua('standing', 'revoke') },
  drawbridgeLock: { numberOfKeys: 2, lua: lua('standing', 'lock') },
  drawbridgeNetwork: { numberOfKeys: 1, lua: lua('network') },
  drawbridgeBar: { numberOfKeys: 2, lua: lua('standing', 'bar') },
  drawbridgeRead: { numberOfKeys: 1, lua: lua('standing', 'read') },
  drawbridgeKey: { numberOfKeys: 1, lua: lua('standing', 'key') },
  drawbridgeFence: { numberOfKeys: 1, lua: lua('standing', 'fence') },
}

/**
 * Everything about one principal, and the fence that guards it, has to be in one hash slot for one script to see it in
 * Redis Cluster. So principals share out this many slots, and each has its own fence.
 */
const BUCKETS = 32

/** Where cuts are published. */
export const cutChannel = (prefix: string) => `${prefix}:cut`

export function createStore(options: {
  readonly redis: Redis
  /** In front of every key; lets test runs and installations share a server. */
  readonly prefix?: string
  /** Whether to believe what Redis says the time is, see `watchClock`. */
  readonly believes?: (now: number) => boolean
}): Store {
  const { redis, prefix = 'db', believes = watchClock() } = options
  for (const [name, script] of Object.entries(SCRIPTS)) redis.defineCommand(name, script)

  const slot = (name: string) => `${prefix}:{${bucket(name)}}`
  const standingKey = (principal: string) => `${slot(principal)}:standing:${principal}`
  const principalsKey = (principal: string) => `${slot(principal)}:principals`
  const keyKey = (fingerprint: string) => `${slot(fingerprint)}:key:${fingerprint}`
  const fences = Array.from({ length: BUCKETS }, (_, i) => `${prefix}:{${i}}:fence`)
  const networksKey = `${prefix}:networks`
  const channel = cutChannel(prefix)
  const notice = (cut: CutNotice) => JSON.stringify(cut)

  const believed = (text: string | undefined): number => {
    const now = Number(text)
    if (!Number.isSafeInteger(now)) throw new StoreError('failed', `Redis gave no time but ${JSON.stringify(text)}`)
    if (believes(now)) return now
    throw new StoreError('clock', "Redis's clock went back, so nobody knows which windows are over; set it right")
  }

  const standing = async (principal: string): Promise<Standing> => {
    const [time, locked, ...rest] = await answered(redis.drawbridgeRead(standingKey(principal)))
    const now = believed(time)
    const grants: StandingGrant[] = []
    for (let i = 0; i + 4 < rest.length; i += 5) {
      const [json, expires, lastUsed, left, state] = rest.slice(i, i + 5) as [
        string,
        string,
        string,
        string,
        GrantState,
      ]
      grants.push({ ...liveGrant(json, expires, left, Number(lastUsed)), lastUsed: Number(lastUsed), state })
    }
    return locked ? { now, locked, grants } : { now, grants }
  }

  return {
    ask: async ask => {
      // An operation belongs to one principal, so its set can stand in that principal's slot.
      const counted = `${slot(ask.principal)}:counted:${ask.consume?.operation ?? ''}`
      const [kind, time, ...rest] = await answered(
        redis.drawbridgeAsk(fenceKey(ask.principal), standingKey(ask.principal), counted, JSON.stringify(ask)),
      )
      const now = believed(time)
      switch (kind) {
        case 'unconfirmed':
          return { kind, now }
        case 'locked':
          return { kind, now, reason: rest[0] ?? '' }
        case 'barred':
          return { kind, now, credential: rest[0] ?? '' }
        case 'live':
        case 'spent': {
          const grants: LiveGrant[] = []
          for (let i = 0; i + 3 < rest.length; i += 4) {
            const grant = liveGrant(rest[i]!, rest[i + 1]!, rest[i + 2]!, now)
            grants.push(rest[i + 3] === '' ? grant : { ...grant, carried: Number(rest[i + 3]) })
          }
          return { kind, now, grants }
        }
        default:
          throw new StoreError('failed', `ask.lua answered ${JSON.stringify(kind)}`)
      }
    },
    now: async () => {
      const [seconds, microseconds] = await answered(redis.time())
      return believed(String(Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000)))
    },

    put: (grant, since = {}) =>
      answered(
        redis.drawbridgePut(
          standingKey(grant.principal),
          principalsKey(grant.principal),
          grant.principal,
          grant.id,
          JSON.stringify(grant),
          String(grant.expires),
          String(since.lastUsed ?? grant.starts),
          String(since.left ?? grant.uses ?? ''),
          String(GRANTS_PER_PRINCIPAL_MAX),
          String(since.carried ?? ''),
        ),
      ),
    extend: ({ principal, grant, expires }) =>
      answered(redis.drawbridgeExtend(standingKey(principal), grant, String(expires))),
    revoke: async ({ principal, grant, reason, expires }) => {
      const cut = notice({ principal, grant, reason })
      const keys = [standingKey(principal), principalsKey(principal)]
      await answered(redis.drawbridgeRevoke(...keys, principal, grant, String(expires ?? ''), channel, cut))
    },
    lock: async (principal, reason, version) => {
      const cut = notice({ principal, reason })
      const keys = [standingKey(principal), principalsKey(principal)]
      // An empty reason would mean unlock.
      await answered(redis.drawbridgeLock(...keys, principal, reason || 'locked', String(version), channel, cut))
    },
    unlock: async (principal, version) => {
      const keys = [standingKey(principal), principalsKey(principal)]
      await answered(redis.drawbridgeLock(...keys, principal, '', String(version), channel, ''))
    },
    lockNetwork: async (network, reason, version) => {
      const cut = notice({ principal: lockOfNetwork(network), reason: reason ?? '' })
      const said = reason === undefined ? '' : reason || 'locked'
      await answered(redis.drawbridgeNetwork(networksKey, network, said, String(version), channel, cut))
    },
    lockedNetworks: async () => {
      const said = Object.entries(await answered(redis.hgetall(networksKey)))
      return said.map(([network, text]) => ({ network, reason: text.replace(/^\d+ /, '') })).filter(one => one.reason)
    },
    bar: async (principal, credential, { reason, expires, begins }) => {
      const cut = notice({ principal, reason })
      const keys = [standingKey(principal), principalsKey(principal)]
      const times = [String(expires ?? 0), String(begins ?? 0)]
      await answered(redis.drawbridgeBar(...keys, principal, credential, ...times, channel, cut))
    },

    putKey: async ({ fingerprint, principal, expires, signin = '' }) => {
      await answered(redis.drawbridgeKey(keyKey(fingerprint), 'put', principal, String(expires), signin))
    },
    dropKey: async (fingerprint, expires) => {
      await answered(redis.drawbridgeKey(keyKey(fingerprint), 'drop', '', String(expires)))
    },
    findKey: async fingerprint => {
      const found = await answered(redis.drawbridgeKey(keyKey(fingerprint), 'find'))
      if (!found) return undefined
      const [principal = '', expires, signin] = found
      return { principal, expires: Number(expires), ...(signin && { signin }) }
    },

    live: async principal => {
      const principals = principal === undefined ? await allPrincipals() : [principal]
      const all = await Promise.all(principals.map(standing))
      return all.flatMap(s => (s.locked === undefined ? s.grants.filter(g => g.state === 'live') : []))
    },
    standing,

    tokenKeys: async () => (await answered(redis.get(`${prefix}:token-keys`))) ?? undefined,
    putTokenKeys: async jwks => {
      await answered(redis.set(`${prefix}:token-keys`, jwks))
    },

    evicts: async () => {
      const memory = await answered(redis.info('memory'))
      const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(memory)?.[1]
      return field('maxmemory') !== '0' && field('maxmemory_policy') !== 'noeviction'
    },
    confirmed: async () => everyFence('read', ''),
    doubt: async () => {
      const ticket = crypto.randomUUID()
      await everyFence('doubt', ticket)
      return ticket
    },
    confirm: ticket => everyFence('confirm', ticket),
  }

  function fenceKey(principal: string): string {
    return `${slot(principal)}:fence`
  }

  async function everyFence(verb: 'read' | 'doubt' | 'confirm', ticket: string): Promise<boolean> {
    const done = await Promise.all(fences.map(fence => answered(redis.drawbridgeFence(fence, verb, ticket))))
    return done.every(one => one === 1)
  }

  async function allPrincipals(): Promise<string[]> {
    const buckets = Array.from({ length: BUCKETS }, (_, i) => `${prefix}:{${i}}:principals`)
    return (await Promise.all(buckets.map(key => answered(redis.smembers(key))))).flat()
  }
}

function liveGrant(json: string, expires: string, left: string, lastUsed: number): LiveGrant {
  const grant: Grant = { ...(JSON.parse(json) as Grant), expires: Number(expires) }
  if (!tellsItsApproval(grant)) {
    throw new StoreError('failed', `grant ${grant.id} says in no form of ours who approved it; put it again`)
  }
  const ends = grant.idle === undefined ? grant.expires : Math.min(grant.expires, lastUsed + grant.idle)
  return left === '' ? { ...grant, ends } : { ...grant, ends, left: Number(left) }
}

/** A name or version longer than this is none of ours. */
const WORD_CHARACTERS_MAX = 1_000

/** It goes into every record of the grant's use as it stands, so it has to be what the ledger means by it, and bounded. */
function tellsItsApproval({ approvers = [], policy = '' }: Grant): boolean {
  const isWord = (word: unknown) => typeof word === 'string' && word.length <= WORD_CHARACTERS_MAX
  return isWord(policy) && Array.isArray(approvers) && approvers.length <= APPROVERS_MAX && approvers.every(isWord)
}

/** FNV-1a, so that every process puts a principal into the same bucket. */
function bucket(name: string): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return hash % BUCKETS
}
