import { sign as cryptoSign } from 'node:crypto'
import { expect, test } from 'vitest'
import { matchSourceAddress } from '../../ca/address.ts'
import { type Certificate, encodeCertificate, encodeUnsigned, FOREVER, parseCertificate } from '../../ca/certificate.ts'
import { type CheckOptions, checkCertificate } from '../../ca/check.ts'
import { sign } from '../../ca/signature.ts'
import { string } from '../../ca/wire.ts'
import { keys, NOON, NOON_SECONDS, userCertificate } from './keys.ts'

const ca = keys.ed25519

function check(certificate: Certificate, changes: Partial<CheckOptions> = {}): string {
  const result = checkCertificate(certificate, {
    type: 'user',
    principal: 'ada',
    address: '192.0.2.7',
    now: NOON,
    isAuthority: blob => blob.equals(ca.blob),
    isRevoked: () => false,
    ...changes,
  })
  return result.ok ? 'ok' : result.code
}

test('a good certificate is taken, from its first second to the last before its end', async () => {
  const certificate = await userCertificate(ca, keys.p256)
  const start = Number(certificate.validAfter) * 1000
  const end = Number(certificate.validBefore) * 1000
  expect([start - 1, start, end - 1, end].map(now => check(certificate, { now }))).toEqual([
    'not-yet-valid',
    'ok',
    'ok',
    'expired',
  ])
})

test('for ever is for ever', async () => {
  const certificate = await userCertificate(ca, keys.p256, { validAfter: 0n, validBefore: FOREVER })
  expect(check(certificate)).toBe('ok')
})

test('an authority that is not trusted is refused, whatever else it says', async () => {
  expect(check(await userCertificate(keys.p384, keys.p256))).toBe('unknown-authority')
})

/** The certificate names the authority, but somebody else signed it. */
test('the name of the authority without its signature is worth nothing', async () => {
  const fields = { ...(await userCertificate(keys.p256, keys.p256)), authority: ca.blob }
  const certificate = parseCertificate(encodeCertificate(fields, sign(keys.p256.privateKey, encodeUnsigned(fields))))
  expect(check(certificate)).toBe('bad-signature')
})

test('a certificate signed by an RSA authority with SHA-1 is refused', async () => {
  const good = await userCertificate(keys.rsa, keys.p256)
  for (const name of ['ssh-rsa', 'rsa-sha2-256', 'rsa-sha2-512']) {
    const signature = Buffer.concat([string(name), string(cryptoSign('sha1', good.signed, keys.rsa.privateKey))])
    const certificate = parseCertificate(Buffer.concat([good.signed, string(signature)]))
    expect(check(certificate, { isAuthority: blob => blob.equals(keys.rsa.blob) })).toBe('bad-signature')
  }
})

test('a host certificate does not log a user in, and a user certificate is no host', async () => {
  const host = await userCertificate(ca, keys.p256, { type: 'host', principals: ['ada'] })
  expect(check(host)).toBe('wrong-type')
  expect(check(host, { type: 'host' })).toBe('ok')
  expect(check(await userCertificate(ca, keys.p256), { type: 'host' })).toBe('wrong-type')
})

test('a certificate without principals is for nobody, where PROTOCOL.certkeys would let it be for everybody', async () => {
  const certificate = await userCertificate(ca, keys.p256, { principals: [] })
  expect(check(certificate)).toBe('no-principals')
  expect(
    checkCertificate(certificate, { type: 'user', now: NOON, isAuthority: () => true, isRevoked: () => false }),
  ).toMatchObject({ code: 'no-principals' })
})

test.each(['', 'a', 'ad', 'adaa', 'Ada', 'ada ', '*', 'ada,bob', 'ada\u0301'])(
  'principal %j is not ada',
  async principal => {
    expect(check(await userCertificate(ca, keys.p256), { principal })).toBe('wrong-principal')
    expect(check(await userCertificate(ca, keys.p256, { principals: [principal, 'bob'] }))).toBe('wrong-principal')
  },
)

test('critical options that nobody enforces are refused; extensions that nobody knows are not', async () => {
  const forced = await userCertificate(ca, keys.p256, { criticalOptions: new Map([['force-command', 'true']]) })
  expect(check(forced)).toBe('unknown-critical-option')
  expect(check(forced, { criticalOptions: ['force-command'] })).toBe('ok')
  const flag = await userCertificate(ca, keys.p256, { criticalOptions: new Map([['verify-required', true]]) })
  expect(check(flag)).toBe('unknown-critical-option')
  expect(check(await userCertificate(ca, keys.p256, { extensions: new Map([['nobody@example.org', true]]) }))).toBe(
    'ok',
  )
})

test('no critical option is understood in a host certificate, as in OpenSSH', async () => {
  const host = await userCertificate(ca, keys.p256, {
    type: 'host',
    criticalOptions: new Map([['source-address', '0.0.0.0/0']]),
  })
  expect(check(host, { type: 'host', criticalOptions: ['source-address'] })).toBe('unknown-critical-option')
})

test('a revoked certificate is refused, and is asked about only after its signature is known to be good', async () => {
  expect(check(await userCertificate(ca, keys.p256), { isRevoked: ({ serial }) => serial === 7n })).toBe('revoked')
  let asked = false
  check(await userCertificate(keys.p384, keys.p256), { isRevoked: () => (asked = true) })
  expect(asked).toBe(false)
})

test('source-address binds the certificate to its networks, and an unknown address is in none', async () => {
  const certificate = await userCertificate(ca, keys.p256, {
    criticalOptions: new Map([['source-address', '192.0.2.0/24,2001:db8::/32']]),
  })
  expect(check(certificate)).toBe('ok')
  expect(check(certificate, { address: '::ffff:192.0.2.9' })).toBe('ok')
  expect(check(certificate, { address: '2001:db8:1::9' })).toBe('ok')
  expect(check(certificate, { address: '198.51.100.1' })).toBe('source-address')
  expect(check(certificate, { address: 'nonsense' })).toBe('source-address')
  const { address: _, ...without } = { address: '' }
  expect(
    checkCertificate(certificate, {
      type: 'user',
      now: NOON,
      isAuthority: () => true,
      isRevoked: () => false,
      ...without,
    }),
  ).toMatchObject({ code: 'source-address' })
  const flag = await userCertificate(ca, keys.p256, { criticalOptions: new Map([['source-address', true]]) })
  expect(check(flag)).toBe('source-address')
  // A list that is broken is no list without a limit, even where a part of it fits.
  for (const list of ['', '192.0.2.0/24,', '192.0.2.0/33', '192.0.2.1/24', 'everywhere']) {
    const broken = await userCertificate(ca, keys.p256, { criticalOptions: new Map([['source-address', list]]) })
    expect([list, check(broken, { address: '192.0.2.7' })]).toEqual([list, 'source-address'])
  }
})

test.each([
  ['10.1.2.3', '10.0.0.0/8', 'match'],
  ['10.1.2.3', '10.1.2.3', 'match'],
  ['10.1.2.3', '10.1.2.4', 'no-match'],
  ['10.1.2.3', '0.0.0.0/0', 'match'],
  ['10.1.2.3', '::/0', 'no-match'],
  ['::1', '0.0.0.0/0', 'no-match'],
  ['::1', '::1/128', 'match'],
  ['fe80::1%eth0', 'fe80::/10', 'match'],
  ['2001:db8::ffff', '2001:db8::/112', 'match'],
  ['2001:db8::1:0', '2001:db8::/112', 'no-match'],
  ['::ffff:10.0.0.1', '10.0.0.1', 'match'],
  // The mapped spelling in a list is another address to OpenSSH too.
  ['10.0.0.1', '::ffff:10.0.0.1', 'no-match'],
  ['64:ff9b::10.0.0.1', '64:ff9b::a00:1', 'match'],
  ['10.1.2.3', '10.0.0.1/8', 'invalid'],
  ['10.1.2.3', '10.1.2.3/33', 'invalid'],
  ['10.1.2.3', '10.1.2.3,', 'invalid'],
  ['10.1.2.3', '', 'invalid'],
  ['10.1.2.3', '10.1.2.3, 10.1.2.4', 'invalid'],
  ['10.1.2.3', '10.1.2.3,bogus', 'invalid'],
  ['10.1.2.3', '!10.1.2.3', 'invalid'],
  ['10.1.2.3', '10.1', 'invalid'],
  ['10.1.2.3', '010.1.2.3', 'invalid'],
  ['10.1.2.3', '10.1.2.3/-1', 'invalid'],
  ['10.1.2.3', '10.1.2.3/8/8', 'invalid'],
  ['10.1.2.3', '10.*', 'invalid'],
])('%s in %j: %s', (address, list, expected) => {
  expect(matchSourceAddress(address, list)).toBe(expected)
})

test('a list of more networks than anybody writes is invalid', () => {
  expect(matchSourceAddress('10.0.0.1', new Array(300).fill('10.0.0.1').join(','))).toBe('invalid')
})

test('the reason says what and until when', async () => {
  const certificate = await userCertificate(ca, keys.p256)
  const result = checkCertificate(certificate, {
    type: 'user',
    now: NOON + 7_200_000,
    isAuthority: () => true,
    isRevoked: () => false,
  })
  expect(result).toMatchObject({ reason: `expired at ${new Date(Number(NOON_SECONDS + 3600n) * 1000).toISOString()}` })
})
