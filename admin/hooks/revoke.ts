import { Webhook } from 'standardwebhooks'
import { z } from 'zod'
import type { RevokeHookSettings } from '../../config/hooks.ts'
import { checkNetwork } from '../../config/policy/network.ts'
import { networkOf } from '../../grant/network.ts'
import { principal, reason, repositoryPattern } from '../api/fields.ts'
import type { Incoming } from '../notify/channel.ts'
import type { Effect } from './effect.ts'
import type { Heard } from './heard.ts'

/** `{ "principal" | "repository" | "key" | "network": …, "reason": … }` from programs that watch, signed as standardwebhooks.com says. */

/** A program's slip of a bit is not to lock out everybody: whoever means more says it by hand. */
const WIDEST = { v4: 8, v6: 16 } as const

function isNetwork(text: string): boolean {
  if (checkNetwork(text) !== undefined) return false
  const [address = '', bits] = text.split('/')
  return bits === undefined || Number(bits) >= (address.includes(':') ? WIDEST.v6 : WIDEST.v4)
}

const body = z
  .strictObject({
    principal: principal.refine(named => networkOf(named) === undefined).optional(),
    repository: repositoryPattern.optional(),
    key: z
      .string()
      .regex(/^SHA256:[A-Za-z0-9+/]{43}$/)
      .optional(),
    network: z.string().max(60).refine(isNetwork).optional(),
    reason,
  })
  .refine(({ reason: _, ...named }) => Object.values(named).some(one => one !== undefined))

export function fromWatcher({ secret }: RevokeHookSettings, { raw, header }: Incoming): Heard {
  const id = header('webhook-id')
  const timestamp = header('webhook-timestamp')
  const signature = header('webhook-signature')
  if (id === undefined || timestamp === undefined || signature === undefined) return { refused: 'unsigned' }
  let said: unknown
  try {
    const headers = { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature }
    // The library knows what is stale: five minutes.
    said = new Webhook(secret).verify(raw, headers)
  } catch {
    return { refused: 'signature' }
  }
  const read = body.safeParse(said)
  if (!read.success) return { refused: 'malformed' }
  const effects: Effect[] = []
  if (read.data.principal !== undefined) effects.push({ kind: 'lock', principal: read.data.principal })
  if (read.data.repository !== undefined) effects.push({ kind: 'end', repository: read.data.repository })
  if (read.data.key !== undefined) effects.push({ kind: 'key', fingerprint: read.data.key })
  if (read.data.network !== undefined) effects.push({ kind: 'network', network: read.data.network })
  return { id, effects, reason: read.data.reason }
}
