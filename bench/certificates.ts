/**
 * How many certificates the authority issues a second on one core: judged, numbered (the counter on disk), recorded (by an
 * emit that takes no time), signed, verified and read back, one after the other in one process.
 *
 *   node bench/certificates.ts [seconds per row]
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { checkCertificate } from '../ca/check.ts'
import { ISSUE_LIMITS, type Issuer, issueCertificate } from '../ca/issue.ts'
import { publicKeyBlob } from '../ca/key.ts'
import { openSerials } from '../ca/serial.ts'
import { keySigner } from '../ca/signer.ts'

const SECONDS = Number(process.argv[2] ?? 3)
const directory = mkdtempSync(join(tmpdir(), 'drawbridge-bench-'))
const subject = publicKeyBlob(generateKeyPairSync('ed25519').publicKey)

const authorities: readonly (readonly [string, KeyObject])[] = [
  ['ed25519', generateKeyPairSync('ed25519').privateKey],
  ['ECDSA P-256', generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey],
  ['RSA 3072', generateKeyPairSync('rsa', { modulusLength: 3072 }).privateKey],
]

async function perSecond(once: () => Promise<void>): Promise<number> {
  for (let i = 0; i < 50; i++) await once()
  const start = performance.now()
  let count = 0
  while (performance.now() - start < SECONDS * 1000) {
    await once()
    count++
  }
  return Math.round((count * 1000) / (performance.now() - start))
}

try {
  const serials = await openSerials(directory)
  process.stdout.write('authority      issued/s   checked/s\n')
  for (const [name, key] of authorities) {
    const signer = keySigner(key)
    const issuer: Issuer = {
      signer: () => signer,
      isAuthority: blob => blob.equals(signer.publicKey),
      isRevoked: () => false,
      serials,
      emit: async () => {},
      limits: ISSUE_LIMITS,
      now: Date.now,
    }
    const issue = async () => {
      const expires = Date.now() + 3_600_000
      const request = {
        type: 'user',
        by: 'bench',
        publicKey: subject,
        keyId: 'ada@example.org',
        principals: ['ada'],
        expires,
      } as const
      const result = await issueCertificate(issuer, request)
      if (!result.ok) throw new Error(result.reason)
      return result.certificate
    }
    const certificate = await issue()
    const options = {
      type: 'user',
      principal: 'ada',
      now: Date.now(),
      isAuthority: issuer.isAuthority,
      isRevoked: () => false,
    } as const
    const issued = await perSecond(async () => void (await issue()))
    const checked = await perSecond(async () => {
      if (!checkCertificate(certificate, options).ok) throw new Error('the certificate is refused')
    })
    process.stdout.write(`${name.padEnd(12)}${String(issued).padStart(11)}${String(checked).padStart(12)}\n`)
  }
} finally {
  rmSync(directory, { recursive: true, force: true })
}
