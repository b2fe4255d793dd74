import { Webhook } from 'standardwebhooks'
import type { WebhookSettings } from '../../config/notify.ts'
import type { Channel } from './channel.ts'
import { post, requireTaken } from './outward.ts'

/**
 * Notices for programs, signed as standardwebhooks.com says: `webhook-id` stays the same on every attempt, the time and with it
 * the signature are those of the attempt.
 */
export function webhookChannel({ name, url, secret }: WebhookSettings, clock: () => number = Date.now): Channel {
  const signer = new Webhook(secret)
  return {
    name,
    recipients: async () => [{ address: '' }],
    send: async ({ id, content }, signal) => {
      const body = JSON.stringify(content)
      const at = new Date(clock())
      const headers = {
        'content-type': 'application/json',
        'user-agent': 'drawbridge',
        'webhook-id': id,
        'webhook-timestamp': String(Math.floor(at.getTime() / 1_000)),
        'webhook-signature': signer.sign(id, at, body),
      }
      requireTaken(await post(url, headers, body, signal), url.host)
      return undefined
    },
  }
}
