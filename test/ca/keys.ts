import { execFile } from 'node:child_process'
import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { onTestFinished } from 'vitest'
import { publicKeyBlob } from '../../ca/key.ts'
import { type CertificateContent, signCertificate } from '../../ca/sign.ts'
import { keySigner, type Signer } from '../../ca/signer.ts'
import { Reader } from '../../ca/wire.ts'

export const run = promisify(execFile)

export interface TestKey {
  readonly name: string
  readonly privateKey: KeyObject
  readonly blob: Buffer
  readonly signer: Signer
}

export function testKey(
  name: string,
  { publicKey, privateKey }: { publicKey: KeyObject; privateKey: KeyObject },
): TestKey {
  return { name, privateKey, blob: publicKeyBlob(publicKey), signer: keySigner(privateKey) }
}

/** One key of each type that is taken; RSA takes a while to make, so they are made once a file. */
export const keys = {
  ed25519: testKey('ed25519', generateKeyPairSync('ed25519')),
  p256: testKey('p256', generateKeyPairSync('ec', { namedCurve: 'P-256' })),
  p384: testKey('p384', generateKeyPairSync('ec', { namedCurve: 'P-384' })),
  p521: testKey('p521', generateKeyPairSync('ec', { namedCurve: 'P-521' })),
  rsa: testKey('rsa', generateKeyPairSync('rsa', { modulusLength: 2048 })),
} as const

export const allKeys: readonly TestKey[] = Object.values(keys)

/** The algorithm a signature blob names. */
export const algorithmOf = (signature: Buffer): string => new Reader(signature, 'signature').name()

/** A directory that is gone after the test. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'drawbridge-ca-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** 2026-05-05T12:00:00Z, the hour at which these tests happen. */
export const NOON = Date.UTC(2026, 4, 5, 12)
export const NOON_SECONDS = BigInt(NOON / 1000)

/** A user certificate that is valid at NOON, changed where the test says. */
export function userCertificate(authority: TestKey, subject: TestKey, changes: Partial<CertificateContent> = {}) {
  return signCertificate(authority.signer, {
    publicKey: subject.blob,
    serial: 7n,
    type: 'user',
    keyId: 'ada@example.org',
    principals: ['ada'],
    validAfter: NOON_SECONDS - 3600n,
    validBefore: NOON_SECONDS + 3600n,
    criticalOptions: new Map(),
    extensions: new Map(),
    ...changes,
  })
}
