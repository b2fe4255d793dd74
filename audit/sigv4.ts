import { createHash, createHmac } from 'node:crypto'

// AWS Signature Version 4 of a request whose body is at hand, in the Authorization header ("Create a signed AWS API request", AWS
// IAM User Guide).

export interface AwsCredentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

export interface AwsRequest {
  readonly method: 'POST' | 'PUT'
  readonly url: URL
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | Uint8Array
  readonly region: string
  readonly service: string
  /** Milliseconds since 1970. */
  readonly now: number
}

/** The headers of the request with its date and `authorization`; all of them are to be sent as they are. */
export function signRequest(request: AwsRequest, credentials: AwsCredentials): Record<string, string> {
  const { method, url, region, service } = request
  const date = new Date(request.now).toISOString().replace(/[-:]|\.\d+/g, '')
  const scope = `${date.slice(0, 8)}/${region}/${service}/aws4_request`
  const sent: Record<string, string> = {
    ...request.headers,
    'x-amz-date': date,
    ...(credentials.sessionToken !== undefined && { 'x-amz-security-token': credentials.sessionToken }),
  }
  const signed = Object.entries({ ...sent, host: url.host }).sort(([a], [b]) => (a < b ? -1 : 1))
  const names = signed.map(([name]) => name).join(';')
  const canonical = [
    method,
    // Once, which is S3's rule; to other services the path here is "/".
    url.pathname
      .split('/')
      .map(segment => encoded(decodeURIComponent(segment)))
      .join('/'),
    [...url.searchParams]
      .map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
      .sort()
      .join('&'),
    ...signed.map(([name, value]) => `${name}:${value.trim().replace(/ +/g, ' ')}`),
    '',
    names,
    sha256Hex(request.body),
  ].join('\n')
  const toSign = ['AWS4-HMAC-SHA256', date, scope, sha256Hex(canonical)].join('\n')
  const key = scope.split('/').reduce<Buffer>(hmac, Buffer.from(`AWS4${credentials.secretAccessKey}`))
  const signature = hmac(key, toSign).toString('hex')
  return {
    ...sent,
    authorization: `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${names}, Signature=${signature}`,
  }
}

/** RFC 3986's unreserved characters stand, everything else is escaped. */
function encoded(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, c => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
}

/** As S3 wants it of a body, in `x-amz-content-sha256`. */
export function sha256Hex(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}
