import { z } from 'zod'
import type { AwsCredentials } from '../../audit/sigv4.ts'
import { readPrivate } from '../durable.ts'
import type { KmsAccess } from './kms.ts'
import type { VaultAccess } from './vault.ts'

/** What opens Vault and AWS KMS, in files that are read at each use: tokens and the credentials of a role are renewed. */

export interface VaultPlace {
  readonly address: string
  /** Holds the token, and nothing else: what `vault agent` writes as its sink. */
  readonly tokenFile: string
  readonly mount?: string
  readonly namespace?: string
}

export interface KmsPlace {
  /** JSON as `aws configure export-credentials` prints it. */
  readonly credentialsFile: string
  readonly endpoint?: string
}

export function vaultAccess({ tokenFile, ...place }: VaultPlace): VaultAccess {
  return { ...place, token: () => readToken(tokenFile) }
}

export function kmsAccess({ credentialsFile, endpoint }: KmsPlace): KmsAccess {
  return { ...(endpoint !== undefined && { endpoint }), credentials: () => readCredentials(credentialsFile) }
}

/** @throws when the file is missing, is for others to read, or holds more than one word */
async function readToken(file: string): Promise<string> {
  const token = (await contentOf(file)).trim()
  // It goes into a header.
  if (!/^[\x21-\x7e]+$/.test(token)) throw new Error(`${file}: no token in it; expected one word`)
  return token
}

/** "Sourcing credentials with an external process", AWS CLI User Guide. */
const credentialsSchema = z.object({
  Version: z.literal(1),
  AccessKeyId: z.string(),
  SecretAccessKey: z.string(),
  SessionToken: z.string().optional(),
})

async function readCredentials(file: string): Promise<AwsCredentials> {
  const content = await contentOf(file)
  try {
    const { AccessKeyId, SecretAccessKey, SessionToken } = credentialsSchema.parse(JSON.parse(content))
    return {
      accessKeyId: AccessKeyId,
      secretAccessKey: SecretAccessKey,
      ...(SessionToken !== undefined && { sessionToken: SessionToken }),
    }
  } catch {
    // The cause would quote the file.
    throw new Error(`${file}: no credentials in it; write what "aws configure export-credentials" prints`)
  }
}

async function contentOf(file: string): Promise<string> {
  const content = await readPrivate(file)
  if (content === undefined) throw new Error(`${file} is missing`)
  return content.toString('utf8')
}
