import { jsonLine } from '../export.ts'
import { sha256Hex, signRequest } from '../sigv4.ts'
import type { Forwarder } from './forwarder.ts'

const RECORDS_PER_OBJECT = 2_000
const LINGER_MILLISECONDS = 60_000
const ANSWER_MILLISECONDS_MAX = 60_000

export interface ObjectsOptions {
  readonly name: string
  /** Of the service; the bucket is the first part of the path. */
  readonly endpoint: URL
  readonly region: string
  readonly bucket: string
  readonly accessKey: string
  readonly secretKey: string
  /** Before the names of the objects. */
  readonly prefix: string
  readonly linger?: number
}

/**
 * Puts JSON Lines into a bucket by S3's protocol, under `PREFIX2026/01/31/ledger-FIRST-LAST.jsonl`. Sent again it has the same name and the same
 * content. The objects one after another are what `audit verify --export` reads.
 */
export function objects(options: ObjectsOptions): Forwarder {
  const { name, endpoint, region, bucket, prefix, linger = LINGER_MILLISECONDS } = options
  const credentials = { accessKeyId: options.accessKey, secretAccessKey: options.secretKey }
  return {
    name,
    records: RECORDS_PER_OBJECT,
    linger,
    async send({ from, to, rows }, signal) {
      const day = rows[0]!.recorded.slice(0, 10).replaceAll('-', '/')
      const digits = (seq: number) => String(seq).padStart(12, '0')
      const url = new URL(endpoint)
      const key = `${prefix}${day}/ledger-${digits(from)}-${digits(to)}.jsonl`
      const path = [bucket, ...key.split('/')].map(encodeURIComponent).join('/')
      url.pathname = `${url.pathname.replace(/\/$/, '')}/${path}`
      const body = Buffer.from(rows.map(jsonLine).join(''))
      const headers = { 'content-type': 'application/x-ndjson', 'x-amz-content-sha256': sha256Hex(body) }
      const request = { method: 'PUT', url, headers, body, region, service: 's3', now: Date.now() } as const
      const response = await fetch(url, {
        method: 'PUT',
        headers: signRequest(request, credentials),
        body,
        redirect: 'manual',
        signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MILLISECONDS_MAX)]),
      })
      await response.body?.cancel()
      if (!response.ok) throw new Error(`${endpoint.origin} answered ${response.status} to ${key}`)
    },
  }
}
