import { execFile } from 'node:child_process'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { keepTls, tlsNames } from '../../ca/keeptls.ts'
import { type RunningAuthority, startAuthority } from '../support/authority.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { quiet } from '../support/stand.ts'

// X.509 for the gate's own TLS. OpenSSL is the judge, by its command line and by node.

const run = promisify(execFile)
const NAMES = ['gate.example.test', '127.0.0.1', '::1']
const HOUR = 3_600_000

let authority: RunningAuthority

beforeAll(async () => {
  authority = await startAuthority()
})
afterAll(() => authority?.close())

const publicKey = (namedCurve = 'P-256') =>
  generateKeyPairSync('ec', { namedCurve }).publicKey.export({ format: 'der', type: 'spki' })
const ask = (change: Partial<Parameters<typeof authority.client.tls>[0]> = {}) =>
  authority.client.tls({ by: 'gate', names: NAMES, publicKey: publicKey(), expires: Date.now() + HOUR, ...change })

async function verify(certificate: string, root: string, ...more: string[]): Promise<string> {
  const folder = temporaryFolder('verify')
  const [leaf, trusted] = [join(folder, 'leaf.pem'), join(folder, 'root.pem')]
  writeFileSync(leaf, certificate)
  writeFileSync(trusted, root)
  const args = ['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', trusted, ...more, leaf]
  return await run('openssl', args).then(
    ({ stdout }) => stdout.replace(leaf, 'it').trim(),
    (error: { stderr: string }) => error.stderr,
  )
}

test('there is no root until a certificate is asked for, and then one for all that follow', async () => {
  expect(await authority.client.tlsRoot()).toBeUndefined()
  const made = await Promise.all([ask(), ask()])
  const roots = made.map(answer => (answer.ok ? answer.root : answer.reason))
  expect(new Set([...roots, await authority.client.tlsRoot()]).size).toBe(1)
})

test('a server certificate holds for its names, as a server’s, by its root, and for nothing else', async () => {
  const answer = await ask()
  if (!answer.ok) throw new Error(answer.reason)
  const { certificate, root } = answer
  for (const name of [
    ['-verify_hostname', 'gate.example.test'],
    ['-verify_ip', '127.0.0.1'],
    ['-verify_ip', '::1'],
  ]) {
    expect(await verify(certificate, root, ...name)).toBe('it: OK')
  }
  expect(await verify(certificate, root, '-verify_hostname', 'other.example.test')).toContain('hostname mismatch')
  expect(await verify(certificate, root, '-purpose', 'sslclient')).toContain('unsuitable certificate purpose')
  expect(await verify(certificate, certificate)).toContain('unable to get')
  const read = new X509Certificate(certificate)
  expect(read.ca).toBe(false)
  expect(new X509Certificate(root).ca).toBe(true)
  expect(Date.parse(read.validTo) - Date.now()).toBeLessThanOrEqual(HOUR)
  expect(authority.records.filter(({ kind }) => kind === 'certificate.issued')).toContainEqual({
    kind: 'certificate.issued',
    by: 'gate',
    serial: String(BigInt(`0x${read.serialNumber}`)),
    keyId: 'tls:gate.example.test',
    principals: NAMES,
    expires: new Date(Date.parse(read.validTo)).toISOString(),
  })
})

test.each([
  ['no name', { names: [] }, 'principals'],
  ['a pattern', { names: ['*.example.test'] }, 'principals'],
  ['a name in capitals', { names: ['Gate.example.test'] }, 'principals'],
  ['a line break', { names: ['gate\nevil'] }, 'principals'],
  ['a name twice', { names: ['gate', 'gate'] }, 'principals'],
  ['17 names', { names: Array.from({ length: 17 }, (_, index) => `gate${index}`) }, 'principals'],
  ['a key on another curve', { publicKey: publicKey('P-384') }, 'key'],
  ['no key', { publicKey: Buffer.from('nonsense') }, 'key'],
  ['a year', { expires: Date.now() + 366 * 24 * HOUR }, 'lifetime'],
  ['a time that is over', { expires: Date.now() - 1 }, 'window'],
])('%s is refused, and the refusal is on record', async (_, change, code) => {
  expect(await ask(change)).toMatchObject({ ok: false, code })
  expect(authority.records.at(-1)).toMatchObject({
    kind: 'certificate.refused',
    reason: expect.stringMatching(`^${code}: `),
  })
})

test('is kept in a file of its own, used again after a restart, and renewed by itself before it ends', async () => {
  const file = join(temporaryFolder('keep'), 'tls', 'http.pem')
  let ahead = 0
  let renewed = 0
  const keep = (names = NAMES) =>
    keepTls({
      ...{ client: authority.client, file, names, log: quiet, now: () => Date.now() + ahead, lookEvery: 10 },
      renewed: () => renewed++,
    })
  const first = await keep()
  const pem = readFileSync(file, 'utf8')
  expect(statSync(file).mode & 0o777).toBe(0o600)
  first.stop()
  const again = await keep()
  expect([readFileSync(file, 'utf8') === pem, renewed]).toEqual([true, 0])
  // A third of its time is left.
  ahead = 20.1 * 24 * HOUR
  await until(() => renewed > 0, 'the renewal')
  again.stop()
  expect(readFileSync(file, 'utf8')).not.toBe(pem)

  // Not by this authority, not for this name, or not to be read: made anew.
  ahead = 0
  for (const change of [
    async () => writeFileSync(file, pem.slice(0, -40)),
    async () => {
      const other = await startAuthority()
      ;(await keepTls({ client: other.client, file, names: NAMES, log: quiet })).stop()
      await other.close()
    },
  ]) {
    await change()
    const before = readFileSync(file, 'utf8')
    ;(await keep()).stop()
    expect(readFileSync(file, 'utf8')).not.toBe(before)
  }
  const renamed = await keep(['moved.example.test'])
  renamed.stop()
  expect(new X509Certificate(readFileSync(file)).checkHost('moved.example.test')).toBe('moved.example.test')
})

test('names are where people reach a listener: never “every address”', () => {
  const at = (host: string) => ({ host, port: 8080 })
  expect(tlsNames('https://Gate.example.test:8443', at('0.0.0.0'))).toEqual(['gate.example.test'])
  expect(tlsNames('https://[2001:db8::1]', at('127.0.0.1'))).toEqual(['2001:db8::1', '127.0.0.1'])
  expect(tlsNames(undefined, at('::'))).toEqual([])
})
