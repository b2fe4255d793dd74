import { createHash, createHmac } from 'node:crypto'

// AWS Signature Version 4, in the Authorization header, of a request whose body is at hand.

export interface Credentials {
  readonly accessKey: string
  readonly secretKey: string
}

/**
 * The headers of a request with those that sign it: `x-amz-date`, `x-amz-content-sha256` and `authorization`.
 * @param headers further ones to sign, by lower-case name
 */
export function signed(
  request: {
    readonly method: string
    readonly url: URL
    readonly headers?: Readonly<{ [name: string]: string }>
    readonly body: Uint8Array
  },
  { accessKey, secretKey }: Credentials,
  region: string,
  now: Date,
): { [name: string]: string } {
  const { method, url, body } = request
  const time = now.toISOString().replace(/[-:]|\.\d{3}/g, '')
  const content = sha256(body)
  const headers: { [name: string]: string } = {
    ...request.headers,
    host: url.host,
    'x-amz-content-sha256': content,
    'x-amz-date': time,
  }
  const names = Object.keys(headers).sort()
  const canonical = [
    method,
    url.pathname
      .split('/')
      .map(segment => encoded(decodeURIComponent(segment)))
      .join('/'),
    [...url.searchParams]
      .map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
      .sort()
      .join('&'),
    ...names.map(name => `${name}:${headers[name]!.trim()}`),
    '',
    names.join(';'),
    content,
  ].join('\n')
  const day = time.slice(0, 8)
  const scope = `${day}/${region}/s3/aws4_request`
  const text = ['AWS4-HMAC-SHA256', time, scope, sha256(Buffer.from(canonical))].join('\n')
  const key = [day, region, 's3', 'aws4_request'].reduce<Buffer>(hmac, Buffer.from(`AWS4${secretKey}`))
  const signature = hmac(key, text).toString('hex')
  const authorization = `AWS4-HMAC-SHA256 Credential=${accessKey}/${scope},SignedHeaders=${names.join(';')},Signature=${signature}`
  return { ...headers, authorization }
}

/** RFC 3986's unreserved characters stand, everything else is escaped. */
function encoded(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, c => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const hmac = (key: Buffer, text: string) => createHmac('sha256', key).update(text).digest()
