import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { onTestFinished } from 'vitest'
import type { SigninRefused } from '../../../audit/record.ts'
import { parsePublicKeyLine } from '../../../ca/key.ts'
import type { Client, Serve } from '../../../proxy/client.ts'
import { type SshFront, type SshFrontOptions, startSshFront } from '../../../proxy/ssh/front.ts'
import { gitEnvironment } from '../../support/git.ts'
import { type Key, makeKey } from '../../support/keys.ts'
import { temporaryFolder } from '../../support/program.ts'
import { sshOptions } from '../../support/sshd.ts'

export interface TestFront {
  readonly front: SshFront
  readonly port: number
  readonly host: string
  /** Repositories are `<folder>/<upstream>/<path>.git`. */
  readonly folder: string
  readonly hostKey: Key
  /** alice's registered key. */
  readonly alice: Key
  readonly knownHosts: string
  /** Every client `serve` was given. */
  readonly clients: Client[]
  readonly refused: SigninRefused[]
  readonly logged: string[]
  /** Fingerprint → principal. Tests add and take away. */
  readonly keys: Map<string, { principal: string; expires?: number }>
  /** What stock ssh needs to log in with this key. */
  ssh(key: Key | undefined, extra?: readonly string[]): string[]
  /** A repository's URL. */
  url(repository: string): string
}

export type FrontChanges = Omit<Partial<SshFrontOptions>, 'limits' | 'login'> & {
  limits?: Partial<SshFrontOptions['limits']>
  login?: Partial<SshFrontOptions['login']>
}

/** A front whose `serve` runs git's own programs on local repositories, ended with the test. */
export async function testFront(changes: FrontChanges = {}): Promise<TestFront> {
  const folder = temporaryFolder('front')
  const hostKey = await makeKey('host', { folder })
  const alice = await makeKey('alice', { folder })
  const clients: Client[] = []
  const refused: SigninRefused[] = []
  const logged: string[] = []
  const keys = new Map<string, { principal: string; expires?: number }>([[alice.fingerprint, { principal: 'alice' }]])
  const front = await startSshFront({
    listen: { host: '127.0.0.1', port: 0 },
    hostKeys: [readFileSync(hostKey.path)],
    serve: client => {
      clients.push(client)
      return runGit(folder, client)
    },
    resolveRepository: path => /^\/?([\w-]+\/[\w-]+)(?:\.git)?$/.exec(path)?.[1],
    commands: {
      whoami: async (args, { caller, stdout, publicKey }) => {
        stdout.write(`${caller.principal} ${caller.identity.kind} ${args.join(',')} ${publicKey.length}\n`)
        return 0
      },
    },
    readSource: async socket => ({ address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 }),
    throttle: { wait: () => 0, failed: () => 0, succeeded: () => {} },
    onRefused: record => refused.push(record),
    log: (message, facts) => logged.push(`${message} ${facts?.reason ?? facts?.err ?? ''}`),
    ...changes,
    login: {
      findKey: async fingerprint => keys.get(fingerprint),
      isAuthority: () => false,
      isRevoked: () => false,
      now: Date.now,
      ...changes.login,
    },
    limits: {
      connections: 50,
      connectionsPerSource: 40,
      loginGrace: 120_000,
      loginAttempts: 6,
      channels: 10,
      ...changes.limits,
    },
  })
  onTestFinished(() => front.close(0))
  const { port } = front.address
  const knownHosts = join(folder, 'known_hosts')
  writeFileSync(knownHosts, `[127.0.0.1]:${port} ${hostKey.publicKey}\n`)
  return {
    front,
    port,
    host: 'git@127.0.0.1',
    folder,
    hostKey,
    alice,
    knownHosts,
    clients,
    refused,
    logged,
    keys,
    // What the gate says before a login is only shown from this level on, which is ssh's own default.
    ssh: (key, extra = []) => [
      '-o',
      'LogLevel=INFO',
      ...sshOptions({ ...(key ? { key: key.path } : {}), knownHosts, extra }),
      '-p',
      String(port),
    ],
    url: repository => `ssh://git@127.0.0.1:${port}/${repository}.git`,
  }
}

/** Answers a client by git's own program, as sshd would. */
const runGit = async (folder: string, client: Client): ReturnType<Serve> => {
  const { service, repository, protocol, request, response, stderr, gone } = client
  const child = spawn(`git-${service}`, [join(folder, `${repository}.git`)], {
    env: gitEnvironment(protocol > 0 ? { GIT_PROTOCOL: `version=${protocol}` } : {}),
    signal: gone,
  })
  const status = new Promise<number>(resolve =>
    child.on('error', () => resolve(128)).on('close', code => resolve(code ?? 128)),
  )
  pipeline(request, child.stdin).catch(() => {})
  child.stderr.pipe(stderr!, { end: false })
  await pipeline(child.stdout, response, { end: false }).catch(() => {})
  return { status: (await status) === 0 ? 0 : 128, operation: 'op-test' }
}

export interface Ran {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program with this input; without `input` its standard input is closed. */
export function run(program: string, args: readonly string[], input?: Buffer): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: gitEnvironment(), timeout: 30_000 })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', chunk => {
      stdout += chunk
    })
    child.stderr.on('data', chunk => {
      stderr += chunk
    })
    child.on('error', reject).on('close', status => resolve({ status, stdout, stderr }))
    child.stdin.on('error', () => {})
    child.stdin.end(input)
  })
}

export const blobOf = (key: Key): Buffer => parsePublicKeyLine(key.publicKey).blob
