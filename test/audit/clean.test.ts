import fc from 'fast-check'
import { expect, test } from 'vitest'
import { canonical } from '../../audit/canonical.ts'
import { cleaner, LIST_ITEMS_MAX, RECORD_BYTES_MAX, STRING_CHARACTERS_MAX, speller } from '../../audit/clean.ts'
import type { Record } from '../../audit/record.ts'
import { end, start } from './records.ts'

const clean = cleaner()
const refused = (reason: string): Record => ({
  kind: 'signin.refused',
  origin: { transport: 'ssh', address: '192.0.2.7', connection: 'c', agent: 'SSH-2.0-x' },
  code: 'unknown',
  reason,
})
const reasonOf = (reason: string, secrets: string[] = []) =>
  (cleaner(secrets)(refused(reason)) as { reason: string }).reason

test('line breaks, NUL, terminal sequences and bidi controls are shown, not passed on', () => {
  expect(reasonOf('a\r\nb')).toBe('a\\u000d\\u000ab')
  expect(reasonOf('\u001b[2Jgone\u0000\u009b')).toBe('\\u001b[2Jgone\\u0000\\u009b')
  expect(reasonOf('user\u202egnp.exe\u2066')).toBe('user\\u202egnp.exe\\u2066')
  expect(reasonOf('\ud800x')).toBe('\ufffdx')
  expect(reasonOf('Grüße, 世界 👋')).toBe('Grüße, 世界 👋')
})

test('whatever a person typed, one record is one printable line', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 2000 }), text => {
      const line = canonical(clean(refused(text)))
      expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029]/)
      expect((JSON.parse(line) as { reason: string }).reason.isWellFormed()).toBe(true)
    }),
  )
})

test('a ref of a megabyte becomes a short one that can still be compared', () => {
  const ref = `refs/heads/${'x'.repeat(1 << 20)}`
  const update = { ref, old: '0'.repeat(40), new: 'a'.repeat(40), action: 'create' as const }
  const cleaned = clean(start('op-1', { updates: [update] })) as ReturnType<typeof start>
  expect(cleaned.updates?.[0]?.ref).toMatch(/^refs\/heads\/x+…\[1048587 characters, sha256 [0-9a-f]{64}\]$/)
  expect(cleaned.updates?.[0]?.ref.length).toBeLessThan(STRING_CHARACTERS_MAX + 120)
})

test('a hundred thousand updates with long names stay within the size of a record', () => {
  const update = { ref: 'r'.repeat(900), old: '0'.repeat(64), new: 'a'.repeat(64), action: 'create' as const }
  const cleaned = clean(start('op-1', { updates: Array(100_000).fill(update) }))
  expect(canonical(cleaned).length).toBeLessThan(RECORD_BYTES_MAX)
  const shorter = clean(start('op-1', { updates: Array(LIST_ITEMS_MAX + 5).fill({ ...update, ref: 'refs/heads/a' }) }))
  expect((shorter as ReturnType<typeof start>).updates).toHaveLength(LIST_ITEMS_MAX)
})

test('a duration with a fraction becomes a whole number, what is no number zero', () => {
  expect(
    clean(end('op-1', { milliseconds: 12.7, bytesIn: Number.NaN, bytesOut: Number.POSITIVE_INFINITY })),
  ).toMatchObject({
    milliseconds: 13,
    bytesIn: 0,
    bytesOut: Number.MAX_SAFE_INTEGER,
  })
})

test('a secret the process knows is in no record, wherever it was planted and however long the text around it', () => {
  const planted = 'pl4nted/Upstream+Secret=='
  const known = cleaner([planted, 'git'])
  const origin = { transport: 'http', address: '192.0.2.7', connection: 'c', agent: `git/${planted}` } as const
  const padding = 'p'.repeat(STRING_CHARACTERS_MAX - 5)
  const records: Record[] = [
    start('op-1', { origin, pushOptions: [planted, `${padding}${planted}`] }),
    end('op-1', { reason: `host said ${planted}` }),
    refused(`x${planted}y`),
  ]
  for (const record of records) expect(canonical(known(record))).not.toContain(planted.slice(0, 5))
  expect(canonical(known(start('op-1')))).toContain('git/2.39.5')
})

test('what looks like a credential is taken out, prose is left alone', () => {
  expect(reasonOf('Authorization: Bearer aB3dE5fG7hJ9kL1m')).toBe('Authorization: Bearer [redacted]')
  expect(reasonOf('sent eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2ln')).toBe('sent [token]')
  expect(reasonOf('https://bot:hunter22@git.example/a')).toBe('https://bot:[redacted]@git.example/a')
  expect(reasonOf('password=hunter22 given')).toBe('password=[redacted] given')
  expect(reasonOf(`ghp_${'a1B2'.repeat(9)}`)).toBe('[token]')
  expect(reasonOf('-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----')).toBe('[private key]')
  for (const prose of [
    'basic authentication is off',
    'token expired yesterday',
    'the password was wrong',
    'PAY-231: hotfix',
  ]) {
    expect(reasonOf(prose)).toBe(prose)
  }
})

const TRICKY = fc.constantFrom(
  ...[
    'password',
    ' = hunter22',
    '=',
    ':',
    '\n',
    '\\',
    '"',
    'Bearer ',
    'aGVsbG8gd29ybGQ=',
    '-----BEGIN RSA PRIVATE KEY-----',
    'MII',
  ],
  ...[
    'eyJhbGciOiJub25l',
    '.',
    'ghp_0123456789abcdef0',
    'https://bob',
    ':pw@host',
    '\u202e',
    '\u007f',
    '\ud800',
    's3cr3t-of-ours',
    'x'.repeat(600),
    'x'.repeat(1_000),
  ],
)

test('a record that is spelled as it comes is spelled as one that was cleaned, whatever a person typed', () => {
  const secrets = ['s3cr3t-of-ours', 'of "theirs"']
  const spell = speller(secrets)
  fc.assert(
    fc.property(fc.array(fc.oneof(TRICKY, fc.string()), { maxLength: 4 }), fc.double(), (parts, duration) => {
      for (const record of [refused(parts.join('')), end('op-1', { reason: parts.join(''), milliseconds: duration })]) {
        const cleaned = cleaner(secrets)(record)
        expect(spell(record).body).toBe(canonical(cleaned))
        expect(canonical(spell(record).record)).toBe(canonical(cleaned))
      }
    }),
    { numRuns: 500 },
  )
})

test('a record with nothing to clean is not made anew', () => {
  const grants = Array.from({ length: 100 }, (_, i) => `g-${i}`)
  for (const record of [start('op-1'), start('op-2', { grants })])
    expect(speller(['s3cr3t-of-ours'])(record).record).toBe(record)
})
