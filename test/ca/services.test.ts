/** Vault and AWS KMS by their documented wire formats, spoken by small servers of the test's own. */
import { createHash, createHmac, createPublicKey, sign, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { signRequest } from '../../audit/sigv4.ts'
import { checkCertificate } from '../../ca/check.ts'
import { publicKeyLine } from '../../ca/key.ts'
import { signCertificate } from '../../ca/sign.ts'
import { signatureFromService, verifySignature } from '../../ca/signature.ts'
import * as byFile from '../../ca/signer/access.ts'
import { type KmsAccess, kmsSigner } from '../../ca/signer/kms.ts'
import { openSigner } from '../../ca/signer/open.ts'
import { vaultSigner } from '../../ca/signer/vault.ts'
import type { Signer } from '../../ca/signer.ts'
import { allKeys, keys, NOON, type TestKey, temporaryDirectory, userCertificate } from './keys.ts'

type Respond = (
  request: IncomingMessage,
  body: string,
) => { status: number; body: string; headers?: Record<string, string> }

async function service(respond: Respond): Promise<string> {
  const server = createServer(async (request: IncomingMessage, response: ServerResponse) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const answer = respond(request, body)
    response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers }).end(answer.body)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const publicKeyOf = (key: TestKey) => createPublicKey(key.privateKey)

/** https://developer.hashicorp.com/vault/api-docs/secret/transit: "Read key" and "Sign data". */
function vault(key: TestKey, seen: string[] = []): Respond {
  return (request, body) => {
    if (request.headers['x-vault-token'] !== 'hvs.good')
      return { status: 403, body: '{"errors":["permission denied"]}' }
    if (request.headers['x-vault-request'] !== 'true') return { status: 412, body: '{"errors":["no X-Vault-Request"]}' }
    if (request.method === 'GET' && request.url === '/v1/ssh-ca/keys/gate%2Fuser') {
      const raw = Buffer.from(publicKeyOf(key).export({ format: 'jwk' }).x ?? '', 'base64url').toString('base64')
      const public_key =
        key.name === 'ed25519' ? raw : publicKeyOf(key).export({ format: 'pem', type: 'spki' }).toString()
      const type = { ed25519: 'ed25519', p256: 'ecdsa-p256', p384: 'ecdsa-p384', p521: 'ecdsa-p521', rsa: 'rsa-2048' }[
        key.name
      ]
      return {
        status: 200,
        body: JSON.stringify({
          data: { type, latest_version: 3, keys: { '2': { public_key: 'old' }, '3': { name: type, public_key } } },
        }),
      }
    }
    if (request.method !== 'POST' || request.url !== '/v1/ssh-ca/sign/gate%2Fuser')
      return { status: 404, body: '{"errors":[]}' }
    seen.push(body)
    const asked = JSON.parse(body)
    // The documented defaults, which are not what SSH needs: they have to be overridden.
    const hash = { 'sha2-256': 'sha256', 'sha2-384': 'sha384', 'sha2-512': 'sha512' }[
      String(asked.hash_algorithm ?? 'sha2-256')
    ]
    const pss = (asked.signature_algorithm ?? 'pss') === 'pss'
    const input = Buffer.from(asked.input, 'base64')
    const signature =
      key.name === 'ed25519'
        ? sign(null, input, key.privateKey)
        : sign(hash, input, { key: key.privateKey, ...(key.name === 'rsa' && pss ? { padding: 6 } : {}) })
    return {
      status: 200,
      body: JSON.stringify({ data: { signature: `vault:v${asked.key_version}:${signature.toString('base64')}` } }),
    }
  }
}

const vaultAccess = (address: string, token = 'hvs.good') => ({ address, token: async () => token, mount: 'ssh-ca' })
const reference = { key: 'gate/user', version: 3 }

async function issues(signer: Signer, key: TestKey): Promise<void> {
  const certificate = await signCertificate(signer, await userCertificate(keys.p256, keys.p384))
  expect(
    checkCertificate(certificate, {
      type: 'user',
      now: NOON,
      isAuthority: blob => blob.equals(key.blob),
      isRevoked: () => false,
    }),
  ).toEqual({ ok: true })
}

test.each(allKeys)('an authority whose $name key is in Vault issues certificates', async key => {
  const address = await service(vault(key))
  const signer = await vaultSigner(reference, vaultAccess(address))
  expect(signer.publicKey.equals(key.blob)).toBe(true)
  await issues(signer, key)
})

test('Vault is asked for the very version the authority knows, and one it does not have is an error', async () => {
  const seen: string[] = []
  const address = await service(vault(keys.p256, seen))
  const signer = await vaultSigner(reference, vaultAccess(address))
  await signer.sign(Buffer.from('x'))
  expect(JSON.parse(seen[0]!)).toEqual({
    input: 'eA==',
    key_version: 3,
    hash_algorithm: 'sha2-256',
    marshaling_algorithm: 'asn1',
  })
  await expect(vaultSigner({ ...reference, version: 9 }, vaultAccess(address))).rejects.toThrow(/no version 9/)
})

test('a refused token, a sealed Vault and a missing one say so without the token', async () => {
  const address = await service(vault(keys.p256))
  const refused = await vaultSigner(reference, vaultAccess(address, 'hvs.secret')).catch((error: Error) => error)
  expect(String(refused)).toContain('Vault answered 403: {"errors":["permission denied"]}')
  expect(String(refused)).not.toContain('hvs.secret')
  const sealed = await service(() => ({ status: 503, body: '{"errors":["Vault is sealed"]}' }))
  await expect(vaultSigner(reference, vaultAccess(sealed))).rejects.toThrow(/503.*sealed/)
  await expect(vaultSigner(reference, vaultAccess('http://127.0.0.1:1'))).rejects.toThrow(/cannot be reached/)
})

test('the token goes neither after a redirect nor over plain http to another machine', async () => {
  let asked = 0
  const elsewhere = await service(() => ({ status: 200, body: String(asked++) }))
  const redirecting = await service(() => ({ status: 307, body: '', headers: { location: elsewhere } }))
  await expect(vaultSigner(reference, vaultAccess(redirecting))).rejects.toThrow(/cannot be reached/)
  expect(asked).toBe(0)
  await expect(vaultSigner(reference, vaultAccess('http://vault.example.org:8200'))).rejects.toThrow(/is not https/)
})

test('an answer that is endless, no JSON, or of another form is an error', async () => {
  for (const body of [
    'a'.repeat(100_000),
    'hello',
    '{}',
    '{"data":{"type":"ed25519","keys":{"3":{"public_key":"AAAA"}}}}',
  ]) {
    const address = await service(() => ({ status: 200, body }))
    await expect(vaultSigner(reference, vaultAccess(address))).rejects.toThrow()
  }
})

const aws = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' }

test('a request is signed as in the published test suite of Signature Version 4 (post-vanilla)', () => {
  const request = {
    method: 'POST',
    url: new URL('https://example.amazonaws.com/'),
    headers: {},
    body: '',
    region: 'us-east-1',
    service: 'service',
    now: Date.UTC(2015, 7, 30, 12, 36),
  } as const
  expect(signRequest(request, aws)).toEqual({
    'x-amz-date': '20150830T123600Z',
    authorization:
      'AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b',
  })
})

/** Checks a request as AWS would, from what came over the wire. */
function awsAccepts(request: IncomingMessage, body: string): boolean {
  const [, date, region, signed = '', signature = ''] =
    /^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE\/(\d{8})\/([\w-]+)\/kms\/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$/.exec(
      request.headers.authorization ?? '',
    ) ?? []
  const names = signed.split(';')
  if (!['host', 'x-amz-date', 'x-amz-target', 'content-type'].every(name => names.includes(name))) return false
  const hash = (text: string) => createHash('sha256').update(text).digest('hex')
  const mac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest()
  let canonical = `${request.method}\n${request.url}\n\n`
  for (const name of names) canonical += `${name}:${request.headers[name]}\n`
  canonical += `\n${signed}\n${hash(body)}`
  const key = mac(mac(mac(mac(`AWS4${aws.secretAccessKey}`, date ?? ''), region ?? ''), 'kms'), 'aws4_request')
  const expected = mac(
    key,
    `AWS4-HMAC-SHA256\n${request.headers['x-amz-date']}\n${date}/${region}/kms/aws4_request\n${hash(canonical)}`,
  )
  return timingSafeEqual(expected, Buffer.from(signature.padEnd(64, '0'), 'hex'))
}

/** AWS KMS API Reference: GetPublicKey and Sign. */
function kms(key: TestKey): Respond {
  return (request, body) => {
    if (request.headers['content-type'] !== 'application/x-amz-json-1.1')
      return { status: 400, body: '{"__type":"UnknownOperationException"}' }
    if (!awsAccepts(request, body)) return { status: 400, body: '{"__type":"InvalidSignatureException"}' }
    const asked = JSON.parse(body)
    if (asked.KeyId !== 'alias/gate') return { status: 400, body: '{"__type":"NotFoundException"}' }
    if (request.headers['x-amz-target'] === 'TrentService.GetPublicKey') {
      return {
        status: 200,
        body: JSON.stringify({
          PublicKey: publicKeyOf(key).export({ format: 'der', type: 'spki' }).toString('base64'),
        }),
      }
    }
    const algorithm = {
      ed25519: 'ED25519_SHA_512',
      p256: 'ECDSA_SHA_256',
      p384: 'ECDSA_SHA_384',
      p521: 'ECDSA_SHA_512',
      rsa: 'RSASSA_PKCS1_V1_5_SHA_512',
    }[key.name]
    if (asked.SigningAlgorithm !== algorithm) return { status: 400, body: '{"__type":"InvalidKeyUsageException"}' }
    const message = Buffer.from(asked.Message, 'base64')
    return {
      status: 200,
      body: JSON.stringify({
        Signature: signMessage(key, asked.MessageType, message).toString('base64'),
        SigningAlgorithm: algorithm,
      }),
    }
  }
}

/** A digest is not hashed again. Node cannot sign a digest, so the test's service finds the message it belongs to. */
const messages = new Map<string, Buffer>()
function signMessage(key: TestKey, type: string, message: Buffer): Buffer {
  if (type === 'RAW') return sign(null, message, key.privateKey)
  const hash = { 32: 'sha256', 48: 'sha384', 64: 'sha512' }[message.length]!
  return sign(hash, messages.get(message.toString('hex'))!, key.privateKey)
}
function remember(data: Buffer): void {
  for (const hash of ['sha256', 'sha384', 'sha512']) messages.set(createHash(hash).update(data).digest('hex'), data)
}

const kmsAccess = (endpoint: string, changes: Partial<KmsAccess> = {}): KmsAccess => ({
  endpoint,
  credentials: async () => aws,
  ...changes,
})
const kmsKey = { keyId: 'alias/gate', region: 'eu-central-1' }

test.each(allKeys)('an authority whose $name key is in AWS KMS issues certificates, each request signed', async key => {
  const signer = await kmsSigner(kmsKey, kmsAccess(await service(kms(key))))
  expect(signer.publicKey.equals(key.blob)).toBe(true)
  const remembering = async (data: Buffer) => {
    remember(data)
    return signer.sign(data)
  }
  await issues({ ...signer, sign: remembering }, key)
})

test('the session token of a role is sent and signed; a wrong secret is refused', async () => {
  let token: string | string[] | undefined
  const address = await service((request, body) => {
    token = request.headers['x-amz-security-token']
    return request.headers.authorization?.includes('x-amz-security-token')
      ? kms(keys.p256)(request, body)
      : { status: 403, body: '{}' }
  })
  await kmsSigner(kmsKey, kmsAccess(address, { credentials: async () => ({ ...aws, sessionToken: 'role-token' }) }))
  expect(token).toBe('role-token')
  const wrong = kmsAccess(await service(kms(keys.p256)), {
    credentials: async () => ({ ...aws, secretAccessKey: 'wrong' }),
  })
  await expect(kmsSigner(kmsKey, wrong)).rejects.toThrow(/InvalidSignatureException/)
})

test('ed25519 in KMS takes the message whole, and more than 4096 bytes are refused before they are sent', async () => {
  const signer = await kmsSigner(kmsKey, kmsAccess(await service(kms(keys.ed25519))))
  await expect(signer.sign(Buffer.alloc(4097))).rejects.toThrow(/at most 4096/)
})

test('a service that holds another key than the authority expects is not used', async () => {
  const vaultAddress = await service(vault(keys.p384))
  const state = {
    publicKey: publicKeyLine(keys.p256.blob),
    signer: { kind: 'vault', ...reference },
    created: '2026-01-01T00:00:00Z',
  } as const
  await expect(openSigner(state, { directory: '/nowhere', vault: vaultAccess(vaultAddress) })).rejects.toThrow(
    /expects SHA256/,
  )
  await expect(openSigner(state, { directory: '/nowhere' })).rejects.toThrow(/needs Vault/)
})

test('DER signatures are read strictly, whatever the length of their numbers', () => {
  for (const key of [keys.p256, keys.p384, keys.p521]) {
    const type = `ecdsa-sha2-nist${key.name}` as const as 'ecdsa-sha2-nistp256'
    const hash = { p256: 'sha256', p384: 'sha384', p521: 'sha512' }[key.name]
    for (let i = 0; i < 40; i++) {
      const data = Buffer.from(`message ${i}`)
      const der = sign(hash, data, key.privateKey)
      expect(verifySignature(key.blob, data, signatureFromService(type, der))).toBe(true)
      if (i > 0) continue
      for (let length = 0; length < der.length; length++)
        expect(() => signatureFromService(type, der.subarray(0, length))).toThrow()
      expect(() => signatureFromService(type, Buffer.concat([der, Buffer.of(0)]))).toThrow(/after its end/)
    }
  }
})

test('tokens and credentials are read at each use, from a file that is nobody else’s to read', async () => {
  const file = join(temporaryDirectory(), 'credentials')
  const { credentials } = byFile.kmsAccess({ credentialsFile: file })
  await expect(credentials()).rejects.toThrow('is missing')
  const said = {
    Version: 1,
    AccessKeyId: 'AKID',
    SecretAccessKey: 'planted-secret',
    Expiration: '2026-05-05T12:00:00Z',
  }
  writeFileSync(file, JSON.stringify(said), { mode: 0o600 })
  expect(await credentials()).toEqual({ accessKeyId: 'AKID', secretAccessKey: 'planted-secret' })
  writeFileSync(file, JSON.stringify({ ...said, SessionToken: 'st' }))
  expect(await credentials()).toMatchObject({ sessionToken: 'st' })
  // What is wrong with it is said without quoting it.
  writeFileSync(file, '{"SecretAccessKey": "planted-secret"')
  await expect(credentials()).rejects.toThrow(/no credentials in it(?!.*planted)/)
  chmodSync(file, 0o644)
  await expect(credentials()).rejects.toThrow('chmod 0600')

  const token = join(temporaryDirectory(), 'token')
  writeFileSync(token, 'hvs.one\n', { mode: 0o600 })
  const vault = byFile.vaultAccess({ address: 'https://vault.example', tokenFile: token })
  expect(await vault.token()).toBe('hvs.one')
  writeFileSync(token, 'hvs.two\nX-Evil: 1\n')
  await expect(vault.token()).rejects.toThrow('expected one word')
})
