import { expect, test } from 'vitest'
import type { Record } from '../../audit/record.ts'
import {
  type CertificateRequest,
  CLOCK_SKEW_SECONDS,
  ISSUE_LIMITS,
  type Issuer,
  issueCertificate,
} from '../../ca/issue.ts'
import { keySigner } from '../../ca/signer.ts'
import { keys, NOON, NOON_SECONDS } from './keys.ts'

function issuer(changes: Partial<Issuer> = {}) {
  const records: Record[] = []
  let serial = 40n
  return {
    records,
    signer: () => keySigner(keys.ed25519.privateKey),
    isAuthority: (blob: Buffer) => blob.equals(keys.ed25519.blob),
    isRevoked: (_: Buffer, keyId: string) => keyId === 'left@example.org',
    serials: { next: async () => ++serial },
    emit: async (record: Record) => void records.push(record),
    limits: ISSUE_LIMITS,
    now: () => NOON,
    ...changes,
  }
}

const request: CertificateRequest = {
  type: 'user',
  by: 'ada@example.org',
  publicKey: keys.p256.blob,
  keyId: 'ada@example.org',
  principals: ['ada'],
  expires: NOON + 3_600_000,
}

test('a user certificate holds what was asked for, and neither a terminal nor forwarding', async () => {
  const from = issuer()
  const extensions = new Map([
    ['login@github.com', 'ada'],
    ['id@git.example.org', '7'],
  ])
  const result = await issueCertificate(from, { ...request, sourceAddress: '192.0.2.0/24', extensions })
  expect(result).toMatchObject({
    ok: true,
    certificate: {
      type: 'user',
      serial: 41n,
      keyId: 'ada@example.org',
      principals: ['ada'],
      validAfter: NOON_SECONDS - BigInt(CLOCK_SKEW_SECONDS),
      validBefore: NOON_SECONDS + 3600n,
      criticalOptions: new Map([['source-address', '192.0.2.0/24']]),
      extensions: new Map([
        ['id@git.example.org', '7'],
        ['login@github.com', 'ada'],
      ]),
    },
  })
  expect(from.records).toEqual([
    {
      kind: 'certificate.issued',
      by: 'ada@example.org',
      serial: '41',
      keyId: 'ada@example.org',
      principals: ['ada'],
      expires: '2026-05-05T13:00:00.000Z',
    },
  ])
})

test('a host certificate names hosts and nothing else', async () => {
  const host = {
    ...request,
    type: 'host' as const,
    principals: ['git.example.org', '192.0.2.7', '2001:db8::7'],
    expires: NOON + 86_400_000 * 30,
  }
  expect(await issueCertificate(issuer(), host)).toMatchObject({
    ok: true,
    certificate: { type: 'host', extensions: new Map(), criticalOptions: new Map() },
  })
  expect(await issueCertificate(issuer(), { ...host, principals: ['*.example.org'] })).toMatchObject({
    code: 'principals',
  })
  expect(await issueCertificate(issuer(), { ...host, sourceAddress: '192.0.2.7' })).toMatchObject({
    code: 'source-address',
  })
  expect(await issueCertificate(issuer(), { ...host, extensions: new Map([['a@b', 'c']]) })).toMatchObject({
    code: 'extensions',
  })
})

test('a window that begins later begins then, to the second and not before', async () => {
  const result = await issueCertificate(issuer(), { ...request, starts: NOON + 600_500, expires: NOON + 900_999 })
  expect(result).toMatchObject({ certificate: { validAfter: NOON_SECONDS + 601n, validBefore: NOON_SECONDS + 900n } })
})

test.each<[string, Partial<CertificateRequest>, string]>([
  ['a key that is none', { publicKey: Buffer.from('x') }, 'key'],
  ["the authority's own key", { publicKey: keys.ed25519.blob }, 'key'],
  ['no key id', { keyId: '' }, 'key-id'],
  ['a key id with a line break', { keyId: 'ada\nroot' }, 'key-id'],
  ['a key id that turns the text around', { keyId: 'ada\u202etoor' }, 'key-id'],
  ['a key id too long', { keyId: 'a'.repeat(201) }, 'key-id'],
  ['a revoked key id', { keyId: 'left@example.org' }, 'revoked'],
  ['no principals', { principals: [] }, 'principals'],
  ['17 principals', { principals: Array.from({ length: 17 }, (_, i) => `p${i}`) }, 'principals'],
  ['an empty principal', { principals: [''] }, 'principals'],
  ['two principals in one', { principals: ['ada,root'] }, 'principals'],
  ['a pattern', { principals: ['*'] }, 'principals'],
  ['a space', { principals: ['ada root'] }, 'principals'],
  ['a principal twice', { principals: ['ada', 'ada'] }, 'principals'],
  ['an end in the past', { expires: NOON - 1 }, 'window'],
  ['an end at this moment', { expires: NOON }, 'window'],
  ['an end before the start', { starts: NOON + 2000, expires: NOON + 1000 }, 'window'],
  ['less than a second', { starts: NOON + 100, expires: NOON + 900 }, 'window'],
  ['no number for an end', { expires: Number.NaN }, 'window'],
  ['a start next week', { starts: NOON + 7 * 86_400_000, expires: NOON + 7 * 86_400_000 + 1000 }, 'window'],
  ['more than a day', { expires: NOON + 86_400_001 }, 'lifetime'],
  ['a source-address that is none', { sourceAddress: '10.0.0.1/8' }, 'source-address'],
  ['a terminal', { extensions: new Map([['permit-pty', '']]) }, 'extensions'],
  ['forwarding', { extensions: new Map([['permit-port-forwarding', '']]) }, 'extensions'],
  ['an extension of OpenSSH', { extensions: new Map([['x@openssh.com', 'y']]) }, 'extensions'],
  ['an extension with a line break', { extensions: new Map([['login@github.com', 'a\nb']]) }, 'extensions'],
  ['17 extensions', { extensions: new Map(Array.from({ length: 17 }, (_, i) => [`x${i}@y`, 'z'])) }, 'extensions'],
])('a request with %s is refused, and recorded', async (_, changes, code) => {
  const from = issuer()
  expect(await issueCertificate(from, { ...request, ...changes })).toMatchObject({ ok: false, code })
  expect(from.records).toEqual([
    expect.objectContaining({ kind: 'certificate.refused', reason: expect.stringMatching(`^${code}: `) }),
  ])
})

test('no record, no certificate: with the ledger away the signer is not even asked', async () => {
  let signed = 0
  const signer = keySigner(keys.ed25519.privateKey)
  const from = issuer({
    emit: async () => Promise.reject(new Error('ledger down')),
    signer: () => ({ publicKey: signer.publicKey, sign: data => signer.sign(data).finally(() => signed++) }),
  })
  expect(await issueCertificate(from, request)).toMatchObject({ ok: false, code: 'ledger-unreachable' })
  expect(await issueCertificate(from, { ...request, principals: [] })).toMatchObject({ ok: false, code: 'principals' })
  expect(signed).toBe(0)
})

test('the record is durable before the signer is asked', async () => {
  const order: string[] = []
  const signer = keySigner(keys.ed25519.privateKey)
  const from = issuer({
    emit: async () => {
      await new Promise(resolve => setTimeout(resolve, 5))
      order.push('recorded')
    },
    signer: () => ({
      publicKey: signer.publicKey,
      sign: data => signer.sign(data).finally(() => order.push('signed')),
    }),
  })
  await issueCertificate(from, request)
  expect(order).toEqual(['recorded', 'signed'])
})

test.each([
  ['fails', async () => Promise.reject(new Error('sealed'))],
  ['signs with another key', keySigner(keys.p384.privateKey).sign],
  ['answers with rubbish', async () => Buffer.from('rubbish')],
])('when the signer %s there is no certificate, and the serial is recorded as refused', async (_, sign) => {
  const from = issuer({ signer: () => ({ publicKey: keys.ed25519.blob, sign }) })
  expect(await issueCertificate(from, request)).toMatchObject({ ok: false, code: 'signer-failed' })
  expect(from.records.map(record => record.kind)).toEqual(['certificate.issued', 'certificate.refused'])
  expect(from.records[1]).toMatchObject({ serial: '41' })
})

test('a refused request of a megabyte leaves a small record', async () => {
  const from = issuer()
  await issueCertificate(from, {
    ...request,
    keyId: 'a'.repeat(1 << 20),
    principals: new Array(1000).fill('b'.repeat(1000)),
  })
  expect(JSON.stringify(from.records).length).toBeLessThan(6000)
})
