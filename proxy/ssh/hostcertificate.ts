import type { Logger } from 'pino'
import { type Certificate, certificateLine } from '../../ca/certificate.ts'
import type { AuthorityClient } from '../../ca/client.ts'

const LIFETIME_MILLISECONDS = 30 * 24 * 3_600_000
/** Asked for anew when a third of its time is left. */
const RENEW_MILLISECONDS = LIFETIME_MILLISECONDS / 3
/** An authority that starts after us is met soon; one that is asked nothing costs nothing. */
const LOOK_MILLISECONDS = 5_000
/** An authority that is not there must not keep a proxy from starting. */
const FIRST_MILLISECONDS_MAX = 3_000

export interface HostCertificates {
  /** Asks again at once for those whose authority is trusted no more. */
  recheck(): void
  stop(): void
}

/**
 * Keeps a host certificate for each of our host keys, so that one `@cert-authority` line in known_hosts makes every gate known.
 * Resolves when there is one, or when the authority could not give one for now: the bare keys are shown meanwhile.
 */
export async function keepHostCertificates(options: {
  readonly client: Pick<AuthorityClient, 'issue'>
  /** Public key blobs. */
  readonly keys: readonly Buffer[]
  /** The host names people reach this gate by. */
  readonly names: readonly string[]
  /** Whether a host certificate by this key is taken by others. */
  isAuthority(publicKey: Buffer): boolean
  /** Given the certificates' lines each time they change. */
  use(lines: readonly string[]): void
  readonly log: Pick<Logger, 'info' | 'warn'>
  readonly now?: () => number
}): Promise<HostCertificates> {
  const { client, keys, names, use, log, now = Date.now } = options
  const held = new Map<string, Certificate>()
  let told: string | undefined
  let looking: Promise<void> | undefined

  async function renew(key: Buffer): Promise<void> {
    const expires = now() + LIFETIME_MILLISECONDS
    const answer = await client.issue({
      type: 'host',
      by: 'drawbridge',
      publicKey: key,
      keyId: names[0] ?? 'gate',
      principals: names,
      expires,
    })
    if (!answer.ok) throw new Error(answer.reason)
    held.set(key.toString('base64'), answer.certificate)
    log.info({ serial: String(answer.certificate.serial), names }, 'a new host certificate is shown')
  }

  const due = (key: Buffer): boolean => {
    const certificate = held.get(key.toString('base64'))
    if (certificate === undefined) return true
    return (
      Number(certificate.validBefore) * 1_000 - now() < RENEW_MILLISECONDS ||
      !options.isAuthority(certificate.authority)
    )
  }

  async function look(): Promise<void> {
    const before = [...held.values()]
    try {
      for (const key of keys.filter(due)) await renew(key)
      told = undefined
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause)
      if (message !== told) log.warn({ err: cause }, 'the authority gave no host certificate; asking again')
      told = message
    }
    const after = [...held.values()]
    if (after.length !== before.length || after.some((each, index) => each !== before[index])) {
      use(after.map(each => certificateLine(each)))
    }
  }

  const lookOnce = () => {
    looking ??= look().finally(() => {
      looking = undefined
    })
    return looking
  }
  const timer = setInterval(() => void lookOnce(), LOOK_MILLISECONDS)
  timer.unref()
  const late = new Promise<void>(resolve => {
    setTimeout(resolve, FIRST_MILLISECONDS_MAX).unref()
  })
  await Promise.race([lookOnce(), late])
  return { recheck: () => void lookOnce(), stop: () => clearInterval(timer) }
}

/** The names by which people reach an SSH listener: its public address, and the one listened on when that is one. */
export function hostNames(publicSsh: string | undefined, listen: { readonly host: string }): string[] {
  const dialled = publicSsh === undefined ? undefined : new URL(publicSsh).hostname
  // A host certificate cannot name an IPv6 address, and nobody dials "every address".
  const names = [dialled, listen.host].filter(name => name !== undefined && !name.includes(':') && name !== '0.0.0.0')
  return [...new Set(names.map(name => (name ?? '').toLowerCase()))]
}
