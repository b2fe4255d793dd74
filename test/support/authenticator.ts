import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import type { SecurityKeyType } from '../../ca/securitykey.ts'
import { mpint, Reader, string, u32 } from '../../ca/wire.ts'
import { temporaryFolder } from './program.ts'

/** A FIDO authenticator in software: what PROTOCOL.u2f has one sign, without the device. */
export interface Authenticator {
  readonly type: SecurityKeyType
  readonly blob: Buffer
  /** An SSH signature; `touched: false` as a device that was told not to ask, `application` as one made for another purpose. */
  sign(data: Buffer, how?: { touched?: boolean; application?: string }): Buffer
}

export function makeAuthenticator(kind: 'ed25519' | 'ecdsa', application = 'ssh:'): Authenticator {
  const { privateKey, publicKey } =
    kind === 'ed25519' ? generateKeyPairSync('ed25519') : generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const type = kind === 'ed25519' ? 'sk-ssh-ed25519@openssh.com' : 'sk-ecdsa-sha2-nistp256@openssh.com'
  let counter = 0
  return {
    type,
    blob: Buffer.concat([string(type), ...pointOf(publicKey), string(application)]),
    sign(data, { touched = true, application: signed = application } = {}) {
      const flags = Buffer.of(touched ? 1 : 0)
      const count = u32(++counter)
      const message = Buffer.concat([sha256(signed), flags, count, sha256(data)])
      return Buffer.concat([string(type), string(signatureOf(kind, message, privateKey)), flags, count])
    },
  }
}

function pointOf(key: KeyObject): Buffer[] {
  const { x = '', y } = key.export({ format: 'jwk' })
  const field = (text: string) => Buffer.from(text, 'base64url')
  if (y === undefined) return [string(field(x))]
  return [string('nistp256'), string(Buffer.concat([Buffer.of(4), field(x), field(y)]))]
}

function signatureOf(kind: 'ed25519' | 'ecdsa', message: Buffer, key: KeyObject): Buffer {
  if (kind === 'ed25519') return sign(null, message, key)
  const pair = sign('sha256', message, { key, dsaEncoding: 'ieee-p1363' })
  return Buffer.concat([mpint(pair.subarray(0, 32)), mpint(pair.subarray(32))])
}

const sha256 = (data: Buffer | string) => createHash('sha256').update(data).digest()

const IDENTITIES = 11
const IDENTITIES_ANSWER = 12
const SIGN_REQUEST = 13
const SIGN_RESPONSE = 14
const FAILURE = 5

/** An ssh-agent (draft-miller-ssh-agent) that holds this one key, so that stock ssh logs in by it. */
export async function startAuthenticatorAgent(
  key: Authenticator,
  how: { touched?: boolean } = {},
): Promise<{ readonly socket: string; close(): void }> {
  const path = join(temporaryFolder('sk'), 's')
  const answer = (request: Buffer): Buffer => {
    const reader = new Reader(request, 'agent request')
    const kind = reader.byte()
    if (kind === IDENTITIES)
      return Buffer.concat([Buffer.of(IDENTITIES_ANSWER), u32(1), string(key.blob), string('touch me')])
    if (kind !== SIGN_REQUEST || !reader.string().equals(key.blob)) return Buffer.of(FAILURE)
    return Buffer.concat([Buffer.of(SIGN_RESPONSE), string(key.sign(reader.string(), how))])
  }
  const server = createServer((socket: Socket) => {
    let held = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('data', chunk => {
      held = Buffer.concat([held, chunk])
      while (held.length >= 4 && held.length >= 4 + held.readUInt32BE()) {
        const length = held.readUInt32BE()
        socket.write(string(answer(held.subarray(4, 4 + length))))
        held = held.subarray(4 + length)
      }
    })
  })
  await new Promise<void>(resolve => server.listen(path, resolve))
  return { socket: path, close: () => server.close() }
}
