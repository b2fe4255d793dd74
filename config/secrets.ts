import type { Settings } from './settings.ts'

/** Settings whose value is a secret, wherever they stand. */
const SECRET_NAMES: ReadonlySet<string> = new Set([
  'password',
  'token',
  'appToken',
  'secret',
  'secretKey',
  'clientSecret',
  'signingSecret',
  'privateKey',
  'passphrase',
])

/**
 * Every secret in the settings, in the spellings it may be met in: what must stand in no record and no log. Passwords in the
 * addresses of Redis, PostgreSQL and others are among them, and for HTTP Basic the pair as it is sent.
 */
export function secretsOf(settings: Settings): string[] {
  const found = new Set<string>()
  const visit = (value: unknown, name: string): void => {
    if (typeof value === 'string') {
      for (const secret of isSecret(name, value) ? linesOf(value) : passwordIn(value)) found.add(secret)
    } else if (value instanceof URL) {
      visit(value.href, name)
      // Workflows of Microsoft's are opened by nothing but this part of their address.
      const signature = value.searchParams.get('sig')
      if (signature) for (const spelling of [signature, encodeURIComponent(signature)]) found.add(spelling)
    } else if (value instanceof Map) for (const [key, each] of value) visit(each, String(key))
    else if (Array.isArray(value)) for (const each of value) visit(each, name)
    else if (typeof value === 'object' && value !== null) {
      for (const [key, each] of Object.entries(value)) visit(each, key)
      const { username, password } = value as { username?: unknown; password?: unknown }
      if (typeof password === 'string') found.add(Buffer.from(`${username ?? ''}:${password}`).toString('base64'))
    }
  }
  visit(settings, '')
  return [...found]
}

function isSecret(name: string, value: string): boolean {
  return SECRET_NAMES.has(name) || value.includes('PRIVATE KEY-----')
}

// A private key is met line by line: logs and records escape its line ends.
function linesOf(secret: string): string[] {
  return secret.split(/\r?\n/).filter(line => line !== '' && !line.startsWith('-----'))
}

function passwordIn(address: string): string[] {
  const [, password] = /^[a-z][a-z0-9+.-]*:\/\/[^\s:/@]*:([^\s/@]+)@/i.exec(address) ?? []
  if (password === undefined) return []
  try {
    return [password, decodeURIComponent(password)]
  } catch {
    return [password]
  }
}
