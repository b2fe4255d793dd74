import { createHmac, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import type { HostHookSettings, MembersHostHookSettings } from '../../config/hooks.ts'
import type { Effect } from './effect.ts'
import type { Happening } from './happening.ts'

/** What a hook said, once it was believed: nothing that concerns us is an empty list. */
export type Heard =
  | {
      readonly id: string | undefined
      readonly effects: readonly Effect[]
      readonly reason: string
      /** What began or is over, for the policy to judge. */
      readonly happening?: Happening | undefined
    }
  | { readonly refused: 'unsigned' | 'signature' | 'malformed' }

type Said = Pick<Exclude<Heard, { refused: string }>, 'effects' | 'reason'>

/** What ends up in names of ours is one line. */
export const name = z.string().regex(/^\P{Cc}{1,255}$/u)

/** The signature of most hosts: HMAC with SHA-256 over the bytes that came, in lower-case hexadecimal. */
export const hmac = (secret: string, raw: Buffer): string => createHmac('sha256', secret).update(raw).digest('hex')

/**
 * The body as JSON, once the proof that came with it is the right one.
 * @param given what the sender showed; @param right what it had to be
 */
export function believed(
  given: string | undefined,
  right: string,
  raw: Buffer,
): { readonly body: unknown } | { readonly refused: 'unsigned' | 'signature' | 'malformed' } {
  if (given === undefined) return { refused: 'unsigned' }
  if (!same(given, right)) return { refused: 'signature' }
  try {
    return { body: JSON.parse(raw.toString('utf8')) }
  } catch {
    return { refused: 'malformed' }
  }
}

/**
 * Somebody left an organization: locked out where it is the one of the settings.
 * @param organization what the host calls it, each of which the settings may say
 */
export function left(settings: MembersHostHookSettings, organization: readonly string[], login: string): Said {
  const { organization: own, principal, name: hook } = settings
  const isOwn = organization.some(called => called.toLowerCase() === own?.toLowerCase())
  if (own === undefined || !isOwn) return { effects: [], reason: '' }
  const effects: Effect[] = [{ kind: 'lock', principal: principal.replaceAll('{login}', login) }]
  return { effects, reason: `${login} left ${own}, says ${hook}` }
}

/** A repository is no more under this path. */
export function gone({ upstream, name: hook }: HostHookSettings, path: string, what: string): Said {
  const effects: Effect[] = [{ kind: 'gone', repository: `${upstream}/${path}` }]
  return { effects, reason: `${path} ${what}, says ${hook}` }
}

/** Everything below a path is called otherwise now: a group, a user or an organization was renamed. */
export function goneBelow({ upstream, name: hook }: HostHookSettings, path: string, what: string): Said {
  const effects: Effect[] = [{ kind: 'gone-below', path: `${upstream}/${path}` }]
  return { effects, reason: `${path} ${what}, says ${hook}` }
}

/** In constant time; which of the two is longer may be seen. */
function same(given: string, right: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(right)]
  return a.length === b.length && timingSafeEqual(a, b)
}
