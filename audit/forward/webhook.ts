import { Webhook } from 'standardwebhooks'
import { cloudEventText } from '../export.ts'
import type { Forwarder } from './forwarder.ts'

const RECORDS_PER_POST = 500
const ANSWER_MILLISECONDS_MAX = 30_000

export interface WebhookOptions {
  readonly name: string
  readonly url: URL
  /** `whsec_` and base64. */
  readonly secret: string
  /** `source` of the events. */
  readonly source: string
}

/**
 * POSTs batches of CloudEvents, signed as Standard Webhooks has it. `webhook-id` says which records: a batch that is sent again has the same,
 * and so has each event in it. Any 2xx is taken; redirects are not followed, they would lead the record elsewhere.
 */
export function webhook({ name, url, secret, source }: WebhookOptions): Forwarder {
  const signer = new Webhook(secret)
  return {
    name,
    records: RECORDS_PER_POST,
    async send({ from, to, rows }, signal) {
      const body = `[${rows.map(row => cloudEventText(row, source)).join(',')}]`
      const id = `ledger-${from}-${to}`
      const at = new Date()
      const response = await fetch(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/cloudevents-batch+json; charset=utf-8',
          'webhook-id': id,
          'webhook-timestamp': String(Math.floor(at.getTime() / 1_000)),
          'webhook-signature': signer.sign(id, at, body),
        },
        body,
        redirect: 'manual',
        signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MILLISECONDS_MAX)]),
      })
      await response.body?.cancel()
      if (!response.ok) throw new Error(`${url.origin} answered ${response.status}`)
    },
  }
}
