import { createHash, generateKeyPairSync } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { certificateLine } from '../../ca/certificate.ts'
import { publicKeyLine } from '../../ca/key.ts'
import { EMPTY_KRL, encodeKrl, type Krl, parseKrl, revocations } from '../../ca/krl.ts'
import { inRanges, mergeRanges, type SerialRange } from '../../ca/serialrange.ts'
import { FormatError, string, u32, u64 } from '../../ca/wire.ts'
import { keys, run, type TestKey, temporaryDirectory, testKey, userCertificate } from './keys.ts'

const RUNS = Number(process.env.KRLS ?? 12)
const TIMEOUT = 60_000 + RUNS * 1000
const ca = keys.ed25519
// ed25519 as well: a thousand lists are asked about some thirty certificates each, and their signatures are not the subject here.
const otherCa = testKey('other', generateKeyPairSync('ed25519'))
const holder = testKey('holder', generateKeyPairSync('ed25519'))

const small = fc.bigInt({ min: 1n, max: 300n })
const serial = fc.oneof(small, small, fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }), fc.constantFrom(1n, 2n ** 64n - 1n))
const range = fc.oneof(
  serial.map((first): SerialRange => [first, first]),
  fc.tuple(small, small).map(([a, b]): SerialRange => (a < b ? [a, b] : [b, a])),
  fc.tuple(serial, serial).map(([a, b]): SerialRange => (a < b ? [a, b] : [b, a])),
)
const keyId = fc.constantFrom('ada', 'bob', 'eve', 'ci: build 7')

const sha = (hash: string, blob: Buffer) => createHash(hash).update(blob).digest()

/** ssh-keygen's judgement on keys and certificates, one -Q for all; each file begins with its place in the list. */
async function judge(directory: string, krl: string, lines: readonly string[]): Promise<boolean[]> {
  const files = lines.map((line, i) => {
    const file = join(directory, `asked-${i}.pub`)
    writeFileSync(file, `${line}\n`)
    return file
  })
  // It exits with 1 as soon as one of them is revoked.
  const { stdout } = await run('ssh-keygen', ['-Q', '-f', krl, ...files]).catch((error: { stdout: string }) => error)
  const answers = stdout.trim().split('\n')
  expect(answers).toHaveLength(lines.length)
  return answers.map(answer => answer.endsWith(': REVOKED'))
}

interface Asked {
  readonly line: string
  readonly revoked: (krl: Krl) => boolean
}

async function askedCertificate(authority: TestKey, subject: TestKey, serial: bigint, keyId: string): Promise<Asked> {
  const certificate = await userCertificate(authority, subject, { serial, keyId })
  return { line: certificateLine(certificate, ''), revoked: krl => revocations(krl).isRevoked(certificate) }
}

function askedKey(key: TestKey): Asked {
  return { line: publicKeyLine(key.blob), revoked: krl => revocations(krl).isKeyRevoked(key.blob) }
}

/** Serials on the edges of what is revoked, and keys and key ids that are and are not. */
async function questions(serials: readonly SerialRange[]): Promise<Asked[]> {
  const edges = new Set([0n, 1n, 150n, 2n ** 64n - 1n])
  for (const [first, last] of serials.slice(0, 6))
    for (const edge of [first - 1n, first, last, last + 1n]) edges.add(edge)
  const asked = [askedKey(keys.p256), askedKey(keys.rsa), askedKey(ca)]
  for (const edge of edges) {
    if (edge < 0n || edge >= 2n ** 64n) continue
    asked.push(
      await askedCertificate(ca, holder, edge, 'nobody'),
      await askedCertificate(otherCa, holder, edge, 'nobody'),
    )
  }
  for (const id of ['ada', 'bob', 'eve']) asked.push(await askedCertificate(ca, holder, 0n, id))
  asked.push(
    await askedCertificate(otherCa, keys.p256, 0n, 'nobody'),
    await askedCertificate(ca, keys.rsa, 0n, 'nobody'),
  )
  return asked
}

const someKeys = fc.subarray([keys.p256.blob, keys.rsa.blob, otherCa.blob])
const krls = fc.record({
  version: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  generated: fc.bigInt({ min: 0n, max: 1n << 33n }),
  comment: fc.constantFrom('', 'drawbridge', 'ü'),
  certificates: fc.uniqueArray(
    fc.record({
      authority: fc.constantFrom(ca.blob, otherCa.blob, undefined),
      serials: fc.array(range, { maxLength: 40 }).map(mergeRanges),
      keyIds: fc.uniqueArray(keyId, { maxLength: 3 }).map(ids => ids.sort()),
    }),
    { maxLength: 3, selector: ({ authority }) => authority?.toString('hex') },
  ),
  keys: someKeys,
  sha1: someKeys.map(blobs => blobs.map(blob => sha('sha1', blob))),
  sha256: someKeys.map(blobs => blobs.map(blob => sha('sha256', blob))),
})

test('what we write we read as the same list', () => {
  const sorted = (krl: Krl) => ({
    ...krl,
    keys: krl.keys.toSorted(Buffer.compare),
    sha1: krl.sha1.toSorted(Buffer.compare),
    sha256: krl.sha256.toSorted(Buffer.compare),
  })
  fc.assert(
    fc.property(krls, krl => {
      const bytes = encodeKrl(krl)
      expect(parseKrl(bytes)).toEqual(sorted(krl))
      expect(encodeKrl(parseKrl(bytes)).equals(bytes)).toBe(true)
    }),
    { numRuns: 100 },
  )
})

test(`ssh-keygen -Q agrees with us on ${RUNS} random lists of ours`, { timeout: TIMEOUT }, async () => {
  const directory = temporaryDirectory()
  const file = join(directory, 'krl')
  for (const krl of fc.sample(krls, RUNS)) {
    writeFileSync(file, encodeKrl(krl))
    const asked = await questions(krl.certificates.flatMap(({ serials }) => serials))
    expect(
      await judge(
        directory,
        file,
        asked.map(({ line }) => line),
      ),
    ).toEqual(asked.map(({ revoked }) => revoked(krl)))
  }
})

const specification = fc.record({
  authority: fc.constantFrom(ca, otherCa, undefined),
  serials: fc.array(range, { minLength: 1, maxLength: 30 }),
  keyIds: fc.array(keyId, { maxLength: 3 }),
  lines: fc.subarray([
    `key: ${publicKeyLine(keys.p256.blob)}`,
    `sha1: ${publicKeyLine(keys.rsa.blob)}`,
    `sha256: ${publicKeyLine(otherCa.blob)}`,
  ]),
})

test(`${RUNS} lists made by ssh-keygen -k are read, and answer as ssh-keygen -Q does`, {
  timeout: TIMEOUT,
}, async () => {
  const directory = temporaryDirectory()
  const [krlFile, specificationFile, caFile] = ['krl', 'specification', 'ca.pub'].map(name =>
    join(directory, name),
  ) as [string, string, string]
  for (const { authority, serials, keyIds, lines } of fc.sample(specification, RUNS)) {
    const revoked = [
      ...serials.map(([first, last]) => (first === last ? `serial: ${first}` : `serial: ${first}-${last}`)),
      ...keyIds.map(id => `id: ${id}`),
      ...lines,
    ]
    writeFileSync(specificationFile, revoked.map(line => `${line}\n`).join(''))
    if (authority) writeFileSync(caFile, `${publicKeyLine(authority.blob)}\n`)
    await run('ssh-keygen', [
      '-k',
      '-q',
      '-f',
      krlFile,
      '-z',
      '42',
      '-s',
      authority ? caFile : 'none',
      specificationFile,
    ])
    const krl = parseKrl(readFileSync(krlFile))
    expect(krl.version).toBe(42n)
    const asked = await questions(mergeRanges(serials))
    expect(
      await judge(
        directory,
        krlFile,
        asked.map(({ line }) => line),
      ),
    ).toEqual(asked.map(({ revoked }) => revoked(krl)))
  }
})

test('serials close together become a bitmap, long runs ranges, strays a list, and all of it stays small', () => {
  const serials = mergeRanges([
    ...Array.from({ length: 2000 }, (_, i): SerialRange => [BigInt(1000 + i * 2), BigInt(1000 + i * 2)]),
    [1_000_000n, 9_000_000n],
    [5n, 5n],
  ])
  const krl = { ...EMPTY_KRL, certificates: [{ authority: ca.blob, serials, keyIds: [] }] }
  const bytes = encodeKrl(krl)
  expect(bytes.length).toBeLessThan(800)
  expect(parseKrl(bytes).certificates[0]!.serials).toEqual(serials)
})

test.each([1n, 2n, 3n, 4n, 300n, 20_000n])('a run of %s serials is written and read back', length => {
  const serials: SerialRange[] = [
    [1000n, 999n + length],
    [1n << 40n, 1n << 40n],
  ]
  const krl = { ...EMPTY_KRL, certificates: [{ authority: ca.blob, serials, keyIds: [] }] }
  expect(parseKrl(encodeKrl(krl)).certificates[0]!.serials).toEqual(serials)
})

test('serial 0 stands for "none was given": it is neither written nor read, as in OpenSSH', async () => {
  const krl = { ...EMPTY_KRL, certificates: [{ authority: ca.blob, serials: [[0n, 5n]] as SerialRange[], keyIds: [] }] }
  expect(() => encodeKrl(krl)).toThrow(RangeError)
  const directory = temporaryDirectory()
  const [file, asked] = [join(directory, 'krl'), join(directory, 'asked.pub')]
  writeFileSync(asked, `${certificateLine(await userCertificate(ca, keys.p256))}\n`)
  const zeros = [
    certificates(0x20, u64(0n)),
    certificates(0x21, Buffer.concat([u64(0n), u64(5n)])),
    certificates(0x22, Buffer.concat([u64(0n), string(Buffer.of(1))])),
  ]
  for (const bytes of zeros) {
    expect(refusal(bytes)).toBe('ERR_KRL_SERIALS')
    writeFileSync(file, bytes)
    await expect(run('ssh-keygen', ['-Q', '-f', file, asked])).rejects.toMatchObject({ code: 255 })
  }
})

test('merged ranges hold the same serials', () => {
  fc.assert(
    fc.property(fc.array(range, { maxLength: 20 }), small, (ranges, serial) => {
      const merged = mergeRanges(ranges)
      expect(inRanges(merged, serial)).toBe(ranges.some(([first, last]) => first <= serial && serial <= last))
      for (const [i, [first, last]] of merged.entries()) {
        expect(first <= last).toBe(true)
        if (i > 0) expect(first > merged[i - 1]![1] + 1n).toBe(true)
      }
    }),
  )
})

function refusal(bytes: Buffer): string {
  try {
    parseKrl(bytes)
  } catch (error) {
    if (error instanceof FormatError) return error.code
    throw error
  }
  return 'taken'
}

const head = Buffer.concat([Buffer.from('SSHKRL\n\0'), u32(1), u64(1n), u64(0n), u64(0n), string(''), string('')])
const section = (type: number, data: Buffer) => Buffer.concat([Buffer.of(type), string(data)])
const certificates = (type: number, data: Buffer) =>
  Buffer.concat([head, section(1, Buffer.concat([string(ca.blob), string(''), section(type, data)]))])

test('every truncation is refused, but for those between two sections, which the format cannot tell', () => {
  const certificate = {
    authority: ca.blob,
    serials: [
      [1n, 2n],
      [9n, 40n],
    ] as SerialRange[],
    keyIds: ['ada'],
  }
  const one = encodeKrl({ ...EMPTY_KRL, certificates: [certificate] })
  const all = encodeKrl({ ...EMPTY_KRL, certificates: [certificate], keys: [ca.blob] })
  const whole = [head.length, one.length]
  for (let length = 0; length < all.length; length++)
    expect([length, refusal(all.subarray(0, length)) === 'taken']).toEqual([length, whole.includes(length)])
})

test.each([
  ['another magic', Buffer.from('SSHKRM\n\0rest'), 'ERR_KRL_MAGIC'],
  ['format 2', Buffer.concat([Buffer.from('SSHKRL\n\0'), u32(2)]), 'ERR_KRL_FORMAT'],
  ['flags', Buffer.concat([head.subarray(0, 28), u64(1n), string(''), string('')]), 'ERR_KRL_FORMAT'],
  ['a section nobody knows', Buffer.concat([head, section(9, Buffer.alloc(0))]), 'ERR_KRL_SECTION'],
  ['a signature', Buffer.concat([head, section(4, ca.blob)]), 'ERR_KRL_SECTION'],
  [
    'a critical extension',
    Buffer.concat([head, section(255, Buffer.concat([string('x'), Buffer.of(1), string('')]))]),
    'ERR_KRL_EXTENSION',
  ],
  [
    'an extension that may be passed over',
    Buffer.concat([head, section(255, Buffer.concat([string('x'), Buffer.of(0), string('')]))]),
    'taken',
  ],
  ['a short digest', Buffer.concat([head, section(5, string(Buffer.alloc(31)))]), 'ERR_KRL_SECTION'],
  ['an unknown certificate section', certificates(0x24, Buffer.alloc(8)), 'ERR_KRL_SECTION'],
  ['half a serial', certificates(0x20, Buffer.alloc(9)), 'ERR_SSH_TRUNCATED'],
  ['a range backwards', certificates(0x21, Buffer.concat([u64(2n), u64(1n)])), 'ERR_KRL_SERIALS'],
  ['bytes behind a range', certificates(0x21, Buffer.alloc(17, 1)), 'ERR_SSH_TRAILING'],
  [
    'a bitmap past the last serial',
    certificates(0x22, Buffer.concat([u64(2n ** 64n - 1n), string(Buffer.of(2))])),
    'ERR_KRL_SERIALS',
  ],
  [
    'a bitmap of a megabyte',
    certificates(0x22, Buffer.concat([u64(1n), string(Buffer.alloc(1 << 20, 1))])),
    'ERR_SSH_TOO_LONG',
  ],
  [
    'an authority that is no key',
    Buffer.concat([head, section(1, Buffer.concat([string('x'), string('')]))]),
    'ERR_SSH_TRUNCATED',
  ],
])('a list with %s is judged rightly', (_, bytes, code) => {
  expect(refusal(bytes)).toBe(code)
})
