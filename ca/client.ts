import { createConnection } from 'node:net'
import type { z } from 'zod'
import { type Certificate, parseCertificateLine } from './certificate.ts'
import type { CertificateRequest } from './issue.ts'
import { publicKeyLine } from './key.ts'
import { type Krl, parseKrl } from './krl.ts'
import { ANSWER_BYTES_MAX, type AuthorityRequest, answerSchemas, type Refused } from './protocol.ts'
import type { TlsRequest } from './tls.ts'

/** The authority, asked over its unix socket. Refusals are answers; an authority that cannot be reached rejects. */
export interface AuthorityClient {
  issue(request: CertificateRequest): Promise<{ readonly ok: true; readonly certificate: Certificate } | Refused>
  /** A certificate for the gate's own TLS and the root it is signed by, PEM. */
  tls(
    request: TlsRequest,
  ): Promise<{ readonly ok: true; readonly certificate: string; readonly root: string } | Refused>
  /** The root of the gate's own TLS; undefined while there is none. */
  tlsRoot(): Promise<string | undefined>
  /** The public key lines that are trusted now, for user and for host certificates, and the version of the KRL. */
  trusted(): Promise<{ readonly user: readonly string[]; readonly host: readonly string[]; readonly krl: string }>
  krl(): Promise<Krl>
  rotate(request: Omit<Extract<AuthorityRequest, { ask: 'rotate' }>, 'ask'>): Promise<{ readonly ok: true } | Refused>
  distrust(
    request: Omit<Extract<AuthorityRequest, { ask: 'distrust' }>, 'ask'>,
  ): Promise<{ readonly ok: true } | Refused>
  revoke(request: Omit<Extract<AuthorityRequest, { ask: 'revoke' }>, 'ask'>): Promise<{ readonly ok: true } | Refused>
}

const ANSWER_MILLISECONDS_MAX = 30_000

export function authorityClient(socket: string): AuthorityClient {
  async function ask<Ask extends AuthorityRequest['ask']>(request: Extract<AuthorityRequest, { ask: Ask }>) {
    const answer = JSON.parse(await exchange(socket, JSON.stringify(request)))
    return answerSchemas[request.ask].parse(answer) as z.infer<(typeof answerSchemas)[Ask]>
  }
  return {
    async issue({ publicKey, extensions, principals, ...request }) {
      const answer = await ask<'issue'>({
        ask: 'issue',
        ...request,
        publicKey: publicKeyLine(publicKey),
        principals: [...principals],
        ...(extensions === undefined ? {} : { extensions: Object.fromEntries(extensions) }),
      })
      return answer.ok ? { ok: true, certificate: parseCertificateLine(answer.certificate) } : answer
    },
    tls: ({ publicKey, names, ...request }) =>
      ask<'tls'>({ ask: 'tls', ...request, names: [...names], publicKey: publicKey.toString('base64') }),
    tlsRoot: async () => granted(await ask<'tls-root'>({ ask: 'tls-root' })).root ?? undefined,
    trusted: async () => granted(await ask<'trusted'>({ ask: 'trusted' })),
    krl: async () => parseKrl(Buffer.from(granted(await ask<'krl'>({ ask: 'krl' })).krl, 'base64')),
    rotate: request => ask<'rotate'>({ ask: 'rotate', ...request }),
    distrust: request => ask<'distrust'>({ ask: 'distrust', ...request }),
    revoke: request => ask<'revoke'>({ ask: 'revoke', ...request }),
  }
}

function granted<T extends { ok: true }>(answer: T | Refused): T {
  if (!answer.ok) throw new Error(`the authority refused: ${answer.reason}`)
  return answer
}

/** One connection, one line each way. */
function exchange(socket: string, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(socket)
    const chunks: Buffer[] = []
    let size = 0
    const fail = (error: Error) => {
      connection.destroy()
      reject(error)
    }
    connection.setTimeout(ANSWER_MILLISECONDS_MAX, () => fail(new Error(`the authority at ${socket} does not answer`)))
    connection.on('error', cause =>
      fail(new Error(`the authority at ${socket} cannot be reached: ${cause.message}`, { cause })),
    )
    connection.on('close', () => reject(new Error(`the authority at ${socket} hung up`)))
    connection.on('data', chunk => {
      chunks.push(chunk)
      size += chunk.length
      if (size > ANSWER_BYTES_MAX) return fail(new Error('the answer of the authority is too long'))
      if (chunk.at(-1) !== 10) return
      connection.destroy()
      resolve(Buffer.concat(chunks).toString('utf8'))
    })
    connection.write(`${request}\n`)
  })
}
