import { createHmac, createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exportJWK, type JWK, SignJWT } from 'jose'
import { beforeAll, expect, test } from 'vitest'
import {
  issueToken,
  loadOrCreateTokenKey,
  publicKeySet,
  type TokenContent,
  type TokenKey,
  type TokenOptions,
  verifyToken,
} from '../../ca/token.ts'
import { temporaryFolder } from '../support/program.ts'
import { NOON, temporaryDirectory } from './keys.ts'

let key: TokenKey
let other: TokenKey
let options: TokenOptions

beforeAll(async () => {
  key = await loadOrCreateTokenKey(join(temporaryFolder('token'), 'a'))
  other = await loadOrCreateTokenKey(join(temporaryFolder('token'), 'b'))
  options = {
    keys: publicKeySet(key),
    audience: 'https://gate.example.org',
    issuer: 'https://admin.example.org',
    now: NOON,
  }
})

const content: TokenContent = {
  id: 't-1',
  principal: 'ada@example.org',
  roles: ['developer', 'approver'],
  audience: 'https://gate.example.org',
  issuer: 'https://admin.example.org',
  expires: NOON + 3_600_000,
  now: NOON,
}

async function code(token: string, changes: Partial<TokenOptions> = {}): Promise<string> {
  const result = await verifyToken(token, { ...options, ...changes })
  return result.ok ? 'ok' : result.code
}

const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
const parts = (token: string) => token.split('.').map(part => part) as [string, string, string]

/** A token with another header and its good payload, signed by whatever `signer` makes of the signing input. */
async function reheaded(header: object, signer: (input: string) => string): Promise<string> {
  const [, payload] = parts(await issueToken(key, content))
  const input = `${base64url(header)}.${payload}`
  return `${input}.${signer(input)}`
}

const HEADER = () => ({ alg: 'EdDSA', typ: 'drawbridge-session+jwt', kid: key.kid })
/** Signed with the right key, so that only the header can be what is refused. */
async function signed(header: object, payload: object): Promise<string> {
  return new SignJWT(payload as Record<string, unknown>)
    .setProtectedHeader(header as never)
    .sign(key.privateKey, { crit: { 'x-rule': true } })
}
const CLAIMS = () => ({
  jti: 't-1',
  sub: 'ada',
  roles: ['developer'],
  aud: options.audience,
  iss: options.issuer,
  iat: NOON / 1000,
  nbf: NOON / 1000,
  exp: NOON / 1000 + 60,
})

test('a token comes back as what it was issued with', async () => {
  const result = await verifyToken(await issueToken(key, content), options)
  const { now, ...issued } = content
  expect(result).toEqual({ ok: true, claims: { ...issued, issued: now } })
})

test('it is good until its last second and not one longer, and not before it was issued', async () => {
  const token = await issueToken(key, content)
  expect(await code(token, { now: NOON + 3_599_999 })).toBe('ok')
  expect(await code(token, { now: NOON + 3_600_000 })).toBe('expired')
  expect(await code(token, { now: NOON - 1000 })).toBe('not-yet-valid')
})

test('a token for another audience, several audiences, or from another issuer is refused', async () => {
  expect(await code(await issueToken(key, { ...content, audience: 'https://other' }))).toBe('audience')
  expect(await code(await signed(HEADER(), { ...CLAIMS(), aud: [options.audience, 'https://other'] }))).toBe('audience')
  expect(await code(await issueToken(key, { ...content, issuer: 'https://other' }))).toBe('issuer')
})

test('alg none: a token without a signature is refused, in every spelling', async () => {
  for (const alg of ['none', 'None', 'NONE', 'nOnE', '', undefined]) {
    expect(await code(await reheaded({ ...HEADER(), alg }, () => ''))).not.toBe('ok')
  }
  const [header, payload] = parts(await issueToken(key, content))
  expect(await code(`${header}.${payload}.`)).toBe('signature')
  expect(await code(`${header}.${payload}`)).toBe('malformed')
})

test('HS and RS confusion: an HMAC keyed with our public key, or an RSA signature, is refused', async () => {
  const publicKey = createPublicKey({ format: 'jwk', key: key.publicJwk as never })
  const secrets = [
    publicKey.export({ format: 'pem', type: 'spki' }),
    publicKey.export({ format: 'der', type: 'spki' }),
    Buffer.from(key.publicJwk.x!, 'base64url'),
    JSON.stringify(key.publicJwk),
  ]
  for (const secret of secrets) {
    const hmac = (input: string) => createHmac('sha256', secret).update(input).digest('base64url')
    expect(await code(await reheaded({ ...HEADER(), alg: 'HS256' }, hmac))).toBe('algorithm')
    expect(await code(await reheaded(HEADER(), hmac))).toBe('signature')
  }
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const rs256 = (input: string) => sign('sha256', Buffer.from(input), rsa.privateKey).toString('base64url')
  expect(await code(await reheaded({ ...HEADER(), alg: 'RS256' }, rs256))).toBe('algorithm')
  // Even where such keys stand in the set under that id.
  const rsaJwk = { ...(await exportJWK(rsa.publicKey)), kid: 'rsa' }
  const octJwk: JWK = { kty: 'oct', k: Buffer.from('secret').toString('base64url'), kid: 'oct' }
  const keys = { keys: [...options.keys.keys, rsaJwk, octJwk] }
  const hmac = (input: string) => createHmac('sha256', 'secret').update(input).digest('base64url')
  expect(await code(await reheaded({ ...HEADER(), alg: 'RS256', kid: 'rsa' }, rs256), { keys })).toBe('algorithm')
  expect(await code(await reheaded({ ...HEADER(), kid: 'rsa' }, rs256), { keys })).toBe('unknown-key')
  expect(await code(await reheaded({ ...HEADER(), kid: 'oct' }, hmac), { keys })).toBe('unknown-key')
})

test('a key id that is unknown, missing, or a path is refused, and a good one signed by another key too', async () => {
  expect(await code(await issueToken(other, content))).toBe('unknown-key')
  for (const kid of [undefined, '', '../../dev/null', "' or 1=1 --", 7, null, { a: 1 }]) {
    expect(['unknown-key', 'malformed']).toContain(await code(await reheaded({ ...HEADER(), kid }, () => 'AAAA')))
  }
  expect(await code(await issueToken({ ...other, kid: key.kid }, content))).toBe('signature')
})

test('a token that brings its own key, names where to fetch one, or asks for rules we do not keep is refused', async () => {
  for (const extra of [
    { jwk: other.publicJwk },
    { jku: 'https://evil.example/jwks' },
    { x5u: 'https://evil.example' },
    { x5c: ['AAAA'] },
    { b64: true },
    { zip: 'DEF' },
    { cty: 'JWT' },
  ]) {
    expect(await code(await signed({ ...HEADER(), ...extra }, CLAIMS()))).toBe('header')
  }
  expect(await code(await signed({ ...HEADER(), crit: ['x-rule'], 'x-rule': 1 }, CLAIMS()))).toBe('header')
})

test('a JWT of another type by the same key is no session', async () => {
  for (const typ of ['JWT', 'at+jwt', undefined, 'drawbridge-session']) {
    expect(await code(await signed({ ...HEADER(), typ }, CLAIMS()))).toBe('type')
  }
})

test.each(['jti', 'sub', 'aud', 'iss', 'iat', 'nbf', 'exp', 'roles'] as const)(
  'a token without %s is refused',
  async claim => {
    const { [claim]: _, ...claims } = CLAIMS()
    expect(['claims', 'audience', 'issuer']).toContain(await code(await signed(HEADER(), claims)))
  },
)

test('a role nobody knows, or a claim of the wrong kind, is refused', async () => {
  for (const wrong of [
    { roles: ['root'] },
    { roles: 'admin' },
    { sub: '' },
    { jti: 7 },
    { exp: '9999999999' },
    { sub: 'a'.repeat(300) },
  ]) {
    expect(await code(await signed(HEADER(), { ...CLAIMS(), ...wrong }))).toBe('claims')
  }
})

test('every truncation, a changed payload and a token of a megabyte are refused without an exception', async () => {
  const token = await issueToken(key, content)
  for (let length = 0; length < token.length; length += 3) expect(await code(token.slice(0, length))).not.toBe('ok')
  const [header, , signature] = parts(token)
  expect(await code(`${header}.${base64url({ ...CLAIMS(), roles: ['admin'] })}.${signature}`)).toBe('signature')
  expect(await code('a'.repeat(1 << 20))).toBe('malformed')
  expect(await code('..')).toBe('malformed')
  expect(await code('\0')).toBe('malformed')
})

test('the key is kept in a private file, and found again there', async () => {
  const directory = join(temporaryDirectory(), 'tokens')
  const made = await loadOrCreateTokenKey(directory)
  const file = join(directory, 'token.jwk')
  expect(statSync(file).mode & 0o777).toBe(0o600)
  const found = await loadOrCreateTokenKey(directory)
  expect(found.kid).toBe(made.kid)
  expect(await code(await issueToken(found, content), { keys: publicKeySet(made) })).toBe('ok')
  expect(JSON.stringify(publicKeySet(made))).not.toContain(JSON.parse(readFileSync(file, 'utf8')).d)
  writeFileSync(file, '{}')
  await expect(loadOrCreateTokenKey(directory)).rejects.toThrow(/no Ed25519 key/)
})
