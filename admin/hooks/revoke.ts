import { Webhook } from 'standardwebhooks'
import { z } from 'zod'
import type { RevokeHookSettings } from '../../config/hooks.ts'
import { principal, reason, repositoryPattern } from '../api/fields.ts'
import type { Incoming } from '../notify/channel.ts'
import type { Effect } from './effect.ts'
import type { Heard } from './heard.ts'

/** `{ "principal" | "repository" | "key": …, "reason": … }` from programs that watch, signed as standardwebhooks.com says. */

const body = z
  .strictObject({
    principal: principal.optional(),
    repository: repositoryPattern.optional(),
    key: z
      .string()
      .regex(/^SHA256:[A-Za-z0-9+/]{43}$/)
      .optional(),
    reason,
  })
  .refine(({ principal, repository, key }) => [principal, repository, key].some(one => one !== undefined))

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
  return { id, effects, reason: read.data.reason }
}
