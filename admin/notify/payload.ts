import { writeFileSync } from 'node:fs'
import { z } from 'zod'
import { EVENTS } from '../../config/notify.ts'
import { ACTIONS } from '../../grant/grant.ts'

/**
 * What a notice says: the facts as they were in the commit that made it. Webhooks send it as it is, every other channel puts it
 * into words. Names are stable and new members may come. `node admin/notify/payload.ts` writes the JSON Schema.
 */

const time = z.iso.datetime().describe('RFC 3339, UTC')
const milliseconds = z.int().min(0).describe('milliseconds')

const window = z.object({
  grant: z.string(),
  principal: z.string(),
  repository: z.string().describe('<upstream>/<path>, or a pattern over them'),
  actions: z.array(z.enum(ACTIONS)),
  refs: z.array(z.string()).describe('empty: any branch or tag'),
  starts_at: time,
  expires_at: time,
  idle: milliseconds.optional().describe('it ends when it is not used for this long'),
  ended: z.enum(['expired', 'revoked', 'released', 'idle', 'used', 'locked']).optional(),
})

const request = z.object({
  id: z.string(),
  state: z.enum(['requested', 'approved', 'denied', 'withdrawn', 'lapsed']),
  principal: z.string().describe('who gets the window'),
  requester: z.string().describe('who asked'),
  targets: z.array(z.object({ repository: z.string(), actions: z.array(z.enum(ACTIONS)), refs: z.array(z.string()) })),
  paths: z
    .array(z.array(z.string()))
    .optional()
    .describe('a push changes only what each of these lists allows; ! in front of what it may not'),
  for: milliseconds,
  recurring: z.string().optional().describe('the hours, where there is a window each time they come'),
  starts_at: time.optional(),
  idle: milliseconds.optional(),
  reason: z.string(),
  ticket: z.string().optional(),
  break_glass: z.boolean(),
  digest: z.string().describe('of exactly what was asked; a vote carries it'),
  policy: z.string(),
  rules: z.array(z.string()),
  approvers: z.string().describe('who has to approve'),
  waiting_for: z.string().optional().describe('who is asked now'),
  votes: z.array(
    z.object({
      by: z.string(),
      says: z.enum(['approve', 'deny']),
      at: time,
      comment: z.string().optional(),
      via: z.string().optional().describe('by which way it came: slack, email, teams, ssh, cli, api'),
    }),
  ),
  lapses_at: time,
  last: z
    .object({
      at: time,
      action: z.enum(['list', 'fetch', 'push', 'archive']),
      repository: z.string(),
      result: z.enum(['ok', 'failed', 'cut', 'refused', 'interrupted']),
    })
    .optional()
    .describe('what the principal did last, by the ledger; while it is open'),
  windows: z.array(window),
})

const finding = z.object({
  anomaly: z
    .enum(['volume', 'spread', 'network', 'last-moment', 'refusals'])
    .optional()
    .describe('what is unusual for them; absent of a bypass'),
  repository: z.string().optional(),
  operation: z.string().optional().describe('at which it was found'),
  grant: z.string().optional(),
  ref: z.string().optional().describe('of a bypass: which ref was moved'),
  left: z.string().optional().describe('of a bypass: where the last recorded push left it'),
  found: z.string().optional().describe('of a bypass: where the next push or listing found it'),
})

const comment = z.object({
  via: z.string().optional().describe('by which way it came, as of a vote'),
  channel: z.string().optional().describe('the channel it came by'),
})

export const payload = z
  .object({
    type: z.enum(EVENTS),
    timestamp: time.describe('when it happened'),
    data: z.object({
      by: z.string().describe('who did it, or drawbridge itself'),
      principal: z.string().describe('whom it is about'),
      reason: z.string(),
      request: request.optional(),
      window: window.optional(),
      comment: comment.optional().describe('somebody said something, which is the reason; it decides nothing'),
      finding: finding.optional().describe('what the record showed'),
    }),
  })
  .meta({ title: 'Drawbridge notice', description: 'What a webhook of Drawbridge carries.' })

export type Payload = z.infer<typeof payload>
export type RequestFacts = z.infer<typeof request>
export type WindowFacts = z.infer<typeof window>

/** The published schema, as text. */
export function payloadSchema(): string {
  // `io: input` leaves room for members to come; receivers pass over what they do not know.
  return `${JSON.stringify(z.toJSONSchema(payload, { io: 'input' }), null, 2)}\n`
}

if (import.meta.main) writeFileSync(new URL('../../config/notice.schema.json', import.meta.url), payloadSchema())
