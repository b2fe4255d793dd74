import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Emit } from '../audit/record.ts'
import { answer } from './answer.ts'
import { readAuthority } from './authority.ts'
import { createAuthority, freshKeys, openCustody } from './custody.ts'
import { openPrivateDirectory } from './durable.ts'
import { ISSUE_LIMITS, type IssueLimits, type Issuer } from './issue.ts'
import { openSerials } from './serial.ts'
import { claimSocket, serveSocket } from './server.ts'
import type { Protection } from './signer/keyfile.ts'
import type { KmsAccess } from './signer/kms.ts'
import type { SignerAccess } from './signer/open.ts'
import type { VaultAccess } from './signer/vault.ts'
import { tlsAuthority } from './tls.ts'

export interface MainOptions {
  /** Private to the authority: keys, state, serials, KRL. */
  readonly directory: string
  /** Where it is asked. */
  readonly socket: string
  /** Of the keys kept in files; absent when all keys are elsewhere. */
  readonly protection?: Protection
  readonly vault?: VaultAccess
  readonly kms?: KmsAccess
  readonly emit: Emit
  readonly limits?: IssueLimits
  /** Make a new authority where the directory holds none: for trials. Otherwise that is an error. */
  readonly create?: boolean
  readonly now?: () => number
}

export interface Running {
  /** Answers what was asked and ends. */
  close(): Promise<void>
}

/** The authority's role: its keys, and the socket at which it is asked. */
export async function main(options: MainOptions): Promise<Running> {
  const { directory, emit, limits = ISSUE_LIMITS, now = Date.now } = options
  const access = signerAccess(options)
  await openPrivateDirectory(directory)
  const release = await lock(directory)
  try {
    if (options.create && (await readAuthority(directory)) === undefined) {
      if (options.protection === undefined)
        throw new Error('a new authority keeps its keys in files, and needs a passphrase for them')
      await createAuthority(directory, await freshKeys(directory, options.protection, now()), now())
    }
    const lifetimeSeconds = { user: limits.userLifetimeSeconds, host: limits.hostLifetimeSeconds }
    const custody = await openCustody({ directory, access, now, lifetimeSeconds })
    const serials = await openSerials(directory, now)
    const { signer, isAuthority, isRevoked } = custody
    const issuer: Issuer = { signer, isAuthority, isRevoked, serials, emit, limits, now }
    const tls = tlsAuthority({ directory, issuer, ...(options.protection && { protection: options.protection }) })
    await emit({ kind: 'role.started', by: 'drawbridge', role: 'ca' })
    const server = await serveSocket(options.socket, message =>
      answer(message, { custody, issuer, tls, access, emit, now }),
    )
    return {
      async close() {
        await server.close()
        await release()
        // The role is over whether or not that can be recorded.
        await emit({ kind: 'role.stopped', by: 'drawbridge', role: 'ca' }).catch(() => {})
      },
    }
  } catch (error) {
    await release()
    throw error
  }
}

function signerAccess({ directory, protection, vault, kms }: MainOptions): SignerAccess {
  return { directory, ...(protection && { protection }), ...(vault && { vault }), ...(kms && { kms }) }
}

/** A socket nobody speaks at, held as long as the process lives: one authority a directory, whatever its public socket. */
async function lock(directory: string): Promise<() => Promise<void>> {
  const server = createServer(connection => connection.destroy())
  await claimSocket(server, join(directory, 'lock'))
  return async () => {
    const closed = once(server, 'close')
    server.close()
    await closed
  }
}
