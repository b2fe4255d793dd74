/**
 * ssh-keygen is the judge: what we write it prints as we meant it, what it writes we read, and write again byte for byte.
 * The suite tries a part; `CERTIFICATES=1000` tries as many as asked for.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type Certificate,
  certificateLine,
  encodeCertificate,
  FOREVER,
  type Options,
  parseCertificateLine,
} from '../../ca/certificate.ts'
import { checkCertificate } from '../../ca/check.ts'
import { fingerprint, publicKeyLine, readPublicKey } from '../../ca/key.ts'
import { opensshPrivateKey } from '../../ca/privatekey.ts'
import { string } from '../../ca/wire.ts'
import { algorithmOf, allKeys, run, type TestKey, temporaryDirectory } from './keys.ts'
import { content, signed, toOptions } from './random.ts'

const COUNT = Number(process.env.CERTIFICATES ?? 150)
const TIMEOUT = 60_000 + COUNT * 100
const utc = { env: { ...process.env, TZ: 'UTC' }, maxBuffer: 64 << 20 }

interface Printed {
  type: string
  publicKey: string
  authority: string
  keyId: string
  serial: string
  valid: string
  principals: string[]
  critical: string[]
  extensions: string[]
}

/** The certificates of one `ssh-keygen -L`, several a file. */
function readListing(listing: string): Printed[] {
  const one = (block: string, name: string) => new RegExp(`^ {8}${name}: (.*)$`, 'm').exec(block)?.[1] ?? 'missing'
  const list = (block: string, name: string) => {
    const after = block.slice(block.indexOf(`        ${name}: `) + name.length + 10).split('\n')
    if (after[0] === '(none)') return []
    const end = after.findIndex((line, i) => i > 0 && !line.startsWith(' '.repeat(16)))
    return after.slice(1, end).map(line => line.slice(16))
  }
  return listing
    .split(/^\S.*:\n/m)
    .slice(1)
    .map(block => ({
      type: one(block, 'Type'),
      publicKey: one(block, 'Public key'),
      authority: one(block, 'Signing CA'),
      keyId: one(block, 'Key ID'),
      serial: one(block, 'Serial'),
      valid: one(block, 'Valid'),
      principals: list(block, 'Principals'),
      critical: list(block, 'Critical Options'),
      extensions: list(block, 'Extensions'),
    }))
}

function kindOf(blob: Buffer): string {
  const { type } = readPublicKey(blob)
  return type === 'ssh-ed25519' ? 'ED25519' : type === 'ssh-rsa' ? 'RSA' : 'ECDSA'
}

function printedOptions(options: Options, known: string[]): string[] {
  return [...options]
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map(([name, value]) => {
      if (value === true) return name
      if (known.includes(name)) return `${name} ${value}`
      const data = string(value)
      return `${name} UNKNOWN OPTION: ${data.toString('hex')} (len ${data.length})`
    })
}

/** What ssh-keygen should print for it. */
function printed(certificate: Certificate): Printed {
  const { validAfter, validBefore } = certificate
  const date = (value: bigint) => new Date(Number(value) * 1000).toISOString().slice(0, 19)
  const valid =
    validAfter === 0n && validBefore === FOREVER
      ? 'forever'
      : validAfter === 0n
        ? `before ${date(validBefore)}`
        : validBefore === FOREVER
          ? `after ${date(validAfter)}`
          : `from ${date(validAfter)} to ${date(validBefore)}`
  return {
    type: `${certificate.algorithm} ${certificate.type} certificate`,
    publicKey: `${kindOf(certificate.publicKey)}-CERT ${fingerprint(certificate.publicKey)}`,
    authority: `${kindOf(certificate.authority)} ${fingerprint(certificate.authority)} (using ${algorithmOf(certificate.signature)})`,
    keyId: `"${certificate.keyId}"`,
    serial: String(certificate.serial),
    valid,
    principals: [...certificate.principals],
    critical: printedOptions(certificate.criticalOptions, ['force-command', 'source-address']),
    extensions: printedOptions(certificate.extensions, []),
  }
}

test(`ssh-keygen -L prints ${COUNT} random certificates of ours as we meant them`, { timeout: TIMEOUT }, async () => {
  const file = join(temporaryDirectory(), 'certificates.pub')
  const certificates: Certificate[] = []
  for (const random of fc.sample(content, COUNT)) {
    const certificate = await signed(random)
    const { serial, type, keyId, principals, window } = random
    expect(certificate).toMatchObject({ serial, type, keyId, principals, publicKey: random.subject.blob })
    expect([certificate.validAfter, certificate.validBefore]).toEqual(window)
    certificates.push(certificate)
  }
  writeFileSync(file, certificates.map(certificate => `${certificateLine(certificate, '')}\n`).join(''))
  const { stdout } = await run('ssh-keygen', ['-L', '-f', file], utc)
  const listing = readListing(stdout)
  expect(listing).toHaveLength(COUNT)
  for (const [i, certificate] of certificates.entries()) expect(listing[i]).toEqual(printed(certificate))
})

/** One run of ssh-keygen certifies a key of each type with the same options and consecutive serials. */
async function certify(directory: string, authority: TestKey, options: string[]): Promise<Certificate[]> {
  mkdirSync(directory)
  writeFileSync(join(directory, 'authority'), opensshPrivateKey(authority.privateKey), { mode: 0o600 })
  for (const { name, blob } of allKeys)
    writeFileSync(join(directory, `${name}.pub`), `${publicKeyLine(blob, 'a comment')}\n`)
  await run(
    'ssh-keygen',
    [
      '-q',
      '-s',
      join(directory, 'authority'),
      ...options,
      ...allKeys.map(({ name }) => join(directory, `${name}.pub`)),
    ],
    utc,
  )
  return allKeys.map(({ name }) => parseCertificateLine(readFileSync(join(directory, `${name}-cert.pub`), 'utf8')))
}

test(`${COUNT} certificates by ssh-keygen -s are read, checked and written again byte for byte`, {
  timeout: TIMEOUT,
}, async () => {
  const directory = temporaryDirectory()
  const batches = fc.sample(content, Math.ceil(COUNT / allKeys.length))
  for (const [i, random] of batches.entries()) {
    const [validAfter, validBefore] = random.window
    const date = (value: bigint) =>
      value === 0n ? 'always' : value === FOREVER ? 'forever' : `0x${value.toString(16)}`
    const principals = random.principals.map(name => name.replaceAll(',', ''))
    const serial = random.serial % (1n << 63n)
    const extensionFlags = Object.entries(random.extensions).flatMap(([name, value]) => [
      '-O',
      name.startsWith('permit-') ? name : `extension:${name}=${value}`,
    ])
    const criticalFlags = Object.entries(random.critical).flatMap(([name, value]) => ['-O', `${name}=${value}`])
    const isHost = random.type === 'host'
    const certificates = await certify(join(directory, String(i)), random.authority, [
      ...(isHost ? ['-h'] : []),
      ...['-I', random.keyId],
      ...['-z', `+${serial}`],
      ...['-V', `${date(validAfter)}:${date(validBefore)}`],
      ...(principals.length ? ['-n', principals.join(',')] : []),
      ...(isHost ? [] : ['-O', 'clear', ...criticalFlags, ...extensionFlags]),
    ])
    for (const [k, certificate] of certificates.entries()) {
      expect(certificate).toMatchObject({
        publicKey: allKeys[k]!.blob,
        authority: random.authority.blob,
        serial: serial + BigInt(k),
        type: random.type,
        keyId: random.keyId,
        principals,
        validAfter,
        validBefore,
        criticalOptions: isHost ? new Map() : toOptions(random.critical),
        extensions: isHost ? new Map() : toOptions(random.extensions),
      })
      expect(encodeCertificate(certificate, certificate.signature).equals(certificate.blob)).toBe(true)
      const result = checkCertificate(certificate, {
        type: random.type,
        address: '192.0.2.7',
        now: Number(validAfter) * 1000,
        isAuthority: blob => blob.equals(random.authority.blob),
        isRevoked: () => false,
        criticalOptions: ['force-command'],
      })
      const source = random.critical['source-address']
      const near = isHost || source === undefined || /192\.0\.2\.7|0\.0\.0\.0\/0/.test(source)
      expect(result).toMatchObject(
        principals.length === 0 ? { code: 'no-principals' } : near ? { ok: true } : { code: 'source-address' },
      )
    }
  }
})
