/** A stock sshd is the judge of `checkCertificate`: what it lets in we take, what it refuses we refuse. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Certificate, certificateLine, FOREVER } from '../../ca/certificate.ts'
import { checkCertificate } from '../../ca/check.ts'
import { fingerprint, publicKeyLine } from '../../ca/key.ts'
import { EMPTY_KRL, encodeKrl, type Krl, revocations } from '../../ca/krl.ts'
import { opensshPrivateKey } from '../../ca/privatekey.ts'
import type { CertificateContent } from '../../ca/sign.ts'
import { keySigner } from '../../ca/signer.ts'
import { temporaryFolder } from '../support/program.ts'
import { type Sshd, sshOptions, startSshd } from '../support/sshd.ts'
import { allKeys, keys, run, type TestKey, userCertificate } from './keys.ts'
import { content, REVOKED_KEY_ID, REVOKED_SERIALS, signed, TRUSTED, USER } from './random.ts'

/** How many random ones a suite tries; `CERTIFICATES=1000` tries as many as asked for. */
const COUNT = Number(process.env.CERTIFICATES ?? 32)
/** Below sshd's own MaxStartups. */
const AT_ONCE = 4

const user = USER
const authorities = TRUSTED
const krl: Krl = {
  ...EMPTY_KRL,
  certificates: [{ authority: keys.ed25519.blob, serials: [[...REVOKED_SERIALS]], keyIds: [REVOKED_KEY_ID] }],
  keys: [keys.p521.blob],
}

let sshd: Sshd
const directory = temporaryFolder('ca-sshd')
const krlFile = join(directory, 'krl')

beforeAll(async () => {
  writeFileSync(krlFile, encodeKrl(krl))
  sshd = await startSshd({
    trustedUserCAKeys: authorities.map(({ blob }) => publicKeyLine(blob)),
    config: [`RevokedKeys ${krlFile}`],
  })
})
afterAll(() => sshd.stop())

let count = 0

/** Where ssh looks for it: beside its key. */
function written(certificate: Certificate, subject: TestKey): string {
  const key = join(directory, `key-${++count}`)
  writeFileSync(key, opensshPrivateKey(subject.privateKey), { mode: 0o600 })
  writeFileSync(`${key}-cert.pub`, `${certificateLine(certificate, '')}\n`)
  return key
}

async function letsIn(key: string): Promise<boolean> {
  try {
    await run('ssh', [...sshOptions({ key }), '-p', String(sshd.port), `${user}@127.0.0.1`, 'true'])
    return true
  } catch {
    return false
  }
}

const now = BigInt(Math.floor(Date.now() / 1000))
const valid = { validAfter: now - 600n, validBefore: now + 600n, principals: [user] }

type Case = [
  name: string,
  expected: string,
  changes: Partial<CertificateContent>,
  authority?: TestKey,
  subject?: TestKey,
]

const source = (list: string) => ({ criticalOptions: new Map([['source-address', list]]) })
const cases: Case[] = [
  ...authorities.map((authority): Case => [`signed by ${authority.name}`, 'ok', {}, authority]),
  ...allKeys
    .filter(key => key !== keys.p521)
    .map((subject): Case => [`for ${subject.name}`, 'ok', {}, keys.ed25519, subject]),
  ['for a revoked key', 'revoked', {}, keys.ed25519, keys.p521],
  ['by an authority nobody trusts', 'unknown-authority', {}, keys.p256],
  ['for a host', 'wrong-type', { type: 'host' }],
  ['for ever', 'ok', { validAfter: 0n, validBefore: FOREVER }],
  ['expired', 'expired', { validBefore: now - 60n }],
  ['not yet valid', 'not-yet-valid', { validAfter: now + 300n }],
  ['without principals', 'no-principals', { principals: [] }],
  ['for somebody else', 'wrong-principal', { principals: ['somebody', `${user}x`, user.toUpperCase()] }],
  ['for several, the user last', 'ok', { principals: ['somebody', user] }],
  ['with a pattern for a principal', 'wrong-principal', { principals: ['*'] }],
  [
    'with an unknown critical option',
    'unknown-critical-option',
    { criticalOptions: new Map([['later@example.org', 'x']]) },
  ],
  ['with an unknown critical flag', 'unknown-critical-option', { criticalOptions: new Map([['zzz', true]]) }],
  ['with an unknown extension', 'ok', { extensions: new Map([['later@example.org', 'x']]) }],
  ['with a command', 'ok', { criticalOptions: new Map([['force-command', 'true']]) }],
  ['from here', 'ok', source('127.0.0.0/8')],
  ['from here by address', 'ok', source('127.0.0.1')],
  ['from here among others', 'ok', source('10.0.0.0/8,::1,127.0.0.1/32')],
  ['from elsewhere', 'source-address', source('10.0.0.0/8')],
  ['from elsewhere, IPv6', 'source-address', source('::/0')],
  ['from a mapped spelling', 'source-address', source('::ffff:127.0.0.1')],
  ['from a network with host bits', 'source-address', source('127.0.0.1/8')],
  ['from a broken list', 'source-address', source('127.0.0.1,nonsense')],
  ['from a list that ends in a comma', 'source-address', source('127.0.0.1,')],
  ['from nowhere', 'source-address', source('')],
  ['with a revoked serial', 'revoked', { serial: 150n }],
  ['with that serial from another authority', 'ok', { serial: 150n }, keys.p384],
  ['with the serial after the revoked ones', 'ok', { serial: 200n }],
  ['with a revoked key id', 'revoked', { keyId: REVOKED_KEY_ID }],
]

test.each(cases)(
  'a certificate %s: %s, and sshd thinks so too',
  async (_, expected, changes, authority = keys.ed25519, subject = keys.p256) => {
    const certificate = await userCertificate(authority, subject, { ...valid, ...changes })
    expect(predicted(certificate)).toBe(expected)
    expect(await letsIn(written(certificate, subject))).toBe(expected === 'ok')
  },
)

/** What we say to it: `ok`, or why not. */
function predicted(certificate: Certificate): string {
  const result = checkCertificate(certificate, {
    type: 'user',
    principal: user,
    address: '127.0.0.1',
    now: Date.now(),
    isAuthority: blob => authorities.some(trusted => trusted.blob.equals(blob)),
    isRevoked: revocations(krl).isRevoked,
    criticalOptions: ['force-command'],
  })
  return result.ok ? 'ok' : result.code
}

test(`of ${COUNT} random certificates sshd lets in exactly those that we do, and ssh-keygen -Q calls revoked those that we do`, {
  timeout: 60_000 + COUNT * 500,
}, async () => {
  const set = await Promise.all(
    fc.sample(content, COUNT).map(async random => {
      const certificate = await signed(random)
      return { certificate, key: written(certificate, random.subject) }
    }),
  )
  const files = set.map(({ key }) => `${key}-cert.pub`)
  // Its exit status is 1 where one is revoked.
  const asked = await run('ssh-keygen', ['-Q', '-f', krlFile, ...files]).catch((error: { stdout: string }) => error)
  const revoked = asked.stdout.match(/^.*: (ok|REVOKED)$/gm)?.map(line => line.endsWith(' REVOKED'))
  expect(revoked).toEqual(set.map(({ certificate }) => revocations(krl).isRevoked(certificate)))

  const wrong: object[] = []
  const left = [...set]
  const judge = async () => {
    for (let one = left.pop(); one !== undefined; one = left.pop()) {
      const ours = predicted(one.certificate)
      const theirs = await letsIn(one.key)
      if (theirs !== (ours === 'ok')) wrong.push({ ours, theirs, certificate: certificateLine(one.certificate, '') })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, judge))
  expect(wrong).toEqual([])
})

test('an RSA authority signs with SHA-2, which sshd asks for', async () => {
  const sha256: TestKey = { ...keys.rsa, signer: keySigner(keys.rsa.privateKey, 'rsa-sha2-256') }
  const certificate = await userCertificate(sha256, keys.p256, valid)
  expect(await letsIn(written(certificate, keys.p256))).toBe(true)
  expect(sshd.log()).toContain(fingerprint(keys.rsa.blob))
})
