import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { readPrivate, writeDurably } from './durable.ts'
import { type IssueRefusal, type Issuer, judgeWindow, no, recordAndSign, refuse } from './issue.ts'
import { type Protection, readKeyFile, writeKeyFile } from './signer/keyfile.ts'

/** A certificate for the TLS of the gate itself that somebody wants. */
export interface TlsRequest {
  readonly by: string
  /** DNS names and IP addresses. */
  readonly names: readonly string[]
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Buffer
  /** Milliseconds since 1970. */
  readonly expires: number
}

export type TlsResult = { readonly ok: true; readonly certificate: string; readonly root: string } | IssueRefusal

/**
 * A root for the gate's own TLS, beside the keys that sign for SSH and apart from them: it is made the first time a certificate is
 * asked for, and signs server certificates alone. For trials and private networks.
 */
export interface TlsAuthority {
  issue(request: TlsRequest): Promise<TlsResult>
  /** PEM; undefined while there is none. */
  root(): Promise<string | undefined>
}

const KEY_FILE = 'tls-root.json'
const ROOT_FILE = 'tls-root.pem'
/** It is put on machines by hand: nobody does that every year. */
const ROOT_MILLISECONDS = 10 * 365 * 24 * 3_600_000
const NAMES_MAX = 16
const NAME_CHARACTERS_MAX = 253

interface Root {
  readonly certificate: string
  readonly key: KeyObject
}

export interface TlsAuthorityOptions {
  readonly directory: string
  /** Of the root's key; without it there is no root. */
  readonly protection?: Protection
  readonly issuer: Issuer
}

export function tlsAuthority({ directory, protection, issuer }: TlsAuthorityOptions): TlsAuthority {
  let opened: Promise<Root> | undefined

  /** Once: two that ask at the same time must not make two. */
  function root(): Promise<Root> {
    opened ??= openRoot().catch(cause => {
      opened = undefined
      throw cause
    })
    return opened
  }

  async function openRoot(): Promise<Root> {
    if (protection === undefined)
      throw new Error('keys are not kept in files here, and the TLS root is; give a passphrase')
    const keyFile = join(directory, KEY_FILE)
    // The key first: a crash in between leaves a key without a certificate, for which one is made the next time.
    const isThere = (await readPrivate(keyFile)) !== undefined
    const key = isThere ? await readKeyFile(keyFile, protection) : freshKey()
    if (!isThere) await writeKeyFile(keyFile, key, protection)
    const found = await readPrivate(join(directory, ROOT_FILE))
    return { key, certificate: found === undefined ? await certify(key) : ownRoot(found.toString('latin1'), key) }
  }

  function ownRoot(certificate: string, key: KeyObject): string {
    if (new X509Certificate(certificate).checkPrivateKey(key)) return certificate
    throw new Error(
      `${join(directory, ROOT_FILE)} is not the certificate of ${KEY_FILE}; bring both back from one backup`,
    )
  }

  async function certify(key: KeyObject): Promise<string> {
    const { makeRoot } = await import('./x509.ts')
    const starts = issuer.now()
    const serial = await issuer.serials.next()
    const certificate = await makeRoot(key, { serial, starts, expires: starts + ROOT_MILLISECONDS })
    await writeDurably(join(directory, ROOT_FILE), certificate)
    return certificate
  }

  return {
    root: async () => (await readPrivate(join(directory, ROOT_FILE)))?.toString('latin1'),
    async issue({ by, names, publicKey, expires }) {
      const asked = { by, keyId: `tls:${names[0] ?? ''}`, principals: names }
      const wrong = wrongName(names)
      if (wrong !== undefined) return refuse(issuer, asked, '', wrong)
      const subject = readTlsKey(publicKey)
      if (subject === undefined) return refuse(issuer, asked, '', no('key', 'no public key on P-256'))
      const { certificate, key } = await root()
      const last = Date.parse(new X509Certificate(certificate).validTo)
      const window = judgeWindow({ type: 'host', expires: Math.min(expires, last) }, issuer.limits, issuer.now())
      if (!window.ok) return refuse(issuer, asked, '', window)
      const { validAfter, validBefore } = window.value
      const validity = { starts: Number(validAfter) * 1000, expires: Number(validBefore) * 1000 }
      const { signServer } = await import('./x509.ts')
      const signed = await recordAndSign(issuer, asked, validBefore, serial =>
        signServer({ certificate, key }, { publicKey: subject, names, serial, ...validity }),
      )
      return signed.ok ? { ok: true, certificate: signed.value, root: certificate } : signed
    },
  }
}

function freshKey(): KeyObject {
  const { privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { format: 'der', type: 'spki' },
    privateKeyEncoding: { format: 'der', type: 'pkcs8' },
  })
  return createPrivateKey({ key: privateKey, format: 'der', type: 'pkcs8' })
}

function readTlsKey(der: Buffer): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' })
    return key.asymmetricKeyDetails?.namedCurve === 'prime256v1' ? key : undefined
  } catch {
    return undefined
  }
}

/** Full names only: a certificate for `*` or a whole domain would stand for machines that are not the gate. */
function wrongName(names: readonly string[]): IssueRefusal | undefined {
  if (names.length === 0 || names.length > NAMES_MAX)
    return no('principals', `${names.length} names; give 1 to ${NAMES_MAX}`)
  if (new Set(names).size < names.length) return no('principals', 'a name is given twice')
  const wrong = names.find(name => isIP(name) === 0 && !isDnsName(name))
  return wrong === undefined
    ? undefined
    : no('principals', `${JSON.stringify(wrong.slice(0, 64))} is no host name in small letters, and no address`)
}

function isDnsName(name: string): boolean {
  return (
    name.length <= NAME_CHARACTERS_MAX &&
    /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name)
  )
}
