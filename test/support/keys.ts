import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { runProgram, temporaryFolder } from './program.ts'

/** A key pair on disk, made by ssh-keygen. */
export interface Key {
  /** Path of the private key; `.pub` beside it. */
  readonly path: string
  /** One line: algorithm, base64, comment. */
  readonly publicKey: string
  /** `SHA256:…` */
  readonly fingerprint: string
}

export interface KeyOptions {
  readonly type?: 'ed25519' | 'rsa' | 'ecdsa'
  readonly bits?: number
  readonly folder?: string
  readonly comment?: string
}

/** A new key pair without passphrase. */
export async function makeKey(name = 'key', options: KeyOptions = {}): Promise<Key> {
  const path = join(options.folder ?? temporaryFolder('keys'), name)
  const bits = options.bits ? ['-b', String(options.bits)] : []
  await runProgram('ssh-keygen', [
    '-q',
    '-t',
    options.type ?? 'ed25519',
    ...bits,
    '-N',
    '',
    '-C',
    options.comment ?? name,
    '-f',
    path,
  ])
  const listed = await runProgram('ssh-keygen', ['-l', '-f', `${path}.pub`])
  return { path, publicKey: readFileSync(`${path}.pub`, 'utf8').trim(), fingerprint: listed.split(' ')[1] ?? '' }
}

export interface CertificateOptions {
  readonly ca: Key
  readonly key: Key
  readonly id: string
  /** None: valid for anybody, in OpenSSH's eyes. */
  readonly principals?: readonly string[]
  readonly serial?: number | bigint
  /** As `-V` takes it: `-1m:+1h`. */
  readonly validity?: string
  readonly host?: boolean
  /** As `-O` takes them: `source-address=10.0.0.0/8`, `extension:login@github.com=alice`. */
  readonly options?: readonly string[]
  /** RSA authorities only: `rsa-sha2-512` and so on. */
  readonly signature?: string
}

/** Signs a key with `ssh-keygen -s`; gives the certificate's path, where ssh looks for it: `<key>-cert.pub`. */
export async function signKey(options: CertificateOptions): Promise<{ path: string; certificate: string }> {
  const args = ['-q', '-s', options.ca.path, '-I', options.id]
  if (options.principals?.length) args.push('-n', options.principals.join(','))
  if (options.serial !== undefined) args.push('-z', String(options.serial))
  if (options.host) args.push('-h')
  if (options.signature) args.push('-t', options.signature)
  args.push('-V', options.validity ?? '-1m:+1h')
  for (const option of options.options ?? []) args.push('-O', option)
  await runProgram('ssh-keygen', [...args, `${options.key.path}.pub`])
  const path = `${options.key.path}-cert.pub`
  return { path, certificate: readFileSync(path, 'utf8').trim() }
}
