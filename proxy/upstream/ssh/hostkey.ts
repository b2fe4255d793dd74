import type { ServerHostKeyAlgorithm } from 'ssh2'
import { isCertificateType, parseCertificate } from '../../../ca/certificate.ts'
import { checkCertificate } from '../../../ca/check.ts'
import { fingerprint, type KeyType, parsePublicKeyLine, readPublicKey } from '../../../ca/key.ts'
import { signatureAlgorithms } from '../../../ca/signature.ts'
import { FormatError, Reader } from '../../../ca/wire.ts'
import type { HostKey } from '../../../config/settings.ts'

/** The keys by which a host is known. */
export interface HostKeys {
  /** What to ask the host for: only kinds of keys that can be judged, certificates first. */
  readonly algorithms: readonly ServerHostKeyAlgorithm[]
  /**
   * Whether this is the host. Synchronous and plainly true or false: a verifier that answers by a promise lets
   * everybody in, since a promise is not false.
   */
  verify(blob: Buffer): boolean
}

export interface HostKeyOptions {
  /** The name that is dialled; a host certificate must name it. */
  readonly host: string
  /** Milliseconds since 1970. */
  now(): number
}

const FINGERPRINT = /^SHA256:[A-Za-z0-9+/]{43}$/
const KEY_TYPES: readonly KeyType[] = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'ssh-rsa',
]
const KEY_TYPE_NAMES: ReadonlySet<string> = new Set(KEY_TYPES)

/**
 * Reads pinned host keys: `SHA256:…`, `ssh-ed25519 AAAA…`, `@cert-authority ssh-ed25519 AAAA…`; whole lines of a
 * known_hosts file, with names in front of the key, are taken as well, whatever the names.
 *
 * @throws FormatError for a line that is none of these, and for no lines at all
 */
export function readHostKeys(lines: readonly HostKey[], { host, now }: HostKeyOptions): HostKeys {
  const fingerprints = new Set<string>()
  const authorities: Buffer[] = []
  const pinned: Buffer[] = []
  for (const line of lines) {
    const text = line.trim()
    const [marker, rest] = text.startsWith('@') ? [text.split(/\s/, 1)[0], text.replace(/^\S+\s+/, '')] : ['', text]
    if (marker === '' && FINGERPRINT.test(text)) fingerprints.add(text)
    else if (marker === '') pinned.push(keyOf(rest))
    else if (marker === '@cert-authority') authorities.push(keyOf(rest))
    else throw new FormatError('ERR_HOST_KEY', `host key: ${JSON.stringify(marker)} is not understood`)
  }
  if (lines.length === 0) {
    throw new FormatError(
      'ERR_HOST_KEY',
      'host key: none is given; ssh-keyscan prints those of a host, check them before use',
    )
  }
  const types = fingerprints.size > 0 ? KEY_TYPES : pinned.map(blob => readPublicKey(blob).type)
  const plain = KEY_TYPES.filter(type => types.includes(type)).flatMap(signatureAlgorithms)
  const certified =
    authorities.length > 0 ? KEY_TYPES.flatMap(signatureAlgorithms).map(name => `${name}-cert-v01@openssh.com`) : []
  return {
    algorithms: [...certified, ...plain] as ServerHostKeyAlgorithm[],
    verify(blob) {
      try {
        const type = new Reader(blob, 'host key').name()
        if (!isCertificateType(type))
          return fingerprints.has(fingerprint(blob)) || pinned.some(each => each.equals(blob))
        return checkCertificate(parseCertificate(blob), {
          type: 'host',
          principal: host,
          now: now(),
          isAuthority: key => authorities.some(each => each.equals(key)),
          isRevoked: () => false,
        }).ok
      } catch (error) {
        if (error instanceof FormatError) return false
        throw error
      }
    },
  }
}

/** The key in a line, with the host names of known_hosts in front of it left out. */
function keyOf(text: string): Buffer {
  const words = text.split(/\s+/)
  const at = words.findIndex(word => KEY_TYPE_NAMES.has(word))
  if (at < 0 || at > 1) {
    throw new FormatError(
      'ERR_HOST_KEY',
      `host key: no key in ${JSON.stringify(text.slice(0, 80))}; give "ssh-ed25519 AAAA…" or "SHA256:…"`,
    )
  }
  return parsePublicKeyLine(words.slice(at, at + 2).join(' ')).blob
}
