import { createHmac, timingSafeEqual } from 'node:crypto'

/** How Slack signs what it sends: https://docs.slack.dev/authentication/verifying-requests-from-slack */

const AGE_SECONDS_MAX = 300

export type SignatureFault = 'unsigned' | 'stale' | 'signature'

/**
 * Why this is not from Slack; undefined when it is.
 *
 * @param raw the body as it came: the signature is over its bytes, so one that was read and written again has none
 * @param now milliseconds since the epoch
 */
export function signatureFault(
  secret: string,
  headers: { readonly signature: string | undefined; readonly timestamp: string | undefined },
  raw: Buffer,
  now: number,
): SignatureFault | undefined {
  const { signature, timestamp } = headers
  if (signature === undefined || timestamp === undefined || !/^\d{1,12}$/.test(timestamp)) return 'unsigned'
  if (Math.abs(now / 1_000 - Number(timestamp)) > AGE_SECONDS_MAX) return 'stale'
  const right = Buffer.from(`v0=${createHmac('sha256', secret).update(`v0:${timestamp}:`).update(raw).digest('hex')}`)
  const given = Buffer.from(signature)
  return given.length === right.length && timingSafeEqual(given, right) ? undefined : 'signature'
}

/** How long a signature could be shown again. */
export const SIGNATURE_MILLISECONDS = 2 * AGE_SECONDS_MAX * 1_000
