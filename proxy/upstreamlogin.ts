import { generateKeyPairSync } from 'node:crypto'
import type { AuthorityClient } from '../ca/client.ts'
import { publicKeyBlob } from '../ca/key.ts'
import { opensshPrivateKey } from '../ca/privatekey.ts'
import type { UpstreamSettings } from '../config/settings.ts'
import type { Login } from './upstream/ssh/connection.ts'
import { type Target, UpstreamError } from './upstream/upstream.ts'

/** A host looks at the window when somebody logs in; what then runs may take longer. */
const LIFETIME_MILLISECONDS = 5 * 60_000

/**
 * A key and a certificate for one operation of one principal on one host. The key is made here, never leaves memory, and is
 * forgotten with the operation; the certificate is on record, by its serial, before it exists.
 *
 * @throws UpstreamError when the authority gives none
 */
export async function upstreamLogin(
  client: Pick<AuthorityClient, 'issue'>,
  settings: UpstreamSettings,
  { principal }: Pick<Target, 'principal'>,
  now: () => number = Date.now,
): Promise<Login> {
  const { credential, url, name } = settings
  if (credential.type !== 'ssh-certificate') throw new Error(`upstream ${name} wants no certificate`)
  const { privateKey } = generateKeyPairSync('ed25519')
  const fill = (template: string) => fillIn(template, principal)
  const refused = (reason: string, cause?: unknown) =>
    new UpstreamError(
      'credential',
      'the gate has no credential for the Git host',
      `certificate for ${name}: ${reason}`,
      cause,
    )
  const answer = await client
    .issue({
      type: 'user',
      by: principal,
      publicKey: publicKeyBlob(privateKey),
      keyId: fill(credential.keyId),
      principals: [fill(credential.principal)],
      expires: now() + LIFETIME_MILLISECONDS,
      extensions: new Map(Object.entries(credential.extensions).map(([key, value]) => [key, fill(value)])),
    })
    .catch(cause => {
      throw refused(cause instanceof Error ? cause.message : String(cause), cause)
    })
  if (!answer.ok) throw refused(answer.reason)
  return {
    // The account that is logged in to; which principals may is the host's own list.
    username: url.username === '' ? 'git' : decodeURIComponent(url.username),
    privateKey: opensshPrivateKey(privateKey),
    certificate: answer.certificate.blob,
  }
}

/** `{principal}` is the whole name, `{principal.login}` what stands in front of its first `@`. */
function fillIn(template: string, principal: string): string {
  const [login = ''] = principal.split('@', 1)
  return template.replaceAll(/\{principal(\.login)?\}/g, (_, part) => (part ? login : principal))
}
