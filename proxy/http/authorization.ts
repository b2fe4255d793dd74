/** What a client showed to say who it is. */
export interface HttpCredential {
  readonly scheme: 'basic' | 'bearer'
  readonly token: string
  /** Basic's user name; proves nothing. */
  readonly username?: string
}

const AUTHORIZATION_CHARACTERS_MAX = 12 * 1024

// RFC 7617: base64 of `user:password`. RFC 6750: b64token. The scheme's case does not matter (RFC 9110, 11.1).
const BASIC = /^basic +([A-Za-z0-9+/]+={0,2})$/i
const BEARER = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i

/** Reads an Authorization header; undefined when it holds no credential in one of the two forms we take. */
export function parseAuthorization(header: string): HttpCredential | undefined {
  if (header.length > AUTHORIZATION_CHARACTERS_MAX) return undefined
  const bearer = BEARER.exec(header)
  if (bearer) return { scheme: 'bearer', token: bearer[1]! }
  const basic = BASIC.exec(header)
  if (!basic) return undefined
  const pair = Buffer.from(basic[1]!, 'base64').toString('utf8')
  const colon = pair.indexOf(':')
  if (colon < 0 || colon === pair.length - 1) return undefined
  return { scheme: 'basic', username: pair.slice(0, colon), token: pair.slice(colon + 1) }
}
