import { createConnection } from 'node:net'
import { fingerprint, readPublicKey } from '../key.ts'
import type { Signer } from '../signer.ts'
import { FormatError, Reader, string, u32 } from '../wire.ts'

/**
 * The ssh-agent protocol (draft-miller-ssh-agent) over the agent's unix socket: `u32 length, byte type, …`. One connection a
 * request. An agent can hold the key of an HSM as well: `ssh-add -s MODULE.so` loads a PKCS #11 module into it, and the
 * authority signs with that key without any library of the vendor in its own process.
 */
const FAILURE = 5
const REQUEST_IDENTITIES = 11
const IDENTITIES_ANSWER = 12
const SIGN_REQUEST = 13
const SIGN_RESPONSE = 14
const FLAG_RSA_SHA2_512 = 4

/** What OpenSSH's own client takes. */
const ANSWER_BYTES_MAX = 256 << 10
const IDENTITIES_MAX = 2048
/** An agent may ask a person to confirm, or to touch a token. */
const ANSWER_MILLISECONDS_MAX = 30_000

export interface Identity {
  readonly blob: Buffer
  readonly comment: string
}

/** The public keys and certificates the agent holds. */
export async function listIdentities(socket: string): Promise<Identity[]> {
  const reader = answer(await ask(socket, Buffer.of(REQUEST_IDENTITIES)), IDENTITIES_ANSWER, 'would not list its keys')
  const count = reader.u32()
  if (count > IDENTITIES_MAX)
    throw new FormatError('ERR_AGENT', `ssh-agent: ${count} keys, at most ${IDENTITIES_MAX} are read`)
  const identities: Identity[] = []
  for (let i = 0; i < count; i++) identities.push({ blob: reader.string(), comment: reader.string().toString('utf8') })
  reader.end()
  return identities
}

/** A signer whose private key an ssh-agent holds. Rejects now when the agent does not have it. */
export async function agentSigner(socket: string, publicKey: Buffer): Promise<Signer> {
  const { type } = readPublicKey(publicKey)
  const identities = await listIdentities(socket)
  if (!identities.some(({ blob }) => blob.equals(publicKey))) {
    throw new Error(`the ssh-agent at ${socket} does not hold ${fingerprint(publicKey)}; add it with ssh-add`)
  }
  // Without the flag an agent signs with SHA-1, which nobody takes.
  const flags = type === 'ssh-rsa' ? FLAG_RSA_SHA2_512 : 0
  return {
    publicKey,
    async sign(data) {
      const request = Buffer.concat([Buffer.of(SIGN_REQUEST), string(publicKey), string(data), u32(flags)])
      const reader = answer(await ask(socket, request), SIGN_RESPONSE, `would not sign with ${fingerprint(publicKey)}`)
      const signature = reader.string()
      reader.end()
      return signature
    },
  }
}

function answer(message: Buffer, wanted: number, otherwise: string): Reader {
  const reader = new Reader(message, 'ssh-agent')
  const type = reader.byte()
  if (type === FAILURE) throw new Error(`the ssh-agent ${otherwise}; is it locked, or was a confirmation refused?`)
  if (type !== wanted) throw new FormatError('ERR_AGENT', `ssh-agent: answer ${type} where ${wanted} was awaited`)
  return reader
}

/** One request, one answer. */
function ask(socket: string, request: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(socket)
    let received = Buffer.alloc(0)
    const fail = (error: Error) => {
      connection.destroy()
      reject(error)
    }
    connection.setTimeout(ANSWER_MILLISECONDS_MAX, () => fail(new Error(`the ssh-agent at ${socket} does not answer`)))
    connection.on('error', cause => fail(new Error(`no ssh-agent at ${socket}: ${cause.message}`, { cause })))
    connection.on('close', () => reject(new Error(`the ssh-agent at ${socket} hung up`)))
    connection.on('data', chunk => {
      received = Buffer.concat([received, chunk])
      if (received.length < 4) return
      const length = received.readUInt32BE(0)
      if (length === 0 || length > ANSWER_BYTES_MAX)
        return fail(new FormatError('ERR_AGENT', `ssh-agent: an answer of ${length} bytes`))
      if (received.length < 4 + length) return
      connection.destroy()
      resolve(received.subarray(4, 4 + length))
    })
    connection.write(string(request))
  })
}
