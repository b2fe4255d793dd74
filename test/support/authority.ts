import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis as Client } from 'ioredis'
import { followAuthority } from '../../admin/authority.ts'
import type { Emit, Record } from '../../audit/record.ts'
import { type Certificate, certificateLine } from '../../ca/certificate.ts'
import { type AuthorityClient, authorityClient } from '../../ca/client.ts'
import type { CertificateRequest } from '../../ca/issue.ts'
import { parsePublicKeyLine } from '../../ca/key.ts'
import { main } from '../../ca/main.ts'
import type { Settings } from '../../config/settings.ts'
import { createAuthorityBoard } from '../../grant/authority.ts'
import type { Key } from './keys.ts'
import { temporaryFolder } from './program.ts'
import { quiet } from './stand.ts'

export interface RunningAuthority {
  readonly client: AuthorityClient
  /** For a gate that is to have it. */
  readonly settings: Settings['ca']
  readonly records: readonly Record[]
  /** Certifies a key on disk for an hour, where ssh looks for it: beside the key. */
  certify(key: Key, keyId: string, more?: Partial<CertificateRequest>): Promise<Certificate>
  /** Tells proxies by this Redis of it, as the admin role does. */
  tell(redisUrl: string): Promise<void>
  close(): Promise<void>
}

/** A certificate authority of a test's own, in this process. */
export async function startAuthority(emit?: Emit): Promise<RunningAuthority> {
  const directory = join(temporaryFolder('ca'), 'ca')
  const socket = join(temporaryFolder('s'), 's')
  const records: Record[] = []
  const running = await main({
    directory,
    socket,
    protection: { plain: true },
    emit: emit ?? (async record => void records.push(record)),
    create: true,
  })
  const client = authorityClient(socket)
  const closers: (() => Promise<void>)[] = []
  return {
    client,
    settings: { configured: true, directory, socket, passphrase: undefined },
    records,
    certify: async (key, keyId, more = {}) => {
      const answer = await client.issue({
        type: 'user',
        by: keyId,
        publicKey: parsePublicKeyLine(key.publicKey).blob,
        keyId,
        principals: [keyId],
        expires: Date.now() + 3_600_000,
        ...more,
      })
      if (!answer.ok) throw new Error(answer.reason)
      writeFileSync(`${key.path}-cert.pub`, `${certificateLine(answer.certificate)}\n`)
      return answer.certificate
    },
    tell: async redisUrl => {
      const redis = new Client(redisUrl, { maxRetriesPerRequest: 0 })
      redis.on('error', () => {})
      const board = createAuthorityBoard({ redis })
      const followed = followAuthority({ client, board, log: quiet, lookEvery: 50 })
      closers.push(async () => {
        await followed.close()
        redis.disconnect()
      })
      while ((await board.version()) === undefined) await new Promise(resolve => setTimeout(resolve, 20))
    },
    close: async () => {
      for (const close of closers) await close()
      await running.close()
    },
  }
}
