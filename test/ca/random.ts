import { userInfo } from 'node:os'
import fc from 'fast-check'
import { type Certificate, FOREVER } from '../../ca/certificate.ts'
import { signCertificate } from '../../ca/sign.ts'
import { allKeys, keys, type TestKey } from './keys.ts'

/**
 * Random certificates for the judges: ssh-keygen and a stock sshd. Everything the format can say is in there, and each of the
 * reasons for which a door says yes or no is met often.
 */

/** Of whoever runs this: so named are the principals that let in. */
export const USER = userInfo().username
/** Whom the door trusts; the other keys sign as well. */
export const TRUSTED: readonly TestKey[] = [keys.ed25519, keys.p384, keys.rsa]
export const REVOKED_KEY_ID = 'left@example.org'
export const REVOKED_SERIALS = [100n, 199n] as const

/** Text that ssh-keygen prints on one line as it is; it leaves bytes above ASCII alone. */
const text = fc
  .string({ unit: fc.constantFrom(...'abcxyzABC0189 .-_@:/ü€𝕊'), minLength: 1, maxLength: 20 })
  .map(value => value.trim() || 'x')
const often = <T>(usual: fc.Arbitrary<T>, other: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 4, arbitrary: usual }, { weight: 1, arbitrary: other })

const seconds = fc.bigInt({ min: 1n, max: 1n << 33n })
const now = BigInt(Math.floor(Date.now() / 1000))
const window = often(
  fc.constantFrom([now - 600n, now + 7200n] as const, [0n, FOREVER] as const, [5n, FOREVER] as const),
  fc.oneof(
    fc
      .tuple(seconds, seconds)
      .filter(([a, b]) => a !== b)
      .map(([a, b]) => (a < b ? ([a, b] as const) : ([b, a] as const))),
    fc.constantFrom([0n, 5n] as const, [now + 3600n, FOREVER] as const),
  ),
)
const sourceAddress = fc
  .array(fc.constantFrom('10.0.0.0/8', '192.0.2.7', '2001:db8::/32', '::1', '127.0.0.0/8', '0.0.0.0/0'), {
    minLength: 1,
    maxLength: 4,
  })
  .map(list => list.join(','))
const critical = fc.record(
  // Harmless, since it is run.
  { 'force-command': text.map(comment => `true # ${comment}`), 'source-address': sourceAddress },
  { requiredKeys: [] },
)
const extensions = fc.dictionary(
  fc.constantFrom(
    'permit-pty',
    'permit-agent-forwarding',
    'permit-user-rc',
    'login@github.com',
    'id@github.com',
    'aa',
    'zz@example.org',
  ),
  fc.string({ unit: fc.constantFrom(...'abc123-ü'), maxLength: 8 }),
)

/** What a random certificate says. */
export const content = fc.record({
  authority: often(fc.constantFrom(...TRUSTED), fc.constantFrom(...allKeys)),
  subject: fc.constantFrom(...allKeys),
  serial: often(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 90n, max: 210n })),
  type: often(fc.constant('user' as const), fc.constant('host' as const)),
  keyId: often(text, fc.constant(REVOKED_KEY_ID)),
  principals: fc.array(fc.oneof(text, fc.constant(USER)), { maxLength: 5 }),
  window,
  critical,
  extensions,
})
export type Content = typeof content extends fc.Arbitrary<infer T> ? T : never

/** Flags carry no data, everything else a string. */
export function toOptions(values: object): Map<string, string | true> {
  return new Map(
    Object.entries(values).map(([name, value]) => [name, name.startsWith('permit-') ? true : String(value)]),
  )
}

export async function signed({
  authority,
  subject,
  window,
  critical,
  extensions,
  ...same
}: Content): Promise<Certificate> {
  const [validAfter, validBefore] = window
  return await signCertificate(authority.signer, {
    ...same,
    publicKey: subject.blob,
    validAfter,
    validBefore,
    criticalOptions: toOptions(critical),
    extensions: toOptions(extensions),
  })
}
