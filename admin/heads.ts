import type { Redis } from 'ioredis'
import { type Publisher, redisHeads, streamHeads, webhookHeads } from '../audit/publish.ts'
import type { HeadsSettings } from '../config/heads.ts'

/** Kept in the stream: about 30 MB, eleven days of a head every ten seconds. */
const STREAM_HEADS_MAX = 100_000

/** The places outside the database where heads go, as the settings say. */
export function headPublishers({ stdout, webhook, redis: stream }: HeadsSettings, redis: Redis): Publisher[] {
  const publishers: Publisher[] = []
  if (stdout) publishers.push(streamHeads(process.stdout))
  if (webhook) {
    const headers = Object.fromEntries(webhook.headers.map(({ name, secret }) => [name, secret]))
    publishers.push(webhookHeads(webhook.url, headers))
  }
  if (stream !== undefined) {
    publishers.push(
      redisHeads((field, value) => redis.xadd(stream, 'MAXLEN', '~', STREAM_HEADS_MAX, '*', field, value)),
    )
  }
  return publishers
}
